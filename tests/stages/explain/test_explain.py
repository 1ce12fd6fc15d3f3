import shutil

import numpy as np
import pytest
import torch

from stages.explain import OptiCam
from stages.explain.explain import explain_shard
from stages.explain.network.device import CPU_BATCH
from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD
from stages.explain.network.view import render_view
from stages.explain.plan import EXPLAIN_VERSION, pending_shards, shard_samples
from storage import Run
from storage.errors import UserError
from tests.stages.explain.networks import tiny
from tests.stages.explain.shards import (
    COUNT,
    VIEW,
    edited,
    explain,
    files,
    maps_by_key,
    model,
    picture,
    planned,
    rows_by_key,
    samples_of,
    settings,
    undefined_probes,
)

HIDING_OUTSIDE = ("p_hide_outside", "p_hide_map", "p_hide_outside_map", "p_hide_second", "p_hide_random")
WITHOUT = ("p_hide_context", "p_hide_context_neutral", "p_hide_far")
TRANSPLANTS = ("p_transplant", "p_transplant_null")
"""Undefined without donors, which these plans do not have."""
HIDDEN = ("hide_locator", "hidden_box", "outside_features")
CROP = ("p_crop_outside", "pred_crop_outside", "crop_outside_box")


def test_every_sample_and_target_has_a_row_and_a_map(whole):
    rows = rows_by_key(whole)
    assert len(rows) == 2 * COUNT
    assert {row["status"] for row in rows.values()} == {"ok"}
    for target in ("label", "predicted"):
        assert np.isfinite(whole.maps(target).read(slice(0, COUNT))).all()
    names = {str(name) for row in rows.values() for name in row if str(name).startswith("p_")}
    probabilities = {name: [row[name] for row in rows.values()] for name in names}
    assert {name for name, values in probabilities.items() if None in values} <= {"p_hide_scan", *CROP, *TRANSPLANTS}
    assert all(0 <= value <= 1 for values in probabilities.values() for value in values if value is not None)
    assert all(row["objective_best"] >= row["objective_start"] for row in rows.values())
    assert {row["iterations"] for row in rows.values()} == {4}
    assert {row["hide_locator"] for row in rows.values()} <= {"opti_cam", "outside_map", "grad_cam"}


def test_the_maps_of_what_lies_outside_are_those_of_the_library_and_are_vouched_for(images, tmp_path):
    samples = samples_of(images, range(8))
    run, _ = explain(str(tmp_path), samples)
    opticam = OptiCam(tiny(), mean=IMAGENET_MEAN, std=IMAGENET_STD, input_size=(VIEW.size, VIEW.size))
    views = torch.stack([torch.from_numpy(render_view(picture(seed), VIEW)) for seed in range(8)]) / 255
    boxes = [VIEW.transform(40, 30).coverage([[5, 5, 25, 20]])] * 8
    outside = torch.from_numpy(np.stack(boxes)) <= 1e-6
    targets = torch.arange(8) % 5
    made = opticam.maximize_outside(views, opticam.features(views).maps, targets, outside)
    stored = run.outside_maps("label", "opti_cam")
    np.testing.assert_allclose(stored.read(slice(0, 8)), made.grid.numpy(), rtol=1e-5, atol=1e-6)
    (vouched,) = run.footers("explain").values()
    assert run.has_maps("opti_cam", vouched)
    run.outside_maps("predicted", "opti_cam", mode="r+").write(3, np.zeros((1, 8, 8), np.float32))
    assert not run.has_maps("opti_cam", vouched)


