"""Schemas of the tables of a run. Every field documents itself: description, unit and range in its metadata."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from storage.columns import PROBABILITY, Kind, columns_of
from storage.integrity import seals


def _field(name: str, kind: pa.DataType, description: str, unit: str = "", range_: str = "") -> pa.Field:
    metadata = {"description": description}
    if unit:
        metadata["unit"] = unit
    if range_:
        metadata["range"] = range_
    return pa.field(name, kind, metadata=metadata)


def _text(name: str, description: str, range_: str = "") -> pa.Field:
    return _field(name, pa.string(), description, "", range_)


def _real(name: str, description: str, range_: str = PROBABILITY, unit: str = "") -> pa.Field:
    return _field(name, pa.float32(), description, unit, range_)


def _count(name: str, description: str, unit: str = "") -> pa.Field:
    return _field(name, pa.int32(), description, unit, ">= 0")


BOX = pa.struct(
    [
        pa.field("x0", pa.float32()),
        pa.field("y0", pa.float32()),
        pa.field("x1", pa.float32()),
        pa.field("y1", pa.float32()),
        pa.field("label", pa.string()),
    ]
)

REGION = pa.struct([pa.field(edge, pa.float32()) for edge in ("x0", "y0", "x1", "y1")])

_KEYS = [
    _text(
        "sample_id",
        "Path of the image relative to the dataset's root, POSIX; path#label where each class is a sample.",
    ),
    _field("row", pa.int64(), "Row of the sample in every map array of the run; assigned once.", "", ">= 0"),
    _text("target", "Which class is explained.", "label | predicted | top1 ..."),
    _text("method", "The saliency method.", "opti_cam | grad_cam | uniform ..."),
]

SAMPLES = pa.schema(
    [
        _KEYS[0],
        _KEYS[1],
        _text("uri", "Where the image is read from: a local path or an fsspec URL."),
        _text("digest", "SHA-256 of the image file."),
        _field("size_bytes", pa.int64(), "Size of the image file.", "byte", ">= 0"),
        _field(
            "mtime_ns",
            pa.int64(),
            "Modification time of the file; null where the file system has none.",
            "ns",
        ),
        _count("width", "Width of the upright image (EXIF orientation applied).", "px"),
        _count("height", "Height of the upright image.", "px"),
        _text("label", "Ground-truth class name; null if unknown."),
        _field("class_index", pa.int32(), "Index of the label among the model's classes; null if it has none."),
        _field(
            "boxes",
            pa.list_(BOX),
            "Ground-truth boxes, half-open [x0, x1) x [y0, y1), clipped to the upright image; a null label means "
            "the sample's.",
            "px",
        ),
        _text(
            "mask",
            "Pixels of the upright image that are the sample's own objects, as COCO's compressed run lengths; null "
            "where its boxes alone say it.",
        ),
        _field(
            "object_masks",
            pa.list_(pa.string()),
            "Pixels of each of `boxes` that are its object, likewise; null for one of which the dataset does not say, "
            "and for the objects that are samples of their own.",
        ),
        _field(
            "other_classes",
            pa.list_(pa.int32()),
            "Classes of the model that other samples of the same image have: a prediction of one is no mistake.",
        ),
        _text(
            "duplicate_of",
            "The first sample of the same bytes, of the same class if there is one; null if this is the first.",
        ),
        _text("split", "Part of the dataset the sample belongs to; null if none."),
        _text("status", "Whether the sample can be used.", "ok | unreadable | no_class | no_box | removed"),
        _text("reason", "Why the status is not ok, or what was dropped from the sample."),
    ]
)

DONORS = pa.schema(
    [
        _KEYS[0],
        _KEYS[1],
        _text("digest", "SHA-256 of the image file."),
        _field("class_index", pa.int32(), "Index of the label among the model's classes."),
        _field("boxes", pa.list_(BOX), "Its own boxes when it was chosen.", "px"),
    ]
)

_TYPES: dict[Kind, pa.DataType] = {
    "real": pa.float32(),
    "integer": pa.int32(),
    "index": pa.int32(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "region": REGION,
    "vector": pa.list_(pa.float16()),
    "probabilities": pa.list_(pa.float32()),
}


def schema_of(table: str) -> pa.Schema:
    """The schema of ``explain`` or ``scores``: the keys of a row, and the table's columns."""
    fields = [
        _field(column.name, _TYPES[column.kind], column.description, column.unit, column.range)
        for column in columns_of(table)
    ]
    return pa.schema([*_KEYS, *fields])


EXPLAIN = schema_of("explain")
SCORES = schema_of("scores")

METRICS = pa.schema(
    [
        *_KEYS[2:],
        _text(
            "metric", "A column of `scores` or `explain`, or a metric of the whole dataset: box_acc, max_box_acc_v2."
        ),
        _real("value", "Mean over the samples where it is defined; the metric of the dataset.", ""),
        _real("low", "Lower end of its 95% interval: Wilson for shares, else bootstrap; null for box accuracies.", ""),
        _real("high", "Upper end.", ""),
        _real("threshold", "Threshold on the map that was chosen for the whole dataset; null for means."),
        _count("n", "Samples where it is defined."),
    ]
)

