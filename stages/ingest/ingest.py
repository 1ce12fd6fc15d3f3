"""The ingest stage: a dataset to the samples table of a run."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.ingest.facts import KNOWN_COLUMNS, Facts, ImageFacts, Look, look_here, read_all
from stages.ingest.labels import LabelResolver, check_labels, left_over
from stages.ingest.mapping import read_mapping
from stages.ingest.places import Bounds
from stages.ingest.plausibility import check_boxes
from stages.ingest.recognise import Dataset
from stages.ingest.record import AT_ONCE, Record, Records
from stages.ingest.samples.crop_names import keep_names
from stages.ingest.samples.mask_remarks import MaskRemarks
from stages.ingest.samples.objects import choose_labels, cut_out, samples_of, used_labels
from stages.ingest.samples.row import Row, other_size, sample_row
from stages.ingest.settings import DatasetSettings, Labels
from stages.ingest.shapes import file_of
from stages.sorting import sorted_by
from stages.words import counted
from storage.errors import UserError, on_one_line, shortened
from storage.run import Run
from storage.tables import SAMPLES

_OF_FILES = {"uri", "mtime_ns"}
"""Columns that say where an image lies and since when, and not what it is."""
_TOLD = {
    "each": "each class that an image has boxes of is a sample, named path#class (dataset.labels: each)",
    "crop": "each object is a sample, a crop named path#number, with {context:g} of its sides left around it "
    "(dataset.labels: crop, dataset.crop_context)",
    "largest_box": "an image has the class of its largest box (dataset.labels: largest_box)",
}
_SHARED = (
    "{shared} of {images} images have several classes: where one of them is predicted, accuracy leaves out the samples "
    "of the others; dataset.labels: crop makes each object a picture of its own"
)


def ingest(
    dataset: Dataset,
    class_names: Sequence[str],
    run: Run,
    progress: Callable[[int, int], object] | None = None,
    tell: Callable[[str], object] | None = None,
    look: Look = look_here,
) -> pa.Table:
    """:func:`list_samples`, stored as the samples table of ``run``."""
    samples = list_samples(dataset, class_names, run, progress, tell, look)
    store_samples(run, samples)
    return samples


def store_samples(run: Run, samples: pa.Table) -> None:
    """Write the samples table of ``run``, and nothing if it has the same.

    What was found on other samples is removed before: findings beside labels that they are not of would be believed.
    """
    if run.has_table("samples"):
        # A column at a time: the former table may be as large as this one.
        changed = {name for name in SAMPLES.names if run.table("samples", [name])[name] != samples[name]}
        if not changed:
            return
        if changed - _OF_FILES:
            for name in ("metrics", "findings", "classes"):
                run.discard_table(name)
    run.write_table("samples", samples)


def list_samples(
    dataset: Dataset,
    class_names: Sequence[str],
    run: Run,
    progress: Callable[[int, int], object] | None = None,
    tell: Callable[[str], object] | None = None,
    look: Look = look_here,
) -> pa.Table:
    """The samples of a dataset, sorted by row; those that ``run`` has stored keep their rows.

    ``class_names`` are the model's, in the order of its outputs. ``progress`` is called with the images done and their
    number, ``tell`` with each line that a person should know of the dataset as a whole. ``look`` says who looks at the
    images. A sample keeps its row for good: new ones get the next rows, and one that is not in the dataset any more (or
    not in its chosen part) stays with status ``removed``. A file whose URI, size and modification time are those of the
    last time is not read again. Nothing is written.

    A bad sample gets a status and a reason. Raises UserError if the dataset itself is missing, empty or malformed, if
    no image of it exists, if the model knows none of its labels, or if its boxes cannot be what they are read as.
    """
    settings = dataset.settings

    def say(line: str) -> None:
        if tell is not None:
            tell(on_one_line(line))

    bounds = Bounds.of(settings)
    images = _choose(settings, Records.of(_within(bounds, record) for record in dataset.reader.records()))
    for line in dataset.reader.remarks():
        say(line)
    how = choose_labels(settings.labels, images, of_objects=dataset.of_objects)
    mapping = read_mapping(settings.mapping) if settings.mapping else None
    labels = LabelResolver(class_names, dataset.classes(), mapping, used_labels(images))
    for line in _check_classes(images, how, labels, class_names, settings):
        say(line)

    columns = ["sample_id", "row", *KNOWN_COLUMNS]
    known = run.table("samples", columns) if run.has_table("samples") else SAMPLES.empty_table().select(columns)
    facts = read_all(images, known, progress, look)
    if facts.column("size_bytes").null_count == len(images):
        problem = on_one_line(shortened(str(facts.column("problem")[0])))
        raise UserError(
            f"none of the {len(images)} images of {settings.path} can be found; the first, {images[0].place}: "
            f"{problem}; check dataset.path and dataset.images"
        )
    for line in (*check_boxes(images, facts, insisted=settings.boxes is not None), *_duplicates(images, facts)):
        say(line)
    if how == "crop":
        pairs = zip(images, facts, strict=True)
        images = Records.of(
            crop
            for image, found in pairs
            for crop in _crops(samples_of(image, how, labels), found, settings.crop_context)
        )
        images = keep_names(images, known)
        facts = read_all(images, known, progress, look)
    samples = ([image] if how == "crop" else samples_of(image, how, labels) for image in images)
    remarks = MaskRemarks()
    current = _numbered(pa.concat_tables(_tables(_rows(samples, facts, labels, remarks, how))), known)
    for line in remarks.lines(current, of_images=images.has_shapes()):
        say(line)
    del images, facts  # a million of them are .3 GB, which what follows may need
    return _with_duplicates(_sorted(pa.concat_tables([current, _removed(current, known, run)])))


def _check_classes(
    images: Records, how: Labels, labels: LabelResolver, class_names: Sequence[str], settings: DatasetSettings
) -> list[str]:
    """Lines about what the samples are and which classes they have; raises UserError if the model knows none."""
    names: Counter[str] = Counter()
    shared = 0
    for image in images:
        several = samples_of(image, how, labels)
        names.update(record.label for record in several if record.label is not None)
        shared += len(several) > 1
    check_labels(map(labels.resolve, names), class_names)
    told = [_TOLD[how].format(context=settings.crop_context)] if how in _TOLD else []
    if how == "each" and shared:
        told.append(_SHARED.format(shared=shared, images=len(images)))
    return [*told, *labels.remarks(), *left_over(names, labels)]


def _within(bounds: Bounds, record: Record) -> Record:
    """The record, with a problem where its image or its annotation leads out of the dataset's folders."""
    if problem := bounds.problem(record.uri):
        return replace(record, problem=problem)
    if record.annotation and (problem := bounds.problem(record.annotation)):
        return replace(record, label=None, boxes=(), notes=(), problem=f"its annotation {problem}")
    for shape in (record.shape, *(box.shape for box in record.boxes)):
        if (path := file_of(shape)) and (problem := bounds.problem(path)):
            return replace(record, boxes=(), shape=None, notes=(), problem=f"its mask {problem}")
    return record


