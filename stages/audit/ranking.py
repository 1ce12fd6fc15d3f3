"""AUROC and average precision: how a classifier whose classes do not exclude each other ranks images by each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from storage.sql import class_names

if TYPE_CHECKING:
    from storage import Run

NOT_KNOWN = ("unreadable", "no_class", "removed")
"""Statuses of samples of which nobody knows which classes they are not."""


@dataclass(frozen=True)
class Ranking:
    """Of one class, over all images whose classes are known."""

    auroc: float
    """Share of pairs of an image of the class and one without it in which the first has the higher p; a tie is half."""
    average_precision: float
    """Mean over the images of the class of the precision among the images with a p as high or higher; for a classifier
    that knows nothing it is their share, ``positives / images``."""
    positives: int
    images: int


def rank_classes(run: Run, method: str) -> dict[int, Ranking]:
    """The ranking of each class that some images have and others have not, by class index.

    Empty for a classifier whose classes exclude each other: there accuracy says it. An image has the classes of all its
    samples and of all their boxes; an image without any object has none.
    """
    known = pc.field("class_probabilities").is_valid()
    rows = run.dataset("explain", method).to_table(columns=["row", "class_probabilities"], filter=known)
    if not rows.num_rows:
        return {}
    indices = {one["name"]: one["class_index"] for one in reversed(class_names(run).to_pylist())}
    columns = ["row", "uri", "class_index", "other_classes", "boxes", "status"]
    samples = {row["row"]: row for row in run.table("samples", columns).to_pylist()}
    found: dict[str, tuple[NDArray[np.float32], set[int]]] = {}
    for row in rows.to_pylist():
        sample = samples[row["row"]]
        if sample["status"] not in NOT_KNOWN:
            p = np.array(row["class_probabilities"], dtype=np.float32)
            found.setdefault(sample["uri"], (p, _classes(sample, indices)))
    if not found:
        return {}
    values = np.stack([p for p, _ in found.values()])
    truth = np.zeros(values.shape, dtype=bool)
    for place, (_, classes) in enumerate(found.values()):
        truth[place, list(classes)] = True
    return rank(truth, values)


def rank(truth: NDArray[np.bool_], values: NDArray[np.floating[Any]]) -> dict[int, Ranking]:
    """The ranking of each class that some images have and others have not, by its place.

    ``truth`` (N, C) says which image has which class, ``values`` (N, C) is p, or anything that rises with it.
    """
    counts = truth.sum(axis=0)
    return {
        index: Ranking(
            float(roc_auc_score(truth[:, index], values[:, index])),
            float(average_precision_score(truth[:, index], values[:, index])),
            int(counts[index]),
            len(values),
        )
        for index in np.flatnonzero((counts > 0) & (counts < len(values))).tolist()
    }


def _classes(sample: Mapping[str, Any], indices: Mapping[str, int]) -> set[int]:
    """Classes that a sample's image shows; ``indices`` are those of the classes' names."""
    own = set() if sample["class_index"] is None else {sample["class_index"]}
    drawn = {indices[box["label"]] for box in sample["boxes"] or () if box["label"] in indices}
    return own | set(sample["other_classes"] or ()) | drawn
