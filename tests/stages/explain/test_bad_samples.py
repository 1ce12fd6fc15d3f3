"""A sample that cannot be explained is a row with a reason, and spoils no other."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from tests.stages.explain.shards import (
    edited,
    explain,
    model,
    picture,
    rows_by_key,
    samples_of,
    undefined_probes,
)


def bad(tmp_path, content):
    folder = tmp_path / "bad"
    samples = samples_of(folder, range(4))
    (folder / "2.png").write_bytes(content)
    return folder, samples


def test_a_file_that_cannot_be_decoded_is_one_row_with_a_reason(tmp_path):
    _, samples = bad(tmp_path, b"no image at all")
    run, reports = explain(str(tmp_path / "run"), samples)
    assert reports[0].statuses == {"ok": 6, "unreadable": 2}
    row = rows_by_key(run)["2.png", "label"]
    assert row["status"] == "unreadable"
    assert "not an image" in row["reason"]
    assert row["p_full"] is None
    assert np.isnan(run.maps("label").read([2])).all()
    assert np.isfinite(run.maps("label").read([0, 1, 3])).all()


def test_a_file_that_changed_since_ingest_is_not_passed_off_as_the_old_one(tmp_path):
    _, samples = bad(tmp_path, b"")
    picture(3).save(tmp_path / "bad" / "2.png")
    run, _ = explain(str(tmp_path / "run"), samples)
    row = rows_by_key(run)["2.png", "label"]
    assert (row["status"], row["reason"]) == ("unreadable", "the file is not the one that ingest saw; run again")


def test_a_file_that_comes_back_gets_its_map_when_its_shard_is_made_again(tmp_path):
    folder, samples = bad(tmp_path, b"no image at all")
    explain(str(tmp_path / "run"), samples)
    picture(2).save(folder / "2.png")  # the digest of the samples table is that of this file
    moved = [{"x0": 0.0, "y0": 0.0, "x1": 12.0, "y1": 30.0, "label": None}]
    run, _ = explain(str(tmp_path / "run"), edited(samples, 0, boxes=moved))
    assert rows_by_key(run)["2.png", "label"]["status"] == "ok"
    assert np.isfinite(run.maps("label").read([2])).all()


def test_a_sample_without_a_class_has_only_its_prediction_explained(images, tmp_path):
    samples = edited(samples_of(images, range(4)), 1, class_index=None, status="no_class", reason="no class 'x'")
    run, _ = explain(str(tmp_path), samples)
    rows = rows_by_key(run)
    assert (rows["1.png", "label"]["status"], rows["1.png", "label"]["reason"]) == ("no_class", "no class 'x'")
    assert rows["1.png", "label"]["pred_index"] == rows["1.png", "predicted"]["pred_index"]
    assert rows["1.png", "predicted"]["status"] == "ok"
    assert np.isnan(run.maps("label").read([1])).all()
    assert np.isfinite(run.maps("predicted").read([1])).all()


def test_a_removed_sample_has_no_row(images, tmp_path):
    run, _ = explain(str(tmp_path), edited(samples_of(images, range(3)), 1, status="removed"))
    assert {name for name, _ in rows_by_key(run)} == {"0.png", "2.png"}


@pytest.mark.parametrize("factory", ["nan_on_whole_gray", "nan_on_masked_gray"])
def test_a_network_that_gives_nan_on_one_image_spoils_that_image_alone(tmp_path, whole, factory):
    samples = samples_of(tmp_path / "images", range(4))
    silver = tmp_path / "images" / "2.png"
    Image.new("RGB", (40, 30), "silver").save(silver)
    samples = edited(samples, 2, digest=hashlib.sha256(silver.read_bytes()).hexdigest())
    run, reports = explain(str(tmp_path / "run"), samples, source=model(f"tests.stages.explain.shards:{factory}"))
    assert reports[0].statuses == {"ok": 6, "non_finite": 2}
    row = rows_by_key(run)["2.png", "label"]
    assert "NaN" in row["reason"]
    assert all(row[name] is None for name in row if str(name).startswith(("p_sal", "p_hide", "p_box", "objective")))
    assert np.isnan(run.maps("label").read([2])).all()
    # The others are as they are without it: the added zero leaves the network what `whole` was made with.
    for key in [("1.png", "label"), ("3.png", "predicted")]:
        for name, value in rows_by_key(whole)[key].items():
            assert rows_by_key(run)[key][name] == (
                pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            )


def test_a_constant_map_is_told_and_has_no_probes_of_the_map(images, tmp_path):
    samples = samples_of(images, range(3))
    run, reports = explain(str(tmp_path), samples, source=model("tests.stages.explain.shards:flat"))
    assert reports[0].statuses == {"degenerate_map": 6}
    row = rows_by_key(run)["1.png", "label"]
    assert "constant" in row["reason"]
    assert undefined_probes(row) == {
        "p_saliency",
        "p_saliency_in_box",
        "p_saliency_in_context",
        "p_hide_outside",
        "p_hide_map",
        "p_hide_second",
        "p_hide_scan",
        "p_hide_inside",
        "p_crop",
        "p_crop_outside",
        "p_transplant",  # the plan has no donors
        "p_transplant_null",
    }
