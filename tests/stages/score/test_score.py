from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.score import part as part_scores
from stages.score import score as stage
from stages.score.measures import measure_maps
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run, SightlineError
from storage.files import Directory
from storage.run import Part
from storage.tables import SAMPLES, SCORES
from tests.stages.score.runs import PROBES, SIDE, box, commit, explained, make_run, peak, sample


def scores(run: Run, settings: ScoreSettings | None = None) -> list[dict[str, Any]]:
    score(run, settings or ScoreSettings(), workers=1)
    return list(run.table("scores").to_pylist())


def test_a_row_by_hand(tmp_path: Path) -> None:
    # 16 x 16 squashed to 8 x 8: the box is the view's first quadrant, 4 x 4; the map is one pixel in it.
    run = make_run(tmp_path, [sample(0, [box(0, 0, 8, 8)])], [explained(0)], {"label": [peak(2, 2)]})
    (row,) = scores(run)
    expected = {
        "status": "ok",
        "reason": None,
        "ad": 0,
        "ai": 1,
        "ag": 0.5,
        "energy_in": 1,
        "box_area_frac": 0.25,
        "energy_lift": 4,
        "energy_logodds": np.log(99) + np.log(3),
        # The pixel at (2, 2) stays under the 4 x 4 box at 3 x 3 of its 5 x 5 places, its own among them.
        "energy_null_pct": (16 + 0.5 * 8) / 24,
        "outside_effect": ((0.8 - (0.1 + 0.5) / 2) + (0.6 - 0.2)) / 2,
        "outside_room": ((1 - 0.3) + (1 - 0.2)) / 2,
        "drop_outside": 0.3,
        "drop_outside_logit": np.log(4),
        "drop_inside": 0.6,
        "drop_random": 0.1,
        "pointing_hit": True,
        "pointing_hit_tol": True,
        "localization_error": 15 / 16,
        "official_metric": 15 / 16,
        "pixel_f1": 2 / 17,
        "iou_best": 1 / 16,
        # From (2.5, 2.5) to the box's centre at (2, 2): half a diagonal pixel of eight.
        "centroid_distance": 1 / 16,
        "saliency_metric": np.log(0.05) - np.log(0.5),
        "context_reliance": 0.25,
        "box_kept_frac": 1,
        "border_energy": 0,
        "entropy": 0,
        "n_boxes": 1,
        "evaluable": True,
    }
    for name, value in expected.items():
        assert row[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, int | float) else value), name
    assert set(row) == set(expected) | {"sample_id", "row", "target", "method"}


def test_both_targets_are_measured_against_the_labels_boxes(tmp_path: Path) -> None:
    boxes = [box(0, 0, 8, 8), box(8, 8, 16, 16, "dog"), box(8, 0, 16, 8, "cat")]
    rows = [explained(0, "label", pred_index=1), explained(0, "predicted", class_index=1, pred_index=1)]
    run = make_run(tmp_path, [sample(0, boxes)], rows, {"label": [peak(6, 1)], "predicted": [peak(6, 6)]})
    label, predicted = scores(run)
    assert (label["target"], label["n_boxes"], label["pointing_hit"]) == ("label", 2, True)
    # On the dog's box: neither a hit of the cat's nor a miss into the background.
    assert (predicted["target"], predicted["n_boxes"], predicted["pointing_hit"]) == ("predicted", 2, None)
    assert predicted["pointing_hit_tol"] is None
    assert label["official_metric"] == 1
    assert predicted["official_metric"] == 1


def test_a_prediction_that_another_sample_of_the_image_has_is_not_measured_against_these_boxes(tmp_path: Path) -> None:
    shared = sample(0, [box(0, 0, 8, 8)], other_classes=[1])
    rows = [
        explained(0, "label", pred_index=1),
        explained(0, "predicted", class_index=1, pred_index=1),
        explained(0, "top2", class_index=2, pred_index=1),
    ]
    maps = {target: [peak(6, 6)] for target in ("label", "predicted", "top2")}
    label, predicted, second = scores(make_run(tmp_path, [shared], rows, maps))
    assert (predicted["status"], predicted["evaluable"]) == ("other_sample", False)
    assert (label["status"], second["status"]) == ("ok", "ok")
    # The prediction is no mistake, and does not name this class either: OM, which asks for a right one, is not defined.
    assert [row["official_metric"] for row in (label, predicted, second)] == [None] * 3


