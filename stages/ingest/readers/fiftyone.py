"""The ``fiftyone`` reader: a dataset or saved view of the user's FiftyOne, or a folder that it exported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from stages.ingest.boxes import as_number, as_size, read_box
from stages.ingest.listing import SPLITS, Listing
from stages.ingest.places import absolute, as_stored, decode_text, exists, is_folder, join, relative
from stages.ingest.record import Box, DatasetClass, DatasetReader, Record, Shape
from stages.ingest.settings import FIFTYONE, DatasetSettings
from stages.ingest.shapes import Patch
from storage.errors import UserError, quoted, shortened
from storage.media.images import ImageError, read_bytes

_SAMPLES, _METADATA = "samples.json", "metadata.json"
_REMEDY = "give fiftyone://NAME, fiftyone://NAME/VIEW, or the folder of an export as FiftyOneDataset"
_KINDS = {"Classification": "images", "Detections": "objects"}
"""Types of label that are read, and what they label."""
_OF_DETECTIONS = tuple(f"detections.{name}" for name in ("label", "bounding_box", "mask", "mask_path"))


def fiftyone_reader(settings: DatasetSettings) -> DatasetReader:
    """The reader of a dataset by name, or of an exported folder."""
    if settings.path.startswith(FIFTYONE):
        return FiftyOneReader(settings)
    return ExportReader(settings)


class _Labelled:
    """What both have: samples as dicts, as FiftyOne itself writes them, and the fields that label them."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._wanted = settings.fields
        self._masks = ""
        self._path = settings.path

    def remarks(self) -> list[str]:
        """Nothing: what is missing is a sample's problem."""
        return []

    def _choose(self, kinds: Mapping[str, str]) -> list[str]:
        """The fields to read: those of ``dataset.fields``, else the only one of each kind.

        ``kinds`` are the fields of labels and their types. Raises UserError where there is none, or nobody can tell.
        """
        known = {name: kind for name, kind in kinds.items() if kind in _KINDS}
        for name in self._wanted:
            if name not in known:
                there = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "none"
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise UserError(
                    f"dataset.fields: {self._path} has no Classification or Detections {quoted(name)}; {hint}"
                    f"It has {there}"
                )
        chosen = list(self._wanted or known)
        if not chosen:
            others = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none at all"
            raise UserError(
                f"dataset.path: {self._path} has no field of type Classification or Detections, but {others}"
            )
        for kind, labelled in _KINDS.items():
            same = [name for name in chosen if known[name] == kind]
            if len(same) > 1:
                raise UserError(
                    f"dataset.fields: {', '.join(same)} of {self._path} all label {labelled}; name the one that is the "
                    f"truth, such as dataset.fields: [{same[0]}]"
                )
        return chosen

    def _record(self, sample: Mapping[str, Any], fields: Sequence[str], uri: str, name: str, place: str) -> Record:
        label: str | None = None
        boxes: list[Box] = []
        notes: list[str] = []
        for field in fields:
            found = sample.get(field)
            if not isinstance(found, Mapping):
                continue
            if found.get("_cls") == "Classification":
                label = found.get("label") or None
            for number, entry in enumerate(found.get("detections") or (), 1):
                numbers = [as_number(value) for value in entry.get("bounding_box") or ()]
                if len(numbers) != 4 or None in numbers:
                    notes.append(f"object {number} has no box of four numbers: {quoted(entry.get('bounding_box'))}")
                else:
                    known = [value for value in numbers if value is not None]
                    box = read_box(known, "xywh", entry.get("label") or None)
                    boxes.append(box._replace(shape=self._shape(entry)))
        size = sample.get("metadata") or {}
        width, height = as_size(size.get("width")), as_size(size.get("height"))
        return Record(
            sample_id=name,
            uri=uri,
            place=place,
            label=label,
            boxes=tuple(boxes),
            split=next((tag for tag in sample.get("tags") or () if tag in SPLITS), None),
            notes=tuple(notes),
            form="xywh",
            relative=True,
            size=(width, height) if width and height else None,
        )

    def _shape(self, detection: Mapping[str, Any]) -> Shape | None:
        pixels, path = detection.get("mask"), detection.get("mask_path")
        if pixels is None and not path:
            return None
        return Patch(as_stored(join(self._masks, str(path))) if pixels is None else pixels)


