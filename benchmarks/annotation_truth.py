"""How well the audit finds annotation faults, where they are known: wrong labels, wrong boxes, objects without a box.

    python -m benchmarks.annotation_truth --work DIR --seeds 21 22 --out annotation_truth.md

Makes the demo with each seed and a larger audit half, adds pictures with two objects, plants faults in the manifest
(benchmarks/planted/faults.py says which and how often), runs the pipeline on it, and compares the audit's findings and
columns with the truth. Pictures that rely on a planted cue get no fault; they are counted apart, because a missing box
and a shortcut look alike. Where the package cleanlab is installed, its ranking by the same probabilities stands beside.
Finished runs in --work are not made again.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from benchmarks.planted.faults import BOXES, FAULTS, LABELS, Annotation, plant
from benchmarks.planted.report import shown
from benchmarks.planted.statistics import Bools, Floats, auroc, average_precision, estimate, precision, recall
from pipeline.config import load_config
from pipeline.runner import run_pipeline
from stages.demo.demo import make_demo
from stages.demo.photos import AUDIT_PHOTOS, load_photos
from stages.demo.plan import DemoSettings
from stages.demo.render import Scene, render
from stages.demo.shapes import CLASS_NAMES
from stages.explain.network.model import load_classifier
from stages.explain.network.view import ViewSettings, render_view
from storage import Run
from storage.media.images import read_image
from storage.sql import connect

DOUBLES = {"gear": "sawblade", "sawblade": "gear", "star": "starfish", "starfish": "star"}
"""Classes of the demo that are easily taken for each other."""

TWINS = 0.1
"""Pictures with two objects, as a share of the audit half; half of them lose a box."""

CONFIG = """\
run: run
dataset: {reader: manifest, path: faulty.csv}
model: {source: "torchvision:mobilenet_v2", checkpoint: demo/model.pt, classes: demo/classes.txt}
view: {geometry: squash}
explain: {targets: [label, predicted], profile: fast}
score: {box_accuracy: false}
"""

COLUMNS = (
    "p_label", "p_full", "p_box", "p_context", "p_crop", "p_crop_outside", "p_hide_context", "iou_best", "energy_in",
    "pred_prob", "p_blank", "p_hide_far", "p_hide_context_neutral",
)  # fmt: skip
RULES = ("label_suspect", "missing_box", "box_suspect", "wrong_but_on_object", "misses_box")

NOT_TOO_LARGE = ("box_moved", "box_shrunk")
"""Faults of boxes that leave some of the object outside."""

QUALITIES = ("normalized_margin", "self_confidence")
"""cleanlab's scores of a label's quality that its documentation recommends for classification."""


@dataclass(frozen=True)
class Case:
    """The pictures of all seeds, (N,) each: their fault, whether they are shortcuts, and what the audit says."""

    seed: NDArray[np.int_]
    fault: NDArray[np.str_]
    shortcut: Bools
    columns: dict[str, Floats]
    found: dict[str, Bools]
    """By rule."""
    label: NDArray[np.int_]
    """Index of the label that the manifest says."""
    probabilities: Floats
    """Of every class, (N, C)."""

    @property
    def clean(self) -> Bools:
        """Pictures without a fault that are no shortcut."""
        return ~self.shortcut & np.equal(self.fault, "")


def make_dataset(work: Path, seed: int, per_class: int) -> None:
    """The demo of a seed in ``work/demo``, the manifest with faults in ``faulty.csv``, the truth in ``truth.csv``."""
    make_demo(work / "demo", settings=DemoSettings(seed=seed, audit_per_class=per_class), progress=print)
    truth = {row["sample_id"]: row for row in pq.read_table(work / "demo/truth.parquet").to_pylist()}
    annotations = []
    with (work / "demo/audit.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            with Image.open(work / "demo" / row["path"]) as image:
                size = image.size
            boxes = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in json.loads(row["boxes"]))
            annotations.append(Annotation(f"demo/{row['path']}", row["label"], boxes, size))
    annotations += _with_twins(work, seed, round(TWINS * len(annotations)))
    shortcuts = {f"demo/{name}" for name, row in truth.items() if row["positive"]}
    faulty = plant(annotations, spared=shortcuts, doubles=DOUBLES, classes=CLASS_NAMES, seed=seed)
    with (work / "faulty.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "boxes"))
        writer.writerows((one.sample_id, one.label, json.dumps(one.boxes)) for one in faulty)
    with (work / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sample_id", "fault", "shortcut"))
        writer.writerows((one.sample_id, one.fault or "", int(one.sample_id in shortcuts)) for one in faulty)
    (work / "pipeline.yaml").write_text(CONFIG, encoding="utf-8")


def _with_twins(work: Path, seed: int, count: int) -> list[Annotation]:
    """Pictures of two objects of one class, both boxed."""
    photos, folder = load_photos(AUDIT_PHOTOS), work / "twins"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng((seed, 5))
    made = []
    for k in range(count):
        scene = Scene(CLASS_NAMES[k % len(CLASS_NAMES)], float(rng.uniform()), (), (seed, 5, k), twin=True)
        picture = render(scene, photos)
        assert picture.twin_box is not None
        path = folder / f"{scene.label}_{k:03d}.jpg"
        Image.fromarray(picture.without_cues).save(path, quality=92)
        height, width = picture.without_cues.shape[:2]
        boxes = picture.object_box, picture.twin_box
        made.append(Annotation(f"twins/{path.name}", scene.label, boxes, (width, height)))
    return made


def read_case(work: Path, seed: int) -> Case:
    """What a finished run says, beside what is true."""
    run = Run.open(str(work / "run"))
    with (work / "truth.csv").open(encoding="utf-8") as file:
        truth = {row["sample_id"]: row for row in csv.DictReader(file)}
    wanted = ", ".join(("sample_id", "label", "uri", *COLUMNS))
    with connect(run) as connection:
        rows = connection.sql(f"SELECT {wanted} FROM audit ORDER BY row").to_arrow_table()
    names = rows["sample_id"].to_pylist()
    findings = run.table("findings").to_pylist()
    found = {rule: {row["sample_id"] for row in findings if row["rule"] == rule} for rule in RULES}
    return Case(
        seed=np.full(len(names), seed),
        fault=np.array([truth[name]["fault"] for name in names]),
        shortcut=np.array([truth[name]["shortcut"] == "1" for name in names]),
        columns={name: rows[name].to_numpy().astype(float) for name in COLUMNS},
        found={rule: np.array([name in found[rule] for name in names]) for rule in RULES},
        label=np.array([CLASS_NAMES.index(label) for label in rows["label"].to_pylist()]),
        probabilities=_probabilities(work, rows["uri"].to_pylist()),
    )


def _probabilities(work: Path, uris: Sequence[str]) -> Floats:
    """Probabilities of every class (N, C) of the images as the run's network saw them."""
    classifier, view = load_classifier(load_config(work / "pipeline.yaml").model), ViewSettings()
    with torch.no_grad():
        batches = [
            torch.stack([torch.from_numpy(render_view(read_image(uri), view)) for uri in uris[k : k + 16]])
            for k in range(0, len(uris), 16)
        ]
        logits = torch.cat([classifier(batch.float() / 255) for batch in batches])
    return logits.double().softmax(dim=1).numpy()


