"""Ways of finding shortcuts, from the columns of the finished experiments: scores to rank by and rules that flag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.planted.experiment import Outcome, cheap_and_costly
from benchmarks.planted.measure import BLEED, OFF_THE_BOXES, UNINFORMED
from benchmarks.planted.plan import ALL_CLASSES, CONTROL, Experiment
from benchmarks.planted.statistics import RESAMPLES
from stages.audit.classes import COLUMNS, class_table
from stages.audit.rules import RULES, Rule
from stages.audit.settings import AuditSettings
from stages.audit.summary.summary import STANDS_OUT
from stages.explain.probes.surroundings import TRANSPLANTS

BOTH_MAPS, SHIPPED = "both maps", "both maps and the scan"
CONFIRMED = "confirmed by all outside"
FLAG = "the flag"

_MAP_COLUMNS = ("energy_lift", "energy_in", "border_energy", "entropy", "p_crop_outside")
RELIES = next(rule for rule in RULES if rule.id == "relies_on_outside")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Audit pictures of several experiments: truth, columns, and which experiment each is of."""

    table: pa.Table
    experiment: NDArray[np.str_]
    kind: NDArray[np.str_]
    resamples: int = RESAMPLES
    """Bootstrap resamples behind the intervals of their figures."""

    @property
    def truth(self) -> Bools:
        """Whether the picture relies on its cue."""
        return np.asarray(self.table["positive"].to_numpy(zero_copy_only=False), dtype=bool)

    def column(self, name: str) -> Floats:
        """Values of a column, NaN where undefined or unseen."""
        return np.asarray(self.table[name].to_numpy(zero_copy_only=False), dtype=np.float64)

    def where(self, keep: Bools) -> Rows:
        """Some of the pictures."""
        return Rows(self.table.filter(pa.array(keep)), self.experiment[keep], self.kind[keep], self.resamples)

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True)
class Detector:
    """A score that flags from a threshold on, and the passes through the network that it costs a picture, beside the
    one for p of the whole picture."""

    name: str
    score: Floats
    forward: float
    backward: float
    threshold: float = AuditSettings().drop_outside


def pool(outcomes: Sequence[Outcome], resamples: int = RESAMPLES) -> Rows:
    """The pictures of the experiments that were not refused."""
    tables = [(outcome, outcome.table) for outcome in outcomes if outcome.table is not None]
    return Rows(
        pa.concat_tables([table.replace_schema_metadata() for _, table in tables]),
        np.concatenate([np.full(table.num_rows, outcome.experiment.name) for outcome, table in tables]),
        np.concatenate([np.full(table.num_rows, _kind(outcome.experiment)) for outcome, table in tables]),
        resamples,
    )


def _kind(experiment: Experiment) -> str:
    """What the table of kinds sets apart: the kind of cue, and classifiers of few classes."""
    few = experiment.classes < ALL_CLASSES
    return f"{experiment.kind}, {experiment.classes} classes" if few else experiment.kind


def main_locators() -> list[str]:
    """Names of the maps that see every picture, Opti-CAM's first."""
    return [f"opti_cam {profile}" for profile in cheap_and_costly()[0]] + ["grad_cam"]


def costly_locators(rows: Rows) -> list[str]:
    """Names of the maps that see a few pictures."""
    names = [name.partition("/")[0] for name in rows.table.column_names if name.endswith("/drop_outside")]
    return [name for name in names if name not in (*main_locators(), *UNINFORMED)]


