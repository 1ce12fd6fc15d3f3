"""Images and labels that cannot be used, through the whole pipeline."""

import pytest
from PIL import Image

from pipeline import runner
from tests.pipeline.datasets import contents, write_bad_images, write_config, write_images, write_manifest
from tests.pipeline.running.runs import run, statuses

pytestmark = pytest.mark.usefixtures("shared_cluster")


def test_bad_images_get_a_status_each_and_the_run_is_finished(tmp_path):
    names = write_images(tmp_path, range(3))
    bad = write_bad_images(tmp_path)
    config = write_config(tmp_path, write_manifest(tmp_path, [*names, *bad]))
    done, said = run(config)
    found = {row["sample_id"]: row for row in done.table("samples").to_pylist()}
    assert {name: found[name]["status"] for name in bad} == bad
    assert all(found[name]["reason"] for name, status in bad.items() if status == "unreadable")
    assert "bomb" in found["images/bomb.png"]["reason"]
    unreadable = list(bad.values()).count("unreadable")
    assert f"12 samples (7 ok, {unreadable} unreadable)" in said
    assert statuses(done) == {"ok": 14, "unreadable": 2 * unreadable}
    rows = {(row["sample_id"], row["target"]): row["status"] for row in done.table("scores").to_pylist()}
    assert rows["images/text.jpg", "label"] == "unreadable"
    assert rows["images/cmyk.jpg", "label"] == "ok"


def test_a_repaired_image_is_explained_by_the_next_run(tmp_path):
    names = write_images(tmp_path, range(40))
    good = (tmp_path / names[35]).read_bytes()
    (tmp_path / names[35]).write_bytes(good[:100])
    config = write_config(tmp_path, write_manifest(tmp_path, names))
    done, _ = run(config)
    assert statuses(done) == {"ok": 78, "unreadable": 2}
    (tmp_path / names[35]).write_bytes(good)
    done, said = run(config)
    assert "1 of 2 shards computed, 1 were done" in said
    assert statuses(done) == {"ok": 80}


def test_failed_samples_are_tried_again_only_on_request(tmp_path):
    names = write_images(tmp_path, range(40))
    Image.new("RGB", (40, 30), "silver").save(tmp_path / names[3])
    (tmp_path / names[35]).write_bytes(b"never an image")
    source = {"source": "python:tests.stages.explain.shards:nan_on_whole_gray"}
    config = write_config(tmp_path, write_manifest(tmp_path, names), model=source)
    done, _ = run(config)
    assert statuses(done) == {"ok": 76, "non_finite": 2, "unreadable": 2}
    before = contents(tmp_path / "run")
    _, said = run(config)
    assert "0 of 2 shards computed" in said
    # The file that is no image was read again, and is none still: its shard stays.
    _, said = run(config, retry_failed=True)
    assert "1 of 2 shards computed, 1 were done" in said
    assert contents(tmp_path / "run") == before


def test_shards_that_lack_a_donor_are_told_and_made_again_on_request(tmp_path, monkeypatch):
    names = write_images(tmp_path, range(40))
    whole, _ = run(write_config(tmp_path, write_manifest(tmp_path, names), run="whole"))
    config = write_config(tmp_path, write_manifest(tmp_path, names))
    donor = next(row["sample_id"] for row in whole.table("donors").to_pylist() if row["row"] >= 32)
    file, make_shards = tmp_path / donor, runner.make_shards

    def make_with_a_file_away(*arguments, **options):
        file.rename(tmp_path / "away")
        make_shards(*arguments, **options)
        (tmp_path / "away").rename(file)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "make_shards", make_with_a_file_away)
        done, said = run(config)
    told = (
        "2 shards were made without some donors, whose files could not be read; --retry-failed makes such shards again"
    )
    assert "2 of 2 shards computed" in said
    assert told in said
    assert statuses(done) == {"ok": 78, "unreadable": 2}
    _, said = run(config)
    assert "0 of 2 shards computed" in said
    assert told in said
    done, said = run(config, retry_failed=True)
    assert "2 of 2 shards computed" in said
    assert "donors" not in said
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_labels_that_the_model_lacks_are_a_status(tmp_path):
    names = write_images(tmp_path, range(3))
    config = write_config(tmp_path, write_manifest(tmp_path, names, ["0", "zebra", "2"]))
    done, said = run(config)
    assert "3 samples (2 ok, 1 no_class)" in said
    assert statuses(done) == {"ok": 5, "no_class": 1}
