"""The tables: what was planted, what finds it, and what finds something where nothing is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.detect import (
    BOTH_MAPS,
    CONFIRMED,
    FLAG,
    RELIES,
    SHIPPED,
    Bools,
    Detector,
    Floats,
    Rows,
    class_claims,
    costly_locators,
    detectors,
    drop_of,
    flag_score,
    flagged_by,
    main_locators,
    planted_rows,
    pool,
    rules_of_label,
)
from benchmarks.planted.experiment import Outcome
from benchmarks.planted.isolate import isolations
from benchmarks.planted.measure import CELLS
from benchmarks.planted.plan import CONTROL
from benchmarks.planted.statistics import RESAMPLES, auroc, average_precision, estimate, precision, recall
from stages.audit.settings import AuditSettings
from stages.demo.truth import POSITIVE

SETTINGS = AuditSettings()

Table = list[list[str]]

MAP_SCORES = {
    "drop of p when the top 10% outside is blurred": ("drop_outside", 1),
    "the same, difference of log-odds": ("drop_outside_logit", 1),
    "p(S outside) - p(S inside)": ("context_minus_box", 1),
    "context reliance": ("context_reliance", 1),
    "energy inside, low": ("energy_in", -1),
    "energy lift, low": ("energy_lift", -1),
    "log-odds of energy, low": ("energy_logodds", -1),
    "placement percentile, low": ("energy_null_pct", -1),
    "pointing miss": ("pointing_hit", -1),
    "IoU of the map's box, low": ("iou_best", -1),
    "pixel F1, low": ("pixel_f1", -1),
    "border energy": ("border_energy", 1),
    "entropy, low": ("entropy", -1),
}
"""What a map is scored by: column and the sign with which it is suspicious."""


def report(outcomes: Sequence[Outcome], resamples: int = RESAMPLES) -> str:
    """The whole report of one source of pictures, in Markdown; ``resamples`` are behind every interval."""
    parts = ["### Experiments", "", *markdown(experiment_table(outcomes)), ""]
    planted, control = planted_rows(outcomes), [one for one in outcomes if one.experiment.kind == CONTROL]
    if not planted:
        return "\n".join([*parts, "Every experiment was refused: no model learnt to use a cue.", ""])
    rows, clean = pool(planted, resamples), pool(control) if control else None
    parts += [
        f"Pooled: {len(rows)} audit pictures of {len(planted)} experiments, {rows.truth.sum()} of them shortcuts "
        f"(the cue adds {POSITIVE:g} or more to p of the label).",
        "",
    ]
    if clean is not None:
        parts += [
            f"Control: {len(clean)} pictures, {clean.truth.sum()} shortcuts; what is flagged there is a false finding.",
            "",
        ]
    main = main_locators()
    parts += ["### What finds a shortcut", "", *markdown(detector_table(rows, clean, main)), ""]
    if costly_locators(rows):
        some, some_clean = subset(rows), None if clean is None else subset(clean)
        parts += [
            f"### The same on the {len(some)} pictures that the costly maps see ({some.truth.sum()} shortcuts)",
            "",
            *markdown(detector_table(some, some_clean, [*main, *costly_locators(rows)])),
            "",
        ]
    parts += ["### Rules at their shipped thresholds", "", *markdown(rule_table(rows, clean)), ""]
    parts += ["### Scores of a map", "", *markdown(score_table(rows)), ""]
    parts += ["### By kind of cue", "", *markdown(kind_table(rows)), ""]
    parts += ["### Hidden area and fill", "", *markdown(ablation_table(rows, clean)), ""]
    return "\n".join(parts)


def experiment_table(outcomes: Iterable[Outcome]) -> Table:
    """One row an experiment: what was learnt, and how the audit of ``pipeline.yaml`` does on it."""
    table = [
        ["experiment", "accuracy", "effect of the cue", "pictures", "shortcuts", "AUROC", "AP", "precision", "recall",
         "AUROC, maps alone", "rank of the cued classes", "stand out (q < .05)",
         "other classes that do", "clusters"],
    ]  # fmt: skip
    for one in outcomes:
        effects = ", ".join(f"{cue} {effect:+.2f}" for cue, effect in one.effects.items()) or "-"
        row = [one.experiment.name, f"{one.accuracy:.2f}", effects]
        if one.refused:
            table.append([*row, f"refused: below {POSITIVE:g}", *["-"] * 10])
            continue
        rows = pool([one])
        truth, score = rows.truth, flag_score(rows)
        flagged = flagged_by(RELIES, rows, SHIPPED, SETTINGS)
        figures = [
            auroc(truth, score),
            average_precision(truth, score),
            precision(truth, flagged),
            recall(truth, flagged),
            auroc(truth, drop_of(rows, BOTH_MAPS)),
        ]
        claims = class_claims(one, SETTINGS)
        ranks = ", ".join(map(str, claims.ranks)) or "-"
        cued = f"{claims.cued} of {len(claims.ranks)}" if claims.ranks else "-"
        clusters = "; ".join(map(str, isolations(one, SETTINGS))) or "-"
        table.append(
            [*row, str(len(rows)), str(truth.sum()), *map(_figure, figures), ranks, cued, str(claims.others), clusters]
        )
    return table


def detector_table(rows: Rows, clean: Rows | None, locators: Sequence[str]) -> Table:
    """One row a way of finding: how it ranks, what a threshold makes of it, and what it costs."""
    table = [
        ["score", "AUROC", "AP", "from", "precision", "recall", "flagged on the control",
         "passes forward", "backward"],
    ]  # fmt: skip
    control = {one.name: one for one in detectors(clean, locators)} if clean is not None else {}
    for one in detectors(rows, locators):
        flags = one.score >= one.threshold
        false = control[one.name].score >= one.threshold if control else None
        table.append(
            [
                one.name,
                *_ranking(rows, one.score),
                f"{one.threshold:g}",
                *_deciding(rows, flags),
                _share(false, clean),
                *_passes(one),
            ]
        )
    return table


def rule_table(rows: Rows, clean: Rows | None) -> Table:
    """One row a rule that looks at the label's map, with what the pipeline proposes to hide and with one map alone."""
    table = [["rule", "kind", "hidden by", "flagged", "precision", "recall", "flagged on the control"]]
    for rule in rules_of_label():
        for ways in (SHIPPED, BOTH_MAPS, *main_locators()):
            flags = flagged_by(rule, rows, ways, SETTINGS)
            false = None if clean is None else flagged_by(rule, clean, ways, SETTINGS)
            table.append([rule.id, rule.kind, ways, str(flags.sum()), *_deciding(rows, flags), _share(false, clean)])
    return table


