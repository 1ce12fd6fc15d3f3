"""Objects in the light: an outline becomes a rounded, lit, grainy thing."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from stages.demo.shapes import Shape

_DETAIL = 3  # the outline is drawn this many times larger, then reduced: smooth edges


def lit_object(shape: Shape, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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
