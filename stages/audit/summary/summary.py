"""The numbers that a person sees at the end of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from stages.audit.prevalence import MEASURED, Prevalence, prevalence
from stages.audit.rules import FLAG, RULES, flag_condition
from stages.audit.settings import audit_settings
from stages.audit.summary.doubts import doubts
from stages.audit.summary.sanity_result import SanityResult, sanity_results
from stages.score.suggestion import BoxSource, box_source
from stages.statistics import bootstrap, wilson
from stages.words import counted, interval, percent
from storage.cues import read_cues
from storage.sql import connect

if TYPE_CHECKING:
    from storage import Run

Interval = tuple[float, float]

STANDS_OUT = 0.05
"""A class relies on what is outside its boxes more often than the others up to this ``reliance_q``."""


@dataclass(frozen=True)
class Faithfulness:
    """AD, AI and AG of one method and target, in percent: means over the ``n`` rows with a map."""

    method: str
    target: str
    n: int
    ad: float
    ai: float
    ag: float


@dataclass(frozen=True)
class Metrics:
    """What the scores of one method and target come to: metric to value, as in the table ``metrics``.

    ``n`` counts the maps with a box in view.
    """

    method: str
    target: str
    n: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Share:
    """``hits`` of ``n``, with the 95% Wilson interval; None where n is 0."""

    hits: int
    n: int

    @property
    def rate(self) -> float | None:
        """hits / n."""
        return self.hits / self.n if self.n else None

    @property
    def interval(self) -> Interval | None:
        """95% Wilson interval of the rate."""
        return wilson(self.hits, self.n)


@dataclass(frozen=True)
class TopFinding:
    """A finding as the summary lists it."""

    sample_id: str
    target: str
    severity: float
    reason: str


@dataclass(frozen=True)
class RuleCount:
    """How many images a rule found, and its most severe findings."""

    rule: str
    title: str
    kind: str
    count: int
    """Samples with a finding on the first of the rule's targets that the run has, mostly the class of the label."""
    by_prediction: int
    """Further samples, where the rule holds for the class of a wrong prediction alone."""
    top: tuple[TopFinding, ...]


@dataclass(frozen=True)
class CueCount:
    """A cue as the summary lists it; ``classes`` are those it is more frequent in, ``exemplars`` sample ids."""

    cue_id: str
    name: str | None
    """What people call it."""
    size: int
    mean_drop: float
    interval: Interval
    mean_drop_random: float | None
    classes: tuple[str, ...]
    exemplars: tuple[str, ...]
    weak: str | None
    """Why it may be no cue at all; None for one that is strong."""


@dataclass(frozen=True)
class Untestable:
    """A class with ``n`` samples, of its ``evaluable`` ones, that the flag could not test."""

    label: str
    n: int
    evaluable: int

    def __str__(self) -> str:
        return f"{self.label} ({self.n} of {self.evaluable})"


@dataclass(frozen=True)
class Ranked:
    """Means over the classes that images could be ranked by (:mod:`stages.audit.ranking`)."""

    auroc: float
    average_precision: float
    classes: int


@dataclass(frozen=True)
class Summary:
    """A run in numbers. Shares are fractions in [0, 1]; the misses and the lift are of the target ``label``.

    ``samples`` counts samples by status; ``unscored`` counts rows of the audited method by a status other
    than ok.
    """

    method: str
    unit: str
    """What is counted, in a word: ``image``, or ``sample`` where an image is several samples."""
    labelled: bool
    """Whether the audited method has maps of the target ``label``."""
    boxed: bool
    """Whether any sample has a box."""
    samples: dict[str, int]
    unscored: dict[str, int]
    accuracy: Share
    ranked: Ranked | None
    """None where classes exclude each other."""
    faithfulness: tuple[Faithfulness, ...]
    metrics: tuple[Metrics, ...]
    evaluable: int
    reliance: Share
    """Samples whose label rests on something outside its boxes, of those on which that could be asked."""
    prevalence: Prevalence | None
    """The same with the flag's own errors counted."""
    untestable: tuple[Untestable, ...]
    """Classes with samples on which it could not be, the most such samples first."""
    transplanted: bool
    """Whether any sample had an object of another class set into its surroundings."""
    standing_out: Mapping[str, Prevalence | None]
    """Classes in which it does more often than in the others, and how often, the flag's own errors counted."""
    misses: Share
    miss_null: float | None
    lift_median: float | None
    lift_interval: Interval | None
    rules: tuple[RuleCount, ...]
    cues: tuple[CueCount, ...]
    boxes: BoxSource | None
    """Which maps suggest boxes for samples without one; None where every sample of a class has one."""
    sanity: tuple[SanityResult, ...]
    doubts: tuple[str, ...]
    """What makes the rest doubtful, in sentences."""