def _rows(
    samples: Iterable[list[Record]], facts: Facts, labels: LabelResolver, remarks: MaskRemarks, how: Labels
) -> Iterator[Row]:
    """The rows of the samples, given image by image, without their numbers; ``remarks`` gets those on masks."""
    for several, found in zip(samples, facts, strict=True):
        indices = (labels.resolve(record.label).class_index for record in several)
        classes = {index for index in indices if index is not None}
        for record in several:
            row = sample_row(record, found, labels, remarks, how)
            yield row | {"other_classes": sorted(classes - {row["class_index"]})}


def _tables(rows: Iterator[Row]) -> Iterator[pa.Table]:
    """The rows as tables of a few thousand, so that no more of them are Python objects at a time."""
    while some := list(islice(rows, AT_ONCE)):
        yield pa.Table.from_pylist(some, schema=SAMPLES)


def _numbered(samples: pa.Table, known: pa.Table) -> pa.Table:
    """The samples with their rows: those that they have among ``known``, and the next ones for new samples.

    Raises UserError where two samples have one name, and so would have one row.
    """
    names = samples["sample_id"].value_counts()
    if len(names) < samples.num_rows:
        twice = names.filter(pc.greater(names.field("counts"), 1))[0]["values"]
        raise UserError(
            f"two samples are named {twice}; if an image file's own name ends in # and a number or a class, give it "
            "another one"
        )
    places = pc.index_in(samples["sample_id"], value_set=known["sample_id"])
    new = np.array(places.is_null())
    first = pc.max(known["row"]).as_py() + 1 if known.num_rows else 0
    numbers = np.cumsum(new) - 1 + first
    numbers[~new] = known["row"].take(places.drop_null())
    return samples.set_column(SAMPLES.get_field_index("row"), SAMPLES.field("row"), pa.array(numbers, pa.int64()))


def _sorted(samples: pa.Table) -> pa.Table:
    """The samples by row; the same table, not a copy, where they are so already."""
    rows = np.array(samples["row"])
    return samples if (rows[1:] > rows[:-1]).all() else sorted_by(samples, [("row", "ascending")])


def _removed(current: pa.Table, known: pa.Table, run: Run) -> pa.Table:
    """The rows of the samples that the run knows and that are not among the ``current`` ones."""
    missing = pc.invert(pc.is_in(known["sample_id"], value_set=current["sample_id"]))
    if not pc.any(missing).as_py():
        return SAMPLES.empty_table()
    gone = run.table("samples").filter(missing)
    for name, value in (("status", "removed"), ("reason", "not in the chosen part of the dataset any more")):
        place = SAMPLES.get_field_index(name)
        gone = gone.set_column(place, SAMPLES.field(name), pa.repeat(pa.scalar(value), gone.num_rows))
    return gone.cast(SAMPLES)


