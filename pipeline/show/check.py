"""What ``sightline check`` found, as sections that are printed or become an HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.check import Checked
from pipeline.show.console import styled
from pipeline.workers.cluster import ClusterSettings
from stages.audit.ranking import rank
from stages.audit.report import environment_of_pages
from stages.audit.report.pictures import compose, encode
from stages.explain.trial.trial import Trial
from stages.words import counted, number, percent
from storage.media.images import ImageError
from storage.samples import own_boxes, own_mask, read_unchanged

SHOWN_CLASSES = 20
PICTURES = 12
SAYS_LITTLE = 0.8
"""Accuracy by chance above which the accuracy is no test of the classifier."""


@dataclass(frozen=True)
class Section:
    """A heading with lines and perhaps a table below it."""

    title: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    warns: bool = False
    """Whether the lines say that something is wrong."""


def sections(found: Checked, cluster: ClusterSettings) -> Iterator[Section]:
    """The page of a check, from what was found wrong to what the run will cost."""
    if found.trial is not None and (told := found.trial.warning):
        yield Section("Look at this first", [told], warns=True)
    statuses = ", ".join(f"{count} {status}" for status, count in found.statuses.most_common())
    yield Section(
        "Dataset",
        [str(found.dataset), f"{counted(found.images, 'image')}; {found.read} were read, {statuses}", *found.remarks],
    )
    yield Section("Model", [*found.classifier.notes, f"it is shown {found.view}", *_normalization(found)])
    known = found.classes
    yield Section(
        "Classes",
        [f"{counted(len(known), 'label')} in the sample, {len(found.classifier.class_names)} classes of the model"],
        ("label", "output of the model", "samples"),
        [
            (name, "none" if index is None else f"{index}: {found.classifier.class_names[index]}", str(count))
            for name, index, count in known[:SHOWN_CLASSES]
        ],
    )
    yield _accuracy(found.trial, found.classifier.class_names)
    if (boxes := found.boxes) is not None:
        cut = "cuts" if found.view.geometry == "resize_crop" else "would cut"
        yield Section(
            "Boxes",
            [
                f"{boxes.count} boxes of the samples' own classes; together they cover {percent(boxes.covered, 0)} of "
                "their image (median)",
                f"{boxes.crop} {cut} away more than half of {percent(boxes.cut)} of them",
            ],
        )
    if found.cost is not None:
        yield _cost(found, cluster)


def print_sections(found: Sequence[Section], console: Console) -> None:
    """Print sections one below the other."""
    for section in found:
        style = "bold red" if section.warns else "bold"
        console.print(styled(f"\n[{style}]{{}}[/]", section.title))
        for line in section.lines:
            console.print(f"  {line}")
        if section.rows:
            table = Table(box=None, pad_edge=True)
            for name in section.columns:
                table.add_column(name, overflow="fold")
            for row in section.rows:
                table.add_row(*row)
            console.print(table)


def check_page(title: str, found: Sequence[Section], checked: Checked) -> str:
    """The same as one HTML page, with pictures."""
    template = environment_of_pages().get_template("check.html")
    return template.render(title=title, sections=found, pictures=list(_pictures(checked)))


def _accuracy(trial: Trial | None, names: Sequence[str]) -> Section:
    if trial is None:
        return Section("Accuracy", ["no image of the sample has a class of the model"])
    whole = trial.configured
    lines = [f"{whole} as configured; an image is right if the predicted class is one of its labels'"]
    if whole.chance is not None:
        lines.append(f"the same predictions, dealt to the images at random, would be right on {percent(whole.chance)}")
    if whole.chance is not None and whole.chance > SAYS_LITTLE:
        lines.append("most images have most of the classes, so this accuracy says little of the classifier")
    lines += _ranking(trial, names)
    if trial.hint is not None:
        lines.append(trial.hint)
    if not trial.others:
        lines.append("too few are wrong for another normalisation, view or class order to be clearly better")
    return Section(
        "Accuracy",
        lines,
        ("instead", "accuracy", "alone right", "alone wrong", "McNemar p"),
        [
            (
                outcome.reading.name,
                percent(outcome.right / outcome.n) if outcome.n else "",
                str(outcome.gained),
                str(outcome.lost),
                "" if outcome.p is None else f"{outcome.p:.2g}",
            )
            for outcome in sorted(trial.others, key=lambda outcome: -outcome.right)
        ],
    )


def _ranking(trial: Trial, names: Sequence[str]) -> list[str]:
    """How each class is told from the others, where classes do not exclude each other."""
    if trial.logits is None or trial.truth is None or not (found := rank(trial.truth, trial.logits)):
        return []
    auroc = mean(one.auroc for one in found.values())
    precision = mean(one.average_precision for one in found.values())
    named = sorted(found.items(), key=lambda item: item[1].auroc)[:SHOWN_CLASSES]
    each = ", ".join(f"{names[index]} {number(one.auroc, 3)}" for index, one in named)
    return [
        f"AUROC {number(auroc, 3)}, average precision {number(precision, 3)}: means over {len(found)} classes that "
        f"some of the {len(trial.truth)} images with an object have; a run counts images without any too",
        f"AUROC of each, the lowest first: {each}",
    ]


def _cost(found: Checked, cluster: ClusterSettings) -> Section:
    cost = found.cost
    assert cost is not None
    samples = round(found.images * len(found.samples) / found.read)
    workers = cluster.layout()[0] if cluster.resolved() == "local" else 1
    seconds = samples * cost.seconds / workers
    each = f"{cost.seconds:.2g} s a sample on one worker ({cost.device}), timed on {cost.timed}"
    return Section(
        "What the run will take",
        [
            f"layer {cost.layer}, maps of {cost.grid[0]} x {cost.grid[1]}",
            f"time: about {_duration(seconds)} of explain for {samples} samples with {workers} "
            f"worker{'s' if workers > 1 else ''}; {each}",
            f"memory: this process took {cost.memory / 2**30:.1f} GiB with {cost.timed} images at a time",
            f"disk: {samples * cost.disk / 1e6:.1f} MB of maps and features before compression",
        ],
    )


def _normalization(found: Checked) -> list[str]:
    mean, std = (numbers.flatten().tolist() for numbers in (found.classifier.mean, found.classifier.std))
    return [f"its input is normalised by mean {[round(n, 4) for n in mean]}, std {[round(n, 4) for n in std]}"]


def _pictures(found: Checked) -> Iterator[dict[str, Any]]:
    predicted = found.trial.predicted if found.trial is not None else {}
    made = 0
    for place, shown in enumerate(found.shown):
        if made == PICTURES:
            return
        row = shown.sample
        try:
            picture = compose(read_unchanged(row), None, None, own_boxes(row), mask=own_mask(row))
        except ImageError:
            continue
        made += 1
        caption = f"labelled {row['label']}"
        if place in predicted:
            caption += f", taken for {found.classifier.class_names[predicted[place]]}"
        yield {
            "uri": encode(picture),
            "width": picture.width,
            "height": picture.height,
            "name": row["sample_id"],
            "caption": caption,
            "alt": f"{row['sample_id']}, {caption}, {len(own_boxes(row))} boxes",
        }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
