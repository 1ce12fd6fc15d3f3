from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.score.boxacc import FoundCounts
from stages.score.metrics import encode_counts
from stages.score.score import score
from stages.score.settings import ScoreSettings
from stages.statistics import mean_intervals
from storage import Run
from storage.run import Part
from tests.stages.score.runs import SIDE, box, commit, explained, make_run, peak, sample

QUARTER = box(0, 0, 8, 8)  # the view's first quadrant, 4 x 4


def metrics(run: Run, **settings: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of the table by target and metric."""
    score(run, ScoreSettings(**settings), workers=1)
    return {(row["target"], row["metric"]): row for row in run.table("metrics").to_pylist()}


def block(rows: slice, columns: slice) -> np.ndarray:
    grid = np.zeros((SIDE, SIDE), dtype=np.float32)
    grid[rows, columns] = 1
    return grid


def test_means_are_over_the_rows_where_the_score_is_defined(tmp_path: Path) -> None:
    samples = [sample(0, [QUARTER]), sample(1, [QUARTER]), sample(2, [], status="no_box")]
    run = make_run(
        tmp_path, samples, [explained(row) for row in range(3)], {"label": [peak(2, 2), peak(6, 6), peak(1, 1)]}
    )
    rows = metrics(run)
    assert set(rows) >= {("label", "energy_in"), ("label", "ad"), ("label", "entropy")}
    energy = rows["label", "energy_in"]
    assert (energy["value"], energy["n"]) == (0.5, 2)
    # Both, or either twice: with two values a quarter of the resamples is 0 and a quarter is 1.
    assert (energy["low"], energy["high"]) == (0, 1)
    assert (rows["label", "entropy"]["value"], rows["label", "entropy"]["n"]) == (0, 3)
    assert rows["label", "ad"]["n"] == 3
    assert ("label", "insertion") not in rows
    assert {row["threshold"] for row in rows.values()} == {None}
    assert {row["method"] for row in rows.values()} == {"opti_cam"}


def test_ad_ai_and_ag_are_told_of_the_same_rows(tmp_path: Path) -> None:
    samples = [sample(row, [QUARTER]) for row in range(3)]
    probes = [
        {"p_full": 0.8, "p_saliency": 0.9},
        {"p_full": 0.8, "p_saliency": 0.6},
        {"p_full": 1.0, "p_saliency": 0.5},
    ]
    rows = metrics(
        make_run(
            tmp_path,
            samples,
            [explained(row, **own) for row, own in enumerate(probes)],
            {"label": [peak(2, 2)] * 3},
        )
    )
    # The third has no AG, since nothing can be gained on 1; its AD of .5 is left out too.
    values = {name: (rows["label", name]["value"], rows["label", name]["n"]) for name in ("ad", "ai", "ag")}
    assert values == {name: (pytest.approx(value), 2) for name, value in {"ad": 0.125, "ai": 0.5, "ag": 0.25}.items()}


def test_targets_and_curves_have_rows_of_their_own(tmp_path: Path) -> None:
    rows = [
        explained(0, "label", insertion=0.75, deletion=0.25),
        explained(0, "predicted", class_index=1, insertion=0.5, deletion=None),
    ]
    run = make_run(tmp_path, [sample(0, [QUARTER])], rows, {"label": [peak(2, 2)], "predicted": [peak(6, 6)]})
    found = metrics(run)
    assert found["label", "insertion"]["value"] == 0.75
    assert found["label", "deletion"]["value"] == 0.25
    assert found["predicted", "insertion"]["value"] == 0.5
    assert ("predicted", "deletion") not in found
    assert found["label", "pointing_hit"]["value"] == 1
    assert found["predicted", "pointing_hit"]["value"] == 0


def test_shares_have_wilson_s_interval(tmp_path: Path) -> None:
    samples = [sample(row, [QUARTER]) for row in range(10)]
    maps = [peak(2, 2)] * 8 + [peak(6, 6)] * 2
    run = make_run(tmp_path, samples, [explained(row) for row in range(10)], {"label": maps})
    hits = metrics(run)["label", "pointing_hit"]
    assert (hits["value"], hits["n"]) == (pytest.approx(0.8), 10)
    assert (hits["low"], hits["high"]) == pytest.approx((0.490, 0.943), abs=5e-4)  # 8 of 10, as in textbooks


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_interval_and_leaves_nan_out() -> None:
    values = np.random.default_rng(1).normal(size=(800, 2))
    values[::2, 1] = np.nan
    low, high = mean_intervals(values)
    for column in range(2):
        own = values[~np.isnan(values[:, column]), column]
        half = 1.96 * own.std() / np.sqrt(len(own))
        assert (low[column], high[column]) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.02)


def test_box_accuracy_takes_one_threshold_for_the_dataset_over_all_parts(tmp_path: Path) -> None:
    # At every threshold below 1 the first finds its box with IoU 1, the second with 8 / 16, the third with none.
    samples = [sample(row, [QUARTER]) for row in range(4)]
    maps = [
        block(slice(0, 4), slice(0, 4)),
        block(slice(0, 4), slice(0, 2)),
        block(slice(4, 8), slice(4, 8)),
        np.ones((SIDE, SIDE), np.float32),  # constant: undefined
    ]
    run = make_run(tmp_path, samples, [explained(row) for row in range(2)], {"label": maps})
    commit(run, [explained(row) for row in range(2, 4)], index=1)
    rows = metrics(run, box_accuracy=True)
    shares = {30: 2 / 3, 50: 2 / 3, 70: 1 / 3}
    for metric in ("box_acc", "max_box_acc_v2"):
        assert rows["label", metric]["value"] == pytest.approx(np.mean(list(shares.values())))
        assert rows["label", metric]["threshold"] is None
        for level, share in shares.items():
            row = rows["label", f"{metric}_{level}"]
            assert (row["value"], row["n"], row["threshold"]) == (pytest.approx(share), 3, 0)
            assert (row["low"], row["high"]) == (None, None)
    assert not {metric for _, metric in metrics(run) if "box_acc" in metric}


def test_all_contours_find_what_the_largest_component_misses(tmp_path: Path) -> None:
    both = block(slice(0, 4), slice(0, 4)) + block(slice(5, 8), slice(1, 8))  # 16 px in the box, 21 below it
    run = make_run(tmp_path, [sample(0, [QUARTER])], [explained(0)], {"label": [both]})
    rows = metrics(run, box_accuracy=True)
    assert (rows["label", "box_acc"]["value"], rows["label", "max_box_acc_v2"]["value"]) == (0, 1)


class TestFreshness:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        run = make_run(tmp_path, [sample(0, [QUARTER])], [explained(0)], {"label": [peak(2, 2)]})
        score(run, ScoreSettings())
        return run

    def test_a_second_time_the_table_is_left_alone(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("stages.score.score.metrics_table", None)
        score(run, ScoreSettings())

    def test_other_scores_give_another_table(self, run: Run) -> None:
        commit(run, [explained(0, p_full=0.9, p_saliency=0.45)])
        assert metrics(run)["label", "ad"]["value"] == pytest.approx(0.5)

    def test_stopped_half_way_no_old_table_stands_beside_new_scores(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(run, [explained(0, p_full=0.9, p_saliency=0.45)])
        with monkeypatch.context() as patch:

            def die(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr("stages.score.score.metrics_table", die)
            with pytest.raises(KeyboardInterrupt):
                score(run, ScoreSettings())
        assert not run.has_table("metrics")
        assert metrics(run)["label", "ad"]["value"] == pytest.approx(0.5)

    def test_rows_that_are_gone_are_gone_from_the_table(self, run: Run) -> None:
        run.discard_part(Part("explain", "opti_cam", 0))
        assert metrics(run) == {}


def test_counts_are_stored_as_plain_numbers() -> None:
    counts = {"label": {"box_acc": FoundCounts(2, np.array([[1, 2]]))}}
    assert encode_counts(counts) == '{"label":{"box_acc":{"samples":2,"found":[[1,2]]}}}'