def detectors(rows: Rows, locators: Sequence[str]) -> list[Detector]:
    """Ways to find what the model relies on outside the boxes, each a drop of p: maps, no maps, and both together.

    The costlier of Opti-CAM's and Grad-CAM's proposals is what the pipeline stores, with ``explain.scan`` that of the
    full scan too.
    """
    maps = [_of_map(rows, name) for name in (*locators, *UNINFORMED)]
    scans = [Detector(f"occlusion scan {n} x {n}", rows.column(f"/scan_{n}x{n}"), n * n, 0) for n in (3, 5)]
    blunt = [
        Detector("p - p(box alone, rest black)", rows.column("/minus_p_box"), 1, 0),
        Detector("p - p(box alone, rest blurred)", rows.column("/minus_p_box_blurred"), 1, 0),
        Detector("p - p(box and 16 px alone, rest blurred)", rows.column("/minus_p_near_blurred"), 1, 0),
        Detector("p(context alone, box black)", rows.column("/p_context"), 1, 0),
        Detector("p(context alone, box blurred)", rows.column("/p_context_blurred"), 1, 0),
        Detector("p(context) / (p(box) + p(context)), rest black", rows.column("/context_reliance"), 2, 0),
    ]
    of = {one.name: one for one in (*maps, *scans)}
    of_blunt = {one.name: one for one in blunt}
    first, second = (of[name] for name in (locators[0], "grad_cam"))
    coarse, full = scans
    clear = [_clear_of_the_boxes(rows, one) for one in (first, second)]
    combined = [
        largest(BOTH_MAPS, first, second),
        largest(f"{BOTH_MAPS}, {BLEED} px off the boxes", *clear),
        largest(f"{BOTH_MAPS} and the scan 3 x 3", first, second, coarse),
        largest(f"{BOTH_MAPS} and the scan 5 x 5", first, second, full),
        largest(f"{BOTH_MAPS}, {BLEED} px off the boxes, and the scan 5 x 5", *clear, full),
        largest("grad_cam and the scan 5 x 5", second, full),
    ]
    whole = of_blunt["p - p(box alone, rest blurred)"]
    confirmed = [_confirmed(one, whole) for one in (first, second, combined[0], combined[2], combined[3], coarse, full)]
    halves = [
        Detector("the class lost without the surroundings (one half)", rows.column("/lost_without"), 2, 0),
        Detector("the class given to other objects (the other half)", rows.column("/given_to_others"), TRANSPLANTS, 0),
    ]
    flag = Detector(FLAG, flag_score(rows), 2 + TRANSPLANTS, 0, AuditSettings().outside_effect)
    margin = [
        Detector(f"{one.name}, less the random drop", one.score - of["random"].score, one.forward + 1, one.backward)
        for one in (first, second)
    ]
    return [
        *maps[: len(locators)],
        *clear,
        *combined,
        *confirmed,
        flag,
        *halves,
        *margin,
        *scans,
        *blunt,
        *maps[len(locators) :],
    ]


def largest(name: str, *parts: Detector) -> Detector:
    """The largest drop that any of them finds; one that is undefined says nothing."""
    return Detector(
        name,
        np.fmax.reduce([part.score for part in parts]),
        sum(part.forward for part in parts),
        sum(part.backward for part in parts),
    )


def _confirmed(of: Detector, whole: Detector) -> Detector:
    """The smaller of two drops: hiding a part costs it, and hiding all that lies outside the boxes does too."""
    score = np.minimum(of.score, whole.score)
    return Detector(f"{of.name}, {CONFIRMED}", score, of.forward + whole.forward, of.backward)


def _clear_of_the_boxes(rows: Rows, of: Detector) -> Detector:
    """The same map, hiding what it lights up clear of the boxes: a map bleeds out of the box that it lights up."""
    name = f"{of.name}, {BLEED} px off the boxes"
    return Detector(name, rows.column(f"{of.name}/{OFF_THE_BOXES}"), of.forward, of.backward)


def _of_map(rows: Rows, name: str) -> Detector:
    passes = [float(np.nanmean(rows.column(f"{name}/passes_{way}"))) for way in ("forward", "backward")]
    return Detector(name, rows.column(f"{name}/drop_outside"), *passes)


def proposals(rows: Rows, ways: str) -> dict[str, Floats]:
    """Drops of p by the columns of what proposed to hide: of one locator, of BOTH_MAPS, or of those and the scan, as
    SHIPPED in ``pipeline.yaml``."""
    names = [main_locators()[0], "grad_cam"] if ways in (BOTH_MAPS, SHIPPED) else [ways]
    found = {f"{name}/features": rows.column(f"{name}/drop_outside") for name in names}
    return found | ({"/scan_features": rows.column("/scan_5x5")} if ways == SHIPPED else {})


def drop_of(rows: Rows, ways: str) -> Floats:
    """``drop_outside``: the largest drop of the proposals."""
    return np.asarray(np.fmax.reduce(list(proposals(rows, ways).values())))


def flag_score(rows: Rows) -> Floats:
    """What ``relies_on_outside`` ranks by."""
    return rows.column("/outside_effect")


