"""Images without a file of their own, which the App serves files of: crops, and members of tars and tables."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from storage.media.containers import Crop, Member
from storage.media.images import ImageError, decode_image, read_bytes, stored_as

SHOWN = ("JPEG", "PNG", "WEBP", "GIF")
"""Formats that every browser shows; others become PNG."""


def needs_picture(uri: str) -> bool:
    """Whether an image is inside a file that holds more than it."""
    return Crop.parse(uri) is not None or Member.parse(uri) is not None


def write_pictures(directory: Path, images: Sequence[tuple[str, str]], *, threads: int) -> list[Path | None]:
    """Write images, each its uri and digest, as files named by their digest; existing ones are kept.

    None for one that cannot be read any more.
    """
    directory.mkdir(parents=True, exist_ok=True)
    there = {path.stem: path for path in directory.iterdir()}
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda image: there.get(image[1]) or _write(directory, *image), images))


def _write(directory: Path, uri: str, digest: str) -> Path | None:
    try:
        content = read_bytes(uri)
        kind, _ = stored_as(content)
        if kind not in SHOWN:
            sink, kind = io.BytesIO(), "PNG"
            decode_image(content).save(sink, kind, compress_level=1)
            content = sink.getvalue()
    except ImageError:
        return None
    path = directory / f"{digest}.{kind.lower()}"
    temporary = directory / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
