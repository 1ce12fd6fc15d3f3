"""The dataset's annotations as people left them, each with where it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from stages.review.export.suggest import Finding, Suggestion, boxes_of_unboxed, suggest_boxes
from stages.review.settings import ReviewSettings
from stages.review.verdicts.boxes import Box, same_boxes
from stages.review.verdicts.table import Review, latest, of_sample, read_reviews, standing
from stages.score.suggestion import BoxSource, box_source
from storage.media.containers import Crop
from storage.media.object_masks import encode_mask
from storage.run import Run
from storage.samples import object_masks

Provenance = Literal["original", "suggested", "reviewed"]

LEFT_OUT = ("removed", "unreadable")
"""Statuses of samples that have no image to annotate."""

NAMELESS = "object"
"""Label of a box that has none, on a sample that has none."""


@dataclass(frozen=True)
class Annotation:
    """One box of an image."""

    label: str
    edges: tuple[float, float, float, float]
    """(x0, y0, x1, y1), half-open, image px."""
    provenance: Provenance
    """original: of the dataset; suggested: by a map; reviewed: a person gave the box or its label."""
    review: Review | None = None
    """The verdict that it is due to; None for an original."""
    original_label: str | None = None
    """What the dataset says, where a person corrected it."""
    score: float | None = None
    """Of a box for a sample that has none: p of the label on the whole image."""
    mask: str | None = None
    """The object's pixels in the image, as COCO's compressed run lengths, where the dataset says it."""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its annotations: those of all samples that show it whole."""

    sample_id: str
    """Of its sample; of several, which are its classes, the path that their names begin with."""
    uri: str
    width: int
    height: int
    split: str | None
    label: str | None
    """Class of the whole image, corrected."""
    class_index: int | None
    """Index of the label among the model's classes; None where a person corrected it, or the model lacks it."""
    original_label: str | None
    """What the dataset says, where a person corrected it."""
    relabelled_by: Review | None
    """The verdict that corrected the label."""
    annotations: tuple[Annotation, ...]

    @property
    def applied(self) -> list[Review]:
        """The verdicts that changed something here, suggestions included."""
        reviews = [self.relabelled_by, *(annotation.review for annotation in self.annotations)]
        return list(dict.fromkeys(review for review in reviews if review is not None))


@dataclass(frozen=True)
class Annotations:
    """A dataset's annotations, and what became of the verdicts."""

    images: tuple[AnnotatedImage, ...]
    categories: tuple[str, ...]
    """The model's classes in the order of their indices, then the other labels by name."""
    new_labels: tuple[str, ...]
    """Labels that reviewers gave and neither dataset nor model knows."""
    left_out: Mapping[str, int]
    """Samples without an image, by status."""
    verdicts: int
    """Verdicts that count."""
    without_label: int
    """Samples with a fix_label that does not say the right label: it is exported as it was."""
    without_box: int
    """Samples with a fix_box, nothing drawn and nothing suggested: their boxes are exported as they were."""
    disputed: int
    """Corrected samples on which another reviewer says something else of the same finding."""
    source: BoxSource | None = None
    """Whose boxes samples without a box were given; None where none were asked for."""
    boxed: int = 0
    """Samples that were given such a box."""


