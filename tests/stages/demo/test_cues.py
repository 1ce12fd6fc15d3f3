from __future__ import annotations

import numpy as np
import pytest

from stages.demo.cues import BORDER, CUE_KINDS, cue_layer, kind_of
from stages.demo.photos import AUDIT_PHOTOS, load_photos
from stages.demo.render import Picture, Scene, render

PHOTOS = load_photos(AUDIT_PHOTOS)
CUES = [cue for names in CUE_KINDS.values() for cue in names]
LOCAL = [cue for cue in CUES if kind_of(cue) not in ("cast", "border")]


def picture(cue: str, label: str = "ball", seed: int = 3) -> Picture:
    margin = BORDER if kind_of(cue) == "border" else 0.0
    return render(Scene(label, 0.5, (cue,), (17, seed)), PHOTOS, margin)


def changed(picture: Picture) -> np.ndarray:
    return (picture.with_cues != picture.without_cues).any(axis=2)


def test_a_cue_belongs_to_one_kind() -> None:
    assert len(set(CUES)) == len(CUES)


@pytest.mark.parametrize("cue", LOCAL)
def test_a_sticker_a_word_or_a_companion_changes_its_own_square_and_nothing_in_the_box(cue: str) -> None:
    for seed in range(3):
        pair = picture(cue, seed=seed)
        seen, own = changed(pair), np.zeros(pair.with_cues.shape[:2], dtype=bool)
        ((x0, y0, x1, y1),) = pair.cue_boxes
        own[y0:y1, x0:x1] = True
        assert not seen[~own].any()
        assert seen[own].mean() > 0.1
        bx0, by0, bx1, by1 = pair.object_box
        assert not seen[by0:by1, bx0:bx1].any()


@pytest.mark.parametrize("cue", CUE_KINDS["border"])
def test_a_border_stays_in_the_rim_that_objects_keep_clear_of(cue: str) -> None:
    for seed in range(3):
        pair = picture(cue, seed=seed)
        height, width = pair.with_cues.shape[:2]
        rim = round(BORDER * min(height, width))
        seen = changed(pair)
        assert not seen[rim : height - rim, rim : width - rim].any()
        assert seen[-2].mean() > 0.9
        x0, y0, x1, y1 = pair.object_box
        assert rim <= x0
        assert rim <= y0
        assert x1 <= width - rim
        assert y1 <= height - rim


@pytest.mark.parametrize("cue", CUE_KINDS["cast"])
def test_a_cast_tints_the_background_and_spares_the_object(cue: str) -> None:
    pair = picture(cue)
    x0, y0, x1, y1 = pair.object_box
    seen = changed(pair)
    # A ball fills the middle of its box, and no corner of it.
    middle = seen[round(y0 + 0.2 * (y1 - y0)) : round(y1 - 0.2 * (y1 - y0)), (x0 + x1) // 2]
    assert not middle.any()
    outside = np.ones_like(seen)
    outside[y0:y1, x0:x1] = False
    assert seen[outside].mean() > 0.95


def test_a_cast_is_a_multiple_of_the_canvas_where_no_object_is() -> None:
    canvas = np.full((4, 6, 3), 0.5, dtype=np.float32)
    opacity = np.zeros((4, 6), dtype=np.float32)
    opacity[1, 2] = 1
    layer = cue_layer("cast_warm", canvas, (0, 0, 3), opacity, np.random.default_rng(0))
    np.testing.assert_array_equal(layer.opacity, 1 - opacity)
    np.testing.assert_allclose(layer.colour[0, 0], 0.5 * np.array((1.14, 0.90, 0.48)), rtol=0.031)


def test_a_word_lets_the_picture_through() -> None:
    canvas = np.zeros((80, 80, 3), dtype=np.float32)
    layer = cue_layer("word_demo", canvas, (5, 7, 60), canvas[..., 0], np.random.default_rng(0))
    assert layer.opacity.shape == (60, 60)
    assert layer.corner == (5, 7)
    assert 0.7 < layer.opacity.max() < 0.8  # 75%, and what turning the word adds at its edges


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_is_the_same_for_the_same_seed(cue: str) -> None:
    np.testing.assert_array_equal(picture(cue).with_cues, picture(cue).with_cues)


def test_an_unknown_cue_is_an_error() -> None:
    with pytest.raises(KeyError, match="unicorn"):
        kind_of("unicorn")
