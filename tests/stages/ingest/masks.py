"""Shapes of one picture of 40 x 30, and how the tests of masks read a dataset with them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.run import Run

WIDTH, HEIGHT = 40, 30
NAMES = ("cat", "dog")
L_SHAPE = np.zeros((HEIGHT, WIDTH), dtype=bool)
L_SHAPE[5:20, 5:10] = True
L_SHAPE[15:20, 5:25] = True
POLYGON = [5, 5, 10, 5, 10, 15, 25, 15, 25, 20, 5, 20]
SMALL = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
OTHER = [30, 2, 38, 2, 34, 12]


def samples(folder: Path, settings: DatasetSettings, told: list[str] | None = None) -> dict[str, dict[str, Any]]:
    tell = None if told is None else told.append
    table = ingest(open_dataset(settings), NAMES, Run.create(str(folder / "run")), tell=tell)
    return {row["sample_id"]: row for row in table.to_pylist()}


def picture(folder: Path, name: str = "a.png") -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(folder / name)


def packed(array: np.ndarray) -> bytes:
    """An array as FiftyOne stores it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return zlib.compress(buffer.getvalue())


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask
