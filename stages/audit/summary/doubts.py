"""What makes a run's headline doubtful, in sentences; the summary and the report say them first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stages.audit.settings import audit_settings
from stages.audit.summary.terms import UNMEASURED
from stages.statistics import wilson
from stages.words import counted, percent
from storage.samples import OTHER_SIZE
from storage.sql import connect

if TYPE_CHECKING:
    from storage import Run

COARSE = 5
"""Cells along a side of a map's grid below which the map hardly tells inside from outside."""
MOST_UNMEASURED = 0.1
"""Share of the images that may be without a measurement before that is a doubt."""
LEFT_OUT = 0.5
"""Share of the samples that accuracy may leave out for such predictions before that is a doubt."""
REPEATED = 0.01
"""Share of the samples that may be duplicates before that is a doubt."""
RESIZED = 0.01
"""Share of the samples whose annotation may say another size than the image has before that is a doubt."""
NAMED = 4
"""Classes that a sentence names, at most."""
NO_LABEL = (
    "The maps are of predicted classes alone, so how many images and which classes rest on something outside is not "
    "said: add label to explain.targets"
)


def doubts(run: Run, method: str) -> tuple[str, ...]:
    """Sentences about an audited run, the gravest first; none where nothing is doubtful."""
    with connect(run) as connection:
        images = connection.execute(
            """
            SELECT any_value(label), any_value(samples_status),
                any_value(correct) FILTER (method = $1),
                any_value(scores_status) FILTER (method = $1 AND target = 'label'),
                coalesce(bool_or(evaluable) FILTER (method = $1 AND target = 'label'), false),
                coalesce(bool_or(list_contains(other_classes, pred_index)) FILTER (method = $1), false)
            FROM audit_targets GROUP BY sample_id ORDER BY min(row)
            """,
            [method],
        ).fetchall()
        duplicates, n, contrary, resized = connection.execute(
            """
            SELECT count(samples.duplicate_of), count(*),
                count(*) FILTER (samples.duplicate_of IS NOT NULL AND samples.label IS DISTINCT FROM first.label),
                count(*) FILTER (contains(samples.reason, $1))
            FROM samples LEFT JOIN samples AS first ON first.sample_id = samples.duplicate_of
            WHERE samples.status NOT IN ('removed', 'unreadable')
            """,
            [OTHER_SIZE],
        ).fetchall()[0]
    judged = [(label, correct) for label, _, correct, *_ in images if correct is not None]
    unmeasured = [
        scored if scored and status == "ok" else status for _, status, _, scored, measured, _ in images if not measured
    ]
    classless = [label for label, status, *_ in images if status == "no_class"]
    unknown = Counter(label for label in classless if label is not None)
    misfed, labelled = run.info.misfed, "label" in run.targets(method)
    return (
        *([] if labelled else [NO_LABEL]),
        *([f"{misfed[0].upper()}{misfed[1:]}"] if misfed else []),
        *_near_chance([label for label, _ in judged], sum(correct for _, correct in judged)),
        *_left_out(sum(elsewhere for *_, elsewhere in images), len(images)),
        *_coarse(run, method),
        *(_unmeasured(unmeasured, len(images)) if labelled else ()),
        *_without_counterpart(unknown),
        *_unlabelled(classless.count(None), len(images)),
        *_repeated(duplicates, n, contrary),
        *_of_another_size(resized, n),
        *(_too_small(run) if labelled else ()),
    )


def _near_chance(labels: Sequence[str], right: int) -> Iterator[str]:
    """Whether naming the most frequent label every time would be right as often, within the 95% interval."""
    ends = wilson(right, len(labels))
    if ends is None or len(set(labels)) < 2:
        return
    label, count = Counter(labels).most_common(1)[0]
    if ends[0] <= count / len(labels):
        yield (
            f"The model is right on {percent(right / len(labels))} of {len(labels)} images, and naming {label} for "
            f"each would be on {percent(count / len(labels))}: check model.classes (their order), the weights, and "
            "mean and std"
        )


def _of_another_size(resized: int, n: int) -> Iterator[str]:
    """Whether boxes of more than a few images may be of another picture."""
    if resized > RESIZED * n:
        yield (
            f"{resized} of {counted(n, 'sample')} {'is' if resized == 1 else 'are'} {OTHER_SIZE}: the boxes may be of "
            "a picture before it was resized, or of one on its side; see samples.reason"
        )


def _left_out(others: int, n: int) -> Iterator[str]:
    """Whether most predictions are of another class of the image, so that a constant one would be as right."""
    if others > LEFT_OUT * n:
        yield (
            f"For {others} of {counted(n, 'sample')} the prediction is another class of the same image, and accuracy "
            "leaves them out, so it says little: one prediction cannot name several classes; dataset.labels: crop "
            "makes each object a picture of its own"
        )


def _coarse(run: Run, method: str) -> Iterator[str]:
    for target in run.targets(method)[:1]:
        _, height, width = run.maps(target, method).shape
        if min(height, width) < COARSE:
            yield (
                f"A map has {height}x{width} cells, too few to tell inside a box from outside: take a larger "
                "view.size, or an earlier model.target_layer"
            )


def _unmeasured(statuses: Sequence[str], n: int) -> Iterator[str]:
    if len(statuses) > MOST_UNMEASURED * n:
        why = ", ".join(
            f"{count} {UNMEASURED.get(status, status)}" for status, count in Counter(statuses).most_common()
        )
        yield f"{len(statuses)} of {n} images are not measured: {why}"


def _without_counterpart(unknown: Counter[str]) -> Iterator[str]:
    if unknown:
        yield (
            f"The model has no class for {counted(len(unknown), 'label')} of {counted(unknown.total(), 'image')} "
            f"({_named(unknown)}): dataset.mapping names the class of a label"
        )


def _unlabelled(unlabelled: int, n: int) -> Iterator[str]:
    if unlabelled:
        yield f"{unlabelled} of {counted(n, 'image')} {'has' if unlabelled == 1 else 'have'} no label, and so no class"


def _repeated(duplicates: int, n: int, contrary: int) -> Iterator[str]:
    if duplicates > REPEATED * n:
        labels = f", {contrary} of them with another label" if contrary else ""
        yield (
            f"{duplicates} of {counted(n, 'sample')} show the same file as another{labels}: each counts in every "
            "rate, and intervals take them for independent; samples.duplicate_of names them"
        )


def _too_small(run: Run) -> Iterator[str]:
    """Classes of too few measured images, by the table ``classes``."""
    settings, classes = audit_settings(run.info), _known_classes(run)
    small = {row["label"]: row["n_evaluable"] for row in classes if row["n_evaluable"] < settings.min_class_size}
    if small:
        yield (
            f"{len(small)} of {counted(len(classes), 'class')} cannot be compared with the others, for fewer than "
            f"{settings.min_class_size} of their images are measured: {_named(small)}"
        )


def _known_classes(run: Run) -> list[dict[str, Any]]:
    """The rows of ``classes`` whose label the model knows; of the others there is a doubt already."""
    return [row for row in run.table("classes").to_pylist() if row["class_index"] is not None]


def _named(labels: Collection[str]) -> str:
    rest = len(labels) - NAMED
    return ", ".join(list(labels)[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
