"""Whether the audit's clusters of what was hidden tell the planted cues apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.detect import SHIPPED, Rows, drop_of, pool, proposals
from benchmarks.planted.experiment import Outcome
from stages.audit.cues import Hidden, choose, cluster, default_size, unit
from stages.audit.settings import AuditSettings

PURE = 0.9
"""A cue is isolated by a cluster of which it makes up this share."""


@dataclass(frozen=True)
class Isolation:
    """A planted cue and the cluster that holds most pictures that show it."""

    cue: str
    purity: float | None
    """Share of the cluster's pictures that show the cue; None where no cluster holds any."""
    held: float
    """Share of the cue's shortcuts that are in it."""

    def __str__(self) -> str:
        if self.purity is None:
            return f"{self.cue}: no cluster"
        verdict = "isolated" if self.purity >= PURE else "mixed"
        return f"{self.cue}: {verdict}, purity {self.purity:.2f}, holds {self.held:.0%}"


def isolations(outcome: Outcome, settings: AuditSettings) -> list[Isolation]:
    """How each planted cue of an experiment is clustered."""
    rows = pool([outcome])
    groups, cues = clusters(rows, settings), np.array(rows.table["cue"].to_pylist())
    found = []
    for cue in outcome.effects:
        shown, shortcuts = cues == cue, (cues == cue) & rows.truth
        best = max(groups, key=lambda group: int(shown[group].sum()), default=None)
        if best is None or not shown[best].any():
            found.append(Isolation(cue, None, 0.0))
            continue
        held = shortcuts[best].sum() / max(shortcuts.sum(), 1)
        found.append(Isolation(cue, float(shown[best].mean()), float(held)))
    return found


def clusters(rows: Rows, settings: AuditSettings) -> list[NDArray[np.intp]]:
    """Clusters as places in ``rows``: those of the audit, on the features under what cost most when hidden."""
    drop, features = drop_of(rows, SHIPPED), _features(rows)
    usable = np.flatnonzero(np.isfinite(features).all(axis=1) & (np.linalg.norm(features, axis=1) > 0))
    hidden = [Hidden(str(k), int(k), "label", "", "", float(drop[k]), None, None) for k in usable if drop[k] == drop[k]]
    with_drop, without = choose(hidden, settings.cue_drop)
    places = np.array([one.row for one in (*with_drop, *without)], dtype=int)
    minimum = settings.cue_min_size or default_size(len(with_drop))
    if len(with_drop) < minimum:
        return []
    return [places[group] for group in cluster(unit(features[places]), len(with_drop), minimum)]


def _features(rows: Rows) -> NDArray[np.float32]:
    """Features (N, K) under the proposal that cost most."""
    found = proposals(rows, SHIPPED)
    drops = np.nan_to_num(np.stack(list(found.values())), nan=-np.inf)
    vectors = np.stack([_vectors(rows, name) for name in found])
    return np.asarray(vectors[drops.argmax(axis=0), np.arange(len(rows))])


def _vectors(rows: Rows, name: str) -> NDArray[np.float32]:
    column: Sequence[Sequence[float]] = rows.table[name].to_pylist()
    return np.array(column, dtype=np.float32)