FINDINGS = pa.schema(
    [
        *_KEYS,
        _text("rule", "Rule that found it."),
        _text(
            "kind",
            "A flag says that something is wrong, by an experiment; a description filters and explains.",
            "flag | description",
        ),
        _real("severity", "How bad, for sorting."),
        _text("reason", "One line in words, with the numbers."),
        _text("evidence", "The rule's evidence columns and their values, as JSON."),
        _text("cue_id", "Cue cluster the finding belongs to; null if none."),
    ]
)

CLASSES = pa.schema(
    [
        _text("label", "Class name."),
        _field("class_index", pa.int32(), "Index among the model's classes."),
        _count("n", "Samples of the class that were explained."),
        _count("n_evaluable", "Of these, evaluable ones."),
        _count(
            "n_untestable",
            "Of these, ones that could not be tested: outside_room is too small for a flag, or no sample of another "
            "class lends an object.",
        ),
        _real("accuracy", "Share predicted right."),
        _real("accuracy_low", "Lower end of its 95% Wilson interval."),
        _real("accuracy_high", "Upper end."),
        _real(
            "auroc",
            "Share of pairs of an image with the class and one without in which the first has the higher p, a tie "
            "being half; null where classes exclude each other.",
        ),
        _real("average_precision", "Mean precision down to each image of the class, by p; null like auroc."),
        _real("miss_rate", "Share of evaluable samples whose map points outside every box."),
        _real("miss_rate_low", "Lower end of its 95% Wilson interval."),
        _real("miss_rate_high", "Upper end."),
        _real("miss_rate_null", "Its null: mean of 1 - box_area_frac."),
        _real("reliance_rate", "Share of the testable samples that the rule relies_on_outside flags."),
        _real("reliance_low", "Lower end of its 95% Wilson interval."),
        _real("reliance_high", "Upper end."),
        _real(
            "corrected_rate",
            "Share of such images that rest on the outside, the flag's own errors counted; null where its threshold is "
            "not the default.",
        ),
        _real("corrected_low", "Lower end of its 95% interval (Lang and Reiczigel)."),
        _real("corrected_high", "Upper end."),
        _real(
            "reliance_p",
            "One-sided Fisher p-value of the flags in the class against those in the other classes, untestable samples "
            "not being flagged; null below the minimum n, and where no sample could be tested.",
        ),
        _real("reliance_q", "The same after Benjamini-Hochberg over classes."),
        _real("lift_median", "Median energy_lift of evaluable samples.", ">= 0"),
        _real("lift_low", "Lower end of its 95% bootstrap interval; null below the minimum n.", ">= 0"),
        _real("lift_high", "Upper end.", ">= 0"),
        _real("context_reliance_median", "Median context_reliance of evaluable samples."),
        _real("context_low", "Lower end of its 95% bootstrap interval; null below the minimum n."),
        _real("context_high", "Upper end."),
        _count("n_findings", "Flags of the class."),
    ]
)

ENRICHED = pa.struct(
    [
        pa.field("label", pa.string()),
        pa.field("n", pa.int32()),
        pa.field("p", pa.float64()),
        pa.field("q", pa.float64()),
    ]
)

EXEMPLAR = pa.struct([pa.field("sample_id", pa.string()), pa.field("target", pa.string()), pa.field("box", REGION)])

CUES = pa.schema(
    [
        _text("cue_id", "Name of the cue; it keeps it from audit to audit while half of its samples stay together."),
        _KEYS[3],
        _field("rank", pa.int32(), "1 for the cue whose hiding costs most.", "", ">= 1"),
        _count("size", "Samples in it."),
        _real("mean_drop", "Mean drop_outside of its samples: what hiding it costs.", "[-1, 1]"),
        _real("mean_drop_low", "Lower end of its 95% bootstrap interval.", "[-1, 1]"),
        _real("mean_drop_high", "Upper end.", "[-1, 1]"),
        _real("mean_drop_random", "Mean drop_random of the same samples: the matched null.", "[-1, 1]"),
        _real("alike", "Mean cosine of the outside_features of two of its samples.", "[-1, 1]"),
        _real("alike_p", "Share of samples in no cue that are as alike with their nearest neighbours; null: too few."),
        _text("weak", "Why it may be no cue at all, in words; null for one that is strong."),
        _field(
            "classes",
            pa.list_(ENRICHED),
            "Classes more frequent in it than in the other samples: n in the cue, one-sided Fisher p, and q after "
            "Benjamini-Hochberg over all cues and classes, at most .05.",
        ),
        _field("sample_ids", pa.list_(pa.string()), "Its samples, the most central first."),
        _field(
            "exemplars",
            pa.list_(EXEMPLAR),
            "The first of them: the target whose class relies on the cue, and hidden_box, what to look at.",
            "px",
        ),
        _field("centroid", pa.list_(pa.float32()), "Mean direction of its samples' outside_features; not in SQL."),
    ]
)

