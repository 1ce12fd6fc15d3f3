"""``sightline check``: what a config makes of a dataset and a classifier, on a seeded sample of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console

from pipeline.config import Config
from pipeline.progress import Progress
from pipeline.show.console import styled
from stages.explain.network.device import pick_device
from stages.explain.network.model import Classifier, load_classifier
from stages.explain.network.view import ViewSettings
from stages.explain.trial.cost import Cost, measure_cost
from stages.explain.trial.readings import centre_crop
from stages.explain.trial.trial import Shown, Trial, choose_images, try_readings
from stages.geometry import union_area
from stages.ingest.ingest import ingest, name_outputs
from stages.ingest.recognise import Dataset, open_dataset
from storage import Run
from storage.samples import own_boxes

SAMPLE = 200
"""Images that are read."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of the samples' own classes."""

    count: int
    covered: float
    """Median share of an image that the boxes of its class cover together."""
    crop: ViewSettings
    cut: float
    """Share of the boxes of which the crop keeps less than half."""


@dataclass(frozen=True)
class Checked:
    """What was found."""

    dataset: Dataset
    images: int
    """Images of the chosen split, of which the sample was taken."""
    read: int
    """Images of the sample."""
    remarks: tuple[str, ...]
    """What ingest says of the dataset."""
    classifier: Classifier
    view: ViewSettings
    samples: list[dict[str, Any]]
    shown: list[Shown]
    trial: Trial | None
    boxes: Boxes | None
    cost: Cost | None

    @property
    def statuses(self) -> Counter[str]:
        """Samples by status."""
        return Counter(row["status"] for row in self.samples)

    @property
    def classes(self) -> list[tuple[str, int | None, int]]:
        """Label, output of the model and samples of each class, the most frequent first."""
        return [(name, index, count) for (name, index), count in _classes(self.samples).most_common()]


def check(config: Config, console: Console) -> Checked:
    """Look at a config before it is run; nothing is written but a temporary folder.

    Raises UserError as a run would, for what cannot be run at all.
    """
    dataset = open_dataset(config.dataset)
    with console.status(styled("loading {}", config.model.source)):
        classifier, view = load(config)
    images = _count(dataset, config)
    config = config.model_copy(update={"view": view})
    remarks: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sightline-check-") as folder:
        few = _sampled(dataset, min(SAMPLE, max(images, 1)))
        run = Run.create(f"{folder}/run")
        classifier.class_names = name_outputs(few, classifier.class_names, remarks.append)
        samples = ingest(few, classifier.class_names, run, tell=remarks.append)
        rows: list[dict[str, Any]] = samples.to_pylist()
        shown = choose_images(samples, SAMPLE, config.dataset.seed)
        trial = try_images(classifier, config, shown, console)
        with console.status("explaining a few images"):
            cost = measure_cost(
                f"{folder}/timed", classifier, config.model, view, config.explain, samples, config.cluster.device
            )
    return Checked(
        dataset,
        images,
        min(images, SAMPLE),
        tuple(remarks),
        classifier,
        view,
        rows,
        shown,
        trial,
        _boxes(rows, view),
        cost,
    )


def load(config: Config) -> tuple[Classifier, ViewSettings]:
    """The classifier of a config and its view, that of the weights where it is ``auto``."""
    auto = config.view.geometry == "auto"
    classifier = load_classifier(config.model, None if auto else config.view.size)
    return classifier, classifier.view if auto and classifier.view is not None else config.view


def try_images(classifier: Classifier, config: Config, shown: list[Shown], console: Console) -> Trial | None:
    """The forward passes of the trial, on the device that the run would use."""
    device = pick_device(config.cluster.device)
    with Progress(console, "check", "images") as progress:
        try:
            told = config.model.outputs != "auto"
            return try_readings(classifier.to(device), config.view, shown, progress.update, outputs_are_set=told)
        finally:
            classifier.to("cpu")


def _sampled(dataset: Dataset, limit: int) -> Dataset:
    return replace(dataset, settings=replace(dataset.settings, limit=limit))


def _count(dataset: Dataset, config: Config) -> int:
    split, limit = config.dataset.split, config.dataset.limit
    count = sum(split in (None, record.split) for record in dataset.reader.records())
    return min(count, limit or count)


def _classes(samples: list[dict[str, Any]]) -> Counter[tuple[str, int | None]]:
    return Counter((row["label"], row["class_index"]) for row in samples if row["label"] is not None)


def _boxes(samples: list[dict[str, Any]], view: ViewSettings) -> Boxes | None:
    crop, covered, kept = centre_crop(view), [], []
    for row in samples:
        if row["width"] and (boxes := own_boxes(row)):
            covered.append(union_area(boxes) / (row["width"] * row["height"]))
            transform = crop.transform(row["width"], row["height"])
            kept += [transform.kept_fraction([box]) for box in boxes]
    if not kept:
        return None
    return Boxes(len(kept), float(np.median(covered)), crop, float(np.mean(np.array(kept) < 0.5)))
