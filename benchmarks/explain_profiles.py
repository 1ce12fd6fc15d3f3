"""How good the optima of the profiles are: `fast` and others against `paper`, image by image.

    python -m benchmarks.explain_profiles --images ILSVRC --half even --model torchvision:mobilenet_v2 paper fast

A profile may carry changes: ``fast:steps=24,learning_rate=0.2``. The first one named is what the others are compared
with. Choose settings on ``--half even`` and confirm them on ``--half odd``. The optimum itself does not depend on the
machine's load; passes are counted, not timed (see ``explain_speed``).
"""

from __future__ import annotations

import argparse
import ast
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from torch import Tensor

from benchmarks.networks import add_model_arguments, classifier_of
from stages.explain import OptiCam, OptiCamSettings, Saliency, ViewSettings
from stages.explain.network.view import render_view
from stages.explain.settings import PROFILES
from stages.geometry import largest_component_box
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.score import faithfulness, localization
from stages.statistics import bootstrap
from storage import Run
from storage.media.images import decode_image, read_bytes


@dataclass(frozen=True)
class Picture:
    """One image as the network sees it, with its class and the boxes of that class."""

    pixels: np.ndarray
    class_index: int
    coverage: np.ndarray
    boxes: np.ndarray


@dataclass
class Measured:
    """What a profile reached, (N,) each, and its maps (N, H, W)."""

    objective: np.ndarray
    passes: np.ndarray
    ad: np.ndarray
    ai: np.ndarray
    ag: np.ndarray
    energy: np.ndarray
    f1: np.ndarray
    hit: np.ndarray
    iou: np.ndarray
    maps: np.ndarray


def pictures(source: DatasetSettings, class_names: tuple[str, ...], view: ViewSettings, half: str) -> list[Picture]:
    """The usable images of a dataset: all, or every other one."""
    with tempfile.TemporaryDirectory() as folder:
        samples = ingest(open_dataset(source), class_names, Run.create(folder), lambda *_: None).to_pylist()
    usable = [sample for sample in samples if sample["status"] == "ok"]
    usable = {"all": usable, "even": usable[::2], "odd": usable[1::2]}[half]
    found = []
    for sample in usable:
        image = decode_image(read_bytes(sample["uri"]))
        boxes = [tuple(box[edge] for edge in ("x0", "y0", "x1", "y1")) for box in sample["boxes"]]
        transform = view.transform(*image.size)
        placed = transform.visible_boxes(boxes)
        if len(placed):
            found.append(Picture(render_view(image, view), sample["class_index"], transform.coverage(boxes), placed))
    return found


def named(profile: str) -> OptiCamSettings:
    """The settings of ``NAME`` or ``NAME:key=value,key=value``."""
    name, _, changes = profile.partition(":")
    pairs = (change.split("=") for change in changes.split(",") if change)
    return replace(PROFILES[name], **{key: _value(value) for key, value in pairs})


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def batches(found: list[Picture], size: int) -> Iterator[tuple[list[Picture], Tensor, Tensor]]:
    """Pictures with their images (N, 3, H, W) in [0, 1] and classes (N,)."""
    for start in range(0, len(found), size):
        part = found[start : start + size]
        images = torch.from_numpy(np.stack([picture.pixels for picture in part])).float() / 255
        yield part, images, torch.tensor([picture.class_index for picture in part])


