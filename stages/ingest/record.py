"""What every reader gives: one record an image, and the dataset's own list of classes if it has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from storage.media.object_masks import ObjectMask

BoxForm = Literal["xyxy", "xywh", "cxcywh", "yxyx", "voc"]
"""How four numbers say a box: ``voc`` is xyxy of pixels that count from 1, both ends included."""


class Shape(Protocol):
    """What of an image an object covers, where the dataset says more than a box; ``readers.shapes`` has them."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The object's pixels in an image of ``width`` x ``height``; ``box``, px, is around it.

        Raises :class:`stages.ingest.readers.shapes.ShapeError`, in words, where it cannot be a mask of this image.
        """
        ...


class Box(NamedTuple):
    """A half-open rectangle of the upright image, as the dataset says it: not clipped, perhaps not valid."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str | None = None
    """None: the sample's own label."""
    shape: Shape | None = None
    """What of the box is the object; None where the dataset does not say."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image, or one sample of it, as the dataset describes it; nothing of it was checked against the image."""

    sample_id: str
    """Path relative to the dataset's root, POSIX; the path or URL itself where it lies outside."""
    uri: str
    """Absolute local path or fsspec URL of the image."""
    place: str
    """Where the dataset says so, for messages: a file, and where in it."""
    label: str | None
    """Class of the whole image; None where the dataset has none, and in datasets that label objects alone."""
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    problem: str | None = None
    """Why the sample cannot be used, where the reader knows."""
    notes: tuple[str, ...] = ()
    """What was left out of the sample, and why."""
    form: BoxForm = "xyxy"
    """How the dataset wrote the boxes; they are half-open corners already."""
    relative: bool = False
    """Boxes are fractions of the upright image's width and height, not pixels."""
    annotation: str | None = None
    """The file that annotates this image alone, in formats that have one."""
    size: tuple[int, int] | None = None
    """Width and height, px, that the annotation says the image has."""
    shape: Shape | None = None
    """What of the image is of the class ``label``, where the dataset says it for the image as a whole."""


@dataclass(frozen=True)
class DatasetClass:
    """A class of the dataset's own list."""

    key: str
    """What labels say, such as a WordNet id."""
    name: str
    aliases: tuple[str, ...] = ()
    """Other names under which a model may list it."""


class DatasetReader(Protocol):
    """A format of datasets, made from its settings. The docstring's first line says what the format is.

    Raises UserError, with file, line and remedy, for a dataset that is malformed itself. What is wrong with one image
    or its annotation becomes the record's ``problem`` or ``notes``.
    """

    def records(self) -> Iterator[Record]:
        """Images in the dataset's order, each ``sample_id`` once if the dataset is sound."""
        ...

    def classes(self) -> tuple[DatasetClass, ...]:
        """The dataset's classes in the order of their indices; empty if it has no list."""
        ...

    def remarks(self) -> list[str]:
        """What a person should know of how the records were read, one line each; complete after ``records``."""
        ...
