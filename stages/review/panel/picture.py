"""Pictures of one sample and its map for the review panel, made of the stored map and the image file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import mul

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.measure import find_contours

from stages.geometry import ViewTransform
from stages.masks import NEAR, hidden_pixels, kept_parts

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Levels of the map that a contour can be shown at."""

_COLOURS = colormaps["inferno"]

BLUR = 0.1
"""Sigma of the blur that replaces what is hidden, as a share of the view's longer side."""

View = NDArray[np.uint8]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def masked_views(seen: View, saliency: Map | None, coverage: Map | None, others: Map | float = 0) -> dict[str, View]:
    """What the network was shown for each probe that keeps a part and makes the rest black: by probe, each as ``seen``.

    ``saliency`` (H, W) is the map in [0, 1], ``coverage`` (H, W) the share of each pixel inside the boxes; without one
    of them its probes are left out. ``others`` (H, W) is the share that is other classes' objects.
    """
    parts = {"p_full": (), **kept_parts(saliency, coverage, others)}
    return {
        probe: np.rint(reduce(mul, (mask[..., None] for mask in masks), seen.astype(np.float32))).astype(np.uint8)
        for probe, masks in parts.items()
    }


def tenth_outside(saliency: Map, coverage: Map) -> Mask:
    """The pixels (H, W) outside the boxes that p_hide_map hides: the most salient 10% of the view, ties by index.

    None of them where fewer lie wholly outside.
    """
    count = hidden_pixels(*saliency.shape)
    allowed = coverage.ravel() <= 1e-6
    hidden = np.zeros(saliency.size, dtype=bool)
    if allowed.sum() >= count:
        order = np.argsort(-np.where(allowed, saliency.ravel(), -np.inf), kind="stable")
        hidden[order[:count]] = True
    return hidden.reshape(saliency.shape)


def window_outside(window: Sequence[float], view: ViewTransform, coverage: Map) -> Mask:
    """The pixels (H, W) outside the boxes that p_hide_scan hides; ``window`` is scan_box, (x0, y0, x1, y1) image px."""
    x0, y0, x1, y1 = (round(edge) for edge in view.boxes_to_view([window])[0].tolist())
    hidden = np.zeros(coverage.shape, dtype=bool)
    hidden[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return hidden & (coverage <= 1e-6)


def far_outside(coverage: Map) -> Mask:
    """The pixels (H, W) that p_hide_far hides: those that lie more than ``NEAR`` px from the boxes along an axis."""
    return np.asarray(ndimage.maximum_filter(coverage, 2 * NEAR + 1, mode="constant") <= 1e-6)


def hide(seen: View, hidden: Mask | Map) -> View:
    """The view with what is hidden (H, W), a share of each pixel, replaced by its Gaussian blur, sigma = 10% of its
    longer side."""
    sigma = BLUR * max(seen.shape[:2])
    blurred = ndimage.gaussian_filter(seen.astype(np.float32), (sigma, sigma, 0), mode="mirror", truncate=4)
    return np.asarray(np.rint(seen + (blurred - seen) * hidden[..., None]), dtype=np.uint8)


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
