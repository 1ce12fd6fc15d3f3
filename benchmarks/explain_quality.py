"""How good the maps of each saliency method are: faithfulness and localisation side by side, as in the paper's tables.

    python -m benchmarks.explain_quality --images DIR --truth LOC_val_solution.csv --run DIR --out quality.md

The pipeline's own stages on the target `label`, one method after the other, in this process. What is in --run is not
made again, so a stopped measurement goes on; --config takes dataset, model and view from a pipeline.yaml instead. Means
are over images, with 95% percentile bootstrap intervals; a column counts the images on which it is defined for every
method that defines it at all, so its numbers can be compared.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.console import Console

from benchmarks.quality_table import CURVES, FAITHFULNESS, LOCALISATION, Measure, Values, table
from pipeline.config import load_config
from pipeline.progress import Progress
from stages.explain.explain import explain_shard
from stages.explain.methods.methods import NULLS, Method
from stages.explain.network.device import pick_device
from stages.explain.network.model import Classifier, ModelSettings, load_classifier
from stages.explain.network.view import ViewSettings
from stages.explain.other_methods import settle_other_methods
from stages.explain.plan import (
    create_map_arrays,
    make_plan,
    pending_shards,
    shard_samples,
)
from stages.explain.settings import PROFILES, ExplainSettings
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.score.boxacc import THRESHOLDS, threshold_ious
from stages.score.localization import pad_boxes
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run
from storage.errors import SightlineError, UserError
from storage.samples import own_boxes

TARGET = "label"
BATCH = 16


def explain_method(run: Run, classifier: Classifier, options: Options, samples: pa.Table, method: Method) -> None:
    """Maps, probes and scores of a method, as far as the run does not have them."""
    settings = ExplainSettings(
        method=method,
        targets=(TARGET,),
        profile=options.profile,  # type: ignore[arg-type]  # checked by the parser
        steps=options.steps,
        curves=options.curves,
        batch_size=options.batch,
        shard_size=32,
    )
    plan = make_plan(run, classifier, options.model, options.view, settings, samples.num_rows)
    create_map_arrays(run, plan)
    settle_other_methods(run, plan, samples)
    pending = pending_shards(run, plan, samples)
    total = sum(len(plan.shard(index)) for index in pending)
    done = 0
    with Progress(options.console, method, "images", total=total) as progress:
        for index in pending:
            done += explain_shard(plan, index, shard_samples(plan, samples, index)).samples
            progress.update(done, total)
    score(run, ScoreSettings())


def values_of(run: Run, method: str, samples: pa.Table, measures: Sequence[Measure]) -> dict[str, Values]:
    """Each measure of a method by row of the run, NaN where undefined; IoUs (rows, thresholds) for MaxBoxAccV2."""
    chosen = (pc.field("method") == method) & (pc.field("target") == TARGET)
    tables = [run.table(name).filter(chosen) for name in ("scores", "explain")]
    found: dict[str, Values] = {}
    for measure in measures:
        if measure.name == "max_box_acc_v2":
            found[measure.name] = box_ious(run, method, samples)
            continue
        (table,) = (table for table in tables if measure.name in table.column_names)
        column = np.full(samples.num_rows, np.nan)
        column[table["row"].to_numpy()] = table[measure.name].cast(pa.float64()).to_numpy()
        found[measure.name] = column
    return found


def box_ious(run: Run, method: str, samples: pa.Table) -> Values:
    """Highest IoU of a part of S > eta with a box, for each eta: (rows, thresholds), NaN where undefined."""
    store = run.maps(TARGET, method)
    view = ViewSettings(store.attributes.geometry, store.attributes.size, store.attributes.resize)
    found = np.full((samples.num_rows, len(THRESHOLDS)), np.nan)
    usable = [sample for sample in samples.to_pylist() if sample["status"] == "ok"]
    for start in range(0, len(usable), BATCH):
        batch = usable[start : start + BATCH]
        rows = [sample["row"] for sample in batch]
        boxes = [view.transform(sample["width"], sample["height"]).visible_boxes(own_boxes(sample)) for sample in batch]
        found[rows] = threshold_ious(store.read(rows, store.view_size), pad_boxes(boxes)).every
    return found


def report(
    found: Mapping[str, Mapping[str, Values]], failed: Mapping[str, str], options: Options, accuracy: str
) -> str:
    """The whole page: what was measured, with which command, and the tables."""
    faithfulness = [measure for measure in FAITHFULNESS if options.curves or measure.name not in CURVES]
    steps = options.steps or PROFILES[options.profile].steps
    on_gpu = pick_device("auto").type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    lines = [
        "# Saliency methods side by side",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {where}, torch {torch.__version__}, Python {platform.python_version()}.",
        f"{options.model.source}, {options.view.geometry} {options.view.size} px, accuracy {accuracy} images, target "
        f"`{TARGET}`; opti_cam: profile {options.profile}, {steps} steps.",
        "",
        f"    {options.command}",
        "",
        "Numbers are percent but for the lift, each with its 95% bootstrap interval over the images of the column's "
        "last row; `-` is undefined. Definitions: docs/definitions.md.",
        "",
        table(found, faithfulness),
        table(found, LOCALISATION),
        *(f"Images without a map by {method}: {statuses}.\n" for method, statuses in failed.items() if statuses),
    ]
    return "\n".join(lines)


def accuracy_of(run: Run, method: str, samples: pa.Table) -> str:
    """Share of images whose class the network predicts; if it is not the one known, nothing else means anything."""
    rows = run.table("explain").filter((pc.field("method") == method) & (pc.field("target") == TARGET))
    labels = samples["class_index"].take(pc.index_in(rows["row"], value_set=samples["row"]))
    right = pc.equal(rows["pred_index"], labels).drop_null().to_pylist()
    return f"{100 * np.mean(right):.1f}% of {len(right)}" if right else "unknown"


def statuses_of(run: Run, method: str) -> str:
    """How many rows of a method have no map, by status."""
    status = run.table("explain").filter((pc.field("method") == method) & (pc.field("target") == TARGET))["status"]
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(status).to_pylist()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if word != "ok")


@dataclass(frozen=True)
class Options:
    """What is measured, and where."""

    dataset: DatasetSettings
    model: ModelSettings
    view: ViewSettings
    methods: tuple[Method, ...]
    profile: str
    steps: int | None
    curves: bool
    batch: int
    run: str | None
    out: Path | None
    command: str
    console: Console


def options_of(arguments: Sequence[str] | None = None) -> Options | None:
    """The command line; None where it names no dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of ImageNet validation images")
    parser.add_argument(
        "--truth", help="LOC_val_solution.csv, LOC_synset_mapping.txt beside it; default: under --images"
    )
    parser.add_argument("--config", help="a pipeline.yaml, for dataset, model and view")
    parser.add_argument("--methods", nargs="+", choices=get_args(Method), default=["opti_cam", "grad_cam", *NULLS])
    parser.add_argument("--limit", type=int, help="a seeded sample of at most this many images")
    parser.add_argument("--model", default="torchvision:mobilenet_v2", help="as model.source")
    parser.add_argument("--weights", default="DEFAULT", help="as model.weights")
    parser.add_argument("--mean", type=float, help="of the input, all channels, if the model does not say")
    parser.add_argument("--std", type=float)
    parser.add_argument("--geometry", choices=["squash", "resize_crop"], default="squash")
    parser.add_argument("--profile", choices=list(PROFILES), default="paper", help="of opti_cam")
    parser.add_argument("--steps", type=int, help="of opti_cam, instead of the profile's")
    parser.add_argument("--curves", action=argparse.BooleanOptionalAction, default=True, help="insertion and deletion")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--run", help="directory of the run, to go on from; default: a temporary one")
    parser.add_argument("--out", type=Path, help="write the tables there, Markdown")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.config:
        config = load_config(given.config, [f"dataset.limit={given.limit}"] if given.limit else [])
        dataset, model, view = config.dataset, config.model, config.view
    elif given.images:
        dataset = DatasetSettings("imagenet", given.truth or given.images, given.images, limit=given.limit)
        mean, std = ((value,) * 3 if value else None for value in (given.mean, given.std))
        model = ModelSettings(given.model, given.weights, mean=mean, std=std)
        view = ViewSettings(given.geometry)
    else:
        return None
    command = shlex.join(["python", "-m", "benchmarks.explain_quality", *(arguments or sys.argv[1:])])
    own = (given.profile, given.steps, given.curves, given.batch, given.run, given.out, command)
    return Options(dataset, model, view, tuple(given.methods), *own, Console(width=200))


