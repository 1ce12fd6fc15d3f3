"""Cues: what is relied on outside the boxes, grouped by what it looks like to the network.

A sample stands for what lights up outside its boxes: the layer's features averaged there, ``outside_features``. The
samples whose class loses probability when that is hidden are clustered by the direction of these features; each cluster
is a cue.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import HDBSCAN

from stages.audit.settings import AuditSettings
from stages.statistics import benjamini_hochberg, bootstrap, fisher_greater
from storage.tables import CUES

if TYPE_CHECKING:
    from storage import Run

MOST = 3000
"""Samples with a drop that are clustered, the largest drops first. Time and memory grow with the square: with the
contrast HDBSCAN holds two matrices of 4,000 x 4,000 doubles, .26 GB."""
CONTRAST = (100, 1000)
"""Contrast samples for HDBSCAN: as many as the samples with a drop, but between these two numbers."""
NEIGHBOURS = 3
"""A place is as dense as its third neighbour is near: ``min_samples`` of HDBSCAN."""
TIGHTNESS = 0.25
"""Members joined their cluster at this density or more, as a share of its highest: HDBSCAN's ``probabilities_``. Below,
they are strays that only happened to be nearer to this cluster than to any other."""
ENRICHED = 0.05
"""A class is enriched in a cue up to this q."""
CHANCE = 1000
"""Samples in no cue whose neighbourhoods a cue is compared with, at most."""
CHANCE_P = 0.05
"""A cue's members are more alike than by chance up to this p."""
EXEMPLARS = 6
"""Samples of a cue that its row in the table shows."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Hidden:
    """A sample, and the class that loses most when something outside its boxes is hidden."""

    sample_id: str
    row: int
    target: str
    digest: str
    label: str
    """Name of that class."""
    drop: float
    drop_random: float | None
    box: dict[str, float] | None
    """Where most of it was hidden, px of the upright image."""

    @property
    def key(self) -> tuple[int, str]:
        """Row and target."""
        return self.row, self.target


@dataclass(frozen=True)
class Cue:
    """Samples in which the same was hidden, the most central first."""

    cue_id: str
    members: tuple[Hidden, ...]
    centroid: Vectors
    """Mean direction of their features, unit length."""
    alike: float
    """Mean cosine of the features of two of them."""
    alike_p: float | None
    """How often samples in no cue, with their nearest neighbours, are as alike: see :func:`chance_alike`."""
    classes: tuple[dict[str, Any], ...]
    """Classes more frequent among them than among the others: label, n, p, q."""


def find_cues(run: Run, connection: duckdb.DuckDBPyConnection, method: str, settings: AuditSettings) -> list[Cue]:
    """The cues of a method, the costliest first; none where too few samples lose probability, or no two look alike.

    ``connection`` is one of :func:`storage.sql.connect`. A cue keeps the name that it has in the run's present
    table ``cues`` (:func:`name_cues`).
    """
    with_drop, without = choose(hidden_parts(connection, method, settings.cue_drop), settings.cue_drop)
    features = read_features(run, method, with_drop + without)
    with_drop = [sample for sample in with_drop if sample.key in features]
    samples = with_drop + [sample for sample in without if sample.key in features]
    minimum = settings.cue_min_size or default_size(len(with_drop))
    if len(with_drop) < minimum:
        return []
    directions = unit(np.stack([features[sample.key] for sample in samples]))
    groups = cluster(directions, len(with_drop), minimum)
    found = [(tuple(samples[index] for index in group), unit(directions[group].mean(0))) for group in groups]
    found.sort(key=lambda group: (-mean_drop(group[0]), group[0][0].sample_id))
    members = [group for group, _ in found]
    names = name_cues(members, former_members(run, method))
    classes = enriched(members, count_labels(connection, method))
    others = np.delete(directions, np.concatenate([*groups, np.empty(0, np.intp)]), axis=0)
    likeness = [alike(np.stack([unit(features[member.key]) for member in group])) for group in members]
    p = [chance_alike(value, len(group), others) for value, group in zip(likeness, members, strict=True)]
    return [
        Cue(name, group, centroid, value, chance, own)
        for name, (group, centroid), value, chance, own in zip(names, found, likeness, p, classes, strict=True)
    ]


def cue_table(cues: Sequence[Cue], method: str, settings: AuditSettings) -> pa.Table:
    """The table ``cues``, in the order given."""
    rows = []
    for rank, cue in enumerate(cues, start=1):
        low, high = bootstrap(np.array([member.drop for member in cue.members]), np.mean) or (None, None)
        random = [member.drop_random for member in cue.members if member.drop_random is not None]
        rows.append(
            {
                "cue_id": cue.cue_id,
                "method": method,
                "rank": rank,
                "size": len(cue.members),
                "mean_drop": mean_drop(cue.members),
                "mean_drop_low": low,
                "mean_drop_high": high,
                "mean_drop_random": float(np.mean(random)) if random else None,
                "alike": cue.alike,
                "alike_p": cue.alike_p,
                "weak": _weakness(low, cue.alike_p, settings.drop_outside),
                "classes": list(cue.classes),
                "sample_ids": [member.sample_id for member in cue.members],
                "exemplars": [
                    {"sample_id": member.sample_id, "target": member.target, "box": member.box}
                    for member in cue.members[:EXEMPLARS]
                ],
                "centroid": cue.centroid,
            }
        )
    return pa.Table.from_pylist(rows, schema=CUES)


_HIDDEN = """
    SELECT sample_id, row, target, digest, target_label, drop_outside, drop_random, hidden_box
    FROM audit_targets
    WHERE method = ? AND evaluable AND target IN ('label', 'predicted') AND drop_outside IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY drop_outside DESC, target) = 1
