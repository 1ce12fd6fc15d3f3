"""Scatters of a run's vectors for FiftyOne's Embeddings panel: nothing is downloaded, no network runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.review.dataset.contents import Contents
from stages.review.dataset.fields import KEY
from storage.run import Run

CUE_SPACE = "cue_space"
IMAGE_SPACE = "image_space"

COLUMNS = {CUE_SPACE: "outside_features", IMAGE_SPACE: "image_features"}
"""Brain keys, as the panel lists them, and the column of ``explain`` whose vectors they show."""

OURS = "embeddings"
"""Key of the dataset's info that says of each scatter how it was made, and of what."""

COMPONENTS = 50
TSNE_MOST = 2000
"""t-SNE tells groups apart far better than two components do, but takes seconds for a thousand samples."""

TSNE_FEWEST = 10
FITTED = 20_000
"""Principal components are computed from at most this number of vectors, a seeded choice."""

BLOCK = 4096
"""Rows that are in memory as float32 at once."""

Vectors = NDArray[np.float16]
Points = NDArray[np.float32]


@dataclass(frozen=True)
class Scatter:
    """Where each vector (n, channels) lies in the plane, (n, 2), and by which method."""

    points: Points
    method: str


def save_embeddings(dataset: Any, run: Run, contents: Contents) -> None:
    """Bring the scatters of the dataset up to date with the run; those of vectors that it lacks are taken out.

    ``cue_space``: what lights up outside the boxes, of the target whose probability that costs most, as the audit's
    cues have it. ``image_space``: the whole view. What did not change is not computed again.
    """
    ids = dict(zip(*dataset.values([KEY, "id"]), strict=True))
    wanted = _costliest_target(contents)
    made = dict(dataset.info.get(OURS, {}))
    for brain_key, column in COLUMNS.items():
        keys, vectors = read_vectors(run, contents.method, column, wanted if brain_key == CUE_SPACE else None)
        there = [index for index, key in enumerate(keys) if key in ids]
        keys, vectors = [keys[index] for index in there], vectors[there]
        digest = hashlib.sha256(repr([(key, ids[key]) for key in keys]).encode() + vectors.tobytes()).hexdigest()
        has = dataset.has_brain_run(brain_key)
        if has and made.get(brain_key, {}).get("digest") == digest:
            continue
        if has:
            dataset.delete_brain_run(brain_key)
        made.pop(brain_key, None)
        if len(keys) > 1:
            scatter = lay_out_vectors(vectors)
            _register(dataset, brain_key, dict(zip((ids[key] for key in keys), scatter.points, strict=True)))
            made[brain_key] = {"digest": digest, "of": column, "by": scatter.method, "samples": len(keys)}
    dataset.info[OURS] = made
    dataset.save()


def read_vectors(
    run: Run, method: str, column: str, targets: dict[str, str] | None = None
) -> tuple[list[str], Vectors]:
    """sample_ids, sorted by row, and their vectors (n, channels); (0, 0) where the run has none.

    ``targets`` says of which target; where it says nothing of a sample, of the first that has a vector.
    """
    rows: dict[str, tuple[int, Vectors]] = {}
    for table in run.dataset("explain", method).to_batches(
        columns=["sample_id", "row", "target", column], filter=pc.field(column).is_valid()
    ):
        keys, named = table["sample_id"].to_pylist(), table["target"].to_pylist()
        # The rest goes before the vectors are looked at, so that it is not kept in memory with them.
        asked = [targets is None or targets.get(key, target) == target for key, target in zip(keys, named, strict=True)]
        table = table.filter(pa.array(asked, pa.bool_()))
        for key, row, vector in zip(
            table["sample_id"].to_pylist(), table["row"].to_pylist(), _split(table[column]), strict=True
        ):
            if key not in rows and np.isfinite(vector).all():
                rows[key] = row, vector
    found = sorted(rows.items(), key=lambda item: item[1][0])
    # A run that another layer is being computed for has vectors of two lengths for a while.
    channels = max((len(vector) for _, (_, vector) in found), default=0)
    found = [item for item in found if len(item[1][1]) == channels]
    vectors = np.stack([vector for _, (_, vector) in found]) if found else np.empty((0, 0), np.float16)
    return [key for key, _ in found], vectors


