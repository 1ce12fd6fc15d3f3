"""Names of files in an export, made from sample_ids: always below its folder, and each once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from stages.review.export.corrected import AnnotatedImage


def sample_paths(images: Iterable[AnnotatedImage]) -> dict[str, PurePosixPath]:
    """A relative path for each sample_id: itself, where it is a path below the dataset's root."""
    taken: set[str] = set()
    return {image.sample_id: PurePosixPath(_once(_below(image.sample_id), taken)) for image in images}


def stems(images: Iterable[AnnotatedImage]) -> dict[str, str]:
    """The same without the extension, for formats that name an image and its annotations alike."""
    taken: set[str] = set()
    return {
        image.sample_id: _once(str(PurePosixPath(_below(image.sample_id)).with_suffix("")), taken) for image in images
    }


def split_name(split: str) -> str:
    """A split as the name of one file or folder."""
    return re.sub(r"[^\w.-]|^\.+", "_", split)


def _below(sample_id: str) -> str:
    """An absolute path or a URL as a path below a folder; neither it nor ``..`` leads out of that."""
    parts = [
        part for part in PurePosixPath(sample_id.partition("://")[2] or sample_id).parts if part not in ("/", "..")
    ]
    return str(PurePosixPath(*parts)) if parts else "image"


def _once(path: str, taken: set[str]) -> str:
    """``path``, numbered before its extension where it is taken; it is taken from then on."""
    candidate, number = path, 1
    while candidate in taken:
        number += 1
        place = PurePosixPath(path)
        candidate = str(place.with_name(f"{place.stem}-{number}{place.suffix}"))
    taken.add(candidate)
    return candidate