def measure(opticam: OptiCam, found: list[Picture], batch: int, name: str, console: Console) -> Measured:
    """Explain every picture and measure the maps."""
    rows: list[dict[str, np.ndarray]] = []
    steps = list(batches(found, batch))
    for part, images, targets in track(steps, description=f"{name:30s}", console=console):
        result = opticam(images, targets)
        maps = result.maps().cpu().numpy()
        with torch.no_grad():
            full, masked = (
                opticam.logits(opticam.prepare(picture)).float().softmax(1).cpu()[range(len(part)), targets].numpy()
                for picture in (images, images * result.maps().cpu()[:, None])
            )
        coverage = np.stack([picture.coverage for picture in part])
        boxes = localization.pad_boxes([picture.boxes for picture in part])
        rows.append(
            {
                "objective": result.objective_best.cpu().numpy(),
                "passes": _passes(result, opticam.settings),
                "ad": faithfulness.average_drop(full, masked),
                "ai": faithfulness.average_increase(full, masked),
                "ag": faithfulness.average_gain(full, masked),
                "energy": localization.energy_in(maps, coverage),
                "f1": localization.pixel_f1(maps, coverage),
                "hit": localization.pointing_hit(localization.pointing_distance(maps, boxes)),
                "iou": localization.iou_best(largest_component_box(maps), boxes),
                "maps": maps,
            }
        )
    return Measured(**{key: np.concatenate([row[key] for row in rows]) for key in rows[0]})


def _passes(result: Saliency, settings: OptiCamSettings) -> np.ndarray:
    """Forward-backward passes an image; the evaluation of the last iterate is a forward alone, and counts as one."""
    stopped = result.iterations.cpu().numpy()
    return np.minimum(stopped + 1, settings.steps + 1)


def row_of(measured: Measured, reference: Measured) -> list[str]:
    """One line of the table."""
    gain = measured.objective - reference.objective
    correlation = [
        stats.spearmanr(a[::7, ::7].ravel(), b[::7, ::7].ravel()).statistic
        for a, b in zip(measured.maps, reference.maps, strict=True)
    ]
    same = measured is reference
    return [
        f"{measured.passes.mean():.0f}",
        f"{measured.objective.mean():.2f}",
        "" if same else with_interval(gain, "+.2f"),
        "" if same else f"{np.mean(gain >= 0):.0%}",
        with_interval(100 * measured.ad, ".2f"),
        with_interval(100 * measured.ai, ".1f"),
        with_interval(100 * measured.ag, ".1f"),
        f"{np.nanmean(measured.energy):.3f}",
        f"{np.nanmean(measured.f1):.3f}",
        f"{100 * np.nanmean(measured.hit):.1f}",
        f"{np.nanmean(measured.iou):.3f}",
        "" if same else f"{np.nanmedian(correlation):.2f}",
    ]


def with_interval(values: np.ndarray, form: str) -> str:
    """A mean and its 95% bootstrap interval over images."""
    known = values[np.isfinite(values)]
    low, high = bootstrap(known, np.mean) or (np.nan, np.nan)
    return f"{known.mean():{form}} [{low:{form}}, {high:{form}}]"


COLUMNS = (
    "passes", "objective", "paired gain", ">= first", "AD", "AI", "AG", "energy", "F1", "pointing", "IoU", "rank corr.",
)  # fmt: skip


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", default=["paper", "fast"])
    parser.add_argument("--images", required=True, help="folder in ILSVRC's form, with LOC_val_solution.csv")
    parser.add_argument("--half", choices=["all", "even", "odd"], default="even")
    parser.add_argument("--geometry", choices=["squash", "resize_crop"], default="squash")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    add_model_arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=180)

    view = ViewSettings(geometry=options.geometry)
    classifier = classifier_of(options, view.size).to(options.device)
    source = DatasetSettings(reader="imagenet", path=options.images)
    found = pictures(source, classifier.class_names, view, options.half)
    table = Table(
        title=f"{options.model}, {len(found)} images ({options.half}), {view.geometry}; AD, AI, AG, pointing: percent",
        title_justify="left",
    )
    for column in ("profile", *COLUMNS):
        table.add_column(column, justify="left" if column == "profile" else "right")
    reference: Measured | None = None
    for name in options.profiles:
        opticam = OptiCam(
            classifier.network,
            mean=classifier.mean.flatten().tolist(),
            std=classifier.std.flatten().tolist(),
            settings=named(name),
            input_size=(view.size, view.size),
        )
        measured = measure(opticam, found, options.batch, name, console)
        reference = reference or measured
        table.add_row(name, *row_of(measured, reference))
    console.print(table)


if __name__ == "__main__":
    main()
