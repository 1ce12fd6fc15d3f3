"""The ingest stage: a dataset to the samples table of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from stages.ingest.boxes import place_boxes
from stages.ingest.labels import LabelResolver, ResolvedLabel, check_labels
from stages.ingest.readers.imagenet import ImagenetReader
from stages.ingest.readers.manifest import ManifestReader
from stages.ingest.record import Box, DatasetReader, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.images import FileStamp, ImageError, image_size, read_bytes, stamp_file
from storage.run import Run
from storage.tables import SAMPLES

READERS: dict[str, Callable[[DatasetSettings], DatasetReader]] = {
    "imagenet": ImagenetReader,
    "manifest": ManifestReader,
}
THREADS = 8
_AT_ONCE = 1024  # samples handed to the threads in one go: bounds the memory, not the speed

Row = dict[str, Any]


@dataclass(frozen=True)
class ImageFacts:
    """What the file of a sample says; None for what it does not."""

    digest: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    width: int | None = None
    height: int | None = None
    problem: str | None = None
    """Why the image cannot be used."""


def ingest(
    settings: DatasetSettings,
    class_names: Sequence[str],
    run: Run,
    progress: Callable[[int, int], object] | None = None,
) -> pa.Table:
    """Write the samples table of ``run`` and return it, sorted by row.

    ``class_names`` are the model's, in the order of its outputs. ``progress`` is called with the samples done and their
    number. A sample keeps its row for good: new ones get the next rows, and one that is not in the dataset any more (or
    not in its chosen part) stays with status ``removed``. A file whose URI, size and modification time are those of the
    last time is not read again. The table is written once, at the end.

    A bad sample gets a status and a reason. Raises UserError if the dataset itself is missing, empty or malformed, if
    no image of it exists, or if the model knows none of its labels.
    """
    reader = _reader(settings)
    records = _choose(settings, list(reader.records()))
    labels = LabelResolver(class_names, reader.classes())
    check_labels((labels.resolve(record.label) for record in records), class_names)

    known: dict[str, Row] = {}
    if run.has_table("samples"):
        known = {row["sample_id"]: row for row in run.table("samples").to_pylist()}
    next_row = max((row["row"] for row in known.values()), default=-1) + 1
    rows: list[Row] = []
    for record, facts in zip(records, _read_all(records, known, progress), strict=True):
        before = known.pop(record.sample_id, None)
        place = before["row"] if before else next_row
        next_row += before is None
        rows.append(sample_row(record, place, facts, labels))
    if all(row["size_bytes"] is None for row in rows):
        raise UserError(
            f"none of the {len(rows)} images of {settings.path} can be found; the first, {records[0].place}: "
            f"{rows[0]['reason']}; check dataset.path and dataset.images"
        )
    rows += [
        row | {"status": "removed", "reason": "not in the chosen part of the dataset any more"}
        for row in known.values()
    ]
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: int(row["row"])), schema=SAMPLES)
    run.write_table("samples", table)
    return table


def name_outputs(settings: DatasetSettings, class_names: Sequence[str]) -> tuple[str, ...]:
    """The model's ``class_names`` in the dataset's words: see :meth:`LabelResolver.name_outputs`.

    Raises UserError for a dataset whose list of classes cannot be read.
    """
    return LabelResolver(class_names, _reader(settings).classes()).name_outputs()


def sample_row(record: Record, row: int, facts: ImageFacts, labels: LabelResolver) -> Row:
    """One row of the samples table. Of several faults the gravest is the status; the reason names all."""
    label = labels.resolve(record.label)
    boxes: list[Box] = []
    dropped: list[str] = []
    if facts.width is not None and facts.height is not None:
        named = [box._replace(label=_box_label(box.label, label, labels)) for box in record.boxes]
        boxes, dropped = place_boxes(named, facts.width, facts.height)
    status, reasons = "ok", dropped
    if facts.problem is not None:
        status, reasons = "unreadable", [facts.problem]
    elif label.class_index is None:
        status, reasons = "no_class", [str(label.problem), *dropped]
    elif not any(box.label is None for box in boxes):
        status = "no_box"
        if not record.boxes:
            reasons = ["the sample has no box"]
        elif boxes:
            others = sorted({str(box.label) for box in boxes})
            reasons = [f"no box bears the label {label.name!r}, only {', '.join(map(repr, others))}", *dropped]
    return {
        "sample_id": record.sample_id,
        "row": row,
        "uri": record.uri,
        "digest": facts.digest,
        "size_bytes": facts.size_bytes,
        "mtime_ns": facts.mtime_ns,
        "width": facts.width,
        "height": facts.height,
        "label": label.name,
        "class_index": label.class_index,
        "boxes": [box._asdict() for box in boxes],
        "split": record.split,
        "status": status,
        "reason": "; ".join(reasons) or None,
    }


def _box_label(name: str | None, sample: ResolvedLabel, labels: LabelResolver) -> str | None:
    """A box's label in the model's words; None where it is the sample's own."""
    if name is None:
        return None
    resolved = labels.resolve(name).name
    return None if resolved == sample.name else resolved