def test_without_the_question_there_is_no_third_proposal_and_no_third_map(images, tmp_path):
    samples = samples_of(images, range(3))
    run, _ = explain(str(tmp_path), samples, settings(outside=False))
    rows = rows_by_key(run)
    assert {row["p_hide_outside_map"] for row in rows.values()} == {None}
    assert {row["hide_locator"] for row in rows.values()} <= {"opti_cam", "grad_cam"}
    with pytest.raises(UserError, match=r"explain.method 'opti_cam' and explain.outside and 'label' among"):
        run.outside_maps("label", "opti_cam")
    maps = maps_by_key(run)
    run, reports = explain(str(tmp_path), samples)
    assert len(reports) == 1
    assert maps_by_key(run) == maps
    assert all(row["p_hide_outside_map"] is not None for row in rows_by_key(run).values())


@pytest.mark.parametrize(
    ("seeds", "shard_size"),
    [(range(COUNT), 64), (range(COUNT - 1, -1, -1), 32), ([41], 32), ([*range(200, 209), 41, 3], 32)],
    ids=["shards of 64", "the other way round", "alone in a padded batch", "among others"],
)
def test_a_sample_has_the_same_bytes_whatever_shares_its_batch_or_shard(images, tmp_path, whole, seeds, shard_size):
    run, _ = explain(str(tmp_path), samples_of(images, seeds), settings(shard_size=shard_size))
    maps, rows = maps_by_key(run), rows_by_key(run)
    all_maps, all_rows = maps_by_key(whole), rows_by_key(whole)
    shared = set(maps) & set(all_maps)
    assert ("41.png", "label") in shared
    for key in shared:
        assert maps[key] == all_maps[key], key
        assert rows[key] == all_rows[key], key


def test_predicted_equals_label_where_they_agree_and_only_there(whole):
    rows, maps = rows_by_key(whole), maps_by_key(whole)
    agreed = 0
    for name in {name for name, _ in rows}:
        label, predicted = rows[name, "label"], rows[name, "predicted"]
        assert predicted["class_index"] == predicted["pred_index"] == label["pred_index"]
        assert predicted["p_full"] == predicted["pred_prob"]
        if label["class_index"] == predicted["class_index"]:
            agreed += 1
            assert {**label, "target": "predicted", "image_features": None} == predicted
            assert maps[name, "label"] == maps[name, "predicted"]
        else:
            assert maps[name, "label"] != maps[name, "predicted"]
    assert 0 < agreed < COUNT


def test_a_finished_run_has_nothing_pending_and_keeps_its_bytes(images, tmp_path):
    samples = samples_of(images, range(40))
    explain(str(tmp_path), samples)
    before = files(tmp_path / "explain") | files(tmp_path / "maps.zarr" / "opti_cam" / "label" / "c")
    _, reports = explain(str(tmp_path), samples)
    assert reports == []
    assert files(tmp_path / "explain") | files(tmp_path / "maps.zarr" / "opti_cam" / "label" / "c") == before


def test_progress_tells_the_images_done_after_each_batch(images, tmp_path):
    samples = samples_of(images, range(COUNT))
    _, plan = planned(str(tmp_path), samples)
    told = []
    explain_shard(plan, 0, shard_samples(plan, samples, 0), told.append)
    assert told == sorted(told)
    assert len(told) > 1
    assert told[0] <= plan.explain.batch_size
    assert told[-1] == len(plan.shard(0))


def test_the_features_of_an_image_are_stored_once_and_are_the_mean_of_its_layer(images, whole):
    rows = rows_by_key(whole)
    assert [rows[f"{k}.png", "predicted"]["image_features"] for k in range(COUNT)] == [None] * COUNT
    opticam = OptiCam(tiny(), mean=IMAGENET_MEAN, std=IMAGENET_STD, input_size=(VIEW.size, VIEW.size))
    view = torch.from_numpy(render_view(picture(5), VIEW))[None] / 255
    layer = opticam.features(opticam.prepare(view)).maps[0].double()
    expected = [channel.sum().item() / channel.numel() for channel in layer]
    assert rows["5.png", "label"]["image_features"] == pytest.approx(expected, rel=2**-10, abs=2**-24)


