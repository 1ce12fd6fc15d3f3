"""What a map that looks everywhere scores on ImageNet's boxes, by the score stage's own functions.

    python -m benchmarks.box_nulls --truth LOC_val_solution.csv --images ILSVRC/Data/CLS-LOC/val

A uniform map has the boxes' area as its energy (EP), 2a / (1 + a) as its pixel F1, and the area of the largest box as
the best IoU of the whole view. None of that needs a network, so the numbers of all 50,000 validation images are known
beforehand; they are printed beside those of the images at hand, with the 95% bootstrap interval of these (images are
drawn, boxes come with their image). Where all 50,000 are at hand, a number that differs by more than its last digit
ends the command with status 1.

Sizes come from the images' headers; no pixel is decoded. `--sizes FILE.csv` (ImageId,width,height) does without images.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stages.geometry import Boxes, Geometry, ViewTransform
from stages.ingest.readers.imagenet import parse_prediction
from stages.score.localization import energy_in, iou_best, pad_boxes, pixel_f1
from stages.score.ratio import Values
from stages.statistics import ratio_intervals, wilson
from storage.errors import UserError
from storage.media.images import image_size

WHOLE_SET = 50_000
SIDE, RESIZE = 224, 256
BATCH = 256
DIGITS = 3

Sample = tuple[Boxes, tuple[int, int]]
"""Half-open boxes (n, 4) of an image, and its upright (width, height), px."""

Sizes = Mapping[str, tuple[int, int]]
"""ImageId to upright (width, height), px."""


@dataclass(frozen=True)
class Null:
    """A row of the table: its name, and its value over all 50,000 images, if known, with the precision of that.

    ``share`` is a share of images, whose interval is Wilson's: none of 128 does not mean none of 50,000.
    """

    name: str
    whole: float | None = None
    rounding: float = 0.0005
    share: bool = False


NULLS: dict[Geometry, tuple[Null, ...]] = {
    "squash": (Null("EP", 0.480), Null("pixel F1", 0.596), Null("area of the largest box", 0.441)),
    "resize_crop": (
        Null("EP", 0.607),
        Null("pixel F1", 0.702),
        Null("area of the largest box", 0.567),
        Null("share of images without a box in view", 178 / WHOLE_SET, 0.5 / WHOLE_SET, share=True),
        Null("share of boxes that lose > 1% of their area", 0.715),
        Null("share of boxes that lose > 25%", 0.403),
        Null("share of boxes that lose > 50%", 0.113),
        Null("share of images whose boxes together lose > 1%", share=True),
        Null("share of images whose boxes together lose > 25%", share=True),
        Null("share of images whose boxes together lose > 50%", share=True),
    ),
}

LOSSES = np.array([0.01, 0.25, 0.5])


def measure(samples: Sequence[Sample], geometry: Geometry) -> tuple[Values, Values]:
    """Sums and counts (n, k) of n images, whose quotients over images are the rows of :data:`NULLS`.

    Both are 0 where a score is undefined: no box in view.
    """
    parts = [_measure(samples[start : start + BATCH], geometry) for start in range(0, len(samples), BATCH)]
    sums, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
    return sums, counts


def _measure(samples: Sequence[Sample], geometry: Geometry) -> tuple[Values, Values]:
    views = [(ViewTransform.make(geometry, *size, SIDE, RESIZE), boxes) for boxes, size in samples]
    coverage = np.stack([view.coverage(boxes) for view, boxes in views])
    uniform = np.ones_like(coverage)
    visible = [view.visible_boxes(boxes) for view, boxes in views]
    everywhere = np.broadcast_to([0.0, 0, SIDE, SIDE], (len(views), 4))
    scores = [energy_in(uniform, coverage), pixel_f1(uniform, coverage), iou_best(everywhere, pad_boxes(visible))]
    if geometry == "squash":
        sums = np.stack(scores, axis=1)
        return np.nan_to_num(sums), (~np.isnan(sums)).astype(np.float64)
    scores.append(np.array([not len(boxes) for boxes in visible], dtype=np.float64))
    single = [np.array([1 - view.kept_fraction([box]) for box in boxes]) for view, boxes in views]
    together = np.array([1 - view.kept_fraction(boxes) for view, boxes in views])
    of_boxes = np.stack([(lost[:, None] > LOSSES).sum(axis=0) for lost in single])
    sums = np.concatenate([np.stack(scores, axis=1), of_boxes, together[:, None] > LOSSES], axis=1)
    counts = (~np.isnan(sums)).astype(np.float64)
    counts[:, 4:7] = [[len(lost)] * len(LOSSES) for lost in single]
    return np.nan_to_num(sums), counts


def read_boxes(solution: Path) -> Iterator[tuple[str, Boxes]]:
    """ImageId and half-open boxes (n, 4) of the first box's class; raises UserError for a file of another form."""
    with open(solution, newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if not {"ImageId", "PredictionString"} <= set(reader.fieldnames or ()):
            raise UserError(f"{solution}: its first line must be ImageId,PredictionString; give LOC_val_solution.csv")
        for row in reader:
            boxes = parse_prediction(row["PredictionString"] or "", f"{solution}, line {reader.line_num}")
            own = [tuple(box[:4]) for box in boxes if box.label == boxes[0].label]
            yield row["ImageId"], np.array(own, dtype=np.float64).reshape(-1, 4)


def sizes_of_images(folder: Path) -> dict[str, tuple[int, int]]:
    """Upright sizes of the JPEG files under a folder; raises ImageError for a damaged one."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))
    return {path.stem: image_size(path.read_bytes()) for path in paths}


def read_sizes(table: Path) -> dict[str, tuple[int, int]]:
    """Sizes of a CSV with the columns ImageId, width, height."""
    with open(table, newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if not {"ImageId", "width", "height"} <= set(reader.fieldnames or ()):
            raise UserError(f"{table}: its first line must name ImageId, width, height")
        return {row["ImageId"]: (int(row["width"]), int(row["height"])) for row in reader}


def join(boxes: Iterator[tuple[str, Boxes]], sizes: Sizes) -> list[Sample]:
    """Boxes and size of the images that have both; raises UserError if none has."""
    joined = [(own, sizes[name]) for name, own in boxes if name in sizes and len(own)]
    if not joined:
        raise UserError("no image of the solution file has a size; check --images or --sizes")
    return joined


def table(samples: Sequence[Sample]) -> tuple[str, list[str]]:
    """The table in Markdown, and the numbers that contradict those of the whole set; none for a part of it."""
    here = f"{len(samples)} images here"
    lines = [
        f"| view | of a uniform map, or lost to the view | {here} | 95% interval | all {WHOLE_SET} |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    wrong = []
    for geometry, nulls in NULLS.items():
        sums, counts = measure(samples, geometry)
        values = sums.sum(axis=0) / counts.sum(axis=0)
        low, high = ratio_intervals(sums, counts)
        for place, null in enumerate(nulls):
            value, ends = float(values[place]), (float(low[place]), float(high[place]))
            if null.share:
                ends = wilson(round(sums[:, place].sum()), len(samples)) or ends
            interval = f"[{ends[0]:.{DIGITS}f}, {ends[1]:.{DIGITS}f}]"
            whole = "" if null.whole is None else f"{null.whole:.{DIGITS}f}"
            lines.append(f"| {geometry} | {null.name} | {value:.{DIGITS}f} | {interval} | {whole} |")
            if null.whole is None or len(samples) < WHOLE_SET:
                continue
            if abs(value - null.whole) > null.rounding + 1e-9:  # on the edge of the rounding is no contradiction
                wrong.append(f"{geometry}: {null.name} is {value:.5f}, not {null.whole:.5f}")
    return "\n".join(lines), wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the numbers of the whole set are others than they must be, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True, help="LOC_val_solution.csv")
    parser.add_argument("--images", type=Path, help="folder of the images, for their sizes; by default the truth's")
    parser.add_argument("--sizes", type=Path, help="CSV of ImageId,width,height, in place of the images")
    given = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        sizes = read_sizes(given.sizes) if given.sizes else sizes_of_images(given.images or given.truth.parent)
        samples = join(read_boxes(given.truth), sizes)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text, wrong = table(samples)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {given.truth.name}, {time.perf_counter() - began:.1f} s\n\n{text}")
    if len(samples) < WHOLE_SET:
        print(f"\n{len(samples)} of {WHOLE_SET} images; one interval in 20 leaves out the whole set's value by chance.")
    for line in wrong:
        print(f"\ncontradicts the whole set's: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
