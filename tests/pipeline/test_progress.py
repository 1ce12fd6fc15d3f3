"""What is said of long work where there is no terminal, by a clock of the test's own."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from pipeline import progress as module
from pipeline.progress import Progress, duration
from pipeline.show.console import plain_console


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock of the module, s: event loops of other tests' threads go by the clock of the process."""
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return lambda seconds: now.__setitem__(0, seconds)


def test_the_first_batch_gives_a_time_left_and_lines_are_30_s_apart(at: Callable[[float], None]) -> None:
    stream = io.StringIO()
    with Progress(plain_console(stream), "explain", "images") as progress:
        for seconds, done in ((20, 8), (40, 16), (60, 24), (80, 32), (2000, 40), (2400, 80)):
            at(seconds)
            progress.update(done, 80)
    assert stream.getvalue().splitlines() == [
        "         16 of 80 images, 0.4/s, 3 min left",
        "         32 of 80 images, 0.4/s, 2 min left",
        "         40 of 80 images, 1.2/min, 33 min left",
    ]


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (0.4, 89, 91, 5300, 7500)] == [
        "0 s", "89 s", "2 min", "88 min", "2 h 05 min",
    ]  # fmt: skip
