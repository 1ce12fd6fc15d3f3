"""Corrected annotations in the formats of others, in a folder that is complete or not there."""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stages.review.app.database import database
from stages.review.export.check import check_export
from stages.review.export.corrected import AnnotatedImage, Annotations, corrected_annotations
from stages.review.export.formats import file_name, write_coco, write_voc, write_yolo
from stages.review.outlines import has_hole
from stages.review.settings import ReviewSettings
from stages.score.suggestion import suggested_by
from stages.words import counted
from storage.errors import UserError
from storage.files import not_given
from storage.media.containers import Crop
from storage.media.images import ImageError, ImageNotGiven, decode_image, local_path, read_bytes, stored_as
from storage.media.object_masks import decode_mask
from storage.run import Run

FORMATS = ("coco", "voc", "yolo", "fiftyone")

RECORD = "sightline-export.json"
"""The file that tells a folder of ours: what it holds and every file that we wrote."""

JPEG_QUALITY = 95
"""Of images that had to be encoded again: turned upright, or made JPEG for VOC."""


@dataclass
class ImagePlacement:
    """What became of the images."""

    copied: int = 0
    encoded_again: int = 0
    linked: int = 0
    elsewhere: set[str] = field(default_factory=set)
    """Samples whose images are not linked: they lie on another file system, or are gone."""


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    directory: Path
    format: str
    annotations: Annotations
    images: ImagePlacement

    @property
    def lines(self) -> list[str]:
        """What a person should know of it."""
        found = self.annotations
        boxes = [one for image in found.images for one in image.annotations]
        masks = [(image, one.mask) for image in found.images for one in image.annotations if one.mask is not None]
        counts = {name: sum(box.provenance == name for box in boxes) for name in ("original", "reviewed", "suggested")}
        relabelled = sum(image.relabelled_by is not None for image in found.images)
        bare = sum(not image.annotations for image in found.images)
        lines = [
            f"{counted(len(found.images), 'image')} and {counted(len(boxes), 'box', 'boxes')} in {self.directory} "
            f"({self.format})",
            ", ".join(f"{count} {name}" for name, count in counts.items())
            + f"; {counted(relabelled, 'label')} corrected",
        ]
        if masks:
            filled = _filled(masks) if self.format == "yolo" else ""
            how = {
                "coco": "as run lengths",
                "yolo": f"as a polygon each{filled}",
                "voc": "in the pictures of SegmentationObject",
                "fiftyone": "as instance masks",
            }
            lines.append(f"{counted(len(masks), 'box has', 'boxes have')} a mask, {how[self.format]}")
        if found.source is not None:
            lines.append(f"{counted(found.boxed, 'sample')} without a box got one: {suggested_by(found.source)}")
        if not found.verdicts:
            lines.append("no verdict was given yet: these are the dataset's own annotations")
        if found.left_out:
            lines.append("left out: " + ", ".join(f"{count} {why}" for why, count in sorted(found.left_out.items())))
        gone = len(self.images.elsewhere)
        lines += [
            f"{counted(count, 'image')} {what}"
            for count, what in (
                (bare, "without a box, which a detector takes for background"),
                (self.images.encoded_again, "encoded again, upright and as the format wants them"),
                (gone, "on another file system or gone, and not linked; --copy-images copies"),
            )
            if count
        ]
        lines += [
            f"{counted(count, 'sample')} {what}"
            for count, what in (
                (found.without_label, "with a fix_label but not the right label; exported unchanged"),
                (found.without_box, "with a fix_box but nothing drawn or suggested; exported unchanged"),
                (found.disputed, "corrected by one reviewer, of which another says something else"),
            )
            if count
        ]
        if found.new_labels:
            lines.append(f"labels that neither dataset nor model knows: {', '.join(found.new_labels)}")
        return lines


def _filled(masks: Sequence[tuple[AnnotatedImage, str]]) -> str:
    holes = sum(has_hole(decode_mask(mask, one.width, one.height)) for one, mask in masks)
    return f", which fills the holes of {holes}" if holes else ""