def test_corrected_boxes_recompute_the_probes_of_their_shard_and_no_map(images, tmp_path):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    maps, parts, rows = files(tmp_path / "maps.zarr"), files(tmp_path / "explain"), rows_by_key(run)
    moved = [{"x0": 0.0, "y0": 0.0, "x1": 12.0, "y1": 30.0, "label": None}]
    run, reports = explain(str(tmp_path), edited(samples, 35, boxes=moved))
    assert [report.index for report in reports] == [1]
    after = files(tmp_path / "maps.zarr")
    chunks = {name for name in maps if "/c/" in name}
    rewritten = {name for name in chunks if after[name] != maps[name]}
    # Where the boxes are others, so is what lies outside them.
    assert rewritten == {f"opti_cam.outside/{target}/c/1/0/0" for target in ("label", "predicted")}
    assert len(chunks) == 8
    first = "opti_cam/part-00000.parquet"
    assert files(tmp_path / "explain")[first] == parts[first]
    changed = {key for key, row in rows_by_key(run).items() if row != rows[key]}
    assert changed == {("35.png", "label"), ("35.png", "predicted")}
    for key in changed:
        before, now = rows[key], rows_by_key(run)[key]
        differing = {name for name in now if now[name] != before[name]}
        assert {"p_box", "p_context"} <= differing
        assert differing <= {
            "p_box",
            "p_context",
            "p_saliency_in_box",
            "p_saliency_in_context",
            "p_hide_inside",
            *WITHOUT,
            *HIDDEN,
            *HIDING_OUTSIDE,
            *CROP,
        }
    # As if the boxes had been right from the start.
    fresh, _ = explain(str(tmp_path / "fresh"), edited(samples, 35, boxes=moved))
    assert rows_by_key(fresh) == rows_by_key(run)


def test_a_sample_that_loses_its_boxes_keeps_its_map_and_loses_the_probes_of_the_boxes(images, tmp_path):
    samples = samples_of(images, range(3))
    run, _ = explain(str(tmp_path), samples)
    maps = maps_by_key(run)
    run, reports = explain(str(tmp_path), edited(samples, 1, boxes=[], status="no_box"))
    assert len(reports) == 1
    assert maps_by_key(run) == maps
    row = rows_by_key(run)["1.png", "label"]
    assert row["status"] == "ok"
    assert undefined_probes(row) == {
        "p_box",
        "p_context",
        "p_saliency_in_box",
        "p_saliency_in_context",
        "p_hide_inside",
        "p_crop_outside",
        "p_hide_scan",
        *WITHOUT,
        *TRANSPLANTS,
        *HIDING_OUTSIDE,
    }
    assert [row[name] for name in HIDDEN] == [None, None, None]


def test_a_box_out_of_the_view_is_as_none(images, tmp_path):
    samples = samples_of(images, range(1), boxes=(0, 0, 0, 0))
    run, _ = explain(str(tmp_path), samples)
    assert rows_by_key(run)["0.png", "label"]["p_box"] is None


def test_appended_samples_keep_the_maps_of_the_full_shards(images, tmp_path):
    explain(str(tmp_path), samples_of(images, range(40)))
    before = files(tmp_path / "explain")["opti_cam/part-00000.parquet"]
    run, reports = explain(str(tmp_path), samples_of(images, range(70)))
    assert [report.index for report in reports] == [1, 2]
    assert files(tmp_path / "explain")["opti_cam/part-00000.parquet"] == before
    assert len(rows_by_key(run)) == 140


def test_maps_of_what_lies_outside_that_are_gone_are_made_again_and_no_other(images, tmp_path):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    wanted = [run.outside_maps(target, "opti_cam").read(slice(0, 40)) for target in ("label", "predicted")]
    shutil.rmtree(tmp_path / "maps.zarr" / "opti_cam.outside")
    run, reports = explain(str(tmp_path), samples)
    assert len(reports) == 2
    for target, maps in zip(("label", "predicted"), wanted, strict=True):
        np.testing.assert_array_equal(run.outside_maps(target, "opti_cam").read(slice(0, 40)), maps)


