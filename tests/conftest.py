"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

# Before torch is imported: idle OpenMP threads that spin cost more than they save on shared cores, and processes that
# test side by side (pytest-xdist) share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if side_by_side := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // side_by_side)))

import hypothesis
import pytest

from stages.demo.demo import DemoReport, make_demo
from stages.demo.plan import DemoSettings

# A shell starts its background jobs with Ctrl-C ignored, and what they start inherits that: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline would be a timed test: it fails on a machine that others use too.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


FREE_GB = 2
"""Disk that the tests may need at a time, with room to spare; on a full one hundreds fail without saying why."""


def pytest_sessionstart() -> None:
    """Refuse to begin where the disk is nearly full."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GB:
        raise pytest.UsageError(f"{folder} has {free:.1f} GB free; the tests need {FREE_GB}: make room, or set TMPDIR")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """The small demo, made once a session: a minute on two cores."""
    return make_demo(tmp_path_factory.mktemp("demo") / "small", settings=DemoSettings.small())
