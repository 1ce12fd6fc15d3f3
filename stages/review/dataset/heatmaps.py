"""Maps as images that the App lays over the photos.

The App stretches a heatmap over the whole image, so a map of a centre crop is laid on a canvas of the whole image
first. The images are 8-bit, one channel: an RGB or floating-point image shows wrong or not at all. A name is the digest
of what the image shows, since the App keeps showing the old image of a name that it has seen.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.geometry import ViewTransform, fitted
from storage.maps import MapStore

RENDERING = "2"
"""Raise it when the same map shall give another image: it enters the names."""

BATCH = 64
"""Maps that a thread holds in memory at once: two chunks of the store."""


def write_heatmaps(
    directory: Path,
    maps: MapStore,
    rows: Sequence[int],
    views: Sequence[ViewTransform],
    *,
    long_side: int,
    threads: int,
) -> list[Path | None]:
    """Write the heatmaps of ``rows``, each seen through its of ``views``, in parallel; existing ones are kept.

    Returns them in the order of ``rows``, None where no map was computed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # In the order of rows, so that each chunk of the store is read about once.
    order = sorted(range(len(rows)), key=lambda index: rows[index])
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def write(batch: list[int]) -> list[Path | None]:
        return _write_batch(directory, maps, [rows[i] for i in batch], [views[i] for i in batch], long_side)

    heatmaps: list[Path | None] = [None] * len(rows)
    # Threads: nearly all of the time goes into numpy and zlib, which let other threads run.
    with ThreadPoolExecutor(threads) as pool:
        for batch, written in zip(batches, pool.map(write, batches), strict=True):
            for index, heatmap in zip(batch, written, strict=True):
                heatmaps[index] = heatmap
    return heatmaps


def _write_batch(
    directory: Path, maps: MapStore, rows: list[int], views: list[ViewTransform], long_side: int
) -> list[Path | None]:
    grids = maps.read(rows)
    heatmaps: list[Path | None] = [None] * len(rows)
    missing: dict[int, tuple[Path, tuple[int, int]]] = {}
    for index in np.flatnonzero(np.isfinite(grids).all(axis=(1, 2))).tolist():
        view = views[index]
        size = fitted(view.width, view.height, long_side)
        shown = repr((RENDERING, grids[index].shape, astuple(view), size)).encode() + grids[index].tobytes()
        path = directory / f"{hashlib.sha256(shown).hexdigest()[:40]}.png"
        heatmaps[index] = path
        if not _is_written(path):
            missing[index] = path, size
    if missing:
        view_maps = maps.read([rows[index] for index in missing], size=maps.view_size)
        for (index, (path, size)), view_map in zip(missing.items(), view_maps, strict=True):
            _write(path, views[index].map_to_image(view_map, size=size))
    return heatmaps


def _is_written(path: Path) -> bool:
    """Whether a heatmap was written before, and is an image still."""
    try:
        with Image.open(path):
            return True
    except (FileNotFoundError, UnidentifiedImageError):
        return False


def _write(path: Path, canvas: NDArray[np.float32]) -> None:
    image = Image.fromarray(np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8))
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        image.save(temporary, format="PNG", compress_level=1)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
