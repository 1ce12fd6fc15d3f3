"""One bounded map over Dask: tasks go out as the workers take them, results come back as they end.

It knows nothing of what the tasks do. Dask schedules, retries and restarts; what is added here is how many tasks are in
flight, a time limit from the run's own pace, and a word about workers or a scheduler that are gone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from storage.errors import SightlineError

_AHEAD = 2
"""Tasks in flight a worker: the one that it computes and the next one, so that it does not wait for the driver."""
_LOOK_EVERY_S = 5.0
_RESULT_WITHIN_S = 10.0
_ANSWER_WITHIN_S = 30.0
_NO_WORKER_FOR_S = 60.0
_TIMES_THE_MEDIAN = 10
_LIMIT_AT_LEAST_S = 300.0

K = TypeVar("K")
T = TypeVar("T")


def bounded_map(
    client: Any,
    function: Callable[..., T],
    tasks: Iterable[tuple[K, tuple[Any, ...]]],
    *,
    retries: int = 0,
    say: Callable[[str], None],
) -> Generator[tuple[K, T | BaseException], None, None]:
    """Call ``function(*arguments)`` on the workers for each ``(key, arguments)``; yield ``(key, outcome)`` as they end.

    client: a ``distributed.Client`` in its synchronous mode.
    function: must be picklable, like its arguments and results.
    tasks: read lazily, two tasks a worker ahead of what has ended.
    retries: how often Dask tries a task again that raised. A task whose worker died is tried again as often as the
        scheduler's ``allowed-failures`` says.
    say: takes a line of news, for example that a worker was replaced.

    An outcome is the result, or the exception that the last try ended with. A worker that ends none of its tasks for 10
    times the median of the tasks so far, and at least 5 minutes, is restarted by its nanny, or removed if it has none;
    its tasks are tried again. There is no limit before a first task has ended. Closing the iterator cancels what is in
    flight.

    Raises SightlineError if the scheduler is lost, or if there is no worker for 60 s.
    """
    from distributed import CancelledError

    waiting, running = iter(tasks), dict[Any, tuple[K, float]]()
    watch = _Watch(client, say)
    try:
        while True:
            free = _AHEAD * watch.look() - len(running)
            # At least one task is in flight, also while all workers restart: none in flight means that none are left.
            for key, arguments in islice(waiting, max(free, 0 if running else 1)):
                future = client.submit(function, *arguments, pure=False, retries=retries)
                running[future] = key, time.monotonic()
            if not running:
                return
            for future, outcome in _ended(list(running)):
                key, submitted = running.pop(future)
                if future.status == "finished":
                    watch.pace.append((time.monotonic() - submitted) / _AHEAD)
                yield key, outcome
    except CancelledError as error:  # Dask does this to all futures as it loses the scheduler
        raise watch.lost() from error
    finally:
        if running and client.status == "running":
            client.cancel(list(running))


def _ended(futures: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Futures that ended with their outcomes, after waiting a few seconds for the first."""
    from distributed import wait

    try:
        ended = wait(futures, timeout=_LOOK_EVERY_S, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return
    for future in ended:
        try:
            outcome = _outcome(future)
        except OSError:  # not handed over in time, or no connection: the next look finds what hangs or is gone
            continue
        yield future, outcome


def _outcome(future: Any) -> Any:
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result(timeout=_RESULT_WITHIN_S)
    error = future.exception()
    if isinstance(error, KilledWorker):
        workers, last = error.allowed_failures + 1, error.last_worker.address
        return SightlineError(
            f"{workers} worker{'s' if workers > 1 else ''} ended while computing it, the last at {last}"
        )
    return error


class _Watch:
    """Which workers are there, and which end no task any more; asks the scheduler, since a hung process is silent."""

    def __init__(self, client: Any, say: Callable[[str], None]) -> None:
        self.pace: list[float] = []
        """Seconds that tasks took: of the time from submission to result, the share of one task in flight."""
        self._client, self._say = client, say
        self._address = str(client.scheduler.address)
        self._held: dict[str, frozenset[str]] = {}
        """Keys of the tasks that each worker computes or has waiting."""
        self._since: dict[str, float] = {}
        """When each worker got a task after it had none, or last ended one."""
        self._patience = 1
        """Doubled when a worker is restarted, in case its task was only slow."""
        self._looked = float("-inf")
        self._peopled = time.monotonic()
        """When there was last a worker."""

    def look(self) -> int:
        """The number of workers, asked for every few seconds. Restarts those that hang.

        Raises SightlineError if the scheduler does not answer, or has had no worker for 60 s.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return len(self._held)
        self._looked = now
        before, self._held = self._held, {worker: frozenset(keys) for worker, keys in self._ask().items()}
        for worker, keys in self._held.items():
            if not before.get(worker) or before[worker] - keys:
                self._since[worker] = now
        if self._held:
            self._peopled = now
            self._restart([worker for worker, keys in self._held.items() if keys and self._overdue(worker)])
        elif now - self._peopled > _NO_WORKER_FOR_S:
            raise SightlineError(
                f"cluster: {self._address} has had no worker for {_NO_WORKER_FOR_S:.0f} s; their own output says why "
                f"they ended. Start some with `dask worker {self._address}`; the same command goes on from there"
            )
        return len(self._held)

    def lost(self) -> SightlineError:
        """What to raise when the scheduler is gone."""
        return SightlineError(
            f"cluster: the scheduler at {self._address} ended or does not answer; start it and its workers again, then "
            "the same command goes on from there"
        )

    def _ask(self) -> dict[str, list[str]]:
        """Workers, and the tasks of each that have not ended."""
        if self._client.status != "running":
            raise self.lost()
        try:
            return self._client.sync(self._client.processing, callback_timeout=_ANSWER_WITHIN_S)  # type: ignore[no-any-return]
        except OSError as error:
            raise self.lost() from error

    def _overdue(self, worker: str) -> bool:
        if not self.pace:
            return False
        limit = self._patience * max(_LIMIT_AT_LEAST_S, _TIMES_THE_MEDIAN * statistics.median(self.pace))
        return time.monotonic() - self._since[worker] > limit

    def _restart(self, workers: list[str]) -> None:
        if not workers:
            return
        for worker in workers:
            waited, usual = time.monotonic() - self._since[worker], statistics.median(self.pace)
            self._say(
                f"the worker at {worker} has ended nothing for {waited:.0f} s, where others take {usual:.0f} s a task: "
                "it is started anew, and its tasks are tried again"
            )
        self._patience *= 2
        try:
            self._client.restart_workers(workers, timeout=_ANSWER_WITHIN_S, raise_for_error=False)
        except OSError as error:
            raise self.lost() from error
