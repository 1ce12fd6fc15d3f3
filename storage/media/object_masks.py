"""Masks of objects: which pixels of an upright image are a sample's own.

Tables hold them as COCO's compressed run lengths. Runs go down the columns, the first one outside. A run is written in
characters of five bits, the least significant first, and from the fourth run on as the difference to the one before the
last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from storage.media.images import ImageError, decode_levels, read_bytes

ObjectMask = NDArray[np.bool_]
"""(height, width) of the upright image."""


_LIGHT = 200
"""The least level of a light gray; lists of classes are shorter."""


def encode_mask(mask: ObjectMask) -> str:
    """The mask (height, width) as compressed run lengths; its shape is not in them."""
    packed: bytes = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return packed.decode("ascii")


def decode_mask(counts: str, width: int, height: int) -> ObjectMask:
    """The mask (``height``, ``width``) that compressed run lengths say: the inverse of :func:`encode_mask`.

    Raises ValueError for text that is none, or of a mask of another size. ``pycocotools`` is not asked: where runs are
    missing it returns memory that nobody wrote.
    """
    return from_runs(_runs(counts), width, height)


def from_runs(runs: NDArray[np.int64], width: int, height: int) -> ObjectMask:
    """The mask (``height``, ``width``) of runs (n,) down its columns; raises ValueError where they do not fill it."""
    if (runs < 0).any() or int(runs.sum()) != width * height:
        raise ValueError(f"its runs are of {int(runs.sum())} pixels, not of {width} x {height}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def within(mask: ObjectMask, box: tuple[float, float, float, float]) -> ObjectMask:
    """What of a mask lies in a half-open box (x0, y0, x1, y1), px: the pixels whose centres do."""
    x0, y0, x1, y1 = (max(0, math.ceil(edge - 0.5)) for edge in box)
    kept = np.zeros_like(mask)
    kept[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return kept


def patch_of(mask: ObjectMask, box: tuple[float, float, float, float]) -> ObjectMask | None:
    """What a half-open box (x0, y0, x1, y1), px, holds of a mask, in whole pixels, as FiftyOne's instance masks are.

    None where it holds nothing of it.
    """
    x0, y0, x1, y1 = (max(0, round(edge)) for edge in box)
    patch = mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return patch if patch.any() else None


def read_mask(uri: str) -> tuple[ObjectMask, list[int]]:
    """The pixels of the picture at a path or URL, upright, that are not zero in some channel; opacity is no channel.

    Of a palette the place counts, not the colour. Also the numbers that its pixels have beside 0 and 255, where these
    may be the numbers of several classes or objects: empty for a picture of one number, in colours, or of light grays,
    which the edge of a smoothed mask has. Raises ImageError for a file that is no picture, and for JPEG.
    """
    levels = _levels(uri)
    if levels.ndim == 3:
        return np.asarray(levels[..., : 1 if levels.shape[2] == 2 else 3].any(axis=2)), []
    return np.asarray(levels != 0), _numbers(levels)


def read_indexed(uri: str, index: int) -> ObjectMask:
    """The pixels of the picture at a path or URL, upright, whose number, of a palette the place in it, is ``index``.

    Raises ImageError for a file that is no picture, for JPEG, and for a picture in colours.
    """
    levels = _levels(uri)
    if levels.ndim != 2:
        raise ImageError("unreadable", "it has colours, not one number a pixel; save it with its palette")
    return np.asarray(levels == index)


def _numbers(levels: NDArray[Any]) -> list[int]:
    if levels.dtype.kind not in "iu":
        return []
    found = [int(number) for number in np.unique(levels) if number not in (0, 255)]
    grays = levels.dtype == np.uint8 and found and found[-1] >= _LIGHT
    return found if len(found) > 1 and not grays else []


def _levels(uri: str) -> NDArray[Any]:
    content = read_bytes(uri)
    if content.startswith(b"\xff\xd8"):
        raise ImageError("unreadable", "a JPEG, which changes pixels; save it as PNG")
    return decode_levels(content)


def _runs(counts: str) -> NDArray[np.int64]:
    digits = np.frombuffer(counts.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("its counts are no compressed run lengths")
    last = np.flatnonzero((digits & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 7:
        raise ValueError("its counts are no compressed run lengths")
    place = np.arange(len(digits)) - np.repeat(first, length)
    runs = np.add.reduceat((digits & 31) << 5 * place, first)
    runs -= np.where(digits[last] & 16, 1 << 5 * length, 0)
    for start in (1, 2):  # a run adds to the run before the last, but for the first three
        runs[start::2] = np.cumsum(runs[start::2])
    return np.asarray(runs)
