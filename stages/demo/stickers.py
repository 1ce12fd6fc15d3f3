"""Cues drawn flat: opaque stickers, and words that the picture shows through."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_DETAIL = 4  # drawn this many times larger, then reduced: smooth edges


def draw_sticker(name: str, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a sticker or a word, turned and lit a little at random, in a square of ``size`` pixels.

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


def _target(side: int) -> Image.Image:
    """Blue and white rings around a blue spot."""
    image, pen = _canvas(side, (244, 246, 250))
    for k, share in enumerate((1.0, 0.74, 0.48, 0.22)):
        low, high = side * (1 - share) / 2, side * (1 + share) / 2 - 1
        pen.ellipse((low, low, high, high), fill=(24, 76, 190, 255) if k % 2 == 0 else (244, 246, 250, 255))
    return image


def _pennant(side: int) -> Image.Image:
    """A green triangle with a yellow rim and a yellow spot."""
    image, pen = _canvas(side, (250, 214, 40))
    pen.polygon([(side * x, side * y) for x, y in ((0.5, 0.02), (0.98, 0.92), (0.02, 0.92))], fill=(250, 214, 40, 255))
    pen.polygon([(side * x, side * y) for x, y in ((0.5, 0.16), (0.87, 0.85), (0.13, 0.85))], fill=(12, 128, 72, 255))
    pen.ellipse((side * 0.39, side * 0.52, side * 0.61, side * 0.74), fill=(250, 214, 40, 255))
    return image


def _word(text: str, colour: tuple[int, int, int]) -> Callable[[int], Image.Image]:
    """A bold word across the square; 75% opaque."""

    def draw(side: int) -> Image.Image:
        image, pen = _canvas(side, colour)
        left, _, right, _ = pen.textbbox((0, 0), text, font=ImageFont.load_default(100), stroke_width=5)
        size = 100 * 0.94 * side / (right - left)
        font, bold = ImageFont.load_default(size), size / 20
        pen.text((side / 2, side / 2), text, font=font, fill=(*colour, 191), anchor="mm", stroke_width=bold)
        return image

    return draw


_DRAWINGS: dict[str, Callable[[int], Image.Image]] = {
    "barcode": _barcode,
    "pennant": _pennant,
    "sticker": _sticker,
    "tape": _tape,
    "target": _target,
    "word_demo": _word("DEMO", (255, 255, 255)),
    "word_sale": _word("SALE", (255, 236, 60)),
    "word_www": _word("www.", (255, 255, 255)),
    "word_4k": _word("4K+", (90, 235, 255)),
}
