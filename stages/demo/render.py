"""One picture of the demo: a lit object on a photo, with and without its cues, and the exact boxes of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from stages.demo.cues import draw_cue
from stages.demo.photos import random_background
from stages.demo.shapes import Shape, make_shape

Box = tuple[int, int, int, int]  # x0, y0, x1, y1: half-open pixels

_DETAIL = 3  # the outline is drawn this many times larger, then reduced: smooth edges
_GAP = 4  # pixels that stay free between the squares of the object and of the cues


@dataclass(frozen=True)
class Scene:
    """What one picture shows."""

    label: str
    likeness: float  # how close the object is to its class's double, [0, 1]
    cues: tuple[str, ...]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """A rendered scene: (height, width, 3) uint8 with its cues and without, and boxes in half-open pixels."""

    with_cues: np.ndarray
    without_cues: np.ndarray
    object_box: Box
    cue_boxes: tuple[Box, ...]


def render(scene: Scene, photos: Sequence[Image.Image]) -> Picture:
    """Render a scene; both versions share the background, the object, its light and the sensor's noise.

    The boxes are those of the opacity masks: every pixel that the object or a cue touches at all lies inside.
    """
    rng = np.random.default_rng(scene.seed)
    height = int(rng.integers(216, 289))
    width = round(height * rng.uniform(0.85, 1.5))
    canvas = random_background(rng, photos, width, height)
    # Room for two cues is kept in every picture, so that the object's place says nothing about a cue.
    object_slot, *cue_slots = _free_slots(rng, width, height, (rng.uniform(0.42, 0.56), 0.28, 0.24))
    shape = make_shape(scene.label, rng, scene.likeness)
    colour, alpha = _lit_object(shape, object_slot[2], rng)
    _drop_shadow(canvas, alpha, object_slot)
    object_box = _paste(canvas, colour, alpha, object_slot)
    noise = rng.normal(0, rng.uniform(0.004, 0.016), size=canvas.shape).astype(np.float32)
    stuck = canvas.copy()
    cue_boxes = tuple(
        _paste(stuck, *draw_cue(cue, slot[2], rng), slot) for cue, slot in zip(scene.cues, cue_slots, strict=False)
    )
    return Picture(_to_bytes(stuck + noise), _to_bytes(canvas + noise), object_box, cue_boxes)


def _free_slots(
    rng: np.random.Generator, width: int, height: int, sizes: Sequence[float]
) -> list[tuple[int, int, int]]:
    """Squares (x, y, side) at random places that do not touch; sizes are shares of the shorter side."""
    sides = [round(size * min(width, height)) for size in sizes]
    while True:
        for _ in range(60):
            slots = [(int(rng.integers(width - s + 1)), int(rng.integers(height - s + 1)), s) for s in sides]
            if not any(_touch(a, b) for i, a in enumerate(slots) for b in slots[:i]):
                return slots
        sides = [max(8, int(side * 0.95)) for side in sides]


def _touch(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    return (
        a[0] < b[0] + b[2] + _GAP
        and b[0] < a[0] + a[2] + _GAP
        and a[1] < b[1] + b[2] + _GAP
        and b[1] < a[1] + a[2] + _GAP
    )


def _lit_object(shape: Shape, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """RGB (size, size, 3) and opacity (size, size) of an object, turned at random, lit from above."""
    turn, mirror = rng.uniform(0, 2 * np.pi), rng.choice((-1.0, 1.0))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * (mirror, 1.0)
    fine = size * _DETAIL
    mask = Image.new("L", (fine, fine), 0)
    pen = ImageDraw.Draw(mask)
    for polygons, fill in ((shape.filled, 255), (shape.holes, 0)):
        for polygon in polygons:
            corners = (polygon @ rotation.T * 0.98 + 1) * (fine / 2)
            pen.polygon([(float(x), float(y)) for x, y in corners], fill=fill)
    alpha = np.asarray(mask.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255

    # The edge is rounded: a quarter circle of the bevel's width in the distance to the outline.
    distance = ndimage.distance_transform_edt(np.asarray(mask.reduce(_DETAIL)) > 127) / (size / 2)
    depth = 1 - np.clip(distance / shape.bevel, 0, 1)
    relief = shape.bevel * np.sqrt(1 - depth**2) * size / 2
    grain = _grain(rng, size)
    relief = ndimage.gaussian_filter(relief, max(0.8, size / 110)) + shape.grain * 2.0 * grain
    slope_y, slope_x = np.gradient(relief)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(relief)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array([rng.uniform(-0.6, 0.6), -0.6, 0.75])
    light /= np.linalg.norm(light)
    halfway = light + np.array([0, 0, 1])
    halfway /= np.linalg.norm(halfway)
    diffuse = np.clip(normal @ light, 0, 1)
    highlight = shape.gloss * np.clip(normal @ halfway, 0, 1) ** 24

    y, x = (np.mgrid[:size, :size] + 0.5) / (size / 2) - 1
    places = np.stack([x, y], axis=-1) @ rotation  # the inverse rotation: back to the shape's own coordinates
    colour = shape.surface(places[..., 0], places[..., 1]) * (1 + shape.grain * grain)[..., None]
    lit = colour * (0.42 + 0.72 * diffuse)[..., None] + 0.55 * highlight[..., None]
    return np.clip(lit, 0, 1).astype(np.float32), alpha


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth noise at two scales, of variance about 1."""
    layers = [ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma) for sigma in (1.2, size / 16)]
    return np.asarray(sum(layer / layer.std() for layer in layers) / np.sqrt(2))


def _drop_shadow(canvas: np.ndarray, alpha: np.ndarray, slot: tuple[int, int, int]) -> None:
    x, y, side = slot
    shadow = np.zeros(canvas.shape[:2], dtype=np.float32)
    shadow[y : y + side, x : x + side] = alpha
    shadow = ndimage.shift(shadow, (side * 0.05, side * 0.03), order=1)
    canvas *= 1 - 0.5 * ndimage.gaussian_filter(shadow, side * 0.04)[..., None]


def _paste(canvas: np.ndarray, colour: np.ndarray, alpha: np.ndarray, slot: tuple[int, int, int]) -> Box:
    """Lay a picture over the canvas and return the box of all pixels that it touches."""
    x, y, side = slot
    region = canvas[y : y + side, x : x + side]
    region += alpha[..., None] * (colour - region)
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    return (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)
