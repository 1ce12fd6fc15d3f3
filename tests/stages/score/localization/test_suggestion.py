from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.score.boxacc import IOU_LEVELS, THRESHOLDS, FoundCounts
from stages.score.metrics import BOX_COUNTS, LARGEST, encode_counts
from stages.score.suggestion import BoxSource, box_source, suggested_by
from storage import Run
from storage.run import Part
from storage.tables import SCHEMAS, SCORES


def counted(run: Run, method: str, index: int, samples: int, found: dict[float, int]) -> None:
    """A part whose largest components find ``found`` boxes by IoU .5, by threshold."""
    counts = np.zeros((len(IOU_LEVELS), len(THRESHOLDS)), dtype=np.int64)
    for threshold, boxes in found.items():
        counts[IOU_LEVELS.index(0.5), round(100 * threshold)] = boxes
    vouched = {BOX_COUNTS: encode_counts({"label": {LARGEST: FoundCounts(samples, counts)}})}
    run.write_part(Part("scores", method, index), SCORES.empty_table(), vouched)
    run.write_part(Part("explain", method, index), SCHEMAS["explain"].empty_table(), {})


def test_each_part_is_judged_with_the_threshold_of_the_others(tmp_path: Path) -> None:
    run = Run.create(str(tmp_path / "run"))
    counted(run, "opti_cam", 0, 2, {0.1: 2})
    counted(run, "opti_cam", 1, 3, {0.1: 1, 0.2: 3})
    # Part 0 by the other's .2: none of 2. Part 1 by the other's .1: 1 of 3. Of all, .1 and .2 find 3; the lower counts.
    assert box_source(run) == BoxSource("opti_cam", 0.1, 1, 5)


def test_the_method_that_finds_most_boxes_suggests_them(tmp_path: Path) -> None:
    run = Run.create(str(tmp_path / "run"))
    counted(run, "opti_cam", 0, 4, {0.3: 1})
    counted(run, "grad_cam", 0, 4, {0.6: 3})
    source = box_source(run)
    assert (source.method, source.threshold, source.right, source.n) == ("grad_cam", pytest.approx(0.6), 3, 4)
    # Wilson's interval of 3 in 4 is [.301, .954].
    assert suggested_by(source) == (
        "the largest part of the grad_cam map above 0.60; its IoU with a box is 0.5 or more on 75% [30, 95] of the 4 "
        "samples with boxes"
    )


@pytest.mark.parametrize(
    ("measured", "why"),
    [(False, "score.box_accuracy is off; set it to true and run again"), (True, "no sample has a box")],
)
def test_without_any_measured_box_it_is_said_why_the_quality_is_not_known(
    tmp_path: Path, measured: bool, why: str
) -> None:
    run = Run.create(str(tmp_path / "run"))
    run.write_info(replace(run.info, config={"score": {"box_accuracy": measured}}))
    counted(run, "opti_cam", 0, 0, {})
    source = box_source(run)
    assert (source.method, source.threshold, source.n) == ("opti_cam", None, 0)
    assert suggested_by(source) == (
        f"the largest part of each opti_cam map above its mean; how good these are is not known: {why}"
    )
