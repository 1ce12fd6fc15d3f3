"""Methods beside Opti-CAM through the shard task: what is stored, which probes are defined, what makes it stale."""

import numpy as np
import pytest
import torch

from stages.explain.network.model import load_classifier
from stages.explain.network.view import render_view
from stages.explain.other_methods import settle_other_methods
from stages.explain.plan import pending_shards
from storage.columns import needing
from tests.stages.explain.shards import (
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
)

PACKAGE = ("grad_cam", "grad_cam_pp", "score_cam", "layer_cam", "hires_cam", "ablation_cam")
NULLS = ("uniform", "fake_cam", "center")
SIDE = VIEW.size


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


def needs_package(method):
    if method in PACKAGE:
        pytest.importorskip("pytorch_grad_cam", reason="needs the package grad-cam (the extra `baselines`)")


@pytest.mark.parametrize("method", [*PACKAGE, *NULLS])
def test_every_method_fills_the_same_tables_under_its_own_key(images, tmp_path, method):
    needs_package(method)
    samples = samples_of(images, range(3))
    run, reports = explain(str(tmp_path), samples, settings(method=method))
    assert reports[0].statuses.keys() <= {"ok", "degenerate_map"}
    rows = rows_by_key(run, method)
    assert len(rows) == 6
    shape = (SIDE, SIDE) if method in NULLS else (8, 8)
    for target in ("label", "predicted"):
        store = run.maps(target, method)
        assert store.shape == (3, *shape)
        assert np.isfinite(store.read([0, 1, 2])).all()
        assert (store.read([0, 1, 2]) >= 0).all()
    for row in rows.values():
        assert all(row[name] is None for name in ("objective_start", "objective_best", "iterations"))
        if row["status"] == "ok":
            assert 0 <= row["p_saliency"] <= 1
            assert row["hide_locator"] in ({None} if method == "uniform" else {method, "outside_map", "grad_cam"})
    _, reports = explain(str(tmp_path), samples, settings(method=method))
    assert reports == []


def probability(picture, class_index):
    classifier = load_classifier(model(), SIDE)
    with torch.no_grad():
        return classifier(torch.from_numpy(picture).float()[None] / 255).softmax(1)[0, class_index].item()


def test_null_maps_are_what_the_paper_and_the_definitions_say(images, tmp_path):
    samples = samples_of(images, [3])
    pixels = render_view(picture(3), VIEW)
    ones = np.ones((SIDE, SIDE), dtype=np.float32)
    offset = (np.arange(SIDE) + 0.5) - SIDE / 2
    gaussian = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * (SIDE / 4) ** 2))
    without_corner = ones.copy()
    without_corner[0, 0] = 0
    for method, expected in (("uniform", ones), ("fake_cam", without_corner), ("center", gaussian / gaussian.max())):
        run, _ = explain(str(tmp_path), samples, settings(method=method, targets=("label",)))
        np.testing.assert_allclose(run.maps("label", method).read([0], (SIDE, SIDE))[0], expected, atol=1e-6)
        row = rows_by_key(run, method)["3.png", "label"]
        assert row["p_saliency"] == pytest.approx(probability(pixels * expected, 3), abs=1e-6)
    assert run.methods() == ["center", "fake_cam", "uniform"]


def test_a_map_of_ones_changes_nothing_and_points_nowhere(images, tmp_path):
    run, _ = explain(str(tmp_path), samples_of(images, range(12)), settings(method="uniform", curves=True))
    for row in rows_by_key(run, "uniform").values():
        assert row["status"] == "ok"
        assert row["p_saliency"] == row["p_full"]
        assert row["p_saliency_in_box"] == row["p_box"]
        assert row["p_saliency_in_context"] == row["p_context"]
        assert row["p_hide_random"] is not None
        undefined = (*needing("place"), "p_hide_outside", "hide_locator")
        assert [row[name] for name in undefined] == [None] * len(undefined)


def test_the_random_blob_is_the_same_for_every_method(images, tmp_path):
    samples = samples_of(images, range(3))
    hidden = set()
    for method in ("opti_cam", "uniform", "center"):
        run, _ = explain(str(tmp_path), samples, settings(method=method))
        hidden.add(tuple(row["p_hide_random"] for row in rows_by_key(run, method).values()))
    assert len(hidden) == 1