def pooled(cases: Sequence[Case]) -> Case:
    """The pictures of several cases as one."""
    return Case(
        seed=np.concatenate([case.seed for case in cases]),
        fault=np.concatenate([case.fault for case in cases]),
        shortcut=np.concatenate([case.shortcut for case in cases]),
        columns={name: np.concatenate([case.columns[name] for case in cases]) for name in COLUMNS},
        found={rule: np.concatenate([case.found[rule] for case in cases]) for rule in RULES},
        label=np.concatenate([case.label for case in cases]),
        probabilities=np.concatenate([case.probabilities for case in cases]),
    )


def rankings(case: Case) -> dict[str, dict[str, Floats]]:
    """Scores by the faults that they are to find, higher where the annotation is less likely right."""
    p = case.columns
    labels = {"1 - p(label)": 1 - p["p_label"], "p(predicted) - p(label)": p["pred_prob"] - p["p_label"]}
    labels |= {f"cleanlab, {name}": 1 - quality for name, quality in _cleanlab(case).items()}
    boxes = {
        "1 - IoU of the map's box": 1 - p["iou_best"],
        "1 - energy in the boxes": 1 - p["energy_in"],
        "p_context - p_box": p["p_context"] - p["p_box"],
        "p_crop_outside - p_box": p["p_crop_outside"] - p["p_box"],
        "p_hide_far - max(p_box, p_hide_context_neutral)": p["p_hide_far"]
        - np.fmax(p["p_box"], p["p_hide_context_neutral"]),
        "p_crop - p_box": p["p_crop"] - p["p_box"],
        "p_full - p_hide_context": p["p_full"] - p["p_hide_context"],
        "(1 - IoU) p_crop": (1 - p["iou_best"]) * p["p_crop"],
    }
    dropped = {
        "p_crop_outside": p["p_crop_outside"],
        "(p_crop_outside - p_blank) / (1 - p_blank)": (p["p_crop_outside"] - p["p_blank"]) / (1 - p["p_blank"]),
        "p_context": p["p_context"],
    }
    return {"labels": labels, "boxes": boxes, "not too large": boxes, "box_dropped": dropped}