def rules_of_label() -> list[Rule]:
    """The shipped rules that look at the map of the label, which is what the truth is about. Those of boxes that are
    missing or wrong leave cues out; :mod:`benchmarks.annotation_truth` is about them."""
    return [rule for rule in RULES if "label" in rule.targets and not rule.unless_cue]


def flagged_by(rule: Rule, rows: Rows, ways: str, settings: AuditSettings) -> Bools:
    """Which pictures a rule flags by its own SQL; ``ways`` is as in :func:`proposals`, the first map describes."""
    locator, drop = main_locators()[0] if ways in (BOTH_MAPS, SHIPPED) else ways, drop_of(rows, ways)
    label, predicted = (rows.table[name].to_numpy(zero_copy_only=False) for name in ("label", "predicted"))
    numbers = {name: rows.column(f"{locator}/{name}") for name in _MAP_COLUMNS}
    # As the table ``scores`` has them: a drop of exactly .3 counts here and there.
    numbers |= {"drop_outside": drop, "drop_random": rows.column("random/drop_outside")}
    pointing = rows.column(f"{locator}/pointing_hit")
    taken_for_label = rows.column(f"{locator}/crop_outside_is_label")
    view = pa.table(
        {
            **{name: pa.array(values.astype(np.float32), from_pandas=True) for name, values in numbers.items()},
            "pointing_hit": pa.array([None if np.isnan(hit) else hit == 1 for hit in pointing], pa.bool_()),
            "pred_crop_outside": pa.array(np.where(taken_for_label == 1, 1, 0)),
            "explain_class_index": pa.array(np.ones(len(rows), dtype=int)),
            "correct": pa.array(label == predicted),
            "pred_prob": rows.table["pred_prob"],
            "p_full": rows.table["/p_full"],
            "outside_effect": pa.array(rows.column("/outside_effect").astype(np.float32), from_pandas=True),
            "outside_room": pa.array(rows.column("/outside_room").astype(np.float32), from_pandas=True),
            "p_hide_context": pa.array(rows.column("/p_full") - rows.column("/minus_p_box_blurred")),
            "place": pa.array(range(len(rows))),
        }
    )
    condition = rule.condition(settings.thresholds())
    with duckdb.connect() as connection:
        connection.register("audit", view)
        places = connection.sql(f"SELECT place FROM audit WHERE {condition}").fetchall()
    flagged = np.zeros(len(rows), dtype=bool)
    flagged[[place for (place,) in places]] = True
    return flagged


@dataclass(frozen=True)
class ClassClaims:
    """What the table ``classes`` of an experiment says."""

    ranks: tuple[int, ...]
    """Of the cued classes, the most reliant class being 1."""
    cued: int
    """Cued classes that stand out (``reliance_q``)."""
    others: int
    """Other classes that do."""


def class_claims(outcome: Outcome, settings: AuditSettings) -> ClassClaims:
    """Which classes the audit says rely on what is outside more often than the others."""
    rows = pool([outcome])
    effect, relies = flag_score(rows), flagged_by(RELIES, rows, SHIPPED, settings)
    room = rows.column("/outside_room")
    label, predicted = (rows.table[name].to_pylist() for name in ("label", "predicted"))
    index = {name: k for k, name in enumerate(sorted(set(label)))}
    records = [
        {
            **dict.fromkeys(COLUMNS),
            "sample_id": str(k),
            "target": "label",
            "label": own,
            "samples_class_index": index[own],
            "pred_index": index.get(predicted[k], -1),
            "correct": own == predicted[k],
            "evaluable": True,
            "outside_effect": None if np.isnan(effect[k]) else effect[k],
            "relies": True if relies[k] else False if room[k] >= settings.outside_effect else None,
        }
        for k, own in enumerate(label)
    ]
    records.sort(key=itemgetter("label"))
    table = class_table(records, {}, settings)
    order = table["label"].to_pylist()
    tested = [row for row in table.to_pylist() if row["reliance_q"] is not None]
    claimed = {row["label"] for row in tested if row["reliance_q"] <= STANDS_OUT}
    ranks = tuple(sorted(order.index(own) + 1 for own in outcome.cued))
    return ClassClaims(ranks, len(claimed & set(outcome.cued)), len(claimed - set(outcome.cued)))


def planted_rows(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The experiments that count: not refused, and no control."""
    return [one for one in outcomes if not one.refused and one.experiment.kind != CONTROL]
