"""What is to blame: how well each locator finds the planted cue, where it is known, and what hiding its choice costs.

    python -m benchmarks.locators --output benchmarks/results/locators.md
    python -m benchmarks.locators --seeds 12 --kinds sticker --classes 8 --epochs 2     # a quick look

Trains the classifiers of benchmarks/planted (development seeds: their cues were used to choose the steps of the map of
the outside) and looks at two groups of pictures: shortcuts, on which the cue adds .3 or more to p of the label, and
clean ones, which show no cue. Each locator proposes a tenth of the view outside the boxes; where the cue is, is known
from the pair of pictures with and without it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.planted.backbones import BACKBONES
from benchmarks.planted.experiment import as_audited, to_view
from benchmarks.planted.measure import Batch, batches, class_probabilities, propose, scan_drops
from benchmarks.planted.plan import CONTROL, STRONG, Experiment, Sizes, experiments
from benchmarks.planted.report import shown
from benchmarks.planted.scenes import scenes
from benchmarks.planted.statistics import estimate
from stages.demo.truth import POSITIVE
from stages.explain.opticam.opticam import OUTSIDE, OptiCam
from stages.explain.probes.probes import most_salient
from stages.explain.probes.scan import LATTICE, windows
from stages.explain.settings import PROFILES
from stages.masks import hidden_pixels

Columns = dict[str, NDArray[np.float64]]

_CHANGED = 12
"""Grey levels from which on a pixel of the view counts as the cue's; below it is what resampling spreads."""
_STEPS = PROFILES["fast"].steps
LOCATORS = {
    f"occlusion scan {LATTICE} x {LATTICE}": (LATTICE**2, 0),
    "Grad-CAM": (1, 1),
    f"Opti-CAM `fast`, {_STEPS} steps": (_STEPS + 2, _STEPS),
    f"Opti-CAM of the outside, {OUTSIDE.steps} steps": (OUTSIDE.steps + 1, OUTSIDE.steps),
}
"""Forward and backward passes of each, beside the one that hides its choice; the scan hides while it looks."""


def main() -> int:
    """Measure, and print one table a kind of cue."""
    options = _parser().parse_args()
    torch.set_num_threads(1)  # the same weights whatever the machine
    rows: dict[str, list[Columns]] = {}
    for experiment in _planned(options):
        print(f"{experiment.name}: training", file=sys.stderr, flush=True)
        kind = experiment.kind + (f", {experiment.classes} classes" if experiment.classes < 8 else "")
        rows.setdefault(kind, []).append(measure(experiment))
    text = _heading(options.network) + "".join(_table(kind, _pooled(parts)) for kind, parts in rows.items())
    text += _table("all kinds", _pooled([part for parts in rows.values() for part in parts]))
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    return 0


def measure(experiment: Experiment) -> Columns:
    """A row a picture: ``shortcut``, and of each locator ``name/centre``, ``name/covered``, ``name/iou`` (NaN on a
    clean picture) and ``name/drop``."""
    dataset, backbone = scenes(experiment), BACKBONES[experiment.network]
    sizes, seed = experiment.sizes, experiment.seed % 2**31
    network = backbone.train(dataset.train, dataset.train_labels, len(dataset.classes), sizes.epochs, seed)
    opticam = OptiCam(network, mean=backbone.mean, std=backbone.std, settings=PROFILES["fast"])
    audited = as_audited(dataset, experiment.seed)
    without = np.stack([to_view(one.picture if one.without is None else one.without) for one in dataset.audit])
    own = np.arange(len(audited)), audited.labels
    effect = class_probabilities(opticam, audited.views)[own] - class_probabilities(opticam, without)[own]
    clean = np.array([one.without is None for one in dataset.audit])
    places = np.flatnonzero((effect >= POSITIVE) | clean)
    cues = torch.from_numpy(np.abs(audited.views.astype(int) - without).max(axis=1)[places] > _CHANGED)
    parts, done = [], 0
    for batch in batches(opticam, audited.take(places)):
        parts.append(_measure(opticam, batch, cues[done : done + len(batch.images)]))
        done += len(batch.images)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns | {"shortcut": effect[places] >= POSITIVE}


def _measure(opticam: OptiCam, batch: Batch, cue: Tensor) -> Columns:
    columns = {}
    for name, hidden in zip(LOCATORS, _hidden(opticam, batch), strict=True):
        left = batch.probabilities(torch.where(hidden[:, None], batch.blurred, batch.images))
        both, either = (hidden & cue).flatten(1).sum(1), (hidden | cue).flatten(1).sum(1)
        columns |= {
            f"{name}/centre": _centres(cue, hidden),
            f"{name}/covered": (both / cue.flatten(1).sum(1)).numpy(),
            f"{name}/iou": (both / either).numpy(),
            f"{name}/drop": (batch.p_full - left).numpy(),
        }
    return columns


