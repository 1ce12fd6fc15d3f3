"""What of an image an object covers, where a dataset says more than a box: its shape, and the mask that shapes make.

A shape is checked against the image only when it is drawn, so that readers need not know the image's size.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from stages.ingest.boxes import as_number, as_size
from stages.ingest.record import Box, Shape
from storage.errors import quoted, shortened
from storage.media.images import ImageError
from storage.media.object_masks import ObjectMask, decode_mask, from_runs, read_indexed, read_mask

_CORNERS = 3


class ShapeError(ValueError):
    """Why a shape is no mask of its image, in words that follow "the mask"."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """Polygons, the pixels inside any of them as COCO counts them."""

    rings: Any
    """A list of lists x, y, x, y ..., as the dataset has it."""
    relative: bool = False
    """Whether numbers are fractions of the image's width and height."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``."""
        if not isinstance(self.rings, list | tuple) or not all(isinstance(ring, list | tuple) for ring in self.rings):
            raise ShapeError(f"is no list of polygons: {quoted(self.rings)}")
        rings = [self._ring(ring, width, height) for ring in self.rings if len(ring) >= 2 * _CORNERS]
        if not rings:
            raise ShapeError("has no polygon of three corners")
        return _of_something(coco.decode(coco.merge(coco.frPyObjects(rings, height, width))).astype(bool))

    def _ring(self, ring: Sequence[Any], width: int, height: int) -> list[float]:
        numbers = [as_number(value) for value in ring]
        known = [value for value in numbers if value is not None and math.isfinite(value)]
        if len(known) != len(ring) or len(ring) % 2:
            raise ShapeError(f"has a polygon that is no list of corners x, y: {quoted(ring)}")
        sides = (width, height) if self.relative else (1, 1)
        corners = [value * sides[place % 2] for place, value in enumerate(known)]
        # Whoever draws a polygon walks along its edges, however far they lead.
        if not all(
            -side <= value <= 2 * side for value, side in zip(corners, (width, height) * len(ring), strict=False)
        ):
            raise ShapeError(f"has a corner far outside the image of {width} x {height}")
        return corners


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse, turned or not, as a polygon of 180 corners; numbers are fractions of the image's width and height."""

    centre: tuple[float, float]
    axes: tuple[tuple[float, float], tuple[float, float]]
    """Where the ends of its two half axes lie from the centre."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``."""
        angles = [math.tau * step / 180 for step in range(180)]
        sides = list(zip(self.centre, *self.axes, strict=True))
        ring = [c + u * math.cos(angle) + v * math.sin(angle) for angle in angles for c, u, v in sides]
        return Polygons((ring,), relative=True).drawn(box, width, height)


@dataclass(frozen=True, slots=True)
class RunLengths:
    """COCO's run lengths, compressed or not."""

    content: Mapping[str, Any]
    """``size`` (height, width) and ``counts``."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``."""
        size, counts = self.content.get("size"), self.content.get("counts")
        sides = [as_size(side) for side in size] if isinstance(size, list | tuple) else []
        if len(sides) != 2 or None in sides:
            raise ShapeError(f"has no size of height and width: {quoted(size)}")
        if sides != [height, width]:
            raise ShapeError(f"is of {sides[1]} x {sides[0]} px, and its image of {width} x {height}")
        try:
            if isinstance(counts, bytes | str):
                text = counts.decode("latin-1") if isinstance(counts, bytes) else counts
                return _of_something(decode_mask(text, width, height))
            return _of_something(from_runs(np.array(counts, dtype=np.int64).reshape(-1), width, height))
        except ShapeError:
            raise
        except (ValueError, TypeError, OverflowError) as error:
            raise ShapeError(f"cannot be decoded: {shortened(str(error))}") from None


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels that are stretched over the object's box, FiftyOne's instance mask."""

    pixels: Any
    """An array (h, w) as FiftyOne stores it (zlib of NumPy's format) or exports it, or the path of a picture of it."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``: those whose centre the patch holds."""
        pixels = _file(self.pixels)[0] if isinstance(self.pixels, str) else _array(self.pixels)
        mask = np.zeros((height, width), dtype=bool)
        x0, y0, x1, y1 = (round(edge) for edge in box[:4])
        if x1 > x0 and y1 > y0:
            patch = np.asarray(Image.fromarray(pixels).resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST))
            inside = patch[max(0, -y0) : height - y0, max(0, -x0) : width - x0]
            mask[max(0, y0) : max(0, y0) + inside.shape[0], max(0, x0) : max(0, x0) + inside.shape[1]] = inside
        return _of_something(mask)


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A picture of the image's size in which what is not zero is the object."""

    uri: str

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``."""
        return self.read(width, height)[0]

    def read(self, width: int, height: int) -> tuple[ObjectMask, list[int]]:
        """The same, and the numbers of its pixels where they may be those of several classes or objects."""
        mask, numbers = _file(self.uri)
        return _of_something(_of_size(mask, self.uri, width, height), self.uri), numbers


@dataclass(frozen=True, slots=True)
class IndexedPixels:
    """A picture of the image's size in which an object's pixels have its number, as VOC's ``SegmentationObject``."""

    uri: str
    index: int

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``."""
        try:
            mask = read_indexed(self.uri, self.index)
        except ImageError as error:
            raise ShapeError(f"{self.uri} cannot be used: {error.reason}") from None
        return _of_something(_of_size(mask, self.uri, width, height), f"{self.uri}, pixels of number {self.index},")


@dataclass(frozen=True, slots=True)
class RowRuns:
    """Run lengths along the rows of a window, the first one outside, as CVAT writes them."""

    runs: str
    """Numbers with commas between them."""
    window: tuple[int, int, int, int]
    """(left, top, width, height), px."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of an image of ``width`` x ``height``."""
        left, top, across, down = self.window
        numbers = [as_number(word) for word in self.runs.split(",")]
        lengths = [int(number) for number in numbers if number is not None and number >= 0 and math.isfinite(number)]
        if len(lengths) != len(numbers) or sum(lengths) != across * down:
            raise ShapeError(f"has runs that do not fill its window of {across} x {down}: {quoted(self.runs)}")
        if left < 0 or top < 0 or left + across > width or top + down > height:
            raise ShapeError(f"has a window {self.window} that leaves the image of {width} x {height}")
        mask = np.zeros((height, width), dtype=bool)
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        mask[top : top + down, left : left + across] = flat.reshape(down, across)
        return _of_something(mask)