def corrected_annotations(
    run: Run, settings: ReviewSettings, *, suggestions: bool = True, box_unboxed: bool = False
) -> Annotations:
    """The annotations of a run's samples, corrected by the verdicts that count in its table ``reviews``.

    fix_box with drawn boxes: they replace the sample's; of an image with several samples those of other classes stay,
    unless the verdict lists boxes of such. fix_box without: the dataset's stay, and what the map suggests
    is added unless ``suggestions`` is false. fix_label with a label: it replaces the sample's, and that of the boxes
    that bear the sample's. Of several such verdicts on a sample the latest is taken. ``box_unboxed`` gives each sample
    without a box the one that the best of the run's maps suggests.
    """
    rows = {row["sample_id"]: row for row in run.table("samples").to_pylist()}
    left_out = Counter(row["status"] for row in rows.values() if row["status"] in LEFT_OUT)
    rows = {key: row for key, row in rows.items() if row["status"] not in LEFT_OUT}
    counting = standing(read_reviews(run))
    verdicts = {key: said for key, said in of_sample(counting.values()).items() if key in rows}
    undrawn = {key: _undrawn(said) for key, said in verdicts.items()}
    wanted = [finding for findings in undrawn.values() for finding in findings]
    suggested = suggest_boxes(run, settings, wanted, rows) if suggestions else {}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows.values():
        groups.setdefault(row["uri"], []).append(row)
    said_of = [[one for row in group for one in verdicts.get(row["sample_id"], ())] for group in groups.values()]
    source = box_source(run) if box_unboxed else None
    unboxed = boxes_of_unboxed(run, source, rows) if source else {}
    pairs = zip(groups.values(), said_of, strict=True)
    images = tuple(_corrected(group, said, suggested, unboxed) for group, said in pairs)
    classes, labels = run.class_names(), _labels(rows.values())
    named = {annotation.label for image in images for annotation in image.annotations}
    named |= {image.label for image in images if image.label is not None}
    given = {review.label for image in images for review in image.applied if review.label is not None}
    return Annotations(
        images=images,
        categories=(*classes, *sorted(named - set(classes))),
        new_labels=tuple(sorted(given - set(classes) - labels)),
        left_out=dict(left_out),
        verdicts=len(counting),
        without_label=sum(_lacks_label(said) for said in verdicts.values()),
        without_box=sum(
            bool(findings) and not any(finding in suggested for finding in findings) for findings in undrawn.values()
        ),
        disputed=sum(map(_is_disputed, images, said_of)),
        source=source,
        boxed=sum(annotation.score is not None for image in images for annotation in image.annotations),
    )


def _corrected(
    rows: Sequence[Mapping[str, Any]],
    said: Sequence[Review],
    suggested: Mapping[Finding, Box],
    unboxed: Mapping[str, Suggestion],
) -> AnnotatedImage:
    """An image by its samples, ``rows``, and the verdicts on them."""
    by_name = {row["sample_id"]: row for row in rows}
    of_each = {key: [review for review in said if review.sample_id == key] for key in by_name}
    relabelled = {row["label"]: latest(_relabels(said, row)) for row in rows}
    drawn = {row["label"]: review for row in rows if (review := latest(_drawing(of_each[row["sample_id"]])))}

    masks = _masks(rows)
    found = []
    for box, label, drawn_by in _boxes(rows, drawn):
        source: Provenance = "reviewed" if drawn_by else "original"
        annotation = _annotation(box, label, relabelled, source, drawn_by)
        found.append(replace(annotation, mask=_mask_of(box, masks)))
    undrawn = {finding: review for own in of_each.values() for finding, review in _undrawn(own).items()}
    for finding, review in undrawn.items():
        suggestion = suggested.get(finding)
        if suggestion is not None and all(suggestion.edges != other.edges for other in found):
            label = by_name[finding[0]]["label"]
            found.append(_annotation(suggestion, label, relabelled, "suggested", review))
    found += [
        replace(_annotation(own.box, row["label"], relabelled, "suggested", None), score=own.score)
        for row in rows
        if row["label"] not in drawn and (own := unboxed.get(row["sample_id"])) is not None
    ]
    alone = len(rows) == 1
    relabelled_by = relabelled[rows[0]["label"]] if alone else None
    return AnnotatedImage(
        sample_id=_image_name(rows),
        uri=rows[0]["uri"],
        width=rows[0]["width"],
        height=rows[0]["height"],
        split=rows[0]["split"],
        label=(relabelled_by.label if relabelled_by else rows[0]["label"]) if alone else None,
        class_index=rows[0]["class_index"] if alone and relabelled_by is None else None,
        original_label=rows[0]["label"] if relabelled_by else None,
        relabelled_by=relabelled_by,
        annotations=tuple(found),
    )