def measure(options: Options, url: str) -> str:
    """The report; a method's first numbers are printed as soon as it is done."""
    console, run = options.console, Run.create(url)
    classifier = load_classifier(options.model, options.view.size)
    with Progress(console, "ingest", "images") as progress:
        samples = ingest(open_dataset(options.dataset), classifier.class_names, run, progress.update)
    found: dict[str, dict[str, Values]] = {}
    for method in options.methods:
        explain_method(run, classifier, options, samples, method)
        found[method] = values_of(run, method, samples, (*FAITHFULNESS, *LOCALISATION))
        means = [f"{one.name} {100 * np.nanmean(found[method][one.name]):.1f}" for one in FAITHFULNESS[:3]]
        console.print(f"{method}: {', '.join(means)}", highlight=False)
    failed = {method: statuses_of(run, method) for method in found}
    return report(found, failed, options, accuracy_of(run, options.methods[0], samples))


def main() -> int:
    """Measure, print and write the tables."""
    options = options_of()
    if options is None:
        print(
            "no dataset: give --images DIR --truth LOC_val_solution.csv, or --config pipeline.yaml; nothing is measured"
        )
        return 0
    try:
        with tempfile.TemporaryDirectory() as temporary:
            page = measure(options, options.run or temporary)
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    options.console.print(page, highlight=False, markup=False, soft_wrap=True)
    if options.out:
        options.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
