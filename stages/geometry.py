"""Where things are: boxes and maps between the original image and what the network saw.

Boxes are half-open pixel rectangles ``[x0, x1) x [y0, y1)``, rows ``(x0, y0, x1, y1)`` of an (n, 4) array;
a box with ``x1 <= x0`` or ``y1 <= y0`` covers nothing. A mask (height, width) says which pixels of the image are
the object's. A pixel is the unit square between its index and the next, so its centre lies at index + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from storage.maps import MapAttributes  # not at run time: the kernels import without zarr

Boxes = NDArray[np.float64]
Cells = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Edges of columns (n + 1,) and of rows (m + 1,), and which of the cells between them are inside (m, n): 1, else 0."""
Geometry = Literal["squash", "resize_crop"]
Interpolation = Literal["bilinear", "bicubic"]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
"""Which pixels touch: by sides and by corners, as in OpenCV's contours."""


@dataclass(frozen=True)
class ViewTransform:
    """Affine map from an upright image to the network's view, in px: ``view = image * scale + offset``.

    ``width`` and ``height`` are the image's, after EXIF orientation. Part of the image may lie outside the
    view (a centre crop), and part of the view outside the image (torchvision pads what the crop exceeds).
    """

    width: int
    height: int
    view_width: int
    view_height: int
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    @classmethod
    def make(cls, geometry: Geometry, width: int, height: int, size: int = 224, resize: int = 256) -> ViewTransform:
        """Transform of an image (width, height) px to a square view of side ``size`` px.

        ``squash`` resizes the whole image to the view. ``resize_crop`` is torchvision's ``Resize(resize)``
        then ``CenterCrop(size)``, with its rounding. Raises ValueError for another geometry or a side below
        1 px.
        """
        if min(width, height, size, resize) < 1:
            raise ValueError(f"sides must be at least 1 px: image {width} x {height}, size {size}, resize {resize}")
        if geometry == "squash":
            return cls(width, height, size, size, size / width, size / height, 0.0, 0.0)
        if geometry != "resize_crop":
            raise ValueError(f"geometry is 'squash' or 'resize_crop', not {geometry!r}")
        long_side = int(resize * max(width, height) / min(width, height))
        new_width, new_height = (resize, long_side) if width <= height else (long_side, resize)
        return cls(
            width,
            height,
            size,
            size,
            new_width / width,
            new_height / height,
            _crop_offset(new_width, size),
            _crop_offset(new_height, size),
        )

    @classmethod
    def of_maps(cls, maps: MapAttributes, width: int, height: int) -> ViewTransform:
        """Transform of an image (width, height) px to the view of stored maps, by their attributes."""
        return cls.make(maps.geometry, width, height, size=maps.size, resize=maps.resize or maps.size)

    def render(self, image: Image.Image, interpolation: Interpolation = "bilinear") -> NDArray[np.uint8]:
        """What the network sees of an upright RGB image before normalisation: (view_height, view_width, 3).

        The image is resampled whole, with antialiasing, and then cut.
        """
        resized = image.resize(self.scaled_size, _FILTERS[interpolation])
        left, top = round(-self.offset_x), round(-self.offset_y)
        view = resized.crop((left, top, left + self.view_width, top + self.view_height))
        return np.asarray(view, dtype=np.uint8)

    @property
    def scaled_size(self) -> tuple[int, int]:
        """(width, height) of the whole image at the view's scale, px."""
        return round(self.width * self.scale_x), round(self.height * self.scale_y)

    def boxes_to_view(self, boxes: ArrayLike) -> Boxes:
        """Boxes (n, 4) of the image in view px, not clipped. Raises ValueError for non-finite numbers."""
        return _checked(boxes) * self._scale + self._offset

    def box_in_image(self, box: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
        """A box (4,) of the view in image px, cut to the image; None for NaN, or where nothing is left."""
        if np.isnan(box).any():
            return None
        x0, y0, x1, y1 = clip_boxes(self.boxes_to_image(box[None]), self.width, self.height)[0].tolist()
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def boxes_to_image(self, boxes: ArrayLike) -> Boxes:
        """Boxes (n, 4) of the view in image px, not clipped. Raises ValueError for non-finite numbers."""
        return (_checked(boxes) - self._offset) / self._scale

    @property
    def view_box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) of what the view shows, in image px, clipped to the image."""
        view = self.boxes_to_image([[0, 0, self.view_width, self.view_height]])
        x0, y0, x1, y1 = clip_boxes(view, self.width, self.height)[0].tolist()
        return x0, y0, x1, y1

    def visible_boxes(self, boxes: ArrayLike) -> Boxes:
        """Boxes (n, 4) of the image in view px, clipped to image and view, without those out of view: (m, 4).

        Raises ValueError for non-finite numbers.
        """
        in_view = self.boxes_to_view(clip_boxes(boxes, self.width, self.height))
        clipped = clip_boxes(in_view, self.view_width, self.view_height)
        return clipped[(clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])]

    def coverage(self, boxes: ArrayLike, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Share of each view pixel that is the object's: (view_height, view_width), in [0, 1].

        That is inside the image's ``mask`` (height, width) where there is one, else inside the union of boxes (n, 4) of
        the image. Exact: edges of boxes, or of the mask's pixels, cut the view into cells that lie inside or outside
        as a whole. Raises ValueError for non-finite numbers, and for a mask of another shape than the image.
        """
        return self._shares(*self._object_cells(boxes, mask))

    def coverage_of_others(
        self, others: ArrayLike, boxes: ArrayLike, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Share of each view pixel inside the boxes ``others`` (n, 4) and not the object's: (view_height, view_width).

        ``boxes`` and ``mask`` say what the object's is, and what is raised, as in :meth:`coverage`; the two shares of a
        pixel add up to at most 1.
        """
        columns, rows, inside = _cells(self.visible_boxes(others))
        if not inside.any():
            return np.zeros((self.view_height, self.view_width), dtype=np.float32)
        own = self._object_cells(boxes, mask)
        x, y = (
            np.unique(np.concatenate([edges, its[(its > edges[0]) & (its < edges[-1])]]))
            for edges, its in ((columns, own[0]), (rows, own[1]))
        )
        across, down = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2
        beside = _cell_at((columns, rows, inside), across, down) * (1 - _cell_at(own, across, down))
        return np.minimum(self._shares(x, y, beside), 1 - self._shares(*own))

    def kept_fraction(self, boxes: ArrayLike) -> float:
        """Share of the area of the union of boxes (n, 4) of the image that the view shows, in [0, 1].

        NaN if the boxes have no area. Raises ValueError for non-finite numbers.
        """
        checked = _checked(boxes)
        whole = union_area(checked)
        if whole == 0:
            return float("nan")
        x0, y0, x1, y1 = self.view_box
        shown = np.clip(checked, [x0, y0, x0, y0], [x1, y1, x1, y1])
        return min(1.0, union_area(shown) / whole)

    def map_to_image(
        self, view_map: NDArray[np.floating[Any]], size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """A map (view_height, view_width) laid over the whole image: (height, width), or ``size``.

        Bilinear between the centres of view pixels, the outermost ones carried on to the view's edge; zero
        where the centre of the output pixel is out of view. Raises ValueError for a map of another shape.
        """
        if view_map.shape != (self.view_height, self.view_width):
            raise ValueError(f"map of shape {view_map.shape}; the view is {(self.view_height, self.view_width)}")
        out_height, out_width = size or (self.height, self.width)
        y = (np.arange(out_height) + 0.5) * (self.height / out_height) * self.scale_y + self.offset_y
        x = (np.arange(out_width) + 0.5) * (self.width / out_width) * self.scale_x + self.offset_x
        rows, columns = _Sampling.at(y, self.view_height), _Sampling.at(x, self.view_width)
        return columns.of(rows.of(view_map.astype(np.float32, copy=False)).T).T

    def _object_cells(self, boxes: ArrayLike, mask: NDArray[np.bool_] | None) -> Cells:
        return _cells(self.visible_boxes(boxes)) if mask is None else self._mask_cells(mask)

    def _shares(self, columns: Boxes, rows: Boxes, inside: NDArray[np.float64]) -> NDArray[np.float32]:
        """Share of each view pixel within the cells that are inside."""
        if not inside.any():
            return np.zeros((self.view_height, self.view_width), dtype=np.float32)
        by_row = (_overlap(rows, self.view_height) @ inside).astype(np.float32)
        covered = by_row @ _overlap(columns, self.view_width).T.astype(np.float32)
        # The parts of a pixel may add up to just above one.
        return np.minimum(covered, np.float32(1), out=covered)

    def _mask_cells(self, mask: NDArray[np.bool_]) -> Cells:
        """Edges of the columns and of the rows of a mask's pixels in the view, and which cells it covers."""
        if mask.shape != (self.height, self.width):
            raise ValueError(f"a mask of shape {mask.shape}; the image is {(self.height, self.width)}")
        if not mask.any():
            return _cells(np.empty((0, 4)))
        rows, columns = bounding_window(mask)
        x = np.arange(columns.start, columns.stop + 1) * self.scale_x + self.offset_x
        y = np.arange(rows.start, rows.stop + 1) * self.scale_y + self.offset_y
        inside = mask[rows, columns].astype(np.float64)
        return np.clip(x, 0, self.view_width), np.clip(y, 0, self.view_height), inside

    @property
    def _scale(self) -> Boxes:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    @property
    def _offset(self) -> Boxes:
        return np.array([self.offset_x, self.offset_y, self.offset_x, self.offset_y])


def fitted(width: int, height: int, long_side: int) -> tuple[int, int]:
    """(height, width) of a picture of an image (width, height): its aspect, its long side at most ``long_side`` px."""
    shrink = min(1.0, long_side / max(width, height))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def clip_boxes(boxes: ArrayLike, width: float, height: float) -> Boxes:
    """Boxes (n, 4) cut to ``[0, width) x [0, height)``; a box outside becomes one without area.

    Raises ValueError for non-finite numbers.
    """
    return np.clip(_checked(boxes), 0, [width, height, width, height])


def union_area(boxes: ArrayLike) -> float:
    """Area of the union of boxes (n, 4), px squared. Raises ValueError for non-finite numbers."""
    checked = _checked(boxes)
    checked = checked[(checked[:, 2] > checked[:, 0]) & (checked[:, 3] > checked[:, 1])]
    if not len(checked):
        return 0.0
    columns, rows, inside = _cells(checked)
    return float(np.diff(rows) @ inside @ np.diff(columns))


def largest_component_box(maps: NDArray[np.floating[Any]], threshold: ArrayLike | None = None) -> Boxes:
    """Box of the largest connected component of S > mean(S) in each map (N, H, W): (N, 4), half-open map px.

    B_p of the paper's Appendix B. Pixels touch by sides and corners; of components of equal size the first in
    reading order counts. ``threshold``, one number or (N,), replaces the mean. NaN where there is no
    component: nothing above the threshold, a constant map, a map with NaN.
    """
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps of shape {maps.shape}; give a batch (N, H, W)")
    flat = maps.reshape(len(maps), -1)
    if threshold is None:
        threshold = flat.mean(axis=1, dtype=np.float64)
    cut = np.broadcast_to(np.asarray(threshold, dtype=np.float64), (len(maps),))
    # Rounded down to the maps' precision: comparing there then decides as with the exact threshold.
    near = cut.astype(maps.dtype)
    near = np.where(near.astype(np.float64) > cut, np.nextafter(near, maps.dtype.type(-np.inf)), near)
    # The mean of a constant map may round to just below its value.
    highest = flat.max(axis=1)
    bright = (highest > flat.min(axis=1)) & (highest > near)
    boxes = np.full((len(maps), 4), np.nan)
    for index in np.flatnonzero(bright):
        labels, _ = ndimage.label(maps[index] > near[index], structure=EIGHT_NEIGHBOURS)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        rows, columns = bounding_window(labels == sizes.argmax())
        boxes[index] = columns.start, rows.start, columns.stop, rows.stop
    return boxes


def bounding_window(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest window that holds a region (H, W), which must not be empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _crop_offset(side: int, size: int) -> float:
    """Where pixel 0 of a side lands after torchvision's centre crop, which pads a side below ``size``."""
    return float((size - side) // 2) if size > side else float(-round((side - size) / 2.0))


def _checked(boxes: ArrayLike) -> Boxes:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes of shape {array.shape}; give rows of (x0, y0, x1, y1)")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(f"box {int(np.argmax(bad))} is not finite: {array[bad][0].tolist()}")
    return array


def _cells(boxes: Boxes) -> Cells:
    """Edges of the columns and of the rows that boxes cut the plane into, and which cells they cover."""
    columns, rows = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    across = (boxes[:, :1] <= columns[:-1]) & (boxes[:, 2:3] >= columns[1:])
    down = (boxes[:, 1:2] <= rows[:-1]) & (boxes[:, 3:] >= rows[1:])
    count = down.T.astype(np.float64) @ across.astype(np.float64)
    return columns, rows, (count > 0).astype(np.float64)


def _cell_at(cells: Cells, x: Boxes, y: Boxes) -> NDArray[np.float64]:
    """Whether each place of the lattice ``y`` (m,) times ``x`` (n,) lies in a cell that is inside: (m, n)."""
    columns, rows, inside = cells
    found = np.zeros((len(y), len(x)))
    if inside.any():
        column, row = np.searchsorted(columns, x, "right") - 1, np.searchsorted(rows, y, "right") - 1
        within_x, within_y = (column >= 0) & (column < len(columns) - 1), (row >= 0) & (row < len(rows) - 1)
        found[np.ix_(within_y, within_x)] = inside[np.ix_(row[within_y], column[within_x])]
    return found


def _overlap(edges: Boxes, pixels: int) -> NDArray[np.float64]:
    """Length (pixels, cells) of each pixel ``[i, i + 1)`` within each interval between neighbouring edges."""
    start = np.arange(pixels)[:, None]
    length = np.minimum(edges[1:], start + 1) - np.maximum(edges[:-1], start)
    return np.asarray(np.maximum(length, 0))


@dataclass(frozen=True)
class _Sampling:
    """Bilinear sampling along one axis: each position lies ``weight`` of the way from pixel ``low`` to ``high``.

    Two pixels a position: as a product with a matrix, most of whose entries are zero, it takes several times longer.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]
    inside: NDArray[np.bool_]

    @classmethod
    def at(cls, position: NDArray[Any], pixels: int) -> _Sampling:
        """At positions, px; those out of ``[0, pixels)`` give zero."""
        index = np.clip(position - 0.5, 0, pixels - 1)
        low = np.floor(index).astype(np.int64)
        weight = (index - low).astype(np.float32)
        return cls(low, np.minimum(low + 1, pixels - 1), weight, (position >= 0) & (position < pixels))

    def of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples (positions, n) of ``values`` (pixels, n)."""
        sampled = values[self.low]
        # From the lower one on, so that equal neighbours give exactly their value.
        sampled += (values[self.high] - sampled) * self.weight[:, None]
        sampled[~self.inside] = 0
        return sampled