@pytest.mark.parametrize(("first", "then"), [(32, 64), (64, 32)])
def test_another_shard_size_repeats_no_row(images, tmp_path, whole, first, then):
    samples = samples_of(images, range(COUNT))
    explain(str(tmp_path), samples, settings(shard_size=first))
    # Interrupted before anything of the new size is done, no row may be there twice.
    run, plan = planned(str(tmp_path), samples, settings(shard_size=then))
    assert pending_shards(run, plan, samples) == list(range(plan.shards))
    rows_by_key(run)
    run, _ = explain(str(tmp_path), samples, settings(shard_size=then))
    assert rows_by_key(run) == rows_by_key(whole)
    assert maps_by_key(run) == maps_by_key(whole)


class KilledError(BaseException):
    """Stands for kill -9: nothing in the code may catch it."""


def kill_at_commit(monkeypatch, index):
    """Die at the worst point of shard ``index``: the maps are written, the part is not."""
    commit = Run.write_part

    def dying(run, part, table, metadata):
        if part.index == index:
            raise KilledError
        commit(run, part, table, metadata)

    monkeypatch.setattr(Run, "write_part", dying)


def test_killed_before_a_commit_only_that_shard_is_made_again_with_the_same_bytes(images, tmp_path, monkeypatch, whole):
    samples = samples_of(images, range(COUNT))
    with monkeypatch.context() as patch:
        kill_at_commit(patch, 1)
        with pytest.raises(KilledError):
            explain(str(tmp_path), samples)
    run = Run.open(str(tmp_path))
    assert len(rows_by_key(run)) == 64
    assert np.isfinite(run.maps("label").read(slice(32, 64))).all()  # the worst point indeed
    run, reports = explain(str(tmp_path), samples)
    assert [report.index for report in reports] == [1, 2]
    assert rows_by_key(run) == rows_by_key(whole)
    content = {name: data for name, (_, data) in files(tmp_path).items()}
    reference = {name: data for name, (_, data) in files(whole.local_path()).items()}
    assert content == reference


def test_settings_a_then_b_killed_then_a_never_pass_b_off_as_a(images, tmp_path, monkeypatch, whole):
    samples, other = samples_of(images, range(COUNT)), settings(steps=2)
    explain(str(tmp_path), samples)
    with monkeypatch.context() as patch:
        kill_at_commit(patch, 1)
        with pytest.raises(KilledError):
            explain(str(tmp_path), samples, other)
    run = Run.open(str(tmp_path))
    assert maps_by_key(run)["40.png", "label"] != maps_by_key(whole)["40.png", "label"]  # B's map is there, uncommitted
    run, reports = explain(str(tmp_path), samples)
    assert [report.index for report in reports] == [0, 1]  # 2 is still A's
    assert maps_by_key(run) == maps_by_key(whole)
    assert rows_by_key(run) == rows_by_key(whole)


def test_a_layer_of_another_grid_killed_half_way_gives_way_to_the_first_again(images, tmp_path, monkeypatch, whole):
    samples = samples_of(images, range(COUNT))
    explain(str(tmp_path), samples)
    with monkeypatch.context() as patch:
        kill_at_commit(patch, 0)
        with pytest.raises(KilledError):
            explain(str(tmp_path), samples, source=model(target_layer="features.2"))  # 16 x 16 instead of 8 x 8
    run, reports = explain(str(tmp_path), samples)
    assert len(reports) == 3
    assert maps_by_key(run) == maps_by_key(whole)


def test_a_run_on_a_remote_file_system_is_the_same_run(images, whole):
    samples = samples_of(images, range(COUNT))
    run, _ = explain("memory://explained/run", samples)
    assert maps_by_key(run) == maps_by_key(whole)
    assert rows_by_key(run) == rows_by_key(whole)
    _, reports = explain("memory://explained/run", samples)
    assert reports == []


