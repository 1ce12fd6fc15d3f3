"""The files below a dataset's folder, listed once, and the image that an annotation names among them."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import takewhile

from stages.ingest.places import files_below, join
from storage.errors import quoted
from storage.media.images import IMAGE_EXTENSIONS

SPLITS = ("train", "val", "valid", "validation", "dev", "test")
"""Names by which datasets call their parts."""


_SPLIT = re.compile(
    rf"(?:[a-z]+[_-])?(?:{'|'.join(SPLITS)}|training|testing)(?:[_-]?(?:\d+|set|data|images|imgs))?", re.IGNORECASE
)


def is_split(folder: str) -> bool:
    """Whether a folder is called as a part of a dataset: train, Testing, val2017, seg_train, test_images."""
    return _SPLIT.fullmatch(folder) is not None


class Listing:
    """All files below ``root``; paths are relative to it, POSIX, sorted."""

    def __init__(self, root: str, files: Iterable[str] | None = None) -> None:
        self.root = root
        self.files = files_below(root) if files is None else sorted(files)
        self.images = [path for path in self.files if is_image(path)]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """The images of each stem; made when an annotation first names one, since a million take .2 GB."""
        found: dict[str, list[str]] = {}
        for path in self.images:
            found.setdefault(stem(_folded(path)), []).append(path)
        return found

    def named(self, pattern: str) -> list[str]:
        """Files whose whole relative path matches a regular expression, capitals or not."""
        matches = re.compile(pattern, re.IGNORECASE).fullmatch
        return [path for path in self.files if matches(path)]

    def find(self, name: str, near: str, filename: str = "", folder: str = "") -> tuple[str | None, str | None]:
        """The image that an annotation in the file ``near`` calls ``name``, as a path; or None and why there is none.

        Accents are compared composed, backslashes are slashes, and an extension may differ if the stem does not. A
        relative name with folders must be found with them. Of an absolute one, which may be of a machine that is gone,
        as many of the last folders must agree as agree anywhere. Of several images the one called
        ``filename`` is taken, then the nearest to ``near``, then the one in a folder called ``folder``, then the one
        whose path from the root is the relative name itself.
        """
        asked = _folded(name.strip().replace("\\", "/"))
        away = asked.startswith("/") or re.match(r"[A-Za-z]:/", asked) is not None
        wanted = [part for part in asked.split("/") if part not in ("", ".", "..")]
        found = self._by_stem.get(stem(asked), []) if wanted else []
        base = wanted[-1] if wanted else ""
        found = [path for path in found if posixpath.basename(_folded(path)) == base] or found
        if not away:
            found = [path for path in found if self._agreeing(path, wanted) >= len(wanted) - 1]
        found = _closest(found, lambda path: self._agreeing(path, wanted))
        found = _closest(found, lambda path: posixpath.basename(_folded(path)) == _folded(filename))
        found = _closest(found, lambda path: _shared(path, near))
        found = _closest(found, lambda path: _folded(folder) in posixpath.dirname(_folded(path)).split("/"))
        found = _closest(found, lambda path: not away and _folded(path) == "/".join(wanted))
        if len(found) == 1:
            return join(self.root, found[0]), None
        if not found:
            return None, f"no image {quoted(name)} in {self.root}"
        some = f"{len(found)} images are named {quoted(name)}: {found[0]}, {found[1]}"
        return None, f"{some}; keep one, or name its folder in dataset.images"

    def _agreeing(self, path: str, wanted: list[str]) -> int:
        """How many of the folders before the names agree, from the last on; the root's own folders count."""
        folders = posixpath.dirname(f"{self.root}/{_folded(path)}").split("/")
        pairs = zip(reversed(folders), reversed(wanted[:-1]), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def is_image(path: str) -> bool:
    """Whether a file's name says that it is an image."""
    return posixpath.splitext(path)[1].lower() in IMAGE_EXTENSIONS and not posixpath.basename(path).startswith("._")


def photos(pictures: Iterable[str]) -> list[str]:
    """The pictures without those that lie below annotations/, as masks do, where another has the same stem."""
    given = list(pictures)
    masks = {path for path in given if "annotations" in posixpath.dirname(path).lower().split("/")}
    elsewhere = {stem(path) for path in given if path not in masks} if masks else set()
    return [path for path in given if path not in masks or stem(path) not in elsewhere]


def stem(path: str) -> str:
    """Name of an image or its annotation without folders and without an extension of either."""
    name = posixpath.basename(path)
    base, extension = posixpath.splitext(name)
    return base if extension.lower() in IMAGE_EXTENSIONS | {".xml", ".txt"} else name


def split_of(path: str) -> str | None:
    """The part of a dataset that one of the folders of a relative path names."""
    return next((part for part in posixpath.dirname(path).split("/") if part.lower() in SPLITS), None)


def _closest(paths: list[str], closeness: Callable[[str], int]) -> list[str]:
    best = max(map(closeness, paths), default=0)
    return [path for path in paths if closeness(path) == best]


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _shared(path: str, other: str) -> int:
    pairs = zip(path.split("/"), other.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