def export_annotations(
    run: Run,
    settings: ReviewSettings,
    directory: Path,
    format: str,
    *,
    copy_images: bool = False,
    suggestions: bool = True,
    box_unboxed: bool = False,
) -> ExportReport:
    """Write the annotations of a run, corrected by its verdicts, as ``coco``, ``voc``, ``yolo`` or ``fiftyone``.

    Images are not copied unless asked for: COCO and FiftyOne name their paths, VOC and YOLO, whose readers want them in
    place, get links. ``suggestions`` and ``box_unboxed`` are those of :func:`corrected_annotations`. An earlier export
    in ``directory`` is replaced as a whole. Raises UserError for another format, a folder that holds anything else, or
    an image that cannot be copied.
    """
    if format not in FORMATS:
        near = get_close_matches(format, FORMATS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no format {format!r}; {hint}Formats are {', '.join(FORMATS)}")
    directory = directory.resolve()  # of a link, what it leads to: the export is made beside it, on the same disk
    _refuse_foreign_files(directory)
    annotations = corrected_annotations(run, settings, suggestions=suggestions, box_unboxed=box_unboxed)
    if not copy_images and any(Crop.parse(image.uri) for image in annotations.images):
        raise UserError(
            "the samples are crops of images (dataset.labels: crop), and their boxes are of the crops, which are no "
            "files; --copy-images writes them beside the annotations"
        )
    placement = ImagePlacement()
    scratch = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.tmp")
    try:
        scratch.mkdir(parents=True)
        if format == "coco":
            write_coco(scratch, annotations, _copier(placement) if copy_images else None)
        elif format == "voc":
            write_voc(scratch, annotations, _copier(placement, jpeg=True) if copy_images else _linker(placement))
        elif format == "yolo":
            write_yolo(scratch, annotations, _copier(placement) if copy_images else _linker(placement))
        else:
            with database(settings.database_directory):
                from stages.review.export.fiftyone_format import write_fiftyone

                write_fiftyone(scratch, annotations, _copier(placement) if copy_images else None)
        check_export(scratch, format, annotations, without_image=placement.elsewhere)
        record = {"kind": "sightline export", "run": run.url, "format": format, "files": _file_names(scratch)}
        (scratch / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _put_in_place(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ExportReport(directory, format, annotations, placement)


def _copier(placement: ImagePlacement, *, jpeg: bool = False) -> Callable[[AnnotatedImage, Path], None]:
    """Copies files byte for byte. Encoded again are those with an EXIF turn, those that are no JPEG where one is asked
    for, and those whose name the export made up: their bytes are what the name says."""

    def place(image: AnnotatedImage, path: Path) -> None:
        try:
            content = read_bytes(image.uri)
            kind, upright = stored_as(content)
            made_up = file_name(image.sample_id) != image.sample_id
            wanted = "JPEG" if jpeg else "PNG" if made_up else kind
            if not upright or kind != wanted:
                encoded = io.BytesIO()
                decode_image(content).save(encoded, format=wanted, quality=JPEG_QUALITY)
                content = encoded.getvalue()
                placement.encoded_again += 1
        except ImageNotGiven as error:
            raise not_given(image.uri, cause if isinstance(cause := error.__cause__, Exception) else error) from error
        except ImageError as error:
            raise UserError(f"cannot copy {image.uri}: {error}; run the pipeline again, which leaves it out") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        placement.copied += 1

    return place


def _linker(placement: ImagePlacement) -> Callable[[AnnotatedImage, Path], None]:
    def place(image: AnnotatedImage, path: Path) -> None:
        source = local_path(image.uri)
        if source is None or not source.is_file():
            placement.elsewhere.add(image.sample_id)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(source.absolute())
        placement.linked += 1

    return place


def _refuse_foreign_files(directory: Path) -> None:
    """Raise UserError unless the folder is new, empty, or holds nothing but an export of ours."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UserError(f"{directory} is a file; give the export a folder of its own")
    written = {RECORD, *_record(directory).get("files", ())}
    foreign = [name for name in _file_names(directory) if name not in written]
    if foreign:
        named = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"{directory} holds {len(foreign)} file(s) that no export wrote ({named}); nothing was changed: give the "
            "export an empty or new folder"
        )


def _record(directory: Path) -> dict[str, Any]:
    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("kind") == "sightline export" else {}


def _file_names(folder: Path) -> list[str]:
    paths = folder.rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_symlink() or not path.is_dir())


def _put_in_place(scratch: Path, directory: Path) -> None:
    if not directory.exists():
        os.replace(scratch, directory)
        return
    former = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.old")
    os.replace(directory, former)
    os.replace(scratch, directory)
    shutil.rmtree(former)