def headline(reliance: Share, unit: str = "image") -> str:
    """The headline of a run: one sentence. ``unit``: what is counted, see :class:`Summary`."""
    if not reliance.n:
        return "What the model relies on could not be tested"
    if not reliance.hits:
        return f"None of {reliance.n} {unit}s was found to rest on something outside its boxes"
    verb, whose = ("rests", "its") if reliance.hits == 1 else ("rest", "their")
    return f"{reliance.hits} of {reliance.n} {unit}s {verb} on something outside {whose} boxes"


def flagged_by_prediction(summary: Summary) -> int:
    """Samples that the flag finds by the class of their wrong prediction alone."""
    return sum(rule.by_prediction for rule in summary.rules if rule.rule == FLAG)


def mispredicted(summary: Summary) -> str:
    """What :func:`flagged_by_prediction` counts, in a sentence; empty where there are none."""
    found, unit = flagged_by_prediction(summary), f"{'more ' if summary.reliance.hits else ''}{summary.unit}"
    return f"Of {counted(found, unit)} a wrong prediction rests on something outside the boxes" if found else ""


def untested(summary: Summary, most: int = 4) -> str:
    """The classes whose images could not be tested, ``most`` of them by name, and why; empty where there are none."""
    if not summary.untestable:
        return ""
    more = len(summary.untestable) - most
    classes = ", ".join(map(str, summary.untestable[:most])) + (f" and {more} more" if more > 0 else "")
    if not summary.transplanted:
        return f"cannot be tested: {classes}, because no image of another class lends an object: it needs boxes"
    return (
        f"cannot be tested: {classes}, because the classifier sees the class in an empty picture or other objects too"
    )


def summarise(run: Run, *, top: int = 3) -> Summary:
    """The summary of an audited run; ``top`` findings a rule. Writes nothing.

    Raises UserError where the run has no scores or no findings yet.
    """
    method = run.audited_method()
    findings = [finding for finding in run.table("findings").to_pylist() if finding["method"] == method]
    settings = audit_settings(run.info)
    with connect(run) as connection:
        evaluable = _rows(
            connection,
            f"SELECT pointing_hit, box_area_frac, energy_lift, outside_effect, ({flag_condition(settings)}) AS relies "
            "FROM audit_targets "
            "WHERE method = ? AND target = 'label' AND evaluable ORDER BY row",
            method,
        )
        right = _rows(
            connection,
            "SELECT any_value(correct) AS correct FROM audit_targets "
            "WHERE method = ? AND correct IS NOT NULL GROUP BY sample_id",
            method,
        )
        faithfulness = _rows(
            connection,
            "SELECT method, target, count(*) AS n, 100 * avg(ad) AS ad, 100 * avg(ai) AS ai, 100 * avg(ag) "
            "AS ag FROM audit_targets WHERE explain_status = 'ok' AND ad IS NOT NULL AND ai IS NOT NULL AND ag IS "
            "NOT NULL GROUP BY method, target ORDER BY method <> ?, method, target",
            method,
        )
        (pictures,) = _rows(
            connection,
            "SELECT count(DISTINCT uri) < count(*) AS shared, coalesce(bool_or(len(boxes) > 0), false) AS boxed, "
            "coalesce(bool_or(status = 'no_box' AND class_index IS NOT NULL), false) AS unboxed "
            "FROM samples WHERE status <> 'removed'",
        )
        samples = _rows(
            connection,
            "SELECT status, count(*) AS n FROM samples GROUP BY status ORDER BY status <> 'ok', n DESC, status",
        )
        unscored = _rows(
            connection,
            "SELECT scores_status AS status, count(*) AS n FROM audit_targets WHERE method = ? AND scores_status <> "
            "'ok' GROUP BY ALL ORDER BY n DESC, status",
            method,
        )
    classes = run.table("classes").to_pylist() if run.has_table("classes") else []
    pointed = [row for row in evaluable if row["pointing_hit"] is not None]
    reliance = _share([row["relies"] for row in evaluable if row["relies"] is not None])
    lifts = np.array([row["energy_lift"] for row in evaluable if row["energy_lift"] is not None])
    return Summary(
        method=method,
        unit="sample" if pictures["shared"] else "image",
        labelled="label" in run.targets(method),
        boxed=pictures["boxed"],
        samples={row["status"]: row["n"] for row in samples},
        unscored={row["status"]: row["n"] for row in unscored},
        accuracy=_share([row["correct"] for row in right]),
        ranked=_ranked(classes),
        faithfulness=tuple(Faithfulness(**row) for row in faithfulness),
        metrics=_metrics(run, method),
        evaluable=len(evaluable),
        reliance=reliance,
        prevalence=prevalence(reliance.hits, reliance.n, settings),
        untestable=tuple(
            Untestable(row["label"], row["n_untestable"], row["n_evaluable"])
            for row in sorted(classes, key=lambda row: (-(row["n_untestable"] or 0), row["label"]))
            if row["n_untestable"]
        ),
        transplanted=any(row["outside_effect"] is not None for row in evaluable),
        standing_out={
            row["label"]: _prevalence(row)
            for row in classes
            if row["reliance_q"] is not None and row["reliance_q"] <= STANDS_OUT
        },
        misses=_share([not row["pointing_hit"] for row in pointed]),
        miss_null=float(np.mean([1 - row["box_area_frac"] for row in pointed])) if pointed else None,
        lift_median=float(np.median(lifts)) if len(lifts) else None,
        lift_interval=bootstrap(lifts),
        rules=_count_rules(findings, top, run.targets(method)),
        cues=_count_cues(run, method, top),
        boxes=box_source(run) if pictures["unboxed"] else None,
        sanity=sanity_results(run),
        doubts=doubts(run, method),
    )