def test_a_map_that_answers_two_targets_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Sample 0 is predicted right: both targets are its class, and have one map. Sample 1 is not.
    maps = {"label": [peak(2, 2), peak(1, 6)], "predicted": [peak(2, 2), peak(6, 6)]}
    wrong = {"class_index": 1, "pred_index": 1}
    rows = [explained(0), explained(0, "predicted"), explained(1, pred_index=1), explained(1, "predicted", **wrong)]
    run = make_run(tmp_path, [sample(row, [box(0, 0, 8, 8)]) for row in (0, 1)], rows, maps)
    measured: list[int] = []

    def counted(maps: np.ndarray, *others: Any) -> dict[str, np.ndarray]:
        measured.append(len(maps))
        return measure_maps(maps, *others)

    monkeypatch.setattr(part_scores, "measure_maps", counted)
    first, same, label, predicted = scores(run)
    assert measured == [3]
    assert same == first | {"target": "predicted"}
    assert (first["pointing_hit"], label["pointing_hit"], predicted["pointing_hit"]) == (True, False, False)
    assert label["centroid_distance"] != predicted["centroid_distance"]


BOX_SCORES = (
    "energy_in",
    "box_area_frac",
    "energy_lift",
    "energy_logodds",
    "energy_null_pct",
    "pointing_hit",
    "pointing_hit_tol",
    "localization_error",
    "official_metric",
    "pixel_f1",
    "iou_best",
    "centroid_distance",
)
MAP_SCORES = ("border_energy", "entropy", "saliency_metric")


def test_without_a_box_only_what_needs_none_is_scored(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        [sample(0, [], status="no_box"), sample(1, [box(0, 0, 8, 8, "dog")])],
        [explained(0), explained(1)],
        {"label": [peak(2, 2)] * 2},
    )
    for row in scores(run):
        assert (row["status"], row["evaluable"], row["n_boxes"]) == ("no_box", False, 0)
        assert all(row[name] is None for name in (*BOX_SCORES, "box_kept_frac"))
        assert all(row[name] is not None for name in (*MAP_SCORES, "ad", "ag"))


def test_a_box_out_of_view_is_no_miss(tmp_path: Path) -> None:
    # 32 x 8: the view is its middle 8 x 8, from x = 12.
    wide = {"width": 32, "height": 8}
    samples = [sample(0, [box(0, 0, 10, 8)], **wide), sample(1, [box(8, 0, 16, 4)], **wide)]
    run = make_run(tmp_path, samples, [explained(0), explained(1)], {"label": [peak(6, 6)] * 2}, "resize_crop")
    outside, half = scores(run)
    assert (outside["status"], outside["box_kept_frac"], outside["n_boxes"]) == ("box_outside_view", 0, 0)
    assert outside["reason"] == "the view shows none of 1 boxes"
    assert all(outside[name] is None for name in BOX_SCORES)
    assert (half["status"], half["box_kept_frac"], half["n_boxes"]) == ("ok", 0.5, 1)
    assert half["box_area_frac"] == 0.25
    assert half["pointing_hit"] is False


def test_a_box_that_fills_the_view_is_uninformative_but_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path, [sample(0, [box(0, 0, 16, 16)])], [explained(0)], {"label": [peak(2, 2)]})
    (row,) = scores(run)
    assert (row["status"], row["evaluable"]) == ("box_uninformative", False)
    assert row["reason"] == "the boxes cover 100% of the view"
    assert (row["energy_in"], row["energy_lift"], row["energy_null_pct"]) == (1, 1, None)


def test_a_constant_map_is_undefined_whether_explain_saw_it_or_not(tmp_path: Path) -> None:
    boxes = [box(0, 0, 8, 8)]
    flat = np.full((SIDE, SIDE), 3, dtype=np.float32)
    rows = [explained(0), explained(1, status="degenerate_map", reason="all zero", p_saliency=None)]
    run = make_run(tmp_path, [sample(0, boxes), sample(1, boxes)], rows, {"label": [flat, flat]})
    unseen, seen = scores(run)
    assert (unseen["status"], unseen["reason"]) == ("degenerate_map", "the map is zero everywhere")
    assert (seen["status"], seen["reason"]) == ("degenerate_map", "all zero")
    for row in (unseen, seen):
        assert all(row[name] is None for name in (*BOX_SCORES, *MAP_SCORES) if name != "box_area_frac")
        assert row["box_area_frac"] == 0.25
    assert seen["ad"] is None
    assert seen["drop_outside"] == pytest.approx(0.3)