"""
"""The evaluable samples of a method, each with its class of largest drop."""


def hidden_parts(connection: duckdb.DuckDBPyConnection, method: str, least: float) -> list[Hidden]:
    """The samples of a method of which :func:`choose` takes its own: no more of either kind than it could take.

    They are sorted by digest: an order that means nothing, and that does not change when samples are added.
    """
    found = connection.execute(
        f"""
        SELECT * EXCLUDE costs
        FROM (SELECT *, drop_outside >= ?::FLOAT AS costs FROM ({_HIDDEN}))
        QUALIFY row_number() OVER (PARTITION BY costs ORDER BY if(costs, -drop_outside, 0), digest, sample_id)
            <= if(costs, {MOST}, {CONTRAST[1]})
        ORDER BY digest, sample_id
        """,
        [least, method],
    )
    return [Hidden(*values) for values in found.fetchall()]


def sampling(connection: duckdb.DuckDBPyConnection, method: str, least: float) -> str | None:
    """Which of the samples with a drop of ``least`` or more are clustered, in words; None for all of them."""
    sql = f"SELECT count(*) FROM ({_HIDDEN}) WHERE drop_outside >= ?::FLOAT"
    (count,) = connection.execute(sql, [method, least]).fetchall()[0]
    if count <= MOST:
        return None
    return f"cues were looked for in the {MOST:,} samples with the largest drops, of {count:,}"


def count_labels(connection: duckdb.DuckDBPyConnection, method: str) -> Counter[str]:
    """How many evaluable samples of a method lose most for which class."""
    return Counter(
        dict(connection.execute(f"SELECT target_label, count(*) FROM ({_HIDDEN}) GROUP BY ALL", [method]).fetchall())
    )


def choose(samples: Sequence[Hidden], least: float) -> tuple[list[Hidden], list[Hidden]]:
    """The samples with a drop of ``least`` or more that are clustered, and those that stand beside them."""
    # The tables hold float32, and so compare the rules: a drop of exactly .1 counts here and there.
    with_drop = [sample for sample in samples if sample.drop >= np.float32(least)]
    if len(with_drop) > MOST:
        with_drop = sorted(with_drop, key=lambda sample: -sample.drop)[:MOST]
    without = [sample for sample in samples if sample.drop < np.float32(least)]
    return with_drop, without[: min(max(len(with_drop), CONTRAST[0]), CONTRAST[1])]


def default_size(n: int) -> int:
    """Samples that make a cue, of ``n`` with a drop: one in a hundred, at least 5 and at most 25."""
    return min(max(n // 100, 5), 25)


def read_features(run: Run, method: str, samples: Sequence[Hidden]) -> dict[tuple[int, str], Vectors]:
    """``outside_features`` (K,) of the samples by (row, target), of those that have a direction: not null, not zero."""
    asked = {sample.key for sample in samples}
    wanted = pa.array([sample.row for sample in samples], pa.int64())
    features: dict[tuple[int, str], Vectors] = {}
    batches = run.dataset("explain", method).to_batches(
        columns=["row", "target", "outside_features"],
        filter=pc.field("row").isin(wanted) & pc.field("outside_features").is_valid(),
    )
    for batch in batches:
        if batch.num_rows:
            # Not to_pylist: a thousand channels of thousands of samples would be millions of Python floats.
            values = batch["outside_features"].flatten().to_numpy(zero_copy_only=False)
            vectors = values.astype(np.float32).reshape(batch.num_rows, -1)
            keys = zip(batch["row"].to_pylist(), batch["target"].to_pylist(), strict=True)
            features |= {
                key: vector.copy()  # or the batch would stay
                for key, vector in zip(keys, vectors, strict=True)
                if key in asked and 0 < np.linalg.norm(vector) < np.inf
            }
    return features


def unit(vectors: Vectors) -> Vectors:
    """Vectors (..., K) at unit length."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def cluster(directions: Vectors, count: int, minimum: int) -> list[NDArray[np.intp]]:
    """Clusters among the first ``count`` of unit vectors (N, K), as indices, the most central first.

    HDBSCAN (Campello, Moulavi, Sander, 2013) with Euclidean distances, which on unit vectors order as cosines do. The
    vectors after the first ``count`` are contrast: HDBSCAN sees a cluster only beside something else, and without them
    the one cue of a run would be noise. A cluster counts if ``minimum`` of the first ``count`` are in it.
    """
    if len(directions) < max(minimum, NEIGHBOURS) or count < minimum:
        return []
    model = HDBSCAN(min_cluster_size=minimum, min_samples=NEIGHBOURS, algorithm="brute", copy=True)
    model.fit(directions)
    labels = np.where(model.probabilities_ >= TIGHTNESS, model.labels_, -1)[:count]
    groups = []
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        if len(members) >= minimum:
            centrality = directions[members] @ directions[members].mean(0)
            groups.append(members[np.argsort(-centrality, kind="stable")])
    return groups