def corrected(found: Prevalence) -> str:
    """A share with the flag's own errors counted, and what these are."""
    return (
        f"{percent(found.rate, 0)} {interval(found.interval, 100, 0)} of such images, the flag's errors counted: in "
        f"experiments it misses {percent(MEASURED.missed, 0)} of shortcuts and flags {percent(MEASURED.false, 0)} of "
        "other images"
    )


def _prevalence(row: Mapping[str, Any]) -> Prevalence | None:
    """What a row of ``classes`` says of the class."""
    values = [row[f"corrected_{name}"] for name in ("rate", "low", "high")]
    return None if None in values else Prevalence(*values)


def _share(hits: list[bool]) -> Share:
    return Share(sum(hits), len(hits))


def _ranked(classes: list[dict[str, Any]]) -> Ranked | None:
    pairs = [(row["auroc"], row["average_precision"]) for row in classes if row["auroc"] is not None]
    auroc, precision = np.mean(pairs, axis=0).tolist() if pairs else (0.0, 0.0)
    return Ranked(auroc, precision, len(pairs)) if pairs else None


def _metrics(run: Run, method: str) -> tuple[Metrics, ...]:
    """The table ``metrics`` by method and target, the audited method first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in run.table("metrics").to_pylist() if run.has_table("metrics") else ():
        groups[row["method"], row["target"]].append(row)
    return tuple(
        Metrics(
            method=key[0],
            target=key[1],
            n=max((row["n"] for row in rows if row["metric"] == "energy_in"), default=0),
            values={row["metric"]: row["value"] for row in rows},
        )
        for key, rows in sorted(groups.items(), key=lambda group: (group[0][0] != method, group[0]))
    )


def _count_rules(findings: list[dict[str, Any]], top: int, targets: Sequence[str]) -> tuple[RuleCount, ...]:
    """Rules in the shipped order, then a user's own; the table's order of findings is by severity already."""
    known = {
        rule.id: (rule.title, rule.kind, next((one for one in rule.targets if one in targets), rule.targets[0]))
        for rule in RULES
    }
    for finding in findings:
        known.setdefault(finding["rule"], (finding["rule"], finding["kind"], finding["target"]))
    counts = []
    for rule, (title, kind, target) in known.items():
        found = [finding for finding in findings if finding["rule"] == rule]
        first = {one["sample_id"] for one in found if one["target"] == target}
        rest = {one["sample_id"] for one in found} - first
        listed = tuple(
            TopFinding(finding["sample_id"], finding["target"], finding["severity"], finding["reason"])
            for finding in found[:top]
        )
        counts.append(RuleCount(rule, title, kind, len(first), len(rest), listed))
    return tuple(counts)


def _count_cues(run: Run, method: str, top: int) -> tuple[CueCount, ...]:
    """The cues of a method, the costliest first."""
    return tuple(
        CueCount(
            cue_id=cue["cue_id"],
            name=cue["name"],
            size=cue["size"],
            mean_drop=cue["mean_drop"],
            interval=(cue["mean_drop_low"], cue["mean_drop_high"]),
            mean_drop_random=cue["mean_drop_random"],
            classes=tuple(enriched["label"] for enriched in cue["classes"]),
            exemplars=tuple(exemplar["sample_id"] for exemplar in cue["exemplars"][:top]),
            weak=cue["weak"],
        )
        for cue in read_cues(run, method)
    )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, list(parameters))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
