"""A sample, a row of the table ``samples``: its own boxes and mask, and its image file if that is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from storage.media.images import ImageError, decode_image, read_bytes
from storage.media.object_masks import ObjectMask, decode_mask, within

Edges = tuple[float, float, float, float]
"""(x0, y0, x1, y1) of a half-open box, px."""


OTHER_SIZE = "of another size than the annotation says"
"""Part of the reason of a sample whose boxes may be of another picture, or of one on its side."""


class ImageChanged(ImageError):
    """The file at a sample's uri is another one than the run saw."""


def own_boxes(sample: Mapping[str, Any]) -> list[Edges]:
    """The boxes of the sample's own class, px of the upright image: those that bear its label, or none."""
    return [edges(box) for box in sample["boxes"] or () if box["label"] in (None, sample["label"])]


def other_boxes(sample: Mapping[str, Any]) -> list[Edges]:
    """The boxes of other classes' objects, px of the upright image: those that bear another label than the sample's."""
    return [edges(box) for box in sample["boxes"] or () if box["label"] not in (None, sample["label"])]


def own_mask(sample: Mapping[str, Any]) -> ObjectMask | None:
    """The pixels (height, width) of the upright image that are the sample's own objects; None where boxes alone say it.

    Raises ValueError for a mask that is not the image's.
    """
    counts = sample.get("mask")
    return None if counts is None else decode_mask(counts, sample["width"], sample["height"])


def object_masks(sample: Mapping[str, Any]) -> list[ObjectMask | None]:
    """Of each of the sample's boxes the pixels of its object; None for one that no mask of the sample is of.

    Where the dataset has one mask for all of the sample's objects, each has what its box holds of it, pixels by their
    centres. Raises ValueError for a mask that is not the image's.
    """
    boxes, counts = sample["boxes"] or (), sample.get("object_masks")
    if counts is not None:
        size = sample["width"], sample["height"]
        return [None if one is None else decode_mask(one, *size) for one in counts]
    whole = own_mask(sample)
    if whole is None:
        return [None] * len(boxes)
    return [within(whole, edges(box)) if box["label"] in (None, sample["label"]) else None for box in boxes]


def truth_of(samples: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of samples as results depend on them, for a digest: with the mask of those that have one.

    A sample without a mask says nothing of it, so digests of earlier versions, which knew none, still hold.
    """
    rows = samples.select([*columns, "mask"]).to_pylist()
    return [{name: value for name, value in row.items() if name != "mask" or value is not None} for row in rows]


def bytes_digest(samples: pa.Table, columns: Sequence[str]) -> str:
    """SHA-256 of columns as Arrow has them in memory, a hundred times faster than of the text of their rows.

    The same digest is of the same rows. Another one may be too, for example by another version of Arrow.
    """
    # Taken out, since a slice keeps bits of its neighbours in the last byte of a bitmap.
    rows = samples.select(columns).take(pa.array(range(samples.num_rows), pa.int64())).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema.remove_metadata()) as stream:
        stream.write_table(rows.replace_schema_metadata(None))
    return hashlib.sha256(sink.getvalue()).hexdigest()


def is_correct(sample: Mapping[str, Any], predicted: int | None) -> bool | None:
    """Whether the predicted class is the sample's; None where nobody can say.

    That is so without a class, and where the image has objects of the predicted class, which are a sample of their own.
    """
    if predicted is None or sample["class_index"] is None or predicted in (sample["other_classes"] or ()):
        return None
    return bool(predicted == sample["class_index"])


def edges(region: Mapping[str, float]) -> Edges:
    """The corners of a stored box or region."""
    return region["x0"], region["y0"], region["x1"], region["y1"]


def read_unchanged(sample: Mapping[str, Any]) -> Image.Image:
    """The upright RGB image of a sample, whose file is compared with the digest that ingest took.

    Raises ImageError for a file that cannot be read, :class:`ImageChanged` for another file than ingest saw.
    """
    content = read_bytes(sample["uri"])
    image = decode_image(content)
    if hashlib.sha256(content).hexdigest() != sample["digest"]:
        raise ImageChanged("unreadable", "the file is not the one that ingest saw; run again")
    return image
