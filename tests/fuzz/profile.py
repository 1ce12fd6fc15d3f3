"""How much is tried: little and always the same in CI, more and at random where ``SIGHTLINE_FUZZ`` says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis

FACTOR = float(os.environ.get("SIGHTLINE_FUZZ", "1"))
"""How many times the examples of CI; above 1 they are drawn at random, and failures are kept in ``.hypothesis``."""

MOST_SECONDS = 10.0
"""Processor time after which an example is taken for one without end."""


def fuzz(examples: int) -> Any:
    """The settings of a test of so many examples."""
    return hypothesis.settings(
        max_examples=max(1, round(examples * FACTOR)),
        derandomize=FACTOR <= 1,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@contextmanager
def ending() -> Iterator[None]:
    """Fail what takes more than ``MOST_SECONDS`` of the processor; what waits is ended by the timeout of pytest."""

    def stop(*_: object) -> None:
        raise AssertionError(f"not done after {MOST_SECONDS:g} s of the processor")

    former = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)
