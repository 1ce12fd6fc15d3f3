"""The cues: what stands in a picture beside the object, and is laid over it as a layer of colour.

Each kind lies outside the box of the object, but for a cast, which tints the background and so reaches into the box
wherever the object does not fill it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.demo.companions import make_companion
from stages.demo.light import lit_object
from stages.demo.stickers import draw_sticker

Slot = tuple[int, int, int]  # x, y, side of a free square, pixels

BORDER = 0.08
"""Width of the border that a ``border`` cue may cover, as a share of the picture's shorter side."""

CUE_KINDS = {
    "sticker": ("sticker", "tape", "target", "pennant", "barcode"),
    "text": ("word_demo", "word_sale", "word_www", "word_4k"),
    "companion": ("hourglass", "crescent", "cross", "arrow"),
    "cast": ("cast_warm", "cast_green", "cast_blue", "cast_magenta"),
    "border": ("frame_film", "strip_white", "frame_wood", "strip_stamp"),
}
"""Names of the cues, by kind: an opaque sticker, a translucent word, an object of no class, a tint of the background,
a frame or strip at the picture's edge."""

_KIND_OF = {name: kind for kind, names in CUE_KINDS.items() for name in names}
_CASTS = {
    "cast_warm": (1.14, 0.90, 0.48),
    "cast_green": (0.58, 1.12, 0.64),
    "cast_blue": (0.50, 0.86, 1.18),
    "cast_magenta": (1.10, 0.54, 1.04),
}


@dataclass(frozen=True)
class Layer:
    """Pixels laid over a picture: colour (h, w, 3) and opacity (h, w) in [0, 1], and their top left corner (x, y)."""

    colour: np.ndarray
    opacity: np.ndarray
    corner: tuple[int, int]


def kind_of(cue: str) -> str:
    """The kind of a cue; raises KeyError for a name that is none."""
    return _KIND_OF[cue]


def cue_layer(cue: str, canvas: np.ndarray, slot: Slot, object_opacity: np.ndarray, rng: np.random.Generator) -> Layer:
    """The layer of a cue on a canvas (H, W, 3) in [0, 1].

    Stickers, words and companions fill the free square ``slot``; a cast covers the canvas but for the object,
    whose opacity (H, W) it spares; a border covers the outermost ``BORDER`` at most.
    """
    kind, (x, y, side) = kind_of(cue), slot
    if kind == "cast":
        tone = np.array(_CASTS[cue], dtype=np.float32) * rng.uniform(0.97, 1.03, size=3).astype(np.float32)
        return Layer(np.clip(canvas * tone, 0, 1), 1 - object_opacity, (0, 0))
    if kind == "border":
        height, width = canvas.shape[:2]
        return Layer(*_border(cue, height, width, rng), (0, 0))
    if kind == "companion":
        return Layer(*lit_object(make_companion(cue, rng), side, rng), (x, y))
    return Layer(*draw_sticker(cue, side, rng), (x, y))


def _border(cue: str, height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colour (height, width, 3) and opacity (height, width) of a frame around the picture, or a strip at its foot."""
    wide = BORDER * min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    edge = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    light = rng.uniform(0.9, 1.05)
    if cue == "frame_film":
        holes = (x // (wide * 0.6) % 2 == 0) & (np.abs(np.minimum(y, height - 1 - y) - wide / 2) < wide * 0.22)
        colour, opaque = np.where(holes[..., None], (0.92, 0.92, 0.88), (0.07, 0.06, 0.06)), edge < int(wide) - 1
    elif cue == "frame_wood":
        rings = 0.5 + 0.5 * np.sin(edge * 1.9 + 3 * np.sin(x / 23) + 3 * np.sin(y / 19))
        colour, opaque = (0.40 + 0.22 * rings)[..., None] * np.array((1.0, 0.62, 0.30)), edge < int(wide * 0.7)
    else:
        foot = height - 1 - y
        opaque = foot < int(wide)
        printed = (np.abs(foot - wide / 2) < wide * 0.22) & ((x * 0.9 // (wide * 0.16)).astype(int) * 7 % 5 < 3)
        if cue == "strip_white":
            colour = np.where((printed & (x < width * 0.55))[..., None], (0.15, 0.15, 0.18), (0.96, 0.96, 0.94))
        else:
            colour = np.where((printed & (x > width * 0.45))[..., None], (0.98, 0.80, 0.20), (0.10, 0.12, 0.30))
    return np.clip(colour * light, 0, 1).astype(np.float32), opaque.astype(np.float32)
