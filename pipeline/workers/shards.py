"""The tasks of a run, one a shard: what a worker does, what it tells on the way, and what became of all of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import pyarrow as pa

from pipeline.progress import Progress
from pipeline.workers.bounded_map import bounded_map
from stages.explain.explain import ShardReport, explain_shard
from stages.explain.plan import ExplainPlan, shard_samples
from stages.score.part import score_part
from stages.score.settings import ScoreSettings
from storage import Run
from storage.errors import SightlineError, UserError
from storage.run import Part

_HOPELESS = 3
"""Failed shards without one that succeeded, after which a run gives up."""


def make_shard(plan: ExplainPlan, index: int, samples: pa.Table, settings: ScoreSettings, topic: str) -> ShardReport:
    """A task: explain a shard, then score what was made. Each is a commit of its own.

    The number of images that are explained goes to the Dask topic ``topic`` after each batch.
    """
    report = explain_shard(plan, index, samples, partial(_publish, topic, index))
    began = time.perf_counter()
    score_part(Run.open(plan.run_url), plan.part(index), samples, settings)
    return replace(report, times=replace(report.times, scoring=time.perf_counter() - began))


def score_shard(run_url: str, explained: Part, samples: pa.Table, settings: ScoreSettings) -> None:
    """A task: score a shard whose part of ``explain`` stays."""
    score_part(Run.open(run_url), explained, samples, settings)


def _publish(topic: str, index: int, done: int) -> None:
    from distributed import get_worker

    get_worker().log_event(topic, {"shard": index, "images": done})


@dataclass
class Outcomes:
    """Counts of the pending shards by outcome, and whether failures end the run."""

    plan: ExplainPlan
    pending: list[int]
    reports: list[ShardReport] = field(default_factory=list)
    failures: dict[int, BaseException] = field(default_factory=dict)
    under_way: dict[int, int] = field(default_factory=dict)
    """Images that are explained of the shards that have not ended."""

    def add(self, index: int, outcome: ShardReport | BaseException) -> None:
        """Count the outcome of a shard; a UserError is raised, since every other shard would meet it too."""
        self.under_way.pop(index, None)
        if isinstance(outcome, UserError):
            raise outcome
        if isinstance(outcome, BaseException):
            self.failures[index] = outcome
        else:
            self.reports.append(outcome)

    def hear(self, index: int, images: int) -> None:
        """Count the images of a shard that its worker says are explained; a word that comes late changes nothing."""
        if index not in self.failures and all(report.index != index for report in self.reports):
            self.under_way[index] = images

    @property
    def total(self) -> int:
        """Samples of the pending shards."""
        return sum(len(self.plan.shard(index)) for index in self.pending)

    @property
    def images(self) -> int:
        """Samples that are explained, committed or not."""
        return sum(report.samples for report in self.reports) + sum(self.under_way.values())

    @property
    def hopeless(self) -> bool:
        """Whether to give up: several shards failed, and none succeeded."""
        return not self.reports and len(self.failures) >= _HOPELESS

    def raise_the_first_failure(self) -> None:
        """Raise SightlineError if a shard failed."""
        for index, error in self.failures.items():
            rows = self.plan.shard(index)
            raise SightlineError(
                f"explain: shard {index} (rows {rows.start} to {rows.stop - 1}) failed: {_reason(error)}; "
                f"{len(self.failures)} of {len(self.pending)} shards failed, {len(self.reports)} are committed"
            ) from error


def make_shards(
    client: Any,
    outcomes: Outcomes,
    samples: pa.Table,
    settings: ScoreSettings,
    progress: Progress,
    *,
    retries: int,
    say: Callable[[str], None],
) -> None:
    """Explain and score the pending shards of ``outcomes`` on the workers; ``samples`` is the run's table."""
    plan = outcomes.plan
    topic = f"sightline-{uuid.uuid4().hex}"  # another run may use the same scheduler
    counting = Lock()  # events come by another thread than outcomes

    def hear(event: tuple[float, dict[str, int]]) -> None:
        with counting:
            outcomes.hear(event[1]["shard"], event[1]["images"])
            progress.update(outcomes.images, outcomes.total)

    tasks = ((index, (plan, index, shard_samples(plan, samples, index), settings, topic)) for index in outcomes.pending)
    ended = bounded_map(client, make_shard, tasks, retries=retries, say=say)
    with closing(ended), _subscribed(client, topic, hear):
        for index, outcome in ended:
            with counting:
                outcomes.add(index, outcome)
                progress.update(outcomes.images, outcomes.total)
            if outcomes.hopeless:
                break


def score_shards(
    client: Any,
    run: Run,
    pending: list[tuple[Part, pa.Table]],
    settings: ScoreSettings,
    progress: Progress,
    *,
    say: Callable[[str], None],
) -> None:
    """Score parts of ``explain``, each given with its samples, on the workers; raises the first failure.

    No task is tried again: what is wrong with a part stays wrong.
    """
    tasks = ((part, (run.url, part, samples, settings)) for part, samples in pending)
    with closing(bounded_map(client, score_shard, tasks, say=say)) as ended:
        for done, (part, outcome) in enumerate(ended, start=1):
            if isinstance(outcome, SightlineError):
                raise outcome
            if isinstance(outcome, BaseException):
                raise SightlineError(f"score: {part.path}: {_reason(outcome)}") from outcome
            progress.update(done, len(pending))


@contextmanager
def _subscribed(client: Any, topic: str, handler: Callable[[Any], None]) -> Iterator[None]:
    client.subscribe_topic(topic, handler)
    try:
        yield
    finally:
        if client.status == "running":
            client.unsubscribe_topic(topic)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, SightlineError) else f"{type(error).__name__}: {error}"