def test_scan_and_curves_are_made_on_top_of_the_maps_that_are_there(images, tmp_path):
    samples = samples_of(images, range(3))
    run, _ = explain(str(tmp_path), samples)
    before, chunks = rows_by_key(run), files(tmp_path / "maps.zarr" / "opti_cam" / "label" / "c")
    asked = settings(scan=True, curves=True)
    run, reports = explain(str(tmp_path), samples, asked)
    assert len(reports) == 1
    assert files(tmp_path / "maps.zarr" / "opti_cam" / "label" / "c") == chunks
    for key, row in rows_by_key(run).items():
        assert {name for name in row if row[name] != before[key][name]} <= {
            *("p_hide_scan", "scan_box", "insertion", "deletion", "p_hide_outside", *HIDDEN)
        }
        assert 0 <= row["insertion"] <= 1
        assert 0 <= row["deletion"] <= 1
        proposals = ("p_hide_map", "p_hide_outside_map", "p_hide_second", "p_hide_scan")
        assert row["p_hide_outside"] == min(row[name] for name in proposals)
    alone, _ = explain(str(tmp_path / "alone"), samples_of(images, [2]), asked)
    assert rows_by_key(alone)["2.png", "label"] == rows_by_key(run)["2.png", "label"]


def test_the_maps_of_a_network_written_by_hand_are_those_of_this_explain_version(tmp_path):
    """Golden numbers. If they must change, raise EXPLAIN_VERSION in stages/explain/plan.py and write the new ones here:
    runs on people's disks that were made by the old code must not count as done."""
    samples = samples_of(tmp_path / "images", range(3))  # seed k has class k
    run, _ = explain(
        str(tmp_path / "run"),
        samples,
        settings(steps=20, learning_rate=0.1),
        model("tests.stages.explain.shards:HandMade", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )
    assert EXPLAIN_VERSION == 1
    grids = run.maps("label").read(slice(0, 3))
    assert grids.shape == (3, 8, 8)
    np.testing.assert_allclose(grids[:, 3, ::3], GOLDEN_GRIDS, rtol=0, atol=2e-4)
    best = [rows_by_key(run)[f"{seed}.png", "label"]["objective_best"] for seed in range(3)]
    np.testing.assert_allclose(best, GOLDEN_OBJECTIVES, rtol=0, atol=2e-4)


GOLDEN_GRIDS = [[1.004009, 0.387144, 0.316452], [1.611398, 0.305394, 0.382222], [0.0, 0.384176, 1.066124]]
GOLDEN_OBJECTIVES = [1.550087, 0.772829, 0.286452]


def test_a_device_that_runs_out_of_memory_gives_what_half_the_batch_gives(images, tmp_path, monkeypatch):
    samples = samples_of(images, range(10))
    run, _ = explain(str(tmp_path / "four"), samples, settings(batch_size=4))
    maximize, tried = OptiCam.maximize, []

    def small_device(self, pictures, features, targets):
        tried.append(len(pictures))
        if len(pictures) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return maximize(self, pictures, features, targets)

    monkeypatch.setattr(OptiCam, "maximize", small_device)
    halved, _ = explain(str(tmp_path / "halved"), samples, settings(batch_size=16))
    assert tried[:3] == [16, 8, 4]
    assert rows_by_key(halved) == rows_by_key(run)
    for target in ("label", "predicted"):
        assert np.array_equal(halved.maps(target).read(slice(0, 10)), run.maps(target).read(slice(0, 10)))


def test_a_batch_size_of_zero_takes_what_suits_the_device(images, tmp_path):
    samples = samples_of(images, range(3))
    run, _ = explain(str(tmp_path / "auto"), samples, settings(batch_size=0))
    other, _ = explain(str(tmp_path / "sixteen"), samples, settings(batch_size=CPU_BATCH))
    assert rows_by_key(run) == rows_by_key(other)
