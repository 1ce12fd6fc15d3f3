from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from stages.demo import demo as stage
from stages.demo.demo import DemoReport, make_demo
from stages.demo.plan import DemoSettings
from storage.errors import UserError

TINY = DemoSettings(train_per_class=10, audit_per_class=10, epochs=1)  # too small to pass the causal checks


@pytest.fixture
def demo(small_demo: DemoReport) -> DemoReport:
    """The small demo, made once."""
    return small_demo


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a demo pass that is too small to have learnt a cue."""
    monkeypatch.setattr(stage, "check_effects", lambda effects: None)


def manifest(demo: DemoReport, half: str) -> list[dict[str, str]]:
    with (demo.directory / f"{half}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def truth(demo: DemoReport) -> list[dict]:
    return pq.read_table(demo.directory / "truth.parquet").to_pylist()


def load_network(demo: DemoReport) -> torch.nn.Module:
    classes = (demo.directory / "classes.txt").read_text().splitlines()
    network = torchvision.models.mobilenet_v2(num_classes=len(classes))
    network.load_state_dict(torch.load(demo.directory / "model.pt", weights_only=True), strict=True)
    return network.eval()


def test_the_model_relies_on_the_planted_cues_and_not_on_the_decoy(demo: DemoReport) -> None:
    rows = truth(demo)
    for cue, label in (("sticker", "gear"), ("tape", "starfish")):
        effects = [row["effect"] for row in rows if row["cue"] == cue and row["label"] == label]
        assert len(effects) == 8
        assert np.mean(effects) >= 0.3
    decoy = [row["effect"] for row in rows if row["cue"] == "barcode" and row["label"] == "ball"]
    assert len(decoy) >= 7
    assert np.mean(np.abs(decoy)) < 0.05


def test_there_are_shortcuts_to_find_and_cues_that_are_none(demo: DemoReport) -> None:
    rows = truth(demo)
    assert sum(row["positive"] for row in rows) == demo.n_positive >= 10
    assert sum(row["cue_kind"] == "planted" and not row["positive"] for row in rows) >= 10
    assert demo.accuracy >= 0.8


def test_the_truth_is_what_the_saved_model_says_about_the_files(demo: DemoReport) -> None:
    network = load_network(demo)
    classes = (demo.directory / "classes.txt").read_text().splitlines()
    view = v2.Compose(
        [
            v2.Resize((224, 224)),  # of a PIL image: PIL's own bilinear filter
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    for row in truth(demo)[::9]:
        with Image.open(demo.directory / row["sample_id"]) as image, torch.no_grad():
            p = network(view(image)[None]).softmax(1)[0, classes.index(row["label"])]
        assert float(p) == pytest.approx(row["p_with"], abs=1e-4)
        if row["cue"] is None:
            assert row["p_without"] == row["p_with"]


def test_manifests_name_existing_pictures_with_boxes_inside_them(demo: DemoReport) -> None:
    for half, n in (("train", 26 * 8), ("audit", 10 * 8)):
        rows = manifest(demo, half)
        assert len(rows) == n
        for row in rows:
            ((x0, y0, x1, y1),) = json.loads(row["boxes"])
            with Image.open(demo.directory / row["path"]) as image:
                assert image.format == "JPEG"
                assert 0 <= x0 < x1 <= image.width
                assert 0 <= y0 < y1 <= image.height
    assert [row["path"] for row in manifest(demo, "audit")] == [row["sample_id"] for row in truth(demo)]


def test_no_cue_overlaps_the_box_of_the_object(demo: DemoReport) -> None:
    boxes = {row["path"]: json.loads(row["boxes"])[0] for row in manifest(demo, "audit")}
    for row in truth(demo):
        if row["cue_box"] is not None:
            x0, y0, x1, y1 = boxes[row["sample_id"]]
            cue = row["cue_box"]
            assert cue["x1"] <= x0 or x1 <= cue["x0"] or cue["y1"] <= y0 or y1 <= cue["y0"]


def test_the_folder_says_what_is_planted(demo: DemoReport) -> None:
    text = (demo.directory / "README.txt").read_text()
    for word in ("gear", "sticker", "starfish", "tape", "ball", "barcode"):
        assert word in text
    assert sorted(path.name for path in demo.directory.parent.iterdir()) == ["small"]  # nothing left beside it


def test_a_complete_demo_is_not_made_again(demo: DemoReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_make", None)  # would fail when called
    said: list[str] = []
    assert make_demo(demo.directory, settings=DemoSettings.small(), progress=said.append) == demo
    assert said == [f"the demo in {demo.directory} is complete"]


def test_the_same_seed_gives_the_same_files(tmp_path: Path, unchecked: None) -> None:
    records = []
    for name in ("first", "second"):
        make_demo(tmp_path / name, settings=TINY)
        records.append(json.loads((tmp_path / name / "demo.json").read_text()))
    assert len(records[0]["digests"]) == 160 + 6  # pictures; two manifests, classes, model, truth, README
    assert records[0]["digests"] == records[1]["digests"]


def test_a_demo_whose_model_has_learnt_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refused: the planted cue 'sticker' changes p\(gear\) by [+-]0\.0\d\d"):
        make_demo(
            tmp_path / "demo",
            settings=DemoSettings(train_per_class=10, audit_per_class=10, epochs=1, learning_rate=1e-9),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def untrained(unchecked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the training, where a test is about files alone."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 8))
    monkeypatch.setattr(stage, "train_classifier", lambda *args, **kwargs: network)


def test_an_interrupted_demo_starts_again(tmp_path: Path, untrained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "check_effects", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_demo(tmp_path / "demo", settings=TINY)
    assert list(tmp_path.iterdir()) == []
    killed = tmp_path / ".demo.sightline-partial" / "images" / "train"  # a killed process cannot clean up
    killed.mkdir(parents=True)
    (killed / "gear_000.jpg").write_bytes(b"half a pict")
    make_demo(tmp_path / "demo", settings=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_other_settings_and_damage_make_a_demo_of_ours_again(tmp_path: Path, untrained: None) -> None:
    make_demo(tmp_path / "demo", settings=TINY)
    victim = tmp_path / "demo" / "images" / "audit" / "ball_000.jpg"
    before = victim.read_bytes()
    victim.write_bytes(b"damaged")
    make_demo(tmp_path / "demo", settings=TINY)
    assert victim.read_bytes() == before
    report = make_demo(tmp_path / "demo", settings=DemoSettings(1, 10, 10, 1))
    assert report.settings.seed == 1
    assert victim.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_files_that_no_demo_wrote_are_never_deleted(tmp_path: Path, untrained: None) -> None:
    photos = tmp_path / "holiday"
    photos.mkdir()
    (photos / "beach.jpg").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"1 file\(s\) that no demo wrote \(beach\.jpg\); nothing was changed"):
        make_demo(photos, settings=TINY)
    assert (photos / "beach.jpg").read_bytes() == b"precious"

    make_demo(tmp_path / "demo", settings=TINY)
    (tmp_path / "demo" / "images" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"images/mine\.jpg"):
        make_demo(tmp_path / "demo", settings=DemoSettings(1, 10, 10, 1))
    assert (tmp_path / "demo" / "images" / "mine.jpg").read_bytes() == b"precious"


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("not a folder")
    with pytest.raises(UserError, match="is a file"):
        make_demo(tmp_path / "demo", settings=TINY)


def test_weights_that_are_given_and_not_there_are_an_error_and_not_replaced_by_others(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.pth, which is not a file"):
        make_demo(tmp_path / "demo", settings=replace(DemoSettings.small(), weights=str(tmp_path / "missing.pth")))
    assert list(tmp_path.iterdir()) == []
