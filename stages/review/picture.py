"""Pictures of one sample and its map for the review panel, made of the stored map and the image file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from stages.geometry import ViewTransform

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Levels of the map that a contour can be shown at."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_COLOURS = colormaps["inferno"]

View = NDArray[np.uint8]
Map = NDArray[np.float32]


def what_the_network_saw(image: Image.Image, view: ViewTransform, interpolation: str = "bilinear") -> View:
    """The view of an upright RGB image, uint8 (view_height, view_width, 3), before normalisation."""
    scaled = round(image.width * view.scale_x), round(image.height * view.scale_y)
    left, top = round(-view.offset_x), round(-view.offset_y)
    resized = image.resize(scaled, _FILTERS[interpolation])
    return np.asarray(resized.crop((left, top, left + view.view_width, top + view.view_height)), dtype=np.uint8)


def masked_views(seen: View, saliency: Map | None, coverage: Map | None) -> dict[str, View]:
    """What the network was shown for each probe that keeps a part and makes the rest black: by probe, each as ``seen``.

    ``saliency`` (H, W) is the map in [0, 1], ``coverage`` (H, W) the share of each pixel inside the boxes; without one
    of them its probes are left out.
    """
    masks: dict[str, Map] = {"p_full": np.ones(seen.shape[:2], np.float32)}
    if saliency is not None:
        masks["p_saliency"] = saliency
    if coverage is not None:
        masks["p_box"], masks["p_context"] = coverage, 1 - coverage
    if saliency is not None and coverage is not None:
        masks["p_saliency_in_box"], masks["p_saliency_in_context"] = saliency * coverage, saliency * (1 - coverage)
    return {probe: np.rint(seen * mask[..., None]).astype(np.uint8) for probe, mask in masks.items()}


def contours(saliency: Map, view: ViewTransform, levels: Sequence[float] = LEVELS) -> list[str]:
    """Lines of equal saliency as SVG paths in px of the image, one path a level; empty where the map is below it.

    The map (H, W) is that of the view; lines are closed along the view's edge.
    """
    # A frame of zeros, so that a part that reaches the edge is closed there.
    framed = np.pad(saliency, 1)
    return [" ".join(_path(line, view) for line in find_contours(framed, level)) for level in levels]


def shares_above(saliency: Map, levels: Sequence[float] = LEVELS) -> list[float]:
    """Share of the view where the map is above each level, [0, 1]."""
    return [float((saliency > level).mean()) for level in levels]


def heat(saliency: Map, view: ViewTransform, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The map in colours over the whole image, RGBA uint8 (*size, 4); ``size`` is (height, width).

    Where the map is 0, and out of view, it is transparent.
    """
    strength = view.map_to_image(saliency, size)
    rgba = _COLOURS(0.25 + 0.75 * strength, bytes=True)
    rgba[..., 3] = np.rint(np.clip(strength, 0, 1) * 255)
    return np.asarray(rgba, dtype=np.uint8)


def fitted(width: int, height: int, long_side: int) -> tuple[int, int]:
    """(height, width) of the image's aspect, its long side at most ``long_side`` px."""
    shrink = min(1.0, long_side / max(width, height))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def data_uri(pixels: NDArray[np.uint8], kind: str = "PNG") -> str:
    """Pixels (H, W, 3 or 4) as a PNG, or as a JPEG, in a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **_SAVING[kind])
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


_SAVING: Mapping[str, dict[str, int]] = {"PNG": {"compress_level": 1}, "JPEG": {"quality": 90}}


def _path(line: NDArray[np.float64], view: ViewTransform) -> str:
    # Index i of the framed map is the centre of view pixel i - 1, which lies at i - .5.
    x = (line[:, 1] - 0.5 - view.offset_x) / view.scale_x
    y = (line[:, 0] - 0.5 - view.offset_y) / view.scale_y
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