CUE_NAMES = pa.schema(
    [
        _text("cue_id", "The cue."),
        _text("name", "What people call it."),
        _text("reviewer", "Who named it."),
        _field("time", pa.timestamp("us", tz="UTC"), "When, by the clock of the machine."),
    ]
)

REVIEWS = pa.schema(
    [
        _KEYS[0],
        _KEYS[2],
        _text("rule", "Rule of the finding that was judged."),
        _text(
            "verdict",
            "What the reviewer said; withdrawn: the verdict before was taken back.",
            "confirmed | false_alarm | fix_box | fix_label | unsure | withdrawn",
        ),
        _text("label", "With fix_label: the right class; null if the reviewer did not say."),
        _field(
            "boxes",
            pa.list_(BOX),
            "With fix_box: all boxes as the reviewer left them, half-open pixels of the upright image; a null label "
            "means the sample's. Null if none was drawn.",
            "px",
        ),
        _text("note", "Free text."),
        _text("reviewer", "Who."),
        _field("time", pa.timestamp("us", tz="UTC"), "When, by the clock of the machine."),
        _field(
            "number",
            pa.int64(),
            "Counts the verdicts in the order in which they were given. Of one sample_id, target, rule and reviewer "
            "the highest number counts, of equal numbers the last by time. Null, of an earlier version, is 0.",
            "",
            ">= 0",
        ),
    ]
)

SANITY = pa.schema(
    [
        _KEYS[2],
        _KEYS[3],
        _text("check", "What the stored maps were compared with.", "again | weights | noise | class | reference"),
        _field(
            "level", pa.int32(), "Blocks of random weights, from the output down; null for other checks.", "", ">= 1"
        ),
        _text("layer", "The modules whose weights this level randomised on top of those before; or which reference."),
        _text("metric", "Similarity of two maps of one image.", "spearman | ssim | hog"),
        _real("median", "Median over images; null where it is defined for none.", "[-1, 1]"),
        _real("low", "Lower end of its 95% bootstrap interval; null below two images.", "[-1, 1]"),
        _real("high", "Upper end.", "[-1, 1]"),
        _count("n", "Images on which the metric is defined: not where a map is constant, except for ssim."),
        _field("seed", pa.int64(), "Seed of the choice of images, the weights and the noise.", "", ">= 0"),
        _text("fault", "What is wrong with the maps of the method and target, in words; null if they pass."),
        _field("rows", pa.list_(pa.int64()), "Rows of the maps that were checked."),
        _text("maps_checksum", "SHA-256 of those maps as stored: another one now means that the check is out of date."),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "samples": SAMPLES,
    "explain": EXPLAIN,
    "scores": SCORES,
    "metrics": METRICS,
    "findings": FINDINGS,
    "classes": CLASSES,
    "cues": CUES,
    "cue_names": CUE_NAMES,
    "reviews": REVIEWS,
    "sanity": SANITY,
    "donors": DONORS,
}

PARTED = ("explain", "scores")


def without_vectors(schema: pa.Schema) -> list[str]:
    """Columns of a table for people and SQL: all but the lists of numbers, which only the audit's clustering reads."""
    return [
        field.name
        for field in schema
        if not (pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type))
    ]


NO_TABLE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What pyarrow raises of a Parquet or Arrow file that is damaged; ValueError where a name in it is no UTF-8."""

CHECKED = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
)
"""Parquet whose pages are compared with their checksums as they are read; files of earlier versions have none."""


def encode(
    table: pa.Table, schema: pa.Schema, metadata: dict[str, str] | None = None, *, checksums: bool = True
) -> bytes:
    """Parquet bytes of ``table`` cast to ``schema``, with a CRC32 a page and one of the file
    (``storage/integrity/seals.py``); the same bytes for the same content.

    Raises ``KeyError`` or ``pyarrow.ArrowInvalid`` if a column is missing or does not fit.
    """
    table = table.select(schema.names).cast(schema)
    if metadata:
        table = table.replace_schema_metadata({**(schema.metadata or {}), **metadata})
    sink = io.BytesIO()
    if checksums:
        vectors = sorted(set(schema.names) - set(without_vectors(schema)))
        seals.write_sealed(table, sink, vectors, compression="zstd", write_page_checksum=True)
    else:
        pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode(
    content: bytes,
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """The table in Parquet bytes: all of it, or ``columns`` of the rows ``where`` a condition holds.

    With a ``schema``, its columns: those that the bytes of an earlier version lack are null. Raises ValueError where
    the bytes are not those that were written.
    """
    if seals.holds(content) is False:
        raise ValueError(seals.CHANGED)
    wanted = None if columns is None else list(columns)
    return pq.read_table(
        io.BytesIO(content), columns=wanted, filters=where, schema=schema, page_checksum_verification=True
    )