def test_a_map_of_ones_scores_the_null_values_and_points_nowhere(tmp_path: Path) -> None:
    # Energy is the boxes' area a by definition; F1 is the harmonic mean of P = a and R = 1, which is 2a / (1 + a).
    generator = np.random.default_rng(0)
    corners = np.sort(generator.uniform(0, 16, (60, 2, 2)), axis=1).reshape(-1, 4)
    samples = [sample(row, [box(*corners[row])]) for row in range(60)]
    rows = [explained(row, p_full=0.8, p_saliency=0.8) for row in range(60)]
    ones = [np.ones((SIDE, SIDE), dtype=np.float32)] * 60
    run = make_run(tmp_path, samples, rows, {"label": ones}, normalization="max")
    for row in scores(run):
        width, height = corners[row["row"], 2:] - corners[row["row"], :2]
        area = width * height / 256
        assert row["status"] == ("box_uninformative" if area > 0.8 else "ok")
        assert row["energy_in"] == pytest.approx(area, abs=1e-5)
        assert row["pixel_f1"] == pytest.approx(2 * area / (1 + area), abs=1e-5)
        assert row["energy_lift"] == pytest.approx(1, abs=1e-4)
        assert row["energy_logodds"] == pytest.approx(0, abs=1e-4)
        assert row["energy_null_pct"] in (0.5, None)
        assert row["border_energy"] == pytest.approx(0.19, abs=1e-6)
        assert row["entropy"] == pytest.approx(1, abs=1e-6)
        assert (row["ad"], row["ai"], row["ag"]) == (0, 0, 0)
        undefined = ("pointing_hit", "pointing_hit_tol", "iou_best", "localization_error", "official_metric")
        assert all(row[name] is None for name in (*undefined, "saliency_metric"))


@pytest.mark.parametrize("status", ["unreadable", "non_finite", "no_class"])
def test_a_map_that_explain_does_not_vouch_for_is_not_scored(tmp_path: Path, status: str) -> None:
    nothing = dict.fromkeys(PROBES)
    broken = sample(0, [box(0, 0, 8, 8)], width=None, height=None)
    rows = [explained(0, status=status, reason="why", pred_index=None, **nothing)]
    (row,) = scores(make_run(tmp_path, [broken], rows, {"label": [peak(1, 1)]}))
    assert (row["status"], row["reason"], row["evaluable"]) == (status, "why", False)
    numbers = [field.name for field in SCORES if pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)]
    assert all(row[name] is None for name in numbers if name != "evaluable")


def test_a_label_that_the_model_lacks_leaves_the_official_metric_undefined(tmp_path: Path) -> None:
    unknown = sample(0, [box(0, 0, 8, 8)], class_index=None, status="no_class")
    rows = [explained(0, "label", status="no_class", p_full=None), explained(0, "predicted")]
    run = make_run(tmp_path, [unknown], rows, {"label": [peak(1, 1)], "predicted": [peak(1, 1)]})
    label, predicted = scores(run)
    assert (label["status"], label["energy_in"]) == ("no_class", None)
    assert (predicted["status"], predicted["official_metric"]) == ("ok", None)
    assert predicted["localization_error"] is not None


def many(count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[np.ndarray]]:
    generator = np.random.default_rng(0)
    samples = [sample(row, [box(0, 0, *generator.uniform(2, 14, 2))]) for row in range(count)]
    return samples, [explained(row) for row in range(count)], list(generator.random((count, SIDE, SIDE)))


def digests(run: Run) -> dict[str, str]:
    root = run.local_path("scores")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*.parquet"))}


