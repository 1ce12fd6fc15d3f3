"""The ``webdataset`` reader: tar shards of images, each beside its class or a JSON of the same key."""

from __future__ import annotations

import json
import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import Any

from stages.ingest.listing import SPLITS, Listing, is_image, split_of
from stages.ingest.places import absolute, exists, is_folder, join, parent
from stages.ingest.readers.manifest import as_text, parse_boxes
from stages.ingest.record import Box, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError, quoted
from storage.media.containers import Member, tar_index
from storage.media.images import ImageError, read_bytes

_LABELS = ("label", "class", "cls")


class WebdatasetReader:
    """WebDataset: tar files; members that share a name up to its first dot are one sample.

    The label is the member ``.cls``, or ``label``, ``class`` or ``cls`` of the member ``.json``, whose ``boxes`` are
    written as in a manifest. Nothing is unpacked: images are read from their places in the tar, so it must not be
    compressed. The split is what the tar's name or folder begins with: ``train-000001.tar``.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_folder(path):
            self._root, self._shards = path, find_shards(Listing(path))
        elif exists(path):
            self._root, self._shards = parent(path), [posixpath.basename(path)]
        else:
            raise UserError(f"dataset.path: there is no {path}; give the folder of the tar files, or one of them")
        if not self._shards:
            raise UserError(f"dataset.path: no .tar below {path}; give the folder of the tar files, or one of them")
        self._form = settings.boxes or "xyxy"
        self._relative = bool(settings.relative)

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        shards = find_shards(listing)
        return f"{len(shards)} tar files, the first {shards[0]}" if shards and not listing.images else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """A tar has no list of classes."""
        return ()

    def remarks(self) -> list[str]:
        """None: a missing image is a problem of its sample."""
        return []

    def records(self) -> Iterator[Record]:
        """Images in the order of the tars and their members."""
        for shard in self._shards:
            archive = join(self._root, shard)
            keys: dict[str, dict[str, str]] = {}
            for name in self._index(archive):
                folder, base = posixpath.split(name)
                key, _, kind = base.partition(".")
                keys.setdefault(posixpath.join(folder, key), {})[kind.lower()] = name
            for members in keys.values():
                if (record := self._record(shard, archive, members)) is not None:
                    yield record

    def _record(self, shard: str, archive: str, members: dict[str, str]) -> Record | None:
        """The sample of members with one key; None where none of them is an image."""
        images = {kind: name for kind, name in members.items() if is_image(name)}
        if not images:
            return None
        kind = min(images, key=lambda kind: "." in kind)  # x.jpg before x.mask.png
        name = images[kind]
        place = f"{archive}, member {quoted(name)}"
        problem = f"its name {quoted(name)} holds '::', which no URL can address; rename it" if "::" in name else None
        label: str | None = None
        boxes: tuple[Box, ...] = ()
        try:
            if "json" in members:
                content = self._json(archive, members["json"])
                label = next((as_text(content[key]) for key in _LABELS if content.get(key) is not None), None)
                boxes = parse_boxes(content.get("boxes"), place, self._form)
            if "cls" in members:
                label = self._read(archive, members["cls"]).decode("utf-8-sig").strip() or None
        except (ImageError, ValueError, RecursionError) as error:
            problem = f"its annotation cannot be read: {error}"
        return Record(
            sample_id=posixpath.join(shard, name),
            uri=Member("tar", name, archive).url,
            place=place,
            label=label,
            boxes=boxes,
            split=split_of(shard) or shard_split(shard),
            problem=problem,
            form=self._form,
            relative=self._relative,
        )

    def _json(self, archive: str, name: str) -> dict[str, Any]:
        content = json.loads(self._read(archive, name))
        if not isinstance(content, dict):
            raise ValueError(f"{quoted(name)} is no JSON object")
        return content

    def _read(self, archive: str, name: str) -> bytes:
        return read_bytes(Member("tar", name, archive).url)

    def _index(self, archive: str) -> dict[str, tuple[int, int]]:
        try:
            return tar_index(archive, "")
        except (tarfile.TarError, OSError) as error:
            raise UserError(
                f"{archive} is no tar that can be read in place: {error}; make it again, without compression"
            ) from None


def find_shards(listing: Listing) -> list[str]:
    """Tar files below a folder."""
    return listing.named(r".*\.(tar|tar\.gz|tgz)")


def shard_split(name: str) -> str | None:
    """The split that the name of a shard begins with, as in ``train-00000-of-00002``; None for none."""
    match = re.match(r"([A-Za-z]\w*?)[-_.]\d", posixpath.basename(name))
    return match[1] if match and match[1].lower().rstrip("0123456789_") in SPLITS else None
