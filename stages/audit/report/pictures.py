"""Thumbnails of samples: the image with its boxes, mask and what was hidden, the maps laid over it, a close-up."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from stages.audit.report.alt_text import image_in_words, map_in_words, outside_in_words
from stages.geometry import EIGHT_NEIGHBOURS, ViewTransform, clip_boxes
from storage.maps import outside_maps_of
from storage.media.images import ImageError, ImageNotGiven
from storage.media.object_masks import ObjectMask
from storage.samples import ImageChanged, own_boxes, own_mask, read_unchanged

if TYPE_CHECKING:
    from storage import MapStore, Run

SIDE = 240
"""Long side of a thumbnail, px."""
QUALITY = 75
"""JPEG quality of thumbnails."""
MOST_BYTES = 8_000_000
"""Bytes of all pictures of a page together; later ones are left out, so that the page stays below 10 MB."""
OPACITY = 0.6
"""Opacity of the map where it is 1; where it is 0 the image is as it was."""
COLOURS, OUTSIDE_COLOURS = "inferno", "viridis"
"""Matplotlib's colour maps of a map, and of the map of the outside."""
OUT_OF_VIEW = 0.35
"""Brightness of what a crop keeps from the network."""
CLOSE_UP = 128
"""Side of a close-up, px."""
AROUND = 1.5
"""A close-up shows this many times the longer side of what it is about."""

LightBoxes = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a data URI; empty where there is none, and then ``problem`` says why."""

    uri: str
    width: int
    height: int
    alt: str
    problem: str = ""


@dataclass(frozen=True)
class Shown:
    """The pictures of a sample: the image with its boxes, and the same under its maps; None where it has none."""

    image: Picture
    map: Picture | None = None
    outside: Picture | None = None
    """Under the map of what outside the boxes carries the class."""


class Pictures:
    """Makes the pictures of a run's method and counts the samples that could not be shown (``problems``)."""

    def __init__(self, run: Run, method: str) -> None:
        self._maps: dict[str, MapStore] = {target: run.maps(target, method) for target in run.targets(method)}
        self._outside = {target: run.outside_maps(target, method) for target in run.targets(outside_maps_of(method))}
        self._left = MOST_BYTES
        self.problems: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any], region: Sequence[float] | None = None) -> Shown:
        """The pictures of a row of ``audit``; ``region`` (image px) is outlined by dashes."""
        alt = image_in_words(row, region)
        image, problem = self._read(row)
        if image is None:
            self.problems[problem] += 1
            width, height = _fitted(row["width"] or SIDE, row["height"] or SIDE)
            return Shown(Picture("", width, height, alt, problem))
        plain = self._picture(compose(image, None, None, own_boxes(row), region, mask=own_mask(row)), alt)
        own = self._under(self._maps, row, image, region, map_in_words(row), COLOURS)
        # Without p, a map of the outside is of an earlier run, which asked for it.
        asked = row["p_hide_outside_map"] is not None
        stores = self._outside if asked else {}
        return Shown(plain, own, self._under(stores, row, image, region, outside_in_words(row), OUTSIDE_COLOURS))

    def close_up(self, row: Mapping[str, Any], alt: str, region: Sequence[float]) -> Picture | None:
        """A square of the image around ``region`` (image px); None where the image cannot be shown."""
        image, _ = self._read(row)
        return None if image is None else self._picture(close_up(image, region), alt)

    def _under(
        self,
        stores: Mapping[str, MapStore],
        row: Mapping[str, Any],
        image: Image.Image,
        region: Sequence[float] | None,
        alt: str,
        colours: str,
    ) -> Picture | None:
        """The image under the row's map in one of ``stores``, by target; None where it has none."""
        maps = stores.get(row["target"])
        if maps is None or row["row"] >= maps.shape[0]:
            return None
        view_map = maps.read([row["row"]], size=maps.view_size)[0]
        if not np.isfinite(view_map).all():
            return None
        view = ViewTransform.of_maps(maps.attributes, *image.size)
        return self._picture(compose(image, view, view_map, own_boxes(row), region, colours, own_mask(row)), alt)

    def _read(self, row: Mapping[str, Any]) -> tuple[Image.Image | None, str]:
        """The upright image that the run saw, or why it cannot be shown."""
        if self._left <= 0:
            return None, "left out to keep the page small"
        try:
            return read_unchanged(row), ""
        except ImageChanged:
            return None, "the image has changed since the run"
        except ImageNotGiven:
            return None, "the image was not given by its store"
        except ImageError as error:
            gone = error.reason.startswith("no such file")
            return None, "the image is missing" if gone else "the image is unreadable"

    def _picture(self, picture: Image.Image, alt: str) -> Picture:
        uri = encode(picture)
        self._left -= len(uri)
        return Picture(uri, *picture.size, alt)