@dataclass(frozen=True, slots=True)
class CutOut:
    """What a crop shows of a shape; it may be nothing, of a neighbour of which only the box reaches into the crop."""

    shape: Shape
    box: Box
    size: tuple[int, int]
    """Width and height of the image, px."""
    edges: tuple[int, int, int, int]
    """The crop, px of the image."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The pixels of the crop, which has ``width`` x ``height``."""
        x0, y0, x1, y1 = self.edges
        return self.shape.drawn(self.box, *self.size)[y0:y1, x0:x1]


def file_of(shape: Shape | None) -> str | None:
    """The path or URL of the file that a shape stands in; None for one that the annotation itself says."""
    if isinstance(shape, Patch) and isinstance(shape.pixels, str):
        return shape.pixels
    return shape.uri if isinstance(shape, MaskFile | IndexedPixels) else None


@dataclass(frozen=True)
class Masks:
    """What of an image a sample's objects cover."""

    whole: ObjectMask | None
    """All of them; None where their boxes alone say it."""
    each: list[ObjectMask | None]
    """Each of them, None for one whose box alone says it; empty where the dataset does not tell them apart."""
    faults: list[str]
    """What is wrong with shapes that were left out."""
    notes: tuple[str, ...] = ()
    """What a person should know of the mask that is used: that it holds several numbers, which may be classes."""


def mask_of(objects: Sequence[Box], whole: Shape | None, width: int, height: int) -> Masks:
    """The pixels that a sample's own objects, in px of its image, cover; and what is wrong with shapes left out.

    ``whole`` is the shape of all of them, where the dataset says it. None where no object has a shape that can be used:
    then the boxes say it. Beside others that have one, an object without a shape covers the pixels whose centre lies in
    its box.
    """
    faults: list[str] = []
    each: list[ObjectMask | None] = []
    if whole is None and all(box.shape is None for box in objects):
        return Masks(None, each, faults)
    if whole is not None:
        try:
            if isinstance(whole, MaskFile):
                drawn, numbers = whole.read(width, height)
                notes = (
                    (f"the mask {whole.uri} holds the numbers {_listed(numbers)}: all but 0 count",) if numbers else ()
                )
                return Masks(drawn, each, faults, notes)
            return Masks(whole.drawn(Box(0, 0, width, height), width, height), each, faults)
        except ShapeError as error:
            faults.append(f"the mask {error}; the boxes count instead")
    mask = np.zeros((height, width), dtype=bool)
    for box in objects:
        if box.shape is not None:
            try:
                own = box.shape.drawn(box, width, height)
            except ShapeError as error:
                faults.append(
                    f"the mask {error}; its box ({box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g}) counts instead"
                )
            else:
                mask |= own
                each.append(own)
                continue
        each.append(None)
        x0, y0, x1, y1 = (math.ceil(edge - 0.5) for edge in box[:4])
        mask[y0:y1, x0:x1] = True
    if all(own is None for own in each) or not mask.any():
        return Masks(None, [], faults)
    return Masks(mask, each, faults)


def _file(uri: str) -> tuple[ObjectMask, list[int]]:
    try:
        return read_mask(uri)
    except ImageError as error:
        raise ShapeError(f"{uri} cannot be used: {error.reason}") from None


def _listed(numbers: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown}, ..." if len(numbers) > most else shown


def _of_size(mask: ObjectMask, uri: str, width: int, height: int) -> ObjectMask:
    if mask.shape != (height, width):
        raise ShapeError(
            f"{uri} is of {mask.shape[1]} x {mask.shape[0]} px, and the upright image of {width} x {height}"
        )
    return mask


def _array(stored: Any) -> ObjectMask:
    try:
        packed = stored if isinstance(stored, bytes) else base64.b64decode(stored["$binary"]["base64"])
        pixels = np.load(io.BytesIO(zlib.decompress(packed)), allow_pickle=False)
    except (KeyError, TypeError, ValueError, EOFError, binascii.Error, zlib.error) as error:
        raise ShapeError(f"cannot be decoded: {shortened(str(error))}") from None
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or not pixels.size:
        raise ShapeError(f"is no array of rows and columns: {quoted(getattr(pixels, 'shape', pixels))}")
    return np.asarray(pixels != 0)


def _of_something(mask: ObjectMask, what: str = "") -> ObjectMask:
    if not mask.any():
        raise ShapeError(f"{what} covers no pixel".lstrip())
    return mask