def name_outputs(
    dataset: Dataset, class_names: Sequence[str], tell: Callable[[str], object] | None = None
) -> tuple[str, ...]:
    """The model's ``class_names`` in the dataset's words: see :meth:`LabelResolver.name_outputs`.

    ``tell`` is called with a line where these are taken by their place in the dataset's list.
    Raises UserError for a dataset whose list of classes cannot be read.
    """
    mapping = read_mapping(dataset.settings.mapping) if dataset.settings.mapping else None
    labels = LabelResolver(class_names, dataset.classes(), mapping)
    for line in labels.remarks():
        if tell is not None:
            tell(on_one_line(line))
    return labels.name_outputs()


def _crops(samples: list[Record], facts: ImageFacts, context: float) -> list[Record]:
    """The crops of an image, or the image itself where there is nothing to cut out of it."""
    if facts.problem is None and facts.width and facts.height and samples[0].boxes:
        note = other_size(samples[0], facts)
        crops = cut_out(samples, facts.width, facts.height, context)
        return crops if note is None else [replace(crop, notes=(*crop.notes, note)) for crop in crops]
    return samples[:1]


def _choose(settings: DatasetSettings, records: Records) -> Records:
    """The records of the chosen split, at most ``limit`` of them, in their order; each image once."""
    if not len(records):
        raise UserError(f"dataset.path: {settings.path} lists no image; add at least one row")
    if settings.split is not None:
        splits = records.column("split")
        records = records.filter(pc.fill_null(pc.equal(splits, settings.split), False))
        if not len(records):
            found = ", ".join(sorted(pc.unique(splits.drop_null()).to_pylist()))
            raise UserError(f"dataset.split: {settings.path} has no split {settings.split!r}; it has {found or 'none'}")
    names = records.column("sample_id")
    counts = names.value_counts()
    if len(counts) < len(names):
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        _refuse_second(records.filter(pc.is_in(names, value_set=twice)))
    if settings.limit is None or settings.limit >= len(records):
        return records
    # Each image gets a random number from its name, so the choice does not depend on the order, and a higher limit only
    # adds images.
    drawn = heapq.nsmallest(
        settings.limit, ((_lot(settings.seed, name.as_py()), place) for place, name in enumerate(names))
    )
    return records.take(sorted(place for _, place in drawn))


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _refuse_second(records: Records) -> None:
    """Raise UserError for the first of the records whose image is that of one before it."""
    seen: dict[str, Record] = {}
    for record in records:
        first = seen.setdefault(record.sample_id, record)
        if first is not record:
            raise UserError(
                f"{record.place}: the image {shortened(record.sample_id)} is listed a second time (first: "
                f"{first.place}); give each image one row, with all of its boxes"
            )


def _with_duplicates(table: pa.Table) -> pa.Table:
    """The samples, each that shows the same bytes as one before it with the name of that one.

    Samples of one image are none, unless they are of one class, as two crops of an object that is annotated twice are.
    """
    counts = table["digest"].value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").drop_null()
    shared = table.filter(pc.is_in(table["digest"], value_set=repeated)).filter(pc.field("status") != "removed")
    of_class: dict[tuple[str, int | None], str] = {}
    of_any: dict[str, tuple[str, str]] = {}
    named: dict[int, str] = {}
    for row in shared.select(["row", "sample_id", "uri", "digest", "class_index"]).to_pylist():
        first, uri = of_any.setdefault(row["digest"], (row["sample_id"], row["uri"]))
        same = of_class.setdefault((row["digest"], row["class_index"]), row["sample_id"])
        if same != row["sample_id"]:
            named[row["row"]] = same
        elif uri != row["uri"]:
            named[row["row"]] = first
    places = pc.index_in(table["row"], value_set=pa.array(named, pa.int64()))
    column = pa.array(named.values(), pa.string()).take(places.combine_chunks())
    return table.set_column(SAMPLES.get_field_index("duplicate_of"), SAMPLES.field("duplicate_of"), column)


def _duplicates(images: Records, facts: Facts) -> list[str]:
    """A line about images with the same bytes, each of which counts in every rate; files that cannot be read count in
    none."""
    digests = pc.if_else(facts.column("problem").is_null(), facts.column("digest"), None)
    counts = digests.drop_null().value_counts()
    repeats = pc.sum(counts.field("counts")).as_py() - len(counts) if len(counts) else 0
    if not repeats:
        return []
    digest = next(entry["values"] for entry in counts if entry["counts"].as_py() > 1)
    first, second = images.column("sample_id").filter(pc.equal(digests, digest))[:2].to_pylist()
    same = counted(repeats, "image is", "images are")
    return [f"{same} the same file as another, such as {second} and {first}; each counts (samples.duplicate_of)"]