def _hidden(opticam: OptiCam, batch: Batch) -> Iterator[Tensor]:
    """What each of the locators hides, (N, H, W), bool, in their order."""
    size = batch.coverage.shape[1:]
    drops, scanned = scan_drops(batch).flatten(0, 1), torch.zeros_like(batch.outside)
    for place, window in enumerate(drops.argmax(0).tolist()):
        x0, y0, x1, y1 = windows(*size)[window]
        scanned[place, y0:y1, x0:x1] = batch.outside[place, y0:y1, x0:x1]
    yield scanned
    of_outside = opticam.maximize_outside(batch.images, batch.features, batch.targets, batch.outside).maps()
    for ranking in (*(propose(opticam, batch, name).ranking for name in ("grad_cam", "opti_cam")), of_outside):
        yield most_salient(ranking, batch.outside, hidden_pixels(*size))[0]


def _centres(cue: Tensor, hidden: Tensor) -> NDArray[np.float64]:
    """Whether the centre of gravity of each cue (N, H, W) is hidden; NaN without a cue."""
    found = np.full(len(cue), np.nan)
    for place, own in enumerate(cue):
        if own.any():
            y, x = (round(float(axis.float().mean())) for axis in torch.nonzero(own, as_tuple=True))
            found[place] = float(hidden[place, y, x])
    return found


def _pooled(parts: Sequence[Columns]) -> Columns:
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pooled | {"experiment": np.repeat(np.arange(len(parts)), [len(part["shortcut"]) for part in parts])}


def _table(kind: str, rows: Columns) -> str:
    shortcut = rows["shortcut"].astype(bool)
    lines = [
        f"\n**{kind}**: {shortcut.sum()} shortcuts, {(~shortcut).sum()} pictures without a cue\n",
        "| locator | passes | cue's centre hidden | cue covered | IoU | drop | drop >= .3 | without a cue |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, (forward, backward) in LOCATORS.items():
        drops, strata = rows[f"{name}/drop"], rows["experiment"]
        cells = [
            _mean(rows[f"{name}/{what}"][shortcut], strata[shortcut]) for what in ("centre", "covered", "iou", "drop")
        ]
        cells += [_mean((drops >= POSITIVE)[group].astype(float), strata[group]) for group in (shortcut, ~shortcut)]
        lines.append(f"| {name} | {forward} + {backward} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: NDArray[np.float64], strata: NDArray[np.int64]) -> str:
    mean: Callable[..., float] = lambda _, drawn: float(drawn.mean())  # noqa: E731
    return str(estimate(mean, np.ones(len(values), bool), values, strata)) if len(values) else "-"


def _planned(options: argparse.Namespace) -> list[Experiment]:
    sizes = replace(Sizes(), **({"epochs": options.epochs} if options.epochs else {}))
    seeds, kinds = [int(seed) for seed in options.seeds.split(",")], options.kinds.split(",")
    classes = [int(number) for number in options.classes.split(",")]
    planned = [one for seed in seeds for one in experiments(seed, "scenes", sizes) if one.strength == STRONG]
    planned = [one for one in planned if one.classes in classes and one.kind in kinds and one.kind != CONTROL]
    return [replace(one, network=options.network) for one in planned]


def _heading(network: str) -> str:
    return (
        f"# What is to blame\n\n{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, CPU, torch {torch.__version__}, "
        f"{network}. Made by\n`python -m benchmarks.locators {shown(sys.argv[1:])}`.\n"
        "Each locator hides a tenth of the view outside the boxes. Brackets are 95% intervals by bootstrap over\n"
        "pictures within each experiment. The last column is the share of the pictures without a cue on which\n"
        "hiding it costs .3 or more.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="12,13", help="master seeds, with commas between them")
    parser.add_argument("--kinds", default="sticker,text,companion,cast,border", help="kinds of cue")
    parser.add_argument("--classes", default="8,2", help="classes of the classifiers")
    parser.add_argument("--network", choices=list(BACKBONES), default="mobilenet_v2", help="what is fine-tuned")
    parser.add_argument("--epochs", type=int, help="passes over the training pictures, in place of the plan's")
    parser.add_argument("--output", type=Path, help="also write the tables to this Markdown file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
