from __future__ import annotations

import numpy as np
import pytest

from stages.demo.cues import Layer
from stages.demo.photos import AUDIT_PHOTOS, load_photos
from stages.demo.render import Box, Scene, lay, render
from stages.demo.shapes import CLASS_NAMES

PHOTOS = load_photos(AUDIT_PHOTOS)
CUES = ("sticker", "barcode")
SCENES = [Scene(label, 0.4, CUES, (7, k)) for k, label in enumerate(CLASS_NAMES * 3)]


def changed_box(scene: Scene) -> tuple[Box, np.ndarray]:
    """Box of the pixels in which the two versions of a scene differ, and the mask of those pixels."""
    picture = render(scene, PHOTOS)
    changed = (picture.with_cues != picture.without_cues).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1), changed


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.label}-{scene.seed[-1]}")
def test_no_cue_touches_the_box_of_the_object_or_another_cue(scene: Scene) -> None:
    picture = render(scene, PHOTOS)
    height, width = picture.with_cues.shape[:2]
    boxes = [picture.object_box, *picture.cue_boxes]
    assert len(boxes) == 3
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert not any(overlap(boxes[k], other) for other in boxes[:k])


@pytest.mark.parametrize("cue", ["sticker", "tape", "barcode"])
def test_the_two_versions_differ_in_the_cue_and_nowhere_else(cue: str) -> None:
    scene = Scene("leaf", 0.5, (cue,), (11, 4))
    seen, _ = changed_box(scene)
    (box,) = render(scene, PHOTOS).cue_boxes
    assert box[0] <= seen[0] <= seen[2] <= box[2]
    assert box[1] <= seen[1] <= seen[3] <= box[3]
    # A pixel that the cue only grazes may round to the same colour; the box is tight but for such.
    assert max(abs(a - b) for a, b in zip(box, seen, strict=True)) <= 1


def test_without_cues_both_versions_are_the_same() -> None:
    picture = render(Scene("key", 0.0, (), (1, 2)), PHOTOS)
    assert picture.cue_boxes == ()
    np.testing.assert_array_equal(picture.with_cues, picture.without_cues)


def test_a_box_holds_every_pixel_of_the_mask_and_no_empty_edge() -> None:
    canvas = np.zeros((40, 50, 3), dtype=np.float32)
    alpha = np.zeros((8, 8), dtype=np.float32)
    alpha[2:5, 1] = 1  # rows 2 to 4 of the mask, column 1
    alpha[3, 1:6] = 0.01  # faint pixels count: columns 1 to 5
    # The mask's corner lies at x 10, y 20: columns 11 to 15, rows 22 to 24, half-open.
    assert lay(Layer(np.ones((8, 8, 3), dtype=np.float32), alpha, (10, 20)), canvas) == (11, 22, 16, 25)
    assert canvas[22, 11].tolist() == [1, 1, 1]


def test_a_ball_has_a_square_box() -> None:
    x0, y0, x1, y1 = render(Scene("ball", 0.0, (), (5, 5)), PHOTOS).object_box
    assert abs((x1 - x0) - (y1 - y0)) <= 1


def test_a_scene_always_gives_the_same_picture() -> None:
    first, again = (render(SCENES[1], PHOTOS) for _ in range(2))
    np.testing.assert_array_equal(first.with_cues, again.with_cues)
    assert first.object_box == again.object_box


def test_sizes_and_aspect_ratios_vary() -> None:
    shapes = {render(scene, PHOTOS).with_cues.shape for scene in SCENES}
    ratios = sorted(width / height for height, width, _ in shapes)
    assert len(shapes) > 10
    assert ratios[0] < 1.05
    assert ratios[-1] > 1.3
