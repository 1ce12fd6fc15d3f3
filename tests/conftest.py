"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os

# Before torch is imported: idle OpenMP threads that spin cost more than they save on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest

from stages.demo.demo import DemoReport, make_demo
from stages.demo.plan import DemoSettings

# A deadline would be a timed test: it fails on a machine that others use too.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """The small demo, made once a session: a minute on two cores."""
    return make_demo(tmp_path_factory.mktemp("demo") / "small", settings=DemoSettings.small())
