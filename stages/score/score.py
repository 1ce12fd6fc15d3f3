"""The score stage: maps, boxes and probes of a run to its table ``scores``, a part beside each part of ``explain``."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import pyarrow as pa

from stages.score.metrics import metrics_table
from stages.score.part import Origin, map_stores, samples_of, score_part, scores_of
from stages.score.settings import ScoreSettings
from storage import Run
from storage.run import Part


@dataclass(frozen=True)
class ScoreReport:
    """What the stage did."""

    parts: int
    """Parts that were scored."""
    skipped: int
    """Parts that were up to date."""
    rows: int
    """Rows in the parts that were scored."""
    statuses: dict[str, int]
    """Rows in the parts that were scored, by status."""
    seconds: float


def score(
    run: Run,
    settings: ScoreSettings,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> ScoreReport:
    """Score every committed part of ``explain`` in this process, then write ``metrics``; what is up to date stays.

    ``progress`` is called with the parts done and the number of those to do. ``workers`` threads share the work, by
    default one a core. A pipeline has its workers call :func:`score_part` instead.
    """
    began = time.perf_counter()
    statuses: Counter[str] = Counter()
    pending = unscored(run, settings)
    pool = ThreadPoolExecutor(workers or _cores(), thread_name_prefix="score")
    try:
        waiting = [pool.submit(score_part, run, part, samples, settings) for part, samples in pending]
        for done, future in enumerate(as_completed(waiting), start=1):
            statuses.update(future.result())
            if progress is not None:
                progress(done, len(waiting))
    finally:
        pool.shutdown(cancel_futures=True)
    write_metrics(run)
    return ScoreReport(
        parts=len(pending),
        skipped=len(list(run.parts("scores"))) - len(pending),
        rows=statuses.total(),
        statuses=dict(statuses),
        seconds=time.perf_counter() - began,
    )


def unscored(run: Run, settings: ScoreSettings) -> list[tuple[Part, pa.Table]]:
    """The parts of ``explain`` whose scores are missing or out of date, each with the samples of its rows.

    Scores are up to date if nothing that they were made from has changed: the part of ``explain`` (which vouches for
    its maps), the samples' boxes and labels, the settings, ``SCORE_VERSION``. The footers of the parts tell, read many
    at a time. Scores whose part of ``explain`` is gone are removed, and so is ``metrics`` where anything changes.
    """
    samples = run.table("samples")
    explained, scored = run.footers("explain"), run.footers("scores")
    stores = {method: map_stores(run, method) for method in {part.method for part in explained}}
    pending = []
    for part, vouched in explained.items():
        own = samples_of(run, part, vouched, samples)
        scores = scored.pop(scores_of(part), {})
        fingerprint = scores.get("fingerprint", "")
        origin = Origin(run, part, vouched, own, stores[part.method], settings)
        if scores.get("seen") != origin.seen(fingerprint) and fingerprint != origin.fingerprint():
            pending.append((part, own))
    if pending or scored:
        run.discard_table("metrics")
    for part in scored:
        run.discard_part(part)
    return pending


def write_metrics(run: Run) -> None:
    """Make the table ``metrics`` of a scored run, where it is missing."""
    if not run.has_table("metrics"):
        run.write_table("metrics", metrics_table(run))


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
