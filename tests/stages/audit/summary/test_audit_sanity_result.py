from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.audit.summary.sanity_result import sanity_results
from storage import Run
from storage.maps import checksum
from storage.tables import SANITY

FAULT = "with all weights random (level 2) the maps survive"


def checked(run: Run, fault: str | None = None, left: float | None = 0.25, **changes: Any) -> None:
    """Write a check of the maps of rows 1 and 0 into the run."""
    common = {"method": "opti_cam", "target": "label", "n": 2, "seed": 0, "fault": fault, "rows": [1, 0]}
    common["maps_checksum"] = checksum(run.maps("label").read([1, 0]))
    interval = {"low": None, "high": None} if left is None else {"low": left - 0.125, "high": left + 0.125}
    rows = [
        {"check": "weights", "level": 1, "layer": "head", "metric": "spearman", "median": 0.75, "low": 0.5, "high": 1},
        {"check": "weights", "level": 2, "layer": "rest", "metric": "spearman", "median": left, **interval},
        {"check": "weights", "level": 2, "layer": "rest", "metric": "ssim", "median": 0.9},
        {"check": "noise", "level": None, "layer": "sigma", "metric": "spearman", "median": 0.8},
    ]
    run.write_table("sanity", pa.Table.from_pylist([{**common, **row, **changes} for row in rows], schema=SANITY))


@pytest.fixture
def run(build) -> Run:
    made = build({}, {})
    made.maps("label", mode="r+").write(0, np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    return made


def test_a_run_that_nobody_checked_has_no_verdict(run: Run) -> None:
    assert sanity_results(run) == ()


def test_a_pass_says_what_all_random_weights_leave(run: Run) -> None:
    checked(run)
    (found,) = sanity_results(run)
    assert (found.word, found.images, found.left, found.interval) == ("passes", 2, 0.25, (0.125, 0.375))
    assert str(found) == (
        "opti_cam, label: the maps depend on the network; with all weights random a rank correlation of "
        "0.25 [0.12, 0.38] with them is left (2 images)"
    )


def test_a_fault_is_told_in_the_words_of_the_check(run: Run) -> None:
    checked(run, fault=FAULT)
    (found,) = sanity_results(run)
    assert (found.word, str(found)) == ("FAULT", f"opti_cam, label: {FAULT} (2 images)")


def test_maps_that_random_weights_leave_constant_pass(run: Run) -> None:
    checked(run, left=None)
    (found,) = sanity_results(run)
    assert (found.word, found.left) == ("passes", None)
    assert str(found).endswith("no map is left (2 images)")


def test_maps_that_were_made_again_need_another_check(run: Run) -> None:
    checked(run, fault=FAULT)
    run.maps("label", mode="r+").write(1, np.ones((1, 2, 2), dtype=np.float32))
    (found,) = sanity_results(run)
    assert found.word == "outdated"
    assert "`sightline sanity` checks today's" in str(found)


def test_other_maps_of_the_run_may_change(build) -> None:
    run = build({}, {}, {})
    checked(run)
    run.maps("label", mode="r+").write(2, np.ones((1, 2, 2), dtype=np.float32))
    assert [found.word for found in sanity_results(run)] == ["passes"]


@pytest.mark.parametrize(
    "changes", [{"target": "predicted"}, {"rows": [7]}, {"rows": None, "maps_checksum": None, "fault": None}]
)
def test_maps_that_are_gone_and_checks_of_an_earlier_version_are_out_of_date(run: Run, changes: dict[str, Any]) -> None:
    checked(run, **changes)
    assert [found.word for found in sanity_results(run)] == ["outdated"]