def compose(
    image: Image.Image,
    view: ViewTransform | None,
    view_map: NDArray[np.float32] | None,
    boxes: LightBoxes = (),
    region: Sequence[float] | None = None,
    colours: str = COLOURS,
    mask: ObjectMask | None = None,
) -> Image.Image:
    """The thumbnail of an upright RGB image: the map in colours, what the view leaves out darkened, boxes in image px,
    the outline of the objects' ``mask`` (height, width).

    ``view_map`` (view_height, view_width) is in [0, 1]; with NaN in it, or None, there is no overlay.
    """
    width, height = _fitted(*image.size)
    picture = image.resize((width, height), Image.Resampling.LANCZOS)
    if view is not None and view_map is not None and np.isfinite(view_map).all():
        picture = _overlay(picture, view, view_map, colours)
    if mask is not None:
        picture = _outline(picture, mask)
    scale = np.array([width / image.width, height / image.height] * 2)
    draw = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in clip_boxes(boxes, image.width, image.height) * scale:
        # White on black is legible on any picture; the last pixel of a half-open box is the one before its end.
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline="black", width=3)
        draw.rectangle((x0 + 1, y0 + 1, max(x1 - 2, x0 + 1), max(y1 - 2, y0 + 1)), outline="white", width=1)
    if region is not None:
        _dash(draw, (clip_boxes([region], image.width, image.height) * scale)[0].tolist())
    return picture


def close_up(image: Image.Image, region: Sequence[float]) -> Image.Image:
    """The square around ``region`` (x0, y0, x1, y1 in px), moved into the image where it would reach out of it."""
    x0, y0, x1, y1 = region
    side = min(AROUND * max(x1 - x0, y1 - y0), image.width, image.height)
    left = min(max((x0 + x1 - side) / 2, 0), image.width - side)
    top = min(max((y0 + y1 - side) / 2, 0), image.height - side)
    return image.resize((CLOSE_UP, CLOSE_UP), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def _outline(picture: Image.Image, mask: ObjectMask) -> Image.Image:
    """A picture with the outline of a mask of the whole image, white on black as boxes are."""
    inside = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(picture.size, Image.Resampling.BOX)) >= 0.5
    edge = inside & ~ndimage.binary_erosion(inside, EIGHT_NEIGHBOURS)
    pixels = np.array(picture)
    pixels[ndimage.binary_dilation(edge, EIGHT_NEIGHBOURS)] = 0
    pixels[edge] = 255
    return Image.fromarray(pixels)


def encode(picture: Image.Image) -> str:
    """The picture as a JPEG in a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _overlay(picture: Image.Image, view: ViewTransform, view_map: NDArray[np.float32], colours: str) -> Image.Image:
    size = picture.height, picture.width
    strength = view.map_to_image(view_map, size)[..., None]
    seen = view.map_to_image(np.ones_like(view_map), size)[..., None]
    painted = colormaps[colours](strength[..., 0])[..., :3] * 255
    base = np.asarray(picture, np.float32) * (OUT_OF_VIEW + (1 - OUT_OF_VIEW) * seen)
    opacity = OPACITY * strength
    return Image.fromarray(np.rint(base * (1 - opacity) + painted * opacity).clip(0, 255).astype(np.uint8))


def _dash(draw: ImageDraw.ImageDraw, box: Sequence[float], length: int = 6) -> None:
    """A dashed rectangle, cyan and black in turn."""
    x0, y0, x1, y1 = (round(value) for value in box)
    x1, y1 = max(x1 - 1, x0), max(y1 - 1, y0)
    for (start_x, start_y), (end_x, end_y) in (
        ((x0, y0), (x1, y0)),
        ((x1, y0), (x1, y1)),
        ((x1, y1), (x0, y1)),
        ((x0, y1), (x0, y0)),
    ):
        long = max(abs(end_x - start_x), abs(end_y - start_y))
        step_x, step_y = np.sign(end_x - start_x), np.sign(end_y - start_y)
        for number, at in enumerate(range(0, long, length)):
            to = min(at + length, long)
            dash = (start_x + step_x * at, start_y + step_y * at, start_x + step_x * to, start_y + step_y * to)
            draw.line([float(value) for value in dash], fill="black" if number % 2 else "#5ff", width=2)


def _fitted(width: int, height: int) -> tuple[int, int]:
    shrink = SIDE / max(width, height)
    return max(1, round(width * shrink)), max(1, round(height * shrink))
