"""Saliency maps of a run: one Zarr array per method and target, each map at its layer's own grid.

A CAM map is its low-resolution grid: the map at the network's input is the bilinear upsampling of the grid, range
normalised. So the grid is stored, which is lossless and hundreds of times smaller, and :meth:`MapStore.read` makes the
rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.special import expit
from zarr.codecs import ZstdCodec

from storage.errors import DamagedFile, SightlineError, UserError, said
from storage.files import STORAGE_OPTIONS, Directory, answering, writing
from storage.tables import SCHEMAS, decode

if TYPE_CHECKING:
    import xarray

CHUNK_ROWS = 32
"""Maps per Zarr chunk, the least that is read. An object of the array holds the chunks of one shard of the pipeline
(:class:`MapStore`), so two tasks never write one object."""

DEGENERATE_RANGE = 1e-30
"""A map whose range is not above this is constant: nothing stands out, and it normalises to zero."""


OUTSIDE = ".outside"
"""What the name of a method has behind it where the maps are those of the outside."""


def outside_maps_of(method: str) -> str:
    """The name under which the maps of what outside the boxes carries the class stand beside those of a method."""
    return f"{method}{OUTSIDE}"


@lru_cache(maxsize=64)
def bilinear_matrix(source: int, target: int) -> NDArray[np.float32]:
    """Matrix (target, source) of bilinear interpolation with half-pixel centres (``align_corners=False``)."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, source - 1)
    weight = position - low
    matrix = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(matrix, (rows, low), 1 - weight)
    np.add.at(matrix, (rows, high), weight)
    matrix.flags.writeable = False
    return matrix.astype(np.float32)


