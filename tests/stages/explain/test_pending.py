"""What of a run is done and stays, and what is pending again."""

import shutil

import pytest

from stages.explain.plan import ExplainPlan, pending_shards
from storage import MapStore, Run
from tests.stages.explain.shards import edited, explain, maps_by_key, planned, samples_of, settings


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 64},
        {"class_index": 4},
        {"status": "unreadable", "reason": "gone"},
        {"boxes": [{"x0": 1.0, "y0": 2.0, "x1": 9.0, "y1": 9.0, "label": None}]},
        {"label": "another"},
        {"mask": "0 5 1019"},
    ],
    ids=["another image", "another class", "unreadable now", "other boxes", "another label", "a mask"],
)
def test_what_a_map_or_its_probes_depend_on_makes_its_shard_pending(images, tmp_path, change):
    samples = samples_of(images, range(40))
    run, plan = planned(str(tmp_path), samples)
    explain(str(tmp_path), samples)
    assert pending_shards(run, plan, samples) == []
    assert pending_shards(run, plan, edited(samples, 2, **change)) == [0]


def test_other_settings_weights_or_views_make_everything_pending(images, tmp_path):
    samples = samples_of(images, range(40))
    explain(str(tmp_path), samples)
    for other in ({"steps": 5}, {"learning_rate": 0.4}, {"targets": ("label",)}):
        run, plan = planned(str(tmp_path), samples, settings(**other))
        assert pending_shards(run, plan, samples) == [0, 1], other
    run, plan = planned(str(tmp_path), samples, settings(batch_size=16))
    assert pending_shards(run, plan, samples) == []


def test_maps_that_are_gone_are_made_again(images, tmp_path):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    wanted = maps_by_key(run)
    shutil.rmtree(tmp_path / "maps.zarr")
    run, reports = explain(str(tmp_path), samples)
    assert [report.index for report in reports] == [0, 1]
    assert maps_by_key(run) == wanted


def test_what_is_done_is_known_from_the_footers_alone(images, tmp_path, monkeypatch):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    monkeypatch.setattr(MapStore, "read", None)
    monkeypatch.setattr(Run, "read_part", None)
    _, plan = planned(str(tmp_path), samples)
    assert pending_shards(run, plan, samples) == []


def test_samples_that_are_the_same_bytes_are_not_looked_at_one_by_one(images, tmp_path, monkeypatch):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    _, plan = planned(str(tmp_path), samples)
    run.write_table("samples", samples)
    monkeypatch.setattr(ExplainPlan, "fingerprints", None)
    assert pending_shards(run, plan, samples) == []
    assert pending_shards(run, plan, run.table("samples")) == []


def test_a_part_of_an_earlier_version_is_known_by_its_fingerprint_alone(images, tmp_path):
    samples = samples_of(images, range(40))
    run, _ = explain(str(tmp_path), samples)
    for part, vouched in list(run.footers("explain").items()):
        assert vouched.pop("probes_seen")
        run.write_part(part, run.read_part(part), vouched)
    _, plan = planned(str(tmp_path), samples)
    assert pending_shards(run, plan, samples) == []
    assert pending_shards(run, plan, edited(samples, 2, digest="0" * 64)) == [0]
