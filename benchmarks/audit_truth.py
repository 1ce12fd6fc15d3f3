"""How often the audit is right: planted experiments, in which what a model relies on is known from paired pictures.

    python -m benchmarks.audit_truth --quick
    python -m benchmarks.audit_truth --seeds report --workers 2 --output benchmarks/results/audit_truth.md
    python -m benchmarks.audit_truth --photos ILSVRC/images --truth ILSVRC/LOC_val_solution.csv

Each experiment plants cues (an opaque sticker, a translucent word, an object of no class, a tint of the background, a
border) beside the objects of one or two classes, fine-tunes a classifier with ImageNet weights on it, checks what the
cues do to it, and then asks every rule and score which audit pictures are shortcuts: those on which the cue adds .3 or
more to p of the label. A model on which the cues of the cued classes have less effect than that on average is refused.
Thresholds are the defaults of ``AuditSettings``. Finished experiments are kept in ``--work``, so an interrupted run
goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from benchmarks.planted.backbones import BACKBONES
from benchmarks.planted.experiment import Outcome, PhotoSource, run_experiment
from benchmarks.planted.plan import (
    DEVELOPMENT_SEEDS,
    REPORT_SEEDS,
    Experiment,
    Sizes,
    Source,
    experiments,
    quick_experiment,
)
from benchmarks.planted.report import report, shown
from benchmarks.planted.statistics import RESAMPLES
from storage.errors import UserError

_SIZES = {
    "train": "training pictures a class",
    "audit": "audit pictures a class",
    "costly": "audit pictures a class for the costly maps",
    "epochs": "passes over the training pictures",
}


def main() -> int:
    """Run the experiments and write the tables."""
    options = _parser().parse_args()
    source = None
    if options.photos or options.truth:
        if not (options.photos and options.truth):
            print("--photos and --truth go together: a folder of images and its LOC_val_solution.csv", file=sys.stderr)
            return 2
        source = PhotoSource(options.photos, options.truth)
    planned = _planned(options, source)
    try:
        outcomes = run_all(planned, options.work, source, options.workers)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    text = f"{_heading(planned, options.workers)}\n{report(outcomes, 40 if options.quick else RESAMPLES)}"
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    return 0


def run_all(planned: Sequence[Experiment], work: Path, source: PhotoSource | None, workers: int) -> list[Outcome]:
    """The outcomes of the experiments, in their order; ``workers`` processes of one thread each share the work."""
    run = partial(run_experiment, work=work, source=source, progress=_tell)
    if workers == 1:
        return [run(experiment) for experiment in planned]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run, experiment) for experiment in planned]
        for future in as_completed(waiting):
            future.result()  # the first failure ends the run; what is finished is kept
    return [future.result() for future in waiting]


def _tell(line: str) -> None:
    """Progress; a function of the module, because worker processes take no open files."""
    print(line, file=sys.stderr, flush=True)


def _planned(options: argparse.Namespace, source: PhotoSource | None) -> list[Experiment]:
    kind: Source = "photos" if source else "scenes"
    if options.quick:
        return [quick_experiment(kind)]
    seeds = {"development": DEVELOPMENT_SEEDS[:1], "report": REPORT_SEEDS}.get(options.seeds)
    if seeds is None:
        seeds = tuple(int(seed) for seed in options.seeds.split(","))
    given = {name: getattr(options, name) for name in _SIZES if getattr(options, name) is not None}
    sizes = replace(Sizes(), **given)
    sizes = replace(sizes, measured=sizes.audit)
    planned = [experiment for seed in seeds for experiment in experiments(seed, kind, sizes)]
    methods = tuple(filter(None, options.methods.split(",")))
    planned = [replace(one, methods=methods, network=options.network) for one in planned]
    if options.classes:
        planned = [one for one in planned if one.classes in map(int, options.classes.split(","))]
    return [one for one in planned if not options.kinds or one.kind in options.kinds.split(",")]


def _heading(planned: Sequence[Experiment], workers: int) -> str:
    source = {"scenes": "generated pictures", "photos": "real photos"}[planned[0].source]
    source += f", {planned[0].network}"
    return (
        f"## Planted experiments on {source}\n\n"
        f"`python -m benchmarks.audit_truth {shown(sys.argv[1:])}`, {datetime.now(UTC):%Y-%m-%d}; "
        f"CPU ({platform.machine()}), {workers} process(es) of one thread, torch {torch.__version__}. "
        "Brackets are 95% bootstrap intervals over pictures, drawn within each experiment.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small experiment, to see that all works")
    parser.add_argument(
        "--seeds", default="development", help="development, report, or master seeds with commas between them"
    )
    parser.add_argument("--kinds", default="", help="only these kinds of cue, with commas between them; none = control")
    parser.add_argument("--classes", default="", help="only classifiers of so many classes: 8,2")
    parser.add_argument(
        "--methods",
        default="",
        help="further saliency methods for the pictures of the costly maps: score_cam,layer_cam",
    )
    parser.add_argument("--network", choices=list(BACKBONES), default="mobilenet_v2", help="what is fine-tuned")
    parser.add_argument("--photos", type=Path, help="a folder of ImageNet's images: plant the cues on real photos")
    parser.add_argument("--truth", type=Path, help="their LOC_val_solution.csv, beside LOC_synset_mapping.txt")
    parser.add_argument("--work", type=Path, default=Path("artefacts/audit_truth"), help="finished experiments")
    parser.add_argument("--output", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--workers", type=int, default=1, help="experiments at a time, each on one thread")
    for name, meaning in _SIZES.items():
        parser.add_argument(f"--{name}", type=int, help=f"{meaning}, in place of what the experiments have")
    return parser


if __name__ == "__main__":
    sys.exit(main())
