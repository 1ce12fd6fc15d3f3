"""The map over real worker processes, some of which die or hang."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.workers import bounded_map as module
from pipeline.workers.bounded_map import bounded_map
from pipeline.workers.cluster import ClusterSettings, connect
from storage.errors import SightlineError
from tests.pipeline.schedulers import dask_cluster

WORKERS = 2


@pytest.fixture(scope="module")
def client():
    with connect(ClusterSettings(kind="local", workers=WORKERS, threads=1), print) as client:
        yield client


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.1)


def mapped(client, function, arguments, said=print, **options):
    return bounded_map(client, function, ((each, (each,)) for each in arguments), say=said, **options)


def double(number):
    return 2 * number


def test_every_task_ends_once_with_its_key_and_result(client):
    assert sorted(mapped(client, double, range(20))) == [(number, 2 * number) for number in range(20)]
    assert list(mapped(client, double, [])) == []


def test_no_more_tasks_are_read_than_two_a_worker_ahead_of_the_results(client):
    read = []

    def tasks():
        for number in range(30):
            read.append(number)
            yield number, (number,)

    for ended, _ in enumerate(bounded_map(client, double, tasks(), say=print)):
        assert len(read) - ended <= 2 * WORKERS


def refuse_odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def test_a_task_that_raises_has_its_exception_as_outcome_and_the_others_go_on(client):
    outcomes = dict(mapped(client, refuse_odd, range(6)))
    assert [outcomes[number] for number in (0, 2, 4)] == [0, 2, 4]
    assert [str(outcomes[number]) for number in (1, 3, 5)] == ["1 is odd", "3 is odd", "5 is odd"]


def count(folder):
    """Raise, but for the third time."""
    times = len(list(Path(folder).iterdir())) + 1
    (Path(folder) / str(times)).touch()
    if times < 3:
        raise OSError("not yet")
    return times


@pytest.mark.parametrize(("retries", "expected"), [(2, 3), (1, "not yet")])
def test_a_task_that_raises_is_tried_again_as_often_as_asked(client, tmp_path, retries, expected):
    ((_, outcome),) = mapped(client, count, [str(tmp_path)], retries=retries)
    assert outcome == expected or str(outcome) == expected


def begin(folder, number):
    """Take note, and but for the first task wait for leave."""
    (Path(folder) / f"begun-{number}").touch()
    while number and not (Path(folder) / "leave").exists():
        time.sleep(0.01)


def keys(dask_worker):
    return len(dask_worker.state.tasks)


def test_closing_the_map_cancels_what_has_not_begun(tmp_path):
    with connect(ClusterSettings(kind="local", workers=1), print) as client:
        tasks = ((number, (str(tmp_path), number)) for number in range(4))
        with closing(bounded_map(client, begin, tasks, say=print)) as ended:
            assert next(ended) == (0, None)
        while sum(client.run(keys).values()) > 1:  # the worker was not told yet
            time.sleep(0.01)
        (tmp_path / "leave").touch()
        client.submit(double, 2).result()
        assert {path.name for path in tmp_path.glob("begun-*")} <= {"begun-0", "begun-1"}


def stop_once(folder, number):
    """The process of the last task stops in the middle of it, the first time."""
    marker = Path(folder) / "stopped"
    if number == 5 and not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def test_a_worker_that_hangs_is_replaced_and_its_task_tried_again(client, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT_AT_LEAST_S", 2)
    monkeypatch.setattr(module, "_TIMES_THE_MEDIAN", 0)
    tasks = ((number, (str(tmp_path), number)) for number in range(6))
    assert sorted(bounded_map(client, stop_once, tasks, say=print)) == [(n, n) for n in range(6)]
    client.wait_for_workers(WORKERS, timeout=60)
    assert int((tmp_path / "stopped").read_text()) not in client.run(os.getpid).values()


class Scheduler:
    """What the map asks of a client; ``held`` are the tasks that each worker has."""

    status, scheduler = "running", SimpleNamespace(address="tcp://scheduler")

    def __init__(self):
        self.held, self.restarted = {}, []

    def processing(self):
        return self.held

    def sync(self, function, **_):
        return function()

    def restart_workers(self, workers, **_):
        self.restarted += workers


@pytest.mark.parametrize(("pace", "limit"), [([1, 40, 90], 400), ([1, 2, 90], 300)])
def test_a_worker_has_ten_times_the_median_task_and_five_minutes_at_least_then_twice_that(monkeypatch, pace, limit):
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    client, said = Scheduler(), []
    watch = module._Watch(client, said.append)

    def restarted(now, **held):
        clock.now, client.held = now, held
        watch.look()
        return client.restarted

    assert restarted(0, quick="a", hung="b") == []
    assert restarted(9000, quick="a", hung="b") == []  # no task has ended, so there is no pace
    watch.pace += pace
    assert restarted(9010, quick="c", hung="d") == []
    assert restarted(9010 + limit, quick="e", hung="d") == []
    assert restarted(9020 + limit, quick="f", hung="d") == ["hung"]
    assert said[0].startswith(f"the worker at hung has ended nothing for {10 + limit} s, where others take {pace[1]} s")
    assert restarted(9030 + limit, quick="g", anew="d") == ["hung"]
    assert restarted(9030 + 3 * limit, quick="h", anew="d") == ["hung"]
    assert restarted(9040 + 3 * limit, quick="i", anew="d") == ["hung", "anew"]


def kill_itself(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_its_workers_is_given_up_and_says_how_many(client):
    ((_, outcome),) = mapped(client, kill_itself, [0])
    assert isinstance(outcome, SightlineError)
    assert str(outcome).startswith(
        "4 workers ended while computing it, the last at tcp://127.0.0.1:"
    )  # Dask's default: 3 are forgiven
    assert list(mapped(client, double, [4])) == [(4, 8)]


def kill(process):
    os.kill(process, signal.SIGKILL)


def stop(process):
    os.kill(process, signal.SIGSTOP)
    time.sleep(60)


@pytest.mark.parametrize("end", [kill, stop])
def test_a_scheduler_that_dies_or_hangs_is_told_with_the_remedy(tmp_path, monkeypatch, end):
    monkeypatch.setattr(module, "_ANSWER_WITHIN_S", 1)
    with (
        dask_cluster(tmp_path) as (address, process),
        pytest.raises(SightlineError, match=rf"the scheduler at {address} ended or does not answer; start it"),
        connect(ClusterSettings(kind="address", address=address), print) as client,
    ):
        list(mapped(client, end, [process]))


def test_no_worker_left_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_NO_WORKER_FOR_S", 1)
    with (
        dask_cluster(tmp_path, nanny=False) as (address, _),
        pytest.raises(SightlineError, match=rf"{address} has had no worker for 1 s; .*`dask worker {address}`"),
        connect(ClusterSettings(kind="address", address=address), print) as client,
    ):
        list(mapped(client, kill_itself, [0]))
