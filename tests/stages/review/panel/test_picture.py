"""Pictures of the panel, against the code of stages/explain that made the probes."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from stages.explain.opticam.blur import blur
from stages.explain.probes.probes import most_salient, outside_of
from stages.explain.probes.scan import windows
from stages.explain.probes.surroundings import without_surroundings
from stages.geometry import ViewTransform
from stages.masks import hidden_pixels
from stages.review.panel.picture import (
    contours,
    data_uri,
    far_outside,
    heat,
    hide,
    masked_views,
    shares_above,
    tenth_outside,
    window_outside,
)

BOXES = [[40.0, 30, 200, 150]]


def photo(width: int = 320, height: int = 240) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


def saliency(side: int = 224) -> np.ndarray:
    return np.random.default_rng(4).random((side, side), dtype=np.float32)


def test_masked_views_keep_a_part_and_make_the_rest_black() -> None:
    seen = np.full((2, 2, 3), 200, np.uint8)
    strength = np.array([[1, 0.5], [0, 0.25]], np.float32)
    inside = np.array([[1, 0], [1, 0.5]], np.float32)
    shown = {name: picture[..., 0].tolist() for name, picture in masked_views(seen, strength, inside).items()}
    assert shown == {
        "p_full": [[200, 200], [200, 200]],
        "p_saliency": [[200, 100], [0, 50]],
        "p_box": [[200, 0], [200, 100]],
        "p_context": [[0, 200], [0, 100]],
        "p_saliency_in_box": [[200, 0], [0, 25]],
        "p_saliency_in_context": [[0, 100], [0, 25]],
    }
    assert set(masked_views(seen, None, inside)) == {"p_full", "p_box", "p_context"}
    assert set(masked_views(seen, strength, None)) == {"p_full", "p_saliency"}


def test_the_hidden_tenth_is_that_of_the_probe() -> None:
    view = ViewTransform.make("squash", 320, 240, size=224)
    # Ties, which go by index.
    ours = np.round(saliency(), 1)
    coverage = view.coverage(BOXES)
    allowed = outside_of(torch.from_numpy(coverage)[None], torch.tensor([True]))
    theirs, defined = most_salient(torch.from_numpy(ours)[None], allowed, hidden_pixels(224, 224))
    assert bool(defined[0])
    assert np.array_equal(tenth_outside(ours, coverage), theirs[0].numpy())
    assert not tenth_outside(ours, np.ones_like(coverage)).any()


def test_what_lies_far_from_the_boxes_is_what_its_probe_blurs() -> None:
    coverage = np.zeros((224, 224), np.float32)
    coverage[100:120, 40:60] = 1
    coverage[99, 40:60] = 0.25  # a pixel that a box touches is no less near
    seen: list[torch.Tensor] = []

    def probabilities(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(pictures)
        return torch.zeros(1)

    image, blurred, neutral = torch.ones(1, 3, 224, 224), torch.zeros(1, 3, 224, 224), torch.zeros(3, 1, 1)
    without_surroundings(probabilities, image, blurred, neutral, torch.from_numpy(coverage)[None], torch.tensor([True]))
    far = far_outside(coverage)
    assert np.array_equal(far, seen[1][0, 0].numpy() == 0)
    assert (far[82, 24], far[83, 24], far[83, 23]) == (True, False, True)


def test_a_window_of_the_scan_comes_back_from_image_pixels() -> None:
    view = ViewTransform.make("resize_crop", 320, 240, size=224, resize=256)
    coverage = view.coverage(BOXES)
    for x0, y0, x1, y1 in windows(224, 224):
        in_image = view.boxes_to_image([[x0, y0, x1, y1]])[0].astype(np.float32)
        hidden = np.zeros((224, 224), dtype=bool)
        hidden[y0:y1, x0:x1] = coverage[y0:y1, x0:x1] <= 1e-6
        assert np.array_equal(window_outside(in_image.tolist(), view, coverage), hidden)


def test_what_is_hidden_becomes_the_blur_of_the_probe() -> None:
    seen = np.asarray(photo(224, 224))
    hidden = tenth_outside(saliency(), np.zeros((224, 224), np.float32))
    shown = hide(seen, hidden)
    blurred = blur(torch.from_numpy(seen.transpose(2, 0, 1)[None] / np.float32(255)))[0].numpy().transpose(1, 2, 0)
    assert np.array_equal(shown[~hidden], seen[~hidden])
    assert np.abs(shown[hidden] - 255 * blurred[hidden]).max() < 0.51


@pytest.mark.parametrize("geometry", ["squash", "resize_crop"])
def test_a_contour_runs_around_what_is_above_its_level_in_image_pixels(geometry: str) -> None:
    view = ViewTransform.make(geometry, 400, 300, size=224, resize=256)  # type: ignore[arg-type]
    lit = np.zeros((224, 224), np.float32)
    lit[32:96, 64:224] = 1  # reaches the view's right edge
    (path,) = contours(lit, view, levels=[0.5])
    numbers = np.array(re.findall(r"-?\d+\.\d", path), dtype=float).reshape(-1, 2)
    x0, y0, x1, y1 = view.boxes_to_image([[64, 32, 224, 96]])[0]
    assert np.abs(numbers.min(axis=0) - (x0, y0)).max() <= 0.06
    assert np.abs(numbers.max(axis=0) - (x1, y1)).max() <= 0.06
    assert contours(lit, view, levels=[1.5]) == [""]


def test_the_share_above_a_level() -> None:
    assert shares_above(np.array([[0, 0.2], [0.6, 1]], np.float32), [0.1, 0.6]) == [0.75, 0.25]


def test_heat_is_as_opaque_as_the_map_and_clear_where_the_network_saw_nothing() -> None:
    view = ViewTransform.make("resize_crop", 448, 224, size=224, resize=224)
    alpha = heat(np.full((224, 224), 0.4, np.float32), view, (224, 448))[..., 3]
    assert (alpha[:, 112:336] == 102).all()
    assert not alpha[:, :112].any()
    assert not alpha[:, 336:].any()


def test_heat_is_brighter_where_the_map_is_higher() -> None:
    view = ViewTransform.make("squash", 224, 224)
    rising = np.tile(np.linspace(0.1, 1, 224, dtype=np.float32), (224, 1))
    light = heat(rising, view, (224, 224))[0, :, :3].astype(int) @ (299, 587, 114)
    assert (np.diff(light[::16]) > 0).all()


def test_a_data_uri_holds_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    head, content = data_uri(pixels).split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), pixels)


def test_all_that_is_outside_becomes_the_blur_in_the_share_that_lies_outside() -> None:
    seen = np.asarray(photo(224, 224))
    coverage = ViewTransform.make("squash", 320, 240).coverage([[40.5, 30.25, 200, 150]])
    images, inside = torch.from_numpy(seen.astype(np.float32) / 255).permute(2, 0, 1)[None], torch.from_numpy(coverage)
    probe = images * inside + blur(images) * (1 - inside)  # as p_hide_context is made
    shown = hide(seen, 1 - coverage).astype(np.float32)
    np.testing.assert_allclose(shown, probe[0].permute(1, 2, 0).numpy() * 255, atol=0.51)
