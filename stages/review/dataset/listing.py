"""What panels of the App tell of a dataset: its findings and what of them is reviewed, evidence against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from fiftyone import ViewField
from numpy.typing import NDArray

from stages.review.dataset.fields import KEY, NUMBERS, PREDICTED, PRIORITY, WORST
from stages.review.dataset.verdict_fields import VERDICTS

LISTED = "listed"
"""Key of the dataset's info that holds its :class:`Listed`."""

MOST_POINTS = 5000
"""Points that a scatter draws: a browser becomes slow with more. Flagged samples are drawn before others."""

BINS = 40


@dataclass(frozen=True)
class Listed:
    """A saved view in the list of findings: of a rule or a cue, the other of which is empty."""

    view: str
    title: str
    kind: str
    """flag, described or cue."""
    rule: str
    cue: str
    samples: int


@dataclass(frozen=True)
class Reviewed:
    """A line of the list: a saved view and how many of its samples have a verdict on what it is about."""

    listed: Listed
    reviewed: int


@dataclass(frozen=True)
class Evidence:
    """Samples as points, and the distribution of all of them."""

    ids: list[str]
    keys: list[str]
    confidence: list[float]
    """Probability of the predicted class, [0, 1]."""
    drop: list[float]
    """drop_outside of the label or of the predicted class, whichever is higher, [-1, 1]."""
    group: list[int]
    """Of each point: 2 flagged, 1 described, 0 nothing found."""
    edges: NDArray[np.float64]
    """(bins + 1,) of drop_outside."""
    counts: NDArray[np.int64]
    """(3, bins): samples by group and bin, those included that are not drawn."""
    total: int
    """Samples that have both numbers."""


def list_findings(dataset: Any, listed: Sequence[Listed]) -> None:
    """Keep the list in the dataset, for the App."""
    rows = [asdict(one) for one in listed]
    if dataset.info.get(LISTED) != rows:
        dataset.info[LISTED] = rows
        dataset.save()


def reviewed_findings(dataset: Any) -> list[Reviewed]:
    """The list of findings in its order, with what is reviewed by now."""
    listed = [Listed(**row) for row in dataset.info.get(LISTED, [])]
    judged = dataset.match(ViewField(VERDICTS).length() > 0)
    found, cues, rules = judged.values(["findings", "cue", f"{VERDICTS}.rule"])
    of_rule, of_cue = _count(zip(found, rules, strict=True)), _count(([cue], [cue]) for cue in cues)
    return [Reviewed(one, of_rule.get(one.rule, 0) if one.rule else of_cue.get(one.cue, 0)) for one in listed]


def evidence_of(view: Any) -> Evidence:
    """Evidence and confidence of the samples of a view or dataset; flagged ones first, then the worst described."""
    ids, keys = view.values(["id", KEY])
    names = ["prediction.confidence", PRIORITY, WORST, f"{NUMBERS}.drop_outside", f"{PREDICTED}.drop_outside"]
    has = [name for name in names if view.has_field(name)]
    confidence, priority, flag, *drops = (np.array(values, dtype=float) for values in view.values(has))
    drop = np.fmax.reduce(drops)
    there = np.flatnonzero(np.isfinite(confidence) & np.isfinite(drop))
    group = np.where(flag > 0, 2, np.where(priority > 0, 1, 0))
    edges = np.linspace(min(0.0, drop[there].min(initial=0.0)), 1.0, BINS + 1)
    counts = np.stack([np.histogram(drop[there][group[there] == kind], edges)[0] for kind in range(3)])
    drawn = there[np.argsort(-priority[there], kind="stable")][:MOST_POINTS]
    return Evidence(
        ids=[ids[index] for index in drawn],
        keys=[keys[index] for index in drawn],
        confidence=confidence[drawn].tolist(),
        drop=drop[drawn].tolist(),
        group=group[drawn].tolist(),
        edges=edges,
        counts=counts,
        total=len(there),
    )


def _count(samples: Any) -> dict[str, int]:
    """How many samples were judged on each thing that they have."""
    counts: dict[str, int] = {}
    for has, judged in samples:
        for name in set(has or ()) & set(judged or ()):
            counts[name] = counts.get(name, 0) + 1
    return counts