def score_table(rows: Rows) -> Table:
    """One row a score of a map, AUROC and AP for each map."""
    main = main_locators()
    table = [["score", *(f"{figure}, {name}" for name in main for figure in ("AUROC", "AP"))]]
    for title, (column, sign) in MAP_SCORES.items():
        found = [text for name in main for text in _ranking(rows, sign * rows.column(f"{name}/{column}"))]
        table.append([title, *found])
    return table


def kind_table(rows: Rows) -> Table:
    """How well each kind of cue is found."""
    table = [["cue", "pictures", "shortcuts", "way", "AUROC", "AP", "precision", "recall"]]
    for kind in dict.fromkeys(rows.kind.tolist()):
        own = rows.where(rows.kind == kind)
        all_outside = own.column("/minus_p_box_blurred")
        ways = {way: drop_of(own, way) for way in (SHIPPED, BOTH_MAPS)} | {
            f"{SHIPPED}, {CONFIRMED}": np.minimum(drop_of(own, SHIPPED), all_outside),
            FLAG: flag_score(own),
            "scan alone": own.column("/scan_5x5"),
            "p - p(box alone, rest blurred)": all_outside,
        }
        for way, score in ways.items():
            flags = flagged_by(RELIES, own, SHIPPED, SETTINGS) if way == FLAG else score >= SETTINGS.drop_outside
            table.append(
                [kind, str(len(own)), str(own.truth.sum()), way, *_ranking(own, score), *_deciding(own, flags)]
            )
    return table


def ablation_table(rows: Rows, clean: Rows | None) -> Table:
    """Other hidden areas and fills than the audit's."""
    main = main_locators()
    table = [["hidden", "map", "AUROC", "AP", "precision", "recall", "flagged on the control"]]
    for cell in CELLS:
        for name in (*main, BOTH_MAPS):
            score = _hiding(rows, cell, name)
            flags = score >= SETTINGS.drop_outside
            false = None if clean is None else _hiding(clean, cell, name) >= SETTINGS.drop_outside
            table.append([cell, name, *_ranking(rows, score), *_deciding(rows, flags), _share(false, clean)])
    return table


def _hiding(rows: Rows, cell: str, name: str) -> Floats:
    """Drop of p with the area and fill of a cell of the ablation, of one map's proposal or of the best of all."""
    names = main_locators() if name == BOTH_MAPS else [name]
    return np.asarray(np.fmax.reduce([rows.column(f"{own}/{cell}") for own in names]))


def subset(rows: Rows) -> Rows:
    """The pictures that every locator has seen."""
    return rows.where(rows.column("/in_subset") == 1)


def shown(arguments: Sequence[str]) -> str:
    """A command line to print: the folders of the machine that ran it are left out."""
    return shlex.join(Path(word).name if os.sep in word else word for word in arguments)


def markdown(table: Table) -> list[str]:
    """A Markdown table; figures are aligned to the right."""
    head, *body = table
    rule = [":--", *["--:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]


def _ranking(rows: Rows, score: Floats) -> list[str]:
    figures = (auroc, average_precision)
    return [_estimated(figure, rows, score) for figure in figures]


def _deciding(rows: Rows, flags: Bools) -> list[str]:
    return [_estimated(figure, rows, flags) for figure in (precision, recall)]


def _estimated(figure: Callable[[Bools, NDArray], float | None], rows: Rows, values: NDArray) -> str:
    return str(estimate(figure, rows.truth, values, rows.experiment, resamples=rows.resamples))


def _share(flags: NDArray[np.bool_] | None, rows: Rows | None) -> str:
    """False findings: the flagged among the pictures that are no shortcut."""
    if flags is None or rows is None:
        return "-"
    return f"{int((flags & ~rows.truth).sum())} of {int((~rows.truth).sum())}"


def _passes(one: Detector) -> list[str]:
    return [f"{one.forward:.0f}", f"{one.backward:.0f}"]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
