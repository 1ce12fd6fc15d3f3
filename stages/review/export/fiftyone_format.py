"""Annotations as a FiftyOne dataset on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone.utils.data import FiftyOneDatasetExporter

from stages.review.dataset.fields import KEY, Field, declare
from stages.review.export.corrected import AnnotatedImage, Annotation, Annotations
from stages.review.export.formats import (
    IMAGE_PROVENANCE,
    PROVENANCE,
    PlaceImage,
    image_provenance,
    provenance,
    sample_paths,
)
from stages.review.verdicts.boxes import Box
from storage.media.images import local_path
from storage.media.object_masks import decode_mask, patch_of

BATCH = 1000


def write_fiftyone(folder: Path, annotations: Annotations, place: PlaceImage | None) -> None:
    """A FiftyOneDataset: ``ground_truth`` and ``label``, each with its provenance as attributes.

    It is made in the database, exported and deleted there. Paths are absolute, or below ``folder`` for copied images.
    Call it within :func:`stages.review.app.database.database`.
    """
    paths = sample_paths(annotations.images, of_files=place is not None)
    dataset = fo.Dataset()
    try:
        dataset.media_type = "image"
        _declare(dataset)
        dataset.default_classes = list(annotations.categories)
        for start in range(0, len(annotations.images), BATCH):
            samples = []
            for image in annotations.images[start : start + BATCH]:
                file = Path(local_path(image.uri) or image.uri).absolute()
                if place is not None:
                    file = folder / "data" / paths[image.sample_id]
                    place(image, file)
                samples.append(_sample(image, file))
            dataset.add_samples(samples, expand_schema=False, validate=False, progress=False)
        exporter = FiftyOneDatasetExporter(str(folder), export_media=False, rel_dir=str(folder))
        with exporter:
            exporter.export_samples(dataset, progress=False)
    finally:
        dataset.delete()


def _declare(dataset: Any) -> None:
    """The schema first: inserting is then several times faster than with one that grows."""
    declare(
        dataset,
        [
            Field(KEY, "text", "Path of the image below the dataset's root."),
            Field("split", "text", "Part of the dataset."),
            Field("label", "classification", "Class of the image."),
            Field("ground_truth", "detections", "Boxes, each with its provenance."),
        ],
    )
    texts = [name for name in PROVENANCE if name != "score"]  # FiftyOne has a field for it: confidence
    paths = [f"ground_truth.detections.{name}" for name in texts] + [f"label.{name}" for name in IMAGE_PROVENANCE]
    dataset._merge_sample_field_schema({path: fo.StringField() for path in paths})


def _sample(image: AnnotatedImage, file: Path) -> Any:
    label = None if image.label is None else fo.Classification(label=image.label, **image_provenance(image))
    return fo.Sample(
        filepath=str(file),
        metadata=fo.ImageMetadata(width=image.width, height=image.height),
        label=label,
        ground_truth=fo.Detections(detections=[_detection(image, annotation) for annotation in image.annotations]),
        split=image.split,
        **{KEY: image.sample_id},
    )


def _detection(image: AnnotatedImage, annotation: Annotation) -> Any:
    box = Box(annotation.label, *annotation.edges)
    mask = None
    if annotation.mask is not None:
        mask = patch_of(decode_mask(annotation.mask, image.width, image.height), annotation.edges)
    return fo.Detection(
        mask=mask,
        label=annotation.label,
        bounding_box=box.relative((image.width, image.height)),
        confidence=annotation.score,
        **{name: value for name, value in provenance(annotation).items() if name != "score"},
    )
