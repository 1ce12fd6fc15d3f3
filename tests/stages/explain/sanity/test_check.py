"""The sanity check on runs of small networks: one whose map cannot depend on its head, and one whose map does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torchvision

from stages.explain.opticam.opticam import OptiCam
from stages.explain.sanity.check import (
    Check,
    SanityReport,
    SanitySettings,
    Similarity,
    check_sanity,
    find_fault,
    levels_after_layer,
    references,
    similarities,
)
from stages.explain.sanity.randomize import blocks_of
from stages.explain.settings import ExplainSettings
from storage import Run
from storage.errors import UserError
from tests.stages.explain import shards

SETTINGS = SanitySettings(samples=6)
ONE_CHANNEL = shards.model("tests.stages.explain.networks:one_channel")
RAMP = np.tile(np.linspace(0, 1, 28, dtype=np.float32), (28, 1))


def checked(run: Run, explain: ExplainSettings | None = None, source=None, settings=SETTINGS, **keys) -> SanityReport:
    return check_sanity(
        run, source or shards.model(), shards.VIEW, explain or shards.settings(), settings, device="cpu", **keys
    )


def made(folder: Path, explain: ExplainSettings | None = None, source=None, seeds=range(8)) -> Run:
    return shards.explain(str(folder / "run"), shards.samples_of(folder / "images", seeds), explain, source)[0]


def medians(report: SanityReport, check: str) -> list[dict[str, float | None]]:
    return [
        {name: found.median for name, found in entry.metrics.items()} for entry in report.checks if entry.check == check
    ]


def test_a_map_of_one_channel_survives_a_random_head_and_that_is_a_fault(tmp_path) -> None:
    # With its only convolution random too, the map is another brightness of the image: not what is tested here.
    settings = replace(SETTINGS, survives=1.0)
    report = checked(made(tmp_path, source=ONE_CHANNEL), source=ONE_CHANNEL, settings=settings)
    assert [check.layer for check in report.checks if check.check == "weights"] == ["head", "features"]
    assert report.after_layer == 1
    head = next(check for check in report.checks if check.level == 1)
    for metric in ("spearman", "ssim", "hog"):
        assert head.metrics[metric] == Similarity(
            pytest.approx(1), pytest.approx(1), pytest.approx(1), SETTINGS.samples
        )
    assert report.fault is not None
    assert "with random weights after the target layer (level 1) the maps survive" in report.fault
    assert "1.00 [1.00, 1.00], 0.9 or more" in report.fault


def test_the_map_of_a_network_with_many_channels_does_not_survive(tmp_path) -> None:
    explain = shards.settings(steps=20)
    report = checked(made(tmp_path, explain), explain)
    levels = [entry["spearman"] for entry in medians(report, "weights")]
    assert len(levels) == 4
    assert levels[0] < SETTINGS.survives_head
    assert levels[-1] < SETTINGS.survives
    assert report.fault is None


def test_a_method_that_ignores_the_network_fails_with_similarities_of_one(tmp_path) -> None:
    explain = shards.settings(method="center")
    report = checked(made(tmp_path, explain), explain)
    ones = {name: pytest.approx(1) for name in ("spearman", "ssim", "hog")}
    assert medians(report, "weights") == [ones] * 4
    assert report.fault is not None
    assert "with all weights random (level 4) the maps survive" in report.fault
    # ... and that is the reference which every report shows.
    other = next(check for check in report.checks if check.layer == "center, any weights")
    assert {name: found.median for name, found in other.metrics.items()} == ones


def test_a_uniform_map_has_nothing_to_lose(tmp_path) -> None:
    explain = shards.settings(method="uniform")
    assert "the maps are constant" in str(checked(made(tmp_path, explain), explain).fault)


def test_the_same_network_makes_the_stored_maps_again_and_other_inputs_do_not(tmp_path) -> None:
    run = made(tmp_path)
    counted: list[tuple[int, int]] = []
    report = checked(run, progress=lambda done, total: counted.append((done, total)))
    ones = {name: pytest.approx(1, abs=1e-4) for name in ("spearman", "ssim", "hog")}
    assert medians(report, "again") == [ones]
    assert 0 < medians(report, "noise")[0]["hog"] < 1
    assert medians(report, "class")[0]["spearman"] < 0.99
    assert counted == [(6 * done, 42) for done in range(1, 8)]  # again, 4 levels, noise, another class
    quiet = checked(run, settings=replace(SETTINGS, noise=0.0))
    assert medians(quiet, "noise") == [ones]


def test_equal_seeds_give_equal_reports_and_others_do_not(tmp_path) -> None:
    run = made(tmp_path)
    report = checked(run)
    assert checked(run) == report
    assert medians(checked(run, settings=replace(SETTINGS, seed=1)), "weights") != medians(report, "weights")


def test_the_table_keeps_what_other_targets_and_methods_have(tmp_path) -> None:
    run = made(tmp_path)
    report = checked(run)
    rows = run.table("sanity").to_pylist()
    assert len(rows) == 3 * len(report.checks)
    head = next(check for check in report.checks if check.level == 1).metrics["ssim"]
    (row,) = [row for row in rows if row["level"] == 1 and row["metric"] == "ssim"]
    assert (row["method"], row["target"], row["check"], row["layer"]) == ("opti_cam", "label", "weights", "head")
    assert (row["n"], row["seed"]) == (6, 0)
    assert (row["median"], row["low"], row["high"]) == pytest.approx((head.median, head.low, head.high))
    checked(run, target="predicted")
    checked(run)
    targets = run.table("sanity")["target"].to_pylist()
    assert (targets.count("label"), targets.count("predicted")) == (len(rows), len(rows))


def test_weights_that_are_not_the_run_s_are_refused(tmp_path) -> None:
    run = made(tmp_path)
    with pytest.raises(UserError, match="made with other weights than"):
        checked(run, source=ONE_CHANNEL)


def test_a_target_without_maps_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="has no maps 'opti_cam/top2'"):
        checked(made(tmp_path), target="top2")


def test_images_that_changed_are_left_out_and_counted(tmp_path) -> None:
    run = made(tmp_path, seeds=range(4))
    (tmp_path / "images" / "1.png").unlink()
    shards.picture(9).save(tmp_path / "images" / "2.png")
    report = checked(run)
    assert (report.samples, report.unreadable) == (2, 2)
    for name in ("0.png", "3.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    with pytest.raises(
        UserError,
        match=r"no image to check: 4 images cannot be read, the last one .*/images/\d\.png: the file is empty",
    ):
        checked(run)


def test_samples_without_a_map_are_not_chosen(tmp_path) -> None:
    samples = shards.samples_of(tmp_path / "images", range(4))
    for row in (0, 2):
        samples = shards.edited(samples, row, class_index=None, status="no_class")
    run, _ = shards.explain(str(tmp_path / "run"), samples)
    assert checked(run).samples == 2
    assert checked(run, target="predicted").samples == 4


@pytest.mark.parametrize(("layer", "after"), [("layer4", 1), ("layer2", 3), ("layer2.0.bn1", 3), ("conv1", 5)])
def test_levels_after_the_layer_hold_nothing_that_makes_its_features(layer, after) -> None:
    network = torchvision.models.resnet18(weights=None, num_classes=3)
    opticam = OptiCam(network, layer, input_size=(64, 64))
    assert levels_after_layer(opticam, blocks_of(network)) == after


def test_similarities_are_medians_over_the_pairs_that_have_one() -> None:
    maps = np.stack([RAMP, RAMP, RAMP, np.zeros_like(RAMP)])
    others = np.stack([RAMP, RAMP.T, 1 - RAMP, RAMP])
    spearman = similarities(maps, others)["spearman"]
    assert (spearman.median, spearman.n) == (pytest.approx(0, abs=1e-6), 3)
    # Of 3 values each resample's median is an outer one with probability 7/27, so both ends are in the interval.
    assert (spearman.low, spearman.high) == (pytest.approx(-1), pytest.approx(1))
    alone = similarities(maps[:1], others[:1])["spearman"]
    assert (alone.median, alone.low, alone.high, alone.n) == (pytest.approx(1), None, None, 1)


def test_references_stand_for_knowing_nothing() -> None:
    found = {check.layer: check.metrics for check in references(np.stack([RAMP, RAMP.T]))}
    assert list(found) == ["another image", "uniform", "fake_cam", "center", "center, any weights"]
    assert found["another image"]["spearman"].median == pytest.approx(0, abs=1e-6)
    assert found["uniform"]["spearman"] == Similarity(None, None, None, 0)
    assert found["center"]["spearman"].median == pytest.approx(0, abs=1e-3)  # as a ramp and a symmetric map are
    assert found["center, any weights"]["ssim"].median == 1
    assert "another image" not in [check.layer for check in references(RAMP[None])]


def of_levels(*medians: float | None) -> list[Check]:
    def similar(median: float | None) -> dict[str, Similarity]:
        return {"spearman": Similarity(median, None, None, 0 if median is None else 5)}

    again = Check("again", None, "", similar(1.0))
    return [again, *(Check("weights", level, "", similar(median)) for level, median in enumerate(medians, start=1))]


@pytest.mark.parametrize(
    ("medians", "after_layer", "fault"),
    [
        ((0.89, 0.7, 0.49), 1, None),
        ((0.90, 0.7, 0.49), 1, "after the target layer (level 1)"),
        ((0.95, 0.7, 0.49), 2, None),
        ((0.95, 0.95, 0.49), 2, "after the target layer (level 2)"),
        ((0.95, 0.95, 0.49), 0, None),
        ((0.1, 0.1, 0.5), 1, "with all weights random (level 3)"),
        ((0.1, 0.9, None), 1, None),
        ((None, None, None), 1, None),
    ],
)
def test_what_is_a_fault(medians, after_layer, fault) -> None:
    found = find_fault(of_levels(*medians), after_layer, SanitySettings())
    assert found is None if fault is None else fault in found


@pytest.mark.parametrize(("again", "fault"), [(0.89, True), (0.9, False)])
def test_maps_that_the_same_network_no_longer_makes_do_not_pass(again, fault) -> None:
    first = Check("again", None, "", {"spearman": Similarity(again, None, None, 5)})
    found = find_fault([first, *of_levels(0.1, 0.1)[1:]], 0, SanitySettings())
    assert (found is not None and "the same network makes other maps" in found) == fault


@pytest.mark.parametrize(("low", "fault"), [(0.49, False), (0.5, True)])
def test_a_fault_is_claimed_where_the_whole_interval_says_so(low, fault) -> None:
    checks = of_levels(0.1, 0.9)
    checks[-1] = Check("weights", 2, "", {"spearman": Similarity(0.9, low, 0.95, 16)})
    assert (find_fault(checks, 0, SanitySettings()) is not None) == fault


@pytest.mark.parametrize(
    "setting", [{"samples": 0}, {"levels": 1}, {"noise": -0.1}, {"survives": 0.0}, {"survives_head": 1.5}]
)
def test_settings_out_of_range_are_refused_by_name(setting) -> None:
    with pytest.raises(UserError, match=next(iter(setting))):
        SanitySettings(**setting)


def test_the_run_s_own_tables_stay_as_they_were(tmp_path) -> None:
    run = made(tmp_path)
    before: list[pa.Table] = [run.table(name) for name in ("samples", "explain")]
    maps = run.maps("label").read(slice(0, 8))
    checked(run)
    assert [run.table(name) for name in ("samples", "explain")] == before
    np.testing.assert_array_equal(run.maps("label").read(slice(0, 8)), maps)
