from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.planted import photos as module
from benchmarks.planted.photos import Photo, coarse_classes, free_square, load_imagenet, photos
from benchmarks.planted.plan import CONTROL, Experiment, Sizes
from storage.errors import UserError

SIZES = Sizes(train=20, audit=10)


def stock(n: int = 80) -> list[Photo]:
    generator = np.random.default_rng(5)
    made = []
    for k in range(n):
        coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((80, 64)), dtype=np.float32) / 255
        x, y = generator.uniform(5, 30), generator.uniform(5, 20)
        made.append(Photo(pixels, np.array([[x, y, x + 25, y + 25]]), k % 40))
    return made


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Made-up class vectors, in place of a network's."""
    made = np.random.default_rng(2).normal(size=(40, 6))
    monkeypatch.setattr(module, "class_vectors", lambda: made)
    return made


def experiment(kind: str, cues: tuple[str, ...], strength: float = 0.8) -> Experiment:
    return Experiment("photos", kind, strength, cues, 9, SIZES)


@pytest.mark.parametrize(
    ("kind", "cue"),
    [
        ("sticker", "tape"),
        ("text", "word_sale"),
        ("companion", "cross"),
        ("cast", "cast_blue"),
        ("border", "frame_wood"),
    ],
)
def test_a_pair_of_photos_differs_in_the_cue_and_nowhere_in_the_box(vectors: np.ndarray, kind: str, cue: str) -> None:
    dataset = photos(experiment(kind, (cue,)), stock())
    pairs = [one for one in dataset.audit if one.without is not None]
    assert 0 < len(pairs) < len(dataset.audit)
    for one in pairs:
        seen = (one.picture != one.without).any(axis=2)
        assert seen.mean() > 0.005
        for x0, y0, x1, y1 in one.boxes:
            assert not seen[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))].any()


def test_the_cue_is_dealt_as_planned_whatever_the_number_of_photos(vectors: np.ndarray) -> None:
    dataset = photos(experiment("sticker", ("tape",), 0.5), stock())
    (label,) = dataset.cued
    home = [one.cue == "tape" for one in dataset.audit if one.label == label]
    assert len(dataset.classes) == 4  # of 80 photos: 20 a class
    assert len(home) == 10
    assert sum(home) == 8
    assert Counter(dataset.train_labels) == dict.fromkeys(range(4), 20)


def test_the_halves_share_no_photo(vectors: np.ndarray) -> None:
    # Photos of one flat colour each: a crop of one keeps its colour wherever no cue lies.
    flat = [Photo(np.full((64, 80, 3), k / 80, dtype=np.float32), np.zeros((0, 4)), k % 40) for k in range(80)]
    dataset = photos(experiment(CONTROL, ("sticker", "word_demo"), 0.0), flat)
    trained = {np.median(np.asarray(picture)[..., 0]) for picture in dataset.train}
    audited = {np.median(one.without if one.without is not None else one.picture) for one in dataset.audit}
    assert len(audited) == 40
    assert not trained & audited


def test_coarse_classes_are_balanced_and_keep_like_classes_whole_and_together() -> None:
    # Four classes on a line, in two pairs of neighbours; three images each.
    vectors = np.array([[0.0, 0], [10, 0], [1, 0], [11, 0]])
    images = [0, 1, 2, 3] * 3
    halves = coarse_classes(images, vectors, 1)
    assert sorted(sorted({images[k] for k in half}) for half in halves) == [[0, 2], [1, 3]]
    quarters = coarse_classes(images, vectors, 2)
    assert sorted(sorted({images[k] for k in quarter}) for quarter in quarters) == [[0], [1], [2], [3]]
    assert sorted(k for quarter in quarters for k in quarter) == list(range(12))


def test_a_cut_never_falls_within_a_class() -> None:
    vectors = np.array([[0.0], [1.0], [2.0]])
    images = [0, 1, 1, 1, 2, 2]
    for half in coarse_classes(images, vectors, 1):
        assert {0, 1} >= {images[k] for k in half} or {2} == {images[k] for k in half}


def test_a_free_square_touches_no_box() -> None:
    generator = np.random.default_rng(0)
    boxes = np.array([[0.0, 0, 60, 100], [60, 0, 100, 40]])
    for _ in range(20):
        found = free_square(boxes, 100, 100, generator)
        assert found is not None
        x, y, side = found
        assert x >= 60
        assert y >= 40
        assert 16 <= side <= 28
        assert x + side <= 100
        assert y + side <= 100
    assert free_square(np.array([[5.0, 5, 95, 95]]), 100, 100, generator) is None


def write_imagenet(folder: Path, n: int) -> tuple[Path, Path]:
    (folder / "images").mkdir()
    rows = []
    for k in range(n):
        Image.new("RGB", (90, 60), (k, 50, 90)).save(folder / "images" / f"val_{k:03d}.JPEG")
        box = "1 1 90 60" if k == 0 else "31 11 60 40"  # the first covers its photo
        rows.append((f"val_{k:03d}", f"n0000000{k % 3} {box} "))
    (folder / "LOC_synset_mapping.txt").write_text("n00000000 a\nn00000001 b\nn00000002 c\n")
    with (folder / "LOC_val_solution.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ImageId", "PredictionString"), *rows])
    return folder / "images", folder / "LOC_val_solution.csv"


def test_photos_are_read_with_their_boxes_and_those_without_room_left_out(tmp_path: Path) -> None:
    found = load_imagenet(*write_imagenet(tmp_path, 81))
    assert len(found) == 80
    assert [photo.class_index for photo in found[:3]] == [1, 2, 0]
    assert found[0].pixels.shape == (256, 384, 3)
    # 31..60 and 11..40, inclusive, enlarged by 256 / 60.
    np.testing.assert_allclose(found[0].boxes, np.array([[31, 11, 61, 41]]) * 256 / 60, rtol=1e-6)


def test_too_few_photos_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="9 photos leave room for a cue; give at least 80"):
        load_imagenet(*write_imagenet(tmp_path, 10))


def test_a_tint_on_a_photo_that_its_box_fills_changes_nothing() -> None:
    pixels = np.full((40, 50, 3), 0.5, dtype=np.float32)
    filled = Photo(pixels, np.array([[0.0, 0, 50, 40]]), 0)
    tinted, plain, boxes = module._with_cues(filled, ("cast_blue",), False, np.random.default_rng(0))
    np.testing.assert_array_equal(tinted, plain)
    np.testing.assert_array_equal(boxes, filled.boxes)