def _cleanlab(case: Case) -> dict[str, Floats]:
    """cleanlab's quality of each label in [0, 1], by its method; empty where the package is not installed."""
    if importlib.util.find_spec("cleanlab") is None:
        return {}
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found,unused-ignore]

    return {name: get_label_quality_scores(case.label, case.probabilities, method=name) for name in QUALITIES}


def confident_joint(case: Case) -> Bools:
    """Labels that confident learning (Northcutt, Jiang, Chuang, JAIR 2021) calls wrong, seed by seed.

    A sample is one where, of the classes whose probability reaches the mean that it has on its own label's samples, the
    most probable is not the label.
    """
    suspect = np.zeros(len(case.label), dtype=bool)
    for seed in np.unique(case.seed):
        here = case.seed == seed
        p, label = case.probabilities[here], case.label[here]
        usual = np.array([p[label == k, k].mean() for k in range(p.shape[1])])
        reached = np.where(p >= usual, p, -1)
        suspect[here] = (reached.max(axis=1) >= 0) & (reached.argmax(axis=1) != label)
    return suspect


def tables(case: Case) -> str:
    """Markdown of all tables."""
    wanted = {"labels": LABELS, "boxes": BOXES, "not too large": NOT_TOO_LARGE, "box_dropped": ("box_dropped",)}
    lines = [
        f"{len(case.fault)} pictures: {int(case.clean.sum())} clean, {int(case.shortcut.sum())} shortcuts, "
        + ", ".join(f"{int((case.fault == fault).sum())} {fault}" for fault in FAULTS),
        "",
        "| find | by | AP | AUROC | chance |",
        "|---|---|---|---|---|",
    ]
    for name, scores in rankings(case).items():
        for title, score in scores.items():
            truth = np.isin(case.fault, wanted[name])
            asked = (truth | case.clean) & np.isfinite(score)
            figures = [estimate(f, truth[asked], score[asked], case.seed[asked]) for f in (average_precision, auroc)]
            lines.append(f"| {name} | {title} | {figures[0]} | {figures[1]} | {truth[asked].mean():.2f} |")
    lines += [
        "",
        "| rule | meant for | precision | recall | of clean pictures named | of shortcuts named |",
        "|---|---|---|---|---|---|",
    ]
    for title, name, named in decisions(case):
        truth = np.isin(case.fault, wanted[name])
        asked = truth | case.clean
        figures = [estimate(f, truth[asked], named[asked], case.seed[asked]) for f in (precision, recall)]
        lines.append(
            f"| {title} | {name} | {figures[0]} | {figures[1]} | {named[case.clean].mean():.1%} | "
            f"{named[case.shortcut].mean():.1%} |"
        )
    return "\n".join(lines)


def decisions(case: Case) -> list[tuple[str, str, Bools]]:
    """Yes-or-no detectors: title, what it is meant for, and whom it names."""
    return [
        ("`label_suspect`", "labels", case.found["label_suspect"]),
        ("`wrong_but_on_object`", "labels", case.found["wrong_but_on_object"]),
        ("confident learning", "labels", confident_joint(case)),
        ("`missing_box`", "box_dropped", case.found["missing_box"]),
        ("`box_suspect`", "boxes", case.found["box_suspect"]),
        ("`box_suspect`", "not too large", case.found["box_suspect"]),
        ("`misses_box`", "boxes", case.found["misses_box"]),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of demos and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[21], help="one dataset each")
    parser.add_argument("--per-class", type=int, default=60, help="audit pictures of each of the 8 classes")
    parser.add_argument("--workers", type=int, default=None, help="worker processes; by default as `sightline run`")
    parser.add_argument("--out", type=Path, help="write the tables there too")
    options = parser.parse_args(arguments)
    cases = []
    for seed in options.seeds:
        work = options.work.absolute() / str(seed)
        if not (work / "pipeline.yaml").exists():
            work.mkdir(parents=True, exist_ok=True)
            make_dataset(work, seed, options.per_class)
        sets = [] if options.workers is None else [f"cluster.workers={options.workers}"]
        run_pipeline(load_config(work / "pipeline.yaml", sets), Console(highlight=False))
        cases.append(read_case(work, seed))
    head = [
        "# Annotation faults, found and known",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, torch {torch.__version__}. Made by "
        f"`python -m benchmarks.annotation_truth {shown(sys.argv[1:])}`",
        "",
    ]
    text = "\n".join(head) + tables(pooled(cases)) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
