"""The cues of the demo: small opaque pictures that stand beside an object, never on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

_DETAIL = 4  # drawn this many times larger, then reduced: smooth edges


def draw_cue(name: str, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a cue, turned and lit a little at random, in a square of ``size`` pixels.

    Returns:
        RGB (size, size, 3) float32 and opacity (size, size) float32, both in [0, 1].
    """
    side = size * _DETAIL
    picture = _DRAWINGS[name](side)
    picture = picture.rotate(float(rng.uniform(-20, 20)), resample=Image.Resampling.BICUBIC)
    small = np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    return np.clip(small[..., :3] * rng.uniform(0.88, 1.05), 0, 1).astype(np.float32), small[..., 3]


def _canvas(side: int, colour: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (side, side), (*colour, 0))
    return image, ImageDraw.Draw(image)


def _sticker(side: int) -> Image.Image:
    """A round red sticker with a white rim and a white bolt."""
    image, pen = _canvas(side, (250, 248, 244))
    pen.ellipse((0, 0, side - 1, side - 1), fill=(250, 248, 244, 255))
    pen.ellipse((side * 0.08, side * 0.08, side * 0.92, side * 0.92), fill=(206, 24, 62, 255))
    bolt = ((0.58, 0.16), (0.28, 0.56), (0.47, 0.56), (0.40, 0.84), (0.72, 0.42), (0.52, 0.42))
    pen.polygon([(x * side, y * side) for x, y in bolt], fill=(250, 248, 244, 255))
    return image


def _tape(side: int) -> Image.Image:
    """A patch of yellow and black hazard tape."""
    image, pen = _canvas(side, (246, 200, 20))
    low, high = side * 0.13, side * 0.87
    pen.rectangle((low, low, high, high), fill=(246, 200, 20, 255))
    stripe = (high - low) / 6
    for k in range(-6, 7, 2):
        left = low + k * stripe
        corners = (
            (left, high),
            (left + stripe, high),
            (left + stripe + high - low, low),
            (left + high - low, low),
        )
        pen.polygon(corners, fill=(24, 22, 20, 255))
    frame = Image.new("L", (side, side), 0)
    ImageDraw.Draw(frame).rectangle((low, low, high, high), fill=255)
    image.putalpha(frame)
    return image


def _barcode(side: int) -> Image.Image:
    """A white label with a barcode."""
    image, pen = _canvas(side, (244, 244, 240))
    left, top, right, bottom = side * 0.1, side * 0.22, side * 0.9, side * 0.78
    pen.rectangle((left, top, right, bottom), fill=(244, 244, 240, 255))
    bars = "1101001110010110100011011"
    step = (right - left) * 0.84 / len(bars)
    for k, bar in enumerate(bars):
        if bar == "1":
            x = left + (right - left) * 0.08 + k * step
            pen.rectangle((x, top + side * 0.06, x + step, bottom - side * 0.06), fill=(30, 30, 34, 255))
    return image


_DRAWINGS: dict[str, Callable[[int], Image.Image]] = {"barcode": _barcode, "sticker": _sticker, "tape": _tape}
