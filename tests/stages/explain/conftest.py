from __future__ import annotations

import pytest

from tests.stages.explain.shards import COUNT, explain, samples_of


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def whole(images, tmp_path_factory):
    """A finished run of 70 samples in shards of 32."""
    run, reports = explain(str(tmp_path_factory.mktemp("runs") / "whole"), samples_of(images, range(COUNT)))
    assert [report.samples for report in reports] == [32, 32, 6]
    return run
