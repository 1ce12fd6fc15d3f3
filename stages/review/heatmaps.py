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
from dataclasses import astuple, dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.geometry import ViewTransform, largest_component_box
from stages.review.maps import image_box
from storage.maps import MapStore

RENDERING = "1"
"""Raise it when the same map shall give another image: it enters the names."""

READ_ROWS = 256
"""Maps that are held in memory at once."""


def canvas_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """(height, width) of the heatmap of an image: its aspect, its long side at most ``long_side`` px."""
    shrink = min(1.0, long_side / max(width, height))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


@dataclass(frozen=True)
class Heatmap:
    """One written heatmap, and where its map is strongest."""

    path: Path
    box: tuple[float, float, float, float] | None
    """Box of the largest component of S > mean(S), image px, clipped to the image; None for a constant map."""


def write_heatmaps(
    directory: Path,
    maps: MapStore,
    rows: Sequence[int],
    views: Sequence[ViewTransform],
    *,
    long_side: int,
    threads: int,
) -> list[Heatmap | None]:
    """Write the heatmaps of ``rows``, each seen through its of ``views``, in parallel; existing ones are kept.

    Returns them in the order of ``rows``, None where no map was computed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # In the order of rows, so that each chunk of the store is read about once.
    order = sorted(range(len(rows)), key=lambda index: rows[index])
    heatmaps: list[Heatmap | None] = [None] * len(rows)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(order), READ_ROWS):
            batch = order[start : start + READ_ROWS]
            grids = maps.read([rows[index] for index in batch])
            computed = np.asarray(np.isfinite(grids).all(axis=(1, 2)))
            grids = grids[computed]
            batch = [index for index, there in zip(batch, computed.tolist(), strict=True) if there]
            if not batch:
                continue
            seen = [views[index] for index in batch]
            view_maps = maps.read([rows[index] for index in batch], size=maps.view_size)
            sizes = [canvas_size(view.width, view.height, long_side) for view in seen]
            paths = pool.map(_write, repeat(directory), grids, view_maps, seen, sizes)
            boxes = largest_component_box(view_maps)
            for index, path, view, box in zip(batch, paths, seen, boxes, strict=True):
                heatmaps[index] = Heatmap(path, image_box(view, box))
    return heatmaps


def _write(
    directory: Path,
    grid: NDArray[np.float32],
    view_map: NDArray[np.float32],
    view: ViewTransform,
    size: tuple[int, int],
) -> Path:
    shown = repr((RENDERING, grid.shape, astuple(view), size)).encode() + np.ascontiguousarray(grid).tobytes()
    path = directory / f"{hashlib.sha256(shown).hexdigest()[:40]}.png"
    if path.exists():
        return path
    canvas = view.map_to_image(view_map, size=size)
    image = Image.fromarray(np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8))
    temporary = directory / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        image.save(temporary, format="PNG", compress_level=1)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