def resize(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear resize of maps (N, h, w) to (N, *size), as ``torch.nn.functional.interpolate`` does it."""
    height, width = size
    if maps.shape[1:] == (height, width):
        return maps
    rows, columns = bilinear_matrix(maps.shape[1], height), bilinear_matrix(maps.shape[2], width)
    return np.asarray(np.matmul(np.matmul(rows, maps), columns.T), dtype=np.float32)


def normalize(maps: NDArray[np.float32], kind: str = "range") -> NDArray[np.float32]:
    """Maps (N, H, W) in [0, 1]; zero where nothing stands out, NaN where a map was not computed.

    ``range``: (S - min) / (max - min). ``max``: S / max, negative values cut to 0. ``sigmoid``: 1 / (1 + exp(-S)).
    Raises SightlineError for another kind.
    """
    if kind == "sigmoid":
        return np.asarray(expit(maps), dtype=np.float32)
    if kind not in ("range", "max"):
        raise SightlineError(
            f"maps of the normalization {kind!r} cannot be read; this version knows range, max, sigmoid"
        )
    if kind == "max":
        maps = np.maximum(maps, 0)
    low = maps.min(axis=(1, 2), keepdims=True) if kind == "range" else np.zeros_like(maps[:, :1, :1])
    span = maps.max(axis=(1, 2), keepdims=True) - low
    flat = span <= DEGENERATE_RANGE
    normalized: NDArray[np.float32] = np.subtract(maps, low, dtype=np.float32)
    normalized /= np.where(flat, np.float32(1), span)
    normalized[flat[:, 0, 0]] = 0
    return normalized


@dataclass(frozen=True)
class MapAttributes:
    """What the maps of a method and target need to be understood; the array explains itself with them."""

    method: str
    target: str
    size: int
    """Side of the view, the network's input, px."""
    model: str = ""
    """The config's ``model.source``."""
    weights_digest: str = ""
    layer: str = ""
    geometry: Literal["squash", "resize_crop"] = "squash"
    resize: int = 0
    """Short side before the crop, px; 0: ``size``."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    upsampling: str = "bilinear, half-pixel centres, to the view; then the normalization"
    normalization: str = "range"
    objective: str | None = None
    """This and ``fill``: None for a method that masks nothing to make its maps."""
    fill: str | None = None
    class_names: tuple[str, ...] = ()
    """In the order of the network's outputs."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> MapAttributes:
        """The attributes of an array; raises SightlineError if it does not say its view's size."""
        if not isinstance(stored.get("size"), int):
            raise SightlineError("the map array lacks the attribute 'size' (the view's side in px)")
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        return cls(**known | {"class_names": tuple(stored.get("class_names") or ())})


class MapStore:
    """The maps (rows, h, w) of one method and target, float32; NaN where none was computed.

    Zarr's sharding codec makes the chunks of a shard one object. Arrays of earlier versions have an object a chunk.
    """

    def __init__(self, array: zarr.Array, directory: Directory) -> None:
        self._array, self._directory = array, directory

    @classmethod
    def create(
        cls,
        directory: Directory,
        attributes: MapAttributes,
        *,
        rows: int,
        grid: tuple[int, int],
        shard: int = CHUNK_ROWS,
    ) -> MapStore:
        """Open the array for writing, make it if needed and let it grow to ``rows``; ``shard`` rows share an object.

        An array that does not fit (:meth:`fits`) is replaced: no part may vouch for its maps.
        """
        root = zarr.open_group(store=_store(directory), mode="a", zarr_format=3)
        name = f"{attributes.method}/{attributes.target}"
        array = root.get(name)
        if array is None or not _fits(array, grid, shard):
            array = root.create_array(
                name,
                shape=(rows, *grid),
                chunks=(CHUNK_ROWS, *grid),
                shards=(shard, *grid) if shard > CHUNK_ROWS else None,
                compressors=ZstdCodec(level=0, checksum=True),
                dtype="float32",
                fill_value=float("nan"),
                dimension_names=("row", "y", "x"),
                overwrite=True,
            )
        elif array.shape[0] < rows:
            array.resize((rows, *grid))
        array.attrs.update(asdict(attributes))
        return cls(array, directory)

    @staticmethod
    def fits(directory: Directory, attributes: MapAttributes, grid: tuple[int, int], shard: int = CHUNK_ROWS) -> bool:
        """Whether the array of the attributes' target and method is there, so that its maps stay.

        It needs the same grid, since others belong to another layer or model, and objects of which a task that owns
        ``shard`` rows writes whole ones: two tasks that write one object lose rows without an error.
        """
        try:
            store = MapStore.open(directory, attributes.target, attributes.method)
        except UserError:
            return False
        return _fits(store._array, grid, shard)

    @classmethod
    def open(cls, directory: Directory, target: str, method: str, *, mode: str = "r") -> MapStore:
        """Open an existing array; raises UserError if the run has none of that name, DamagedFile if it is damaged."""
        name = f"{method}/{target}"
        place = directory.url_of(f"maps.zarr/{name}")
        try:
            with answering(place):
                array = zarr.open_array(store=_store(directory), path=name, mode=mode)
        except FileNotFoundError:
            own = method.removesuffix(OUTSIDE)
            setting = " and explain.outside" if own != method else ""
            raise UserError(
                f"{directory.url} has no maps {name!r}; run the pipeline with explain.method {own!r}{setting} and "
                f"{target!r} among explain.targets"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(
                f"{directory.url_of(f'maps.zarr/{name}/zarr.json')} cannot be read: {said(error)}; `sightline run "
                "CONFIG` makes it and its maps again"
            ) from None
        return cls(array, directory)

    @staticmethod
    def remove(directory: Directory, target: str, method: str) -> None:
        """Remove the array: no part may vouch for its maps."""
        with answering(directory.url_of(f"maps.zarr/{method}/{target}")):
            root = zarr.open_group(store=_store(directory), mode="r+")
            del root[f"{method}/{target}"]
            if not any(True for _ in root[method]):
                del root[method]

    def name_classes(self, names: tuple[str, ...]) -> None:
        """Record the names of the network's classes, where others are recorded."""
        if tuple(self._array.attrs.get("class_names") or ()) != names:
            self._array.attrs.update(class_names=names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, h, w)."""
        rows, height, width = self._array.shape
        return int(rows), int(height), int(width)

    @cached_property
    def attributes(self) -> MapAttributes:
        """What the maps need to be understood; raises SightlineError if the array does not say it."""
        return MapAttributes.of(dict(self._array.attrs))

    def write(self, start: int, maps: NDArray[np.float32]) -> None:
        """Write maps (n, h, w) at rows ``start`` to ``start + n``."""
        with answering(self._place), writing(self._place):
            self._array[start : start + len(maps)] = maps.astype(np.float32)

    def read(self, rows: slice | Sequence[int], size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Maps of ``rows``: the raw grid if ``size`` is None, else in [0, 1] at ``size`` = (height, width).

        The grid is upsampled bilinearly to the network's input, normalised there, then resized to ``size``.
        Constant maps become zero, maps that were not computed are NaN. Raises IndexError for a row out of range.
        """
        with answering(self._place):
            raw = self._read(rows)
        return raw if size is None else resize(self.in_view(raw), size)

    @property
    def _place(self) -> str:
        """Path or URL of the array, for messages."""
        return self._directory.url_of(f"maps.zarr/{self._array.path}")

    def _read(self, rows: slice | Sequence[int]) -> NDArray[np.float32]:
        if isinstance(rows, slice):
            raw: NDArray[np.float32] = np.asarray(self._array[rows])
        else:
            wanted = np.asarray(rows, dtype=np.int64)
            outside = wanted[(wanted < 0) | (wanted >= self.shape[0])]
            if outside.size:
                raise IndexError(f"row {int(outside[0])} is outside the {self.shape[0]} rows of the maps")
            raw = np.asarray(self._array.oindex[wanted]) if wanted.size else np.empty((0, *self.shape[1:]), np.float32)
        return raw

    def in_view(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (n, h, w) as they are stored, upsampled to the network's input and normalised there."""
        kind = self.attributes.normalization
        view = normalize(resize(raw, self.view_size), kind)
        if kind == "range":
            # Interpolation rounds: a constant grid comes out constant but for its last bits, which would fill [0, 1].
            view[raw.max(axis=(1, 2)) - raw.min(axis=(1, 2)) <= DEGENERATE_RANGE] = 0
        return view

    @property
    def view_size(self) -> tuple[int, int]:
        """(height, width) of the network's input, px."""
        return self.attributes.size, self.attributes.size

    def to_xarray(self) -> xarray.DataArray:
        """The raw maps (row, y, x), read where they are computed with, NaN where none was made.

        Coordinates: ``sample_id`` of each row; ``y`` and ``x`` of the cells' centres, px of the view. The attributes
        are those of the maps. Needs the extra ``notebook``.
        """
        import dask.array

        try:
            import xarray
        except ImportError:
            raise UserError("to_xarray needs xarray: pip install -e '.[notebook]'") from None
        rows, height, width = self.shape
        samples = decode(self._directory.read("samples.parquet"), ("row", "sample_id"), None, SCHEMAS["samples"])
        ids = np.full(rows, "", dtype=object)
        for row, sample_id in zip(samples["row"].to_pylist(), samples["sample_id"].to_pylist(), strict=True):
            if row < rows:
                ids[row] = sample_id
        view_height, view_width = self.view_size
        return xarray.DataArray(
            dask.array.from_zarr(self._array),
            dims=("row", "y", "x"),
            coords={
                "sample_id": ("row", ids),
                "y": (np.arange(height) + 0.5) * view_height / height,
                "x": (np.arange(width) + 0.5) * view_width / width,
            },
            attrs=asdict(self.attributes),
            name="saliency",
        )

    def checksum(self, start: int, stop: int) -> str:
        """SHA-256 of the raw region of rows ``start`` to ``stop``."""
        return checksum(self.read(slice(start, stop)))


def _fits(array: zarr.Array, grid: tuple[int, int], shard: int) -> bool:
    written_at_once = (array.shards or array.chunks)[0]
    return tuple(array.shape[1:]) == tuple(grid) and shard % written_at_once == 0


def _store(directory: Directory) -> Any:
    """What zarr opens a run's maps by. Of a text zarr would say for itself whether it is a path: not with ``::``."""
    if directory.is_local:
        return zarr.storage.LocalStore(directory.local_path("maps.zarr"))
    return zarr.storage.FsspecStore.from_url(directory.url_of("maps.zarr"), storage_options=STORAGE_OPTIONS)


def combined_checksum(maps: Iterable[NDArray[np.float32]]) -> str:
    """Digest of the raw maps (n, h, w) of several targets, in their order."""
    return hashlib.sha256(json.dumps([checksum(one) for one in maps]).encode()).hexdigest()


def checksum(maps: NDArray[np.float32]) -> str:
    """SHA-256 of raw maps (n, h, w), with one bit pattern for NaN."""
    plain = np.ascontiguousarray(maps, dtype="<f4")
    return hashlib.sha256(np.where(np.isnan(plain), np.float32("nan"), plain).tobytes()).hexdigest()