def alike(directions: Vectors) -> float:
    """Mean cosine of two of the unit vectors (n, K), n >= 2, in [-1, 1]."""
    n = len(directions)
    return float((np.linalg.norm(directions.sum(0, dtype=np.float64)) ** 2 - n) / (n * (n - 1)))


def chance_alike(observed: float, size: int, others: Vectors) -> float | None:
    """How often ``size`` samples in no cue are as alike as a cue is: a p value, None where there are fewer than that.

    A cue was chosen for being tight, so random groups would be no null: each of ``others``, unit vectors (N, K), comes
    with its nearest neighbours among them; at most ``CHANCE`` do. The p value counts the cue in, as a permutation test
    does.
    """
    if len(others) < size:
        return None
    neighbours = np.argpartition(-(others[:CHANCE] @ others.T), size - 1, axis=1)[:, :size]
    as_alike = sum(alike(others[group]) >= observed for group in neighbours)
    return (1 + as_alike) / (1 + len(neighbours))


def _weakness(low: float | None, alike_p: float | None, drop_outside: float) -> str | None:
    """Why a cue is weak, in words; None for one that is not."""
    reasons = []
    if low is None or low < drop_outside:
        reasons.append("hiding it costs less than a flag needs")
    if alike_p is None or alike_p > CHANCE_P:
        reasons.append("its images are no more alike than others are")
    return ", and ".join(reasons) or None


def mean_drop(members: Sequence[Hidden]) -> float:
    """What hiding a cue costs, on average."""
    return float(np.mean([member.drop for member in members]))


def enriched(cues: Sequence[Sequence[Hidden]], totals: Counter[str]) -> list[tuple[dict[str, Any], ...]]:
    """For each cue, the classes that are more frequent in it than among the other samples, the surest first.

    ``totals``: samples by class, in cues or not. One-sided Fisher tests, with Benjamini-Hochberg over every cue and
    class, those too that a cue does not have.
    """
    everyone = totals.total()
    inside = [Counter(member.label for member in cue) for cue in cues]
    p = np.ones((len(cues), len(totals)))
    for own, (cue, counts) in enumerate(zip(cues, inside, strict=True)):
        for place, (label, total) in enumerate(totals.items()):
            if n := counts[label]:
                p[own, place] = fisher_greater(n, len(cue), total - n, everyone - len(cue))
    q = np.array(benjamini_hochberg(p.ravel().tolist()), float).reshape(p.shape)
    return [
        tuple(
            {"label": label, "n": counts[label], "p": float(p[own, place]), "q": float(q[own, place])}
            for _, label, place in sorted((p[own, place], label, place) for place, label in enumerate(totals))
            if q[own, place] <= ENRICHED
        )
        for own, counts in enumerate(inside)
    ]


def former_members(run: Run, method: str) -> dict[str, set[str]]:
    """The cues of a method in the run's present table, name to samples."""
    if not run.has_table("cues"):
        return {}
    rows = run.table("cues", ["cue_id", "method", "sample_ids"]).to_pylist()
    return {row["cue_id"]: set(row["sample_ids"]) for row in rows if row["method"] == method}


def name_cues(cues: Sequence[Sequence[Hidden]], former: dict[str, set[str]]) -> list[str]:
    """A name for each cue: that of the former cue which it shares samples with, else one from its most central sample.

    Former and present cues are paired so that most samples stay where they were; a pair counts if it shares half of
    the samples of the smaller of the two. A name that was in use is not given to anything else.
    """
    names: dict[int, str] = {}
    members = [{member.sample_id for member in cue} for cue in cues]
    shared = np.array([[len(own & old) for old in former.values()] for own in members], int)
    shared = shared.reshape(len(cues), len(former))
    for own, old in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        name, samples = list(former.items())[old]
        if 2 * shared[own, old] >= min(len(members[own]), len(samples)):
            names[int(own)] = name
    taken = set(former)
    for index, cue in enumerate(cues):
        if index not in names:
            names[index] = _new_name(cue[0].digest, taken)
            taken.add(names[index])
    return [names[index] for index in range(len(cues))]


def _new_name(digest: str, taken: Iterable[str]) -> str:
    digests = (hashlib.sha256(f"{digest} {attempt}".encode()).hexdigest() for attempt in count())
    return next(name for digest in digests if (name := f"cue-{digest[:4]}") not in taken)
