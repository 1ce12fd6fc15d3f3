"""What every reader gives: one record a sample, and the dataset's own list of classes if it has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Box(NamedTuple):
    """A half-open pixel rectangle of the upright image, as the dataset says it: not clipped, perhaps not valid."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str | None = None
    """None: the sample's own label."""


@dataclass(frozen=True)
class Record:
    """One sample as the dataset describes it; nothing of it was checked against the image."""

    sample_id: str
    """Path relative to the dataset's root, POSIX; the path or URL itself where it lies outside."""
    uri: str
    """Absolute local path or fsspec URL of the image."""
    place: str
    """Where the dataset says so, for messages: a file and a line."""
    label: str | None
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    problem: str | None = None
    """Why the image cannot be found, where the reader knows."""


@dataclass(frozen=True)
class DatasetClass:
    """A class of the dataset's own list."""

    key: str
    """What labels say, such as a WordNet id."""
    name: str
    aliases: tuple[str, ...] = ()
    """Other names under which a model may list it."""


class DatasetReader(Protocol):
    """A format of datasets. Raises UserError, with file, line and remedy, for a dataset that is malformed itself."""

    def records(self) -> Iterator[Record]:
        """Samples in the dataset's order, each ``sample_id`` once if the dataset is sound."""
        ...

    def classes(self) -> tuple[DatasetClass, ...]:
        """The dataset's classes in the order of their indices; empty if it has no list."""
        ...