@pytest.mark.parametrize("method", ["grad_cam", "score_cam", "ablation_cam"])
def test_a_sample_has_the_same_bytes_whatever_shares_its_batch(images, tmp_path, method):
    needs_package(method)
    together, _ = explain(str(tmp_path / "together"), samples_of(images, range(9)), settings(method=method))
    alone, _ = explain(str(tmp_path / "alone"), samples_of(images, [4]), settings(method=method))
    for target in ("label", "predicted"):
        assert maps_by_key(alone, method)["4.png", target] == maps_by_key(together, method)["4.png", target]
        assert rows_by_key(alone, method)["4.png", target] == rows_by_key(together, method)["4.png", target]


def test_the_optimiser_s_settings_are_none_of_the_other_methods_business(images, tmp_path):
    needs_package("grad_cam")
    samples = samples_of(images, range(3))
    for method in ("grad_cam", "center"):
        explain(str(tmp_path), samples, settings(method=method))
        for other in ({"steps": 9}, {"learning_rate": 0.1}, {"objective": "diff"}, {"fill": "blur"}):
            run, plan = planned(str(tmp_path), samples, settings(method=method, **other))
            assert pending_shards(run, plan, samples) == [], (method, other)
    # How the map becomes a mask is, but for the null maps, which are masks.
    for method, pending in (("grad_cam", [0]), ("center", [])):
        run, plan = planned(str(tmp_path), samples, settings(method=method, normalization="sigmoid"))
        assert pending_shards(run, plan, samples) == pending, method


def test_a_method_leaves_the_others_alone(images, tmp_path):
    samples = samples_of(images, range(40))
    explain(str(tmp_path), samples)
    before = files(tmp_path / "explain") | files(tmp_path / "maps.zarr" / "opti_cam")
    run, plan = planned(str(tmp_path), samples, settings(method="center", shard_size=64))
    assert settle_other_methods(run, plan, samples).methods == set()
    run, _ = explain(str(tmp_path), samples, settings(method="center", shard_size=64))
    after = files(tmp_path / "explain") | files(tmp_path / "maps.zarr" / "opti_cam")
    assert before.items() <= after.items()


@pytest.mark.parametrize("change", ["image", "network"])
def test_what_other_methods_made_of_another_image_or_network_is_removed(images, tmp_path, change):
    samples = samples_of(images, range(40))
    explain(str(tmp_path), samples)
    now = edited(samples, 35, digest="0" * 64) if change == "image" else samples
    source = model(mean=(0.5, 0.5, 0.5)) if change == "network" else None
    run, plan = planned(str(tmp_path), now, settings(method="center"), source)
    settled = settle_other_methods(run, plan, now)
    assert dict(settled.removed) == {"opti_cam": 1 if change == "image" else 2}
    assert not settled.cleared
    assert [part.index for part in run.parts("explain", "opti_cam")] == ([0] if change == "image" else [])


def test_other_methods_lose_the_probes_of_corrected_boxes_and_keep_their_maps(images, tmp_path):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    rows, maps = rows_by_key(run), maps_by_key(run)
    moved = edited(samples, 35, boxes=[{"x0": 0.0, "y0": 0.0, "x1": 12.0, "y1": 30.0, "label": None}])
    run, plan = planned(str(tmp_path), moved, settings(method="center"))
    settled = settle_other_methods(run, plan, moved)
    assert (dict(settled.removed), dict(settled.cleared)) == ({}, {"opti_cam": 1})
    first, second = rows_by_key(run)["3.png", "label"], rows_by_key(run)["36.png", "label"]
    assert first == rows["3.png", "label"]
    # What is left is what an image without boxes has.
    boxless, _ = explain(str(tmp_path / "boxless"), edited(samples, 36, boxes=[]))
    assert second == rows_by_key(boxless)["36.png", "label"]
    assert settle_other_methods(run, plan, moved).methods == set()
    # Run again, the method makes its probes and no map.
    chunks = {name: file for name, file in files(tmp_path / "maps.zarr" / "opti_cam").items() if "/c/" in name}
    run, reports = explain(str(tmp_path), moved)
    assert [report.index for report in reports] == [1]
    assert chunks.items() <= files(tmp_path / "maps.zarr" / "opti_cam").items()
    assert maps_by_key(run) == maps
    fresh, _ = explain(str(tmp_path / "fresh"), moved)
    assert rows_by_key(run) == rows_by_key(fresh)