class ExportReader(_Labelled):
    """FiftyOne's own export, FiftyOneDataset: ``metadata.json``, ``samples.json`` and ``data/``; needs no database.

    The split is the first tag that names one.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        super().__init__(settings)
        self._root = absolute(settings.path)
        if not is_folder(self._root) or not exists(join(self._root, _SAMPLES)):
            raise UserError(f"dataset.path: there is no {join(self._root, _SAMPLES)}; {_REMEDY}")
        self._images = absolute(settings.images) if settings.images else self._root
        self._masks = self._root

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        if not {_SAMPLES, _METADATA} <= set(listing.files):
            return None
        return f"{_METADATA} and {_SAMPLES}, as FiftyOne exports"

    def classes(self) -> tuple[DatasetClass, ...]:
        """The field's own list of classes, else the dataset's; empty if it has none."""
        path = join(self._root, _METADATA)
        metadata = self._read(_METADATA) if exists(path) else {}
        return _classes(metadata.get("classes"), metadata.get("default_classes"), self._wanted)

    def records(self) -> Iterator[Record]:
        """Images in the order of the export."""
        samples = self._read(_SAMPLES).get("samples")
        if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
            raise UserError(f"{join(self._root, _SAMPLES)} has no list of samples; export the dataset again")
        kinds: dict[str, str] = {}
        for sample in samples:
            for name, value in sample.items():
                if isinstance(value, dict) and "_cls" in value:
                    kinds.setdefault(name, value["_cls"])
        fields = self._choose(kinds) if samples else []
        for number, sample in enumerate(samples, 1):
            place = f"{join(self._root, _SAMPLES)}, image {number}"
            path = sample.get("filepath")
            if not isinstance(path, str) or not path:
                raise UserError(f"{place}: no filepath; export the dataset again")
            uri = as_stored(join(self._images, path))
            yield self._record(sample, fields, uri, relative(uri, self._images), place)

    def _read(self, name: str) -> dict[str, Any]:
        path = join(self._root, name)
        try:
            content = json.loads(decode_text(read_bytes(path), path, "export the dataset again"))
        except ImageError as error:
            raise UserError(f"dataset.path: cannot read {path} ({error.reason}); {_REMEDY}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not JSON: {error}; export the dataset again") from None
        if not isinstance(content, dict):
            raise UserError(f"{path} is no object of JSON; export the dataset again")
        return content


class FiftyOneReader(_Labelled):
    """A dataset, or a saved view, in the user's own FiftyOne, by name: ``fiftyone://NAME`` or ``fiftyone://NAME/VIEW``.

    The database is the one that FiftyOne itself would use: that of ``FIFTYONE_DATABASE_URI`` or of its config, else its
    default one. Nothing in it is changed. A sample is named by its whole path, since a dataset may gain images of other
    folders.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        super().__init__(settings)
        self._samples = _open(settings.path.removeprefix(FIFTYONE))
        if self._samples.media_type not in ("image", None):
            raise UserError(
                f"dataset.path: {settings.path} is of media type {self._samples.media_type}, and Sightline audits "
                "images"
            )

    def classes(self) -> tuple[DatasetClass, ...]:
        """The field's own list of classes, else the dataset's; empty if it has none."""
        return _classes(self._samples.classes, self._samples.default_classes, self._wanted)

    def records(self) -> Iterator[Record]:
        """Images in the order of the dataset or view."""
        schema = self._samples.get_field_schema()
        kinds = {
            name: kind.__name__
            for name, field in schema.items()
            if (kind := getattr(field, "document_type", None)) is not None and name != "metadata"
        }
        fields = self._choose(kinds)
        wanted = ["filepath", "tags", "metadata.width", "metadata.height"]
        for field in fields:
            inside = ("label",) if kinds[field] == "Classification" else _OF_DETECTIONS
            wanted += [f"{field}.{name}" for name in inside]
        # As they are stored, masks are compressed; as arrays those of a million objects would fill the memory.
        columns = dict(zip(wanted, self._samples.values(wanted, _raw=True), strict=True))
        for number, path in enumerate(columns["filepath"]):
            sample: dict[str, Any] = {
                "tags": columns["tags"][number],
                "metadata": {side: columns[f"metadata.{side}"][number] for side in ("width", "height")},
            }
            for field in fields:
                if kinds[field] == "Classification":
                    sample[field] = {"_cls": "Classification", "label": columns[f"{field}.label"][number]}
                else:
                    each = zip(*(columns[f"{field}.{name}"][number] or () for name in _OF_DETECTIONS), strict=True)
                    names = [name.removeprefix("detections.") for name in _OF_DETECTIONS]
                    entries = [dict(zip(names, values, strict=True)) for values in each]
                    sample[field] = {"_cls": "Detections", "detections": entries}
            yield self._record(sample, fields, path, path.lstrip("/"), f"{self._path}, image {number + 1}")


def _open(name: str) -> Any:
    """A dataset of FiftyOne, or the saved view that follows the last slash of its name."""
    try:
        import fiftyone as fo

        names = fo.list_datasets()
    except Exception as error:  # FiftyOne, its MongoDB and its driver raise types of their own
        raise UserError(
            f"dataset.path: FiftyOne's database does not answer ({shortened(str(error))}); start it, or set "
            "FIFTYONE_DATABASE_URI to the one that holds the dataset"
        ) from error
    if name in names:
        return fo.load_dataset(name)
    dataset, _, view = name.rpartition("/")
    if dataset not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {quoted(names[:5])}" if names else "it has none"
        raise UserError(f"dataset.path: FiftyOne has no dataset {quoted(name)}; {hint}")
    views = fo.load_dataset(dataset).list_saved_views()
    if view not in views:
        raise UserError(
            f"dataset.path: FiftyOne's dataset {quoted(dataset)} has no saved view {quoted(view)}; it has "
            f"{quoted(views[:5]) if views else 'none'}"
        )
    return fo.load_dataset(dataset).load_saved_view(view)


def _classes(by_field: Any, default: Any, wanted: Sequence[str]) -> tuple[DatasetClass, ...]:
    by_field = by_field if isinstance(by_field, Mapping) else {}
    listed = next((by_field[name] for name in wanted or by_field if by_field.get(name)), None) or default or ()
    return tuple(DatasetClass(str(name), str(name)) for name in listed)