def _boxes(
    rows: Sequence[Mapping[str, Any]], drawn: Mapping[str | None, Review]
) -> list[tuple[Box, str | None, Review | None]]:
    """The boxes of an image by its samples, each with its class and the verdict that gave it.

    A verdict on a sample gives the boxes of the sample's class; ``drawn`` has it by that class. Boxes of other classes
    that it lists, as those of the App do, count where no verdict is on a sample of these.
    """
    of_all = latest(
        review
        for label, review in drawn.items()
        if len(rows) == 1 or any(box.label not in (None, label) for box in review.boxes or ())
    )
    # A box without a label is of the class of the sample that lists it.
    own = next((label for label, review in drawn.items() if review is of_all), rows[0]["label"])
    listed = (of_all.boxes or ()) if of_all else map(Box.of, rows[0]["boxes"] or ())
    boxes = [(box, box.label or own, of_all) for box in listed]
    return [(box, label, by) for box, label, by in boxes if drawn.get(label, of_all) is of_all] + [
        (box, label, review)
        for label, review in drawn.items()
        if review is not of_all
        for box in review.boxes or ()
        if box.label in (None, label)
    ]


def _annotation(
    box: Box,
    label: str | None,
    relabelled: Mapping[str | None, Review | None],
    provenance: Provenance,
    review: Review | None,
) -> Annotation:
    """An annotation by a box, whose class is ``label`` where it bears none, and the verdict that gave the box.

    ``relabelled`` has the verdict that corrected a label, by the label that the dataset gives.
    """
    original = box.label or label
    relabelled_by = relabelled.get(original)
    if relabelled_by is None:
        return Annotation(original or NAMELESS, box.edges, provenance, review, None)
    source: Provenance = "reviewed" if provenance == "original" else provenance
    before = None if source == "suggested" else original
    return Annotation(relabelled_by.label or NAMELESS, box.edges, source, review or relabelled_by, before)


def _masks(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Box, str]]:
    """Boxes of the samples of an image that have masks, and these."""
    return [
        (replace(box, label=box.label or row["label"]), encode_mask(mask))
        for row in rows
        if row["mask"] is not None or row["object_masks"] is not None
        for box, mask in zip(map(Box.of, row["boxes"] or ()), object_masks(row), strict=True)
        if mask is not None and mask.any()
    ]


def _mask_of(box: Box, masks: Sequence[tuple[Box, str]]) -> str | None:
    """The mask of the object that a box is around: of the box itself, which a reviewer may have left as it was.

    Of two classes' objects with one box it is that of the box's own class.
    """
    of_place = [(own, mask) for own, mask in masks if same_boxes([replace(own, label=box.label)], [box])]
    of_class = [mask for own, mask in of_place if own.label == box.label]
    return next(iter([*of_class, *(mask for _, mask in of_place)]), None)


def _relabels(said: Sequence[Review], row: Mapping[str, Any]) -> list[Review]:
    return [review for review in said if review.label is not None and review.sample_id == row["sample_id"]]


def _drawing(said: Sequence[Review]) -> list[Review]:
    return [review for review in said if review.boxes is not None]


def _image_name(rows: Sequence[Mapping[str, Any]]) -> str:
    """The name of an image: its sample's, without the class where that is one of the image's (``path#class``)."""
    name, uri = rows[0]["sample_id"], rows[0]["uri"]
    if Crop.parse(uri) is not None:
        return str(name)
    ends = [place for place, letter in enumerate(name) if letter == "#"]
    return next((name[:place] for place in ends if uri.endswith(f"/{name[:place]}")), str(name))


def _undrawn(said: Sequence[Review]) -> dict[Finding, Review]:
    """Findings with the verdict fix_box, where nobody drew a box on the sample, and one who gave it."""
    if any(review.boxes is not None for review in said):
        return {}
    return {(one.sample_id, one.target, one.rule): one for one in said if one.verdict == "fix_box"}


def _lacks_label(said: Sequence[Review]) -> bool:
    fixes = [review for review in said if review.verdict == "fix_label"]
    return bool(fixes) and all(review.label is None for review in fixes)


def _is_disputed(image: AnnotatedImage, said: Sequence[Review]) -> bool:
    return any(
        (other.target, other.rule) == (review.target, review.rule) and other.verdict not in (review.verdict, "unsure")
        for review in image.applied
        for other in said
    )


def _labels(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    labels: set[str] = set()
    for row in rows:
        labels |= {name for name in (row["label"], *(box["label"] for box in row["boxes"] or ())) if name is not None}
    return labels