class TestParts:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        samples, rows, maps = many(80)
        run = make_run(tmp_path, samples, rows[:64], {"label": maps})
        commit(run, rows[64:], index=1)
        return run

    def test_each_part_of_explain_gets_one_of_scores(self, run: Run) -> None:
        seen: list[tuple[int, int]] = []
        report = score(run, ScoreSettings(), lambda done, total: seen.append((done, total)))
        assert (report.parts, report.skipped, report.rows, report.statuses) == (2, 0, 80, {"ok": 80})
        assert seen == [(1, 2), (2, 2)]
        assert [part.index for part in run.parts("scores")] == [0, 1]
        assert run.table("scores")["row"].to_pylist() == list(range(80))

    def test_a_second_time_nothing_is_done(self, run: Run) -> None:
        score(run, ScoreSettings())
        before = digests(run)
        report = score(run, ScoreSettings())
        assert (report.parts, report.skipped) == (0, 2)
        assert digests(run) == before

    def test_what_is_done_is_known_from_the_footers_alone(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        for index, rows in enumerate(("0:64", "64:80")):
            part = Part("explain", "opti_cam", index)
            run.write_part(part, run.read_part(part), {"rows": rows})
        score(run, ScoreSettings())
        read = Directory.read
        monkeypatch.setattr(
            Directory, "read", lambda where, path: pytest.fail(path) if "part-" in path else read(where, path)
        )
        assert score(run, ScoreSettings()).skipped == 2

    def test_samples_that_are_the_same_bytes_are_not_looked_at_one_by_one(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        score(run, ScoreSettings(), workers=1)
        monkeypatch.setattr(part_scores.Origin, "fingerprint", None)
        assert stage.unscored(run, ScoreSettings()) == []

    def test_scores_of_an_earlier_version_are_known_by_their_fingerprint_alone(self, run: Run) -> None:
        score(run, ScoreSettings(), workers=1)
        for part, vouched in list(run.footers("scores").items()):
            assert vouched.pop("seen")
            run.write_part(part, run.read_part(part), vouched)
        assert stage.unscored(run, ScoreSettings()) == []
        assert len(stage.unscored(run, ScoreSettings(box_accuracy=True))) == len(list(run.parts("scores")))

    def test_threads_do_not_change_the_bytes(self, run: Run) -> None:
        score(run, ScoreSettings(), workers=1)
        before = digests(run)
        for part in list(run.parts("scores")):
            run.discard_part(part)
        score(run, ScoreSettings(), workers=4)
        assert digests(run) == before

    def test_only_the_part_whose_probes_changed_is_scored_again(self, run: Run) -> None:
        score(run, ScoreSettings())
        commit(run, [explained(row, p_full=0.1) for row in range(64, 80)], index=1)
        report = score(run, ScoreSettings())
        assert (report.parts, report.skipped) == (1, 1)
        assert run.table("scores")["drop_outside"][79].as_py() == pytest.approx(-0.4)

    def test_a_corrected_box_is_scored_again(self, run: Run) -> None:
        score(run, ScoreSettings())
        samples = run.table("samples").to_pylist()
        samples[70]["boxes"] = [box(0, 0, 16, 8)]
        run.write_table("samples", pa.Table.from_pylist(samples, schema=SAMPLES))
        assert score(run, ScoreSettings()).parts == 1
        assert run.table("scores")["box_area_frac"][70].as_py() == 0.5

    def test_changed_settings_score_everything_again(self, run: Run) -> None:
        score(run, ScoreSettings())
        assert score(run, ScoreSettings(box_accuracy=True)).parts == len(list(run.parts("explain")))

    def test_scores_of_a_part_that_is_gone_are_removed(self, run: Run) -> None:
        score(run, ScoreSettings())
        run.discard_part(Part("explain", "opti_cam", 1))
        score(run, ScoreSettings())
        assert run.table("scores").num_rows == 64

    def test_maps_that_are_not_those_the_part_vouches_for_are_not_scored(self, run: Run) -> None:
        vouched = {"rows": "0:64", "targets": "label", "maps_checksum": run.maps("label").checksum(0, 64)}
        vouched["maps_checksum"] = hashlib.sha256(f'["{vouched["maps_checksum"]}"]'.encode()).hexdigest()
        part = Part("explain", "opti_cam", 0)
        run.write_part(part, run.read_part(part), vouched)
        score(run, ScoreSettings())
        run.maps("label", mode="r+").write(63, peak(0, 0)[None])
        assert score(run, ScoreSettings()).parts == 0  # up to date: no map was read
        run.discard_part(Part("scores", "opti_cam", 0))
        with pytest.raises(SightlineError, match=r"part-00000.parquet: the maps .* explain.method: opti_cam makes"):
            score(run, ScoreSettings())
        assert [part.index for part in run.parts("explain")] == [1]

    def test_a_row_without_sample_is_named(self, run: Run) -> None:
        commit(run, [explained(99)], index=1)
        with pytest.raises(SightlineError, match=r"explain/opti_cam/part-00001.parquet: row 99 is not in samples"):
            score(run, ScoreSettings())
