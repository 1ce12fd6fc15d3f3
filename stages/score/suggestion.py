"""Which map's box stands in best for a box that nobody drew, and how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.score.boxacc import IOU_LEVELS, NOTHING_FOUND, THRESHOLDS, FoundCounts, best_thresholds
from stages.score.metrics import counts_of_parts
from stages.score.settings import ScoreSettings
from stages.statistics import wilson
from stages.words import interval, percent
from storage import Run
from storage.run import default_method

RIGHT = 0.5
"""IoU with a box of the label from which a suggested box is right."""

_LEVEL = IOU_LEVELS.index(RIGHT)


@dataclass(frozen=True)
class BoxSource:
    """The maps that suggest boxes: a suggestion is the box of the largest connected part of S > ``threshold``."""

    method: str
    threshold: float | None
    """Of the map in [0, 1]; None: each map's own mean, where ``score.box_accuracy`` measured nothing."""
    right: int
    """Of ``n`` samples with a box, those on which the suggestion is right, its threshold being chosen on samples of
    other parts of the run; on all samples where there is one part."""
    n: int
    unknown: str = ""
    """Why nothing was measured; empty where it was."""


def box_source(run: Run, methods: Sequence[str] | None = None) -> BoxSource:
    """The best source of boxes among the run's methods, by the maps of the label.

    ``methods`` are those to choose from. Raises UserError for a run without maps.
    """
    methods = run.methods() if methods is None else methods
    sources = [source for method in methods if (source := _measured(method, counts_of_parts(run, method))) is not None]
    if not sources:
        measured = run.info.settings("score", ScoreSettings).box_accuracy
        why = "no sample has a box" if measured else "score.box_accuracy is off; set it to true and run again"
        return BoxSource(default_method(methods), None, 0, 0, why)
    return max(sources, key=lambda source: source.right / source.n)


def _measured(method: str, parts: Sequence[FoundCounts]) -> BoxSource | None:
    """A method by the counts of its parts, of which each is judged with the threshold that suits the others best."""
    whole = sum(parts, start=NOTHING_FOUND)
    if not whole.samples:
        return None
    right = 0
    for part in parts:
        others = FoundCounts(whole.samples - part.samples, whole.found - part.found)
        right += int(part.found[_LEVEL][(others if others.samples else whole).found[_LEVEL].argmax()])
    return BoxSource(method, best_thresholds(whole, THRESHOLDS).thresholds[_LEVEL], right, whole.samples)


def suggested_by(source: BoxSource) -> str:
    """Where suggested boxes are from and how good they are: a phrase."""
    if source.threshold is None:
        return (
            f"the largest part of each {source.method} map above its mean; how good these are is not known: "
            f"{source.unknown}"
        )
    return (
        f"the largest part of the {source.method} map above {source.threshold:.2f}; its IoU with a box is {RIGHT:g} or "
        f"more on {percent(source.right / source.n, 0)} {interval(wilson(source.right, source.n), 100, 0)} of the "
        f"{source.n} samples with boxes"
    )
