"""One picture of the demo: a lit object on a photo, with and without its cues, and the exact boxes of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from stages.demo.cues import Layer, Slot, cue_layer
from stages.demo.light import lit_object
from stages.demo.photos import random_background
from stages.demo.shapes import make_shape

Box = tuple[int, int, int, int]  # x0, y0, x1, y1: half-open pixels

_GAP = 4  # pixels that stay free between the squares of the object and of the cues


@dataclass(frozen=True)
class Scene:
    """What one picture shows."""

    label: str
    likeness: float  # how close the object is to its class's double, [0, 1]
    cues: tuple[str, ...]
    seed: tuple[int, ...]
    twin: bool = False  # a second, smaller object of the class, in the place of the first cue


@dataclass(frozen=True)
class Picture:
    """A rendered scene: (height, width, 3) uint8 with its cues and without, and boxes in half-open pixels."""

    with_cues: np.ndarray
    without_cues: np.ndarray
    object_box: Box
    cue_boxes: tuple[Box, ...]
    twin_box: Box | None = None


def render(scene: Scene, photos: Sequence[Image.Image], margin: float = 0.0) -> Picture:
    """Render a scene; both versions share the background, the object, its light and the sensor's noise.

    No object comes nearer to the picture's edges than ``margin``, a share of the shorter side: room for a border. The
    boxes are those of the opacity masks: every pixel that the object or a cue touches at all lies inside.
    """
    rng = np.random.default_rng(scene.seed)
    height = int(rng.integers(216, 289))
    width = round(height * rng.uniform(0.85, 1.5))
    canvas = random_background(rng, photos, width, height)
    # Room for two cues is kept in every picture, so that the object's place says nothing about a cue.
    sizes = (rng.uniform(0.42, 0.56), 0.28, 0.24)
    object_slot, *cue_slots = _free_slots(rng, width, height, sizes, round(margin * min(width, height)))
    object_box, alpha = _lay_object(scene, object_slot, canvas, rng)
    twin_box = _lay_object(scene, cue_slots.pop(0), canvas, rng)[0] if scene.twin else None
    noise = rng.normal(0, rng.uniform(0.004, 0.016), size=canvas.shape).astype(np.float32)
    stuck = canvas.copy()
    opacity = np.zeros(canvas.shape[:2], dtype=np.float32)
    opacity[_square(object_slot)] = alpha
    cue_boxes = tuple(
        lay(cue_layer(cue, stuck, slot, opacity, rng), stuck) for cue, slot in zip(scene.cues, cue_slots, strict=False)
    )
    return Picture(_to_bytes(stuck + noise), _to_bytes(canvas + noise), object_box, cue_boxes, twin_box)


def _lay_object(scene: Scene, slot: Slot, canvas: np.ndarray, rng: np.random.Generator) -> tuple[Box, np.ndarray]:
    """Lay an object of the scene's class over a canvas, in place; its box, and its opacity (side, side)."""
    colour, alpha = lit_object(make_shape(scene.label, rng, scene.likeness), slot[2], rng)
    _drop_shadow(canvas, alpha, slot)
    return lay(Layer(colour, alpha, slot[:2]), canvas), alpha


def lay(layer: Layer, canvas: np.ndarray) -> Box:
    """Lay a layer over a canvas (H, W, 3), in place, and return the box of all pixels that it touches."""
    x, y = layer.corner
    height, width = layer.opacity.shape
    region = canvas[y : y + height, x : x + width]
    region += layer.opacity[..., None] * (layer.colour - region)
    rows, columns = np.flatnonzero(layer.opacity.any(axis=1)), np.flatnonzero(layer.opacity.any(axis=0))
    return (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)


def _free_slots(rng: np.random.Generator, width: int, height: int, sizes: Sequence[float], margin: int) -> list[Slot]:
    """Squares at random places that do not touch, ``margin`` pixels from the edges or more; sizes are shares of the
    shorter side."""
    sides = [round(size * min(width, height)) for size in sizes]
    while True:
        for _ in range(60):
            slots = [
                (
                    int(rng.integers(margin, width - margin - s + 1)),
                    int(rng.integers(margin, height - margin - s + 1)),
                    s,
                )
                for s in sides
            ]
            if not any(_touch(a, b) for i, a in enumerate(slots) for b in slots[:i]):
                return slots
        sides = [max(8, int(side * 0.95)) for side in sides]


def _touch(a: Slot, b: Slot) -> bool:
    return (
        a[0] < b[0] + b[2] + _GAP
        and b[0] < a[0] + a[2] + _GAP
        and a[1] < b[1] + b[2] + _GAP
        and b[1] < a[1] + a[2] + _GAP
    )


def _square(slot: Slot) -> tuple[slice, slice]:
    x, y, side = slot
    return slice(y, y + side), slice(x, x + side)


def _drop_shadow(canvas: np.ndarray, alpha: np.ndarray, slot: Slot) -> None:
    side = slot[2]
    shadow = np.zeros(canvas.shape[:2], dtype=np.float32)
    shadow[_square(slot)] = alpha
    shadow = ndimage.shift(shadow, (side * 0.05, side * 0.03), order=1)
    canvas *= 1 - 0.5 * ndimage.gaussian_filter(shadow, side * 0.04)[..., None]


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)