def _reader(settings: DatasetSettings) -> DatasetReader:
    if settings.reader not in READERS:
        raise UserError(f"dataset.reader: no reader {settings.reader!r}; readers are {', '.join(READERS)}")
    return READERS[settings.reader](settings)


def _choose(settings: DatasetSettings, records: list[Record]) -> list[Record]:
    """The records of the chosen split, at most ``limit`` of them, in their order; each sample once."""
    if not records:
        raise UserError(f"dataset.path: {settings.path} lists no image; add at least one row")
    if settings.split is not None:
        splits = sorted({record.split for record in records if record.split is not None})
        records = [record for record in records if record.split == settings.split]
        if not records:
            raise UserError(
                f"dataset.split: {settings.path} has no split {settings.split!r}; it has {', '.join(splits) or 'none'}"
            )
    seen: dict[str, Record] = {}
    for record in records:
        first = seen.setdefault(record.sample_id, record)
        if first is not record:
            raise UserError(
                f"{record.place}: the image {record.sample_id} is listed a second time (first: {first.place}); "
                "give each image one row, with all of its boxes"
            )
    if settings.limit is None or settings.limit >= len(records):
        return records
    # Each sample draws its lot by name: the choice does not depend on the order, and a higher limit only adds.
    lots = sorted(seen, key=lambda name: hashlib.sha256(f"{settings.seed}:{name}".encode()).digest())
    chosen = set(lots[: settings.limit])
    return [record for record in records if record.sample_id in chosen]


def _read_all(
    records: Sequence[Record],
    known: Mapping[str, Row],
    progress: Callable[[int, int], object] | None,
) -> Iterator[ImageFacts]:
    """Facts of each record's image, in order, read by threads."""
    befores = [known.get(record.sample_id) for record in records]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="ingest") as pool:
        for start in range(0, len(records), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            for done, facts in enumerate(pool.map(read_facts, records[some], befores[some]), start + 1):
                if progress is not None:
                    progress(done, len(records))
                yield facts


def read_facts(record: Record, before: Row | None = None) -> ImageFacts:
    """Facts of a record's image. ``before``, its row of the last time, is believed if the file is the same since."""
    if record.problem is not None:
        return ImageFacts(problem=record.problem)
    facts = ImageFacts()
    try:
        stamp = stamp_file(record.uri)
        if before is not None and before["width"] is not None and _unchanged(record, stamp, before):
            return ImageFacts(before["digest"], stamp.size_bytes, stamp.mtime_ns, before["width"], before["height"])
        content = read_bytes(record.uri)
        digest = hashlib.sha256(content).hexdigest()
        facts = ImageFacts(digest=digest, size_bytes=stamp.size_bytes, mtime_ns=stamp.mtime_ns)
        width, height = image_size(content)
    except ImageError as error:
        return replace(facts, problem=error.reason)
    return replace(facts, width=width, height=height)


def _unchanged(record: Record, stamp: FileStamp, before: Row) -> bool:
    return stamp.mtime_ns is not None and (record.uri, stamp.size_bytes, stamp.mtime_ns) == (
        before["uri"],
        before["size_bytes"],
        before["mtime_ns"],
    )