def lay_out_vectors(vectors: Vectors) -> Scatter:
    """Directions of at least two vectors in the plane, seeded: near each other means alike to the network.

    Up to :data:`TSNE_MOST` vectors by t-SNE of their first components, more by their first two components.
    """
    components = principal_components(vectors, COMPONENTS)
    if not TSNE_FEWEST <= len(vectors) <= TSNE_MOST:
        return Scatter(components[:, :2], "the first two principal components")
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Few neighbours where there are few vectors: groups smaller than the perplexity are torn apart.
    perplexity = min(30.0, len(vectors) ** 0.5)
    # One thread: sums of several come out in another order from time to time, and the picture with them.
    with threadpool_limits(1):
        points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(components)
    return Scatter(points.astype(np.float32), f"t-SNE of the first {components.shape[1]} principal components")


def principal_components(vectors: Vectors, count: int) -> Points:
    """Scores (n, at most ``count``, at least 2) of the vectors' directions on their principal components.

    The components are those of at most :data:`FITTED` vectors, a seeded choice.
    """
    from sklearn.decomposition import PCA

    chosen = np.random.default_rng(0).permutation(len(vectors))[:FITTED]
    pca = PCA(min(count, len(chosen), vectors.shape[1]), svd_solver="covariance_eigh")
    pca.fit(_directions(vectors[np.sort(chosen)]))
    blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
    scores = np.concatenate([pca.transform(_directions(block)) for block in blocks]).astype(np.float32)
    return np.pad(scores, ((0, 0), (0, max(0, 2 - scores.shape[1]))))


@dataclass(frozen=True)
class Cloud:
    """The samples of a view that belong to one cue, or to none, in a scatter."""

    cue: str
    """Empty for those of no cue."""
    ids: list[str]
    keys: list[str]
    points: Points
    """(n, 2)."""


def clouds_of(view: Any, brain_key: str, most: int) -> list[Cloud]:
    """The samples of a view or dataset that a scatter has, by cue: the largest first, at last those of none.

    Of more than ``most`` samples, those with a cue are taken first.
    """
    results = view._dataset.load_brain_results(brain_key)
    place = {str(key): index for index, key in enumerate(results.sample_ids)}
    rows = [row for row in zip(*view.values(["id", KEY, "cue"]), strict=True) if row[0] in place]
    rows = sorted(rows, key=lambda row: row[2] is None)[:most]
    by_cue: dict[str, list[tuple[str, str, str | None]]] = {}
    for row in rows:
        by_cue.setdefault(row[2] or "", []).append(row)
    return [
        Cloud(cue, [row[0] for row in of], [row[1] for row in of], results.points[[place[row[0]] for row in of]])
        for cue, of in sorted(by_cue.items(), key=lambda item: (not item[0], -len(item[1])))
    ]


def _directions(vectors: Vectors) -> Points:
    """Vectors (n, channels) at unit length; what has no direction stays zero."""
    from sklearn.preprocessing import normalize

    directions: Points = normalize(vectors.astype(np.float32))
    return directions


def _split(lists: pa.ListArray) -> list[Vectors]:
    if not len(lists):
        return []
    ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    return np.split(lists.flatten().to_numpy(zero_copy_only=False), ends[:-1])


def _costliest_target(contents: Contents) -> dict[str, str]:
    """By sample, the target whose probability falls most when what lights up outside is hidden."""
    keys = [sample.key for sample in contents.samples]
    drops = []
    for table in contents.measured.values():
        drop = table["drop_outside"].to_numpy() if "drop_outside" in table.column_names else np.full(len(keys), np.nan)
        drops.append(np.where(np.isfinite(drop), drop, -np.inf))
    targets = list(contents.measured)
    return {key: targets[index] for key, index in zip(keys, np.argmax(drops, axis=0).tolist(), strict=True)}


def _register(dataset: Any, brain_key: str, points: dict[str, Points]) -> None:
    # Imported here: it takes a second, and most loads have nothing to register.
    import fiftyone.brain as fob

    view = dataset.select(list(points))
    fob.compute_visualization(view, points=points, brain_key=brain_key, verbose=False, progress=False)
