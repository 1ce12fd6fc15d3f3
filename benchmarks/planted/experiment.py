"""One experiment from its seed to a table: build, train, check the truth, measure; finished ones are kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.planted.backbones import BACKBONES
from benchmarks.planted.dataset import Dataset
from benchmarks.planted.measure import (
    UNINFORMED,
    Audited,
    Columns,
    class_probabilities,
    measure_locator,
    measure_without_maps,
)
from benchmarks.planted.photos import load_imagenet, photos
from benchmarks.planted.plan import CONTROL, Experiment
from benchmarks.planted.scenes import scenes
from stages.demo.truth import POSITIVE
from stages.explain.network.view import ViewSettings, render_view
from stages.explain.opticam.opticam import OptiCam, OptiCamSettings
from stages.explain.settings import PROFILES
from stages.score.localization import pad_boxes

VERSION = 4
"""Raised by hand when an experiment makes other numbers; kept ones of another version are made again."""
COSTLY_STEPS = 60
"""Profiles with more steps see a few pictures only, where a cheaper one sees them all."""

_VIEW = ViewSettings()

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PhotoSource:
    """Where ImageNet's images and their solution file are."""

    images: Path
    solution: Path


@dataclass(frozen=True)
class Outcome:
    """A finished experiment. Unless it was refused, ``table`` has a row an audit picture: its truth, and a column
    ``locator/score`` for each score."""

    experiment: Experiment
    accuracy: float
    effects: dict[str, float]
    """Mean effect of each planted cue on p of its class, over the pictures of that class that show it."""
    cued: tuple[str, ...]
    """Names of the cued classes."""
    table: pa.Table | None
    seconds: float

    @property
    def refused(self) -> bool:
        """Whether the model did not learn to use a planted cue, so that nothing is known to be found."""
        return self.table is None


def cheap_and_costly() -> tuple[list[str], list[str]]:
    """Opti-CAM's profiles that see every audit picture, and those that see a few."""
    cheap = [name for name, settings in PROFILES.items() if settings.steps <= COSTLY_STEPS]
    return (cheap, [name for name in PROFILES if name not in cheap]) if cheap else (list(PROFILES), [])


def run_experiment(experiment: Experiment, work: Path, source: PhotoSource | None, progress: Progress) -> Outcome:
    """The outcome of an experiment: read where it is already in the folder ``work``, made otherwise."""
    torch.set_num_threads(1)  # the same weights whatever the machine
    file = work / f"{_digest(experiment, source)}.parquet"
    if not file.exists():
        _write(_make(experiment, source, progress), file)
    else:
        progress(f"{experiment.name}: already there")
    return _read(file, experiment)


def _make(experiment: Experiment, source: PhotoSource | None, progress: Progress) -> Outcome:
    began = time.perf_counter()
    dataset = _dataset(experiment, source)
    backbone = BACKBONES[experiment.network]
    sizes, seed = experiment.sizes, experiment.seed % 2**31
    network = backbone.train(dataset.train, dataset.train_labels, len(dataset.classes), sizes.epochs, seed)
    opticam = OptiCam(network, mean=backbone.mean, std=backbone.std)
    audited = as_audited(dataset, experiment.seed)
    probabilities = class_probabilities(opticam, audited.views)
    truth = _truth(dataset, audited, probabilities, opticam)
    effects = {
        cue: float(truth["effect"][(audited.labels == label) & (truth["cue"] == cue)].mean())
        for label, cue in dataset.cued.items()
    }
    accuracy = float((probabilities.argmax(axis=1) == audited.labels).mean())
    progress(f"{experiment.name}: accuracy {accuracy:.2f}, effects {_in_words(effects)}")
    table = None
    if all(effect >= POSITIVE for effect in effects.values()):
        places = _first_of_each(audited.labels, experiment.sizes.measured)
        seen = audited.take(places)
        own = {f"/{name}": values for name, values in measure_without_maps(opticam, seen).items()}
        own |= _measure_locators(network, seen, experiment)
        kept = {name: values[places] for name, values in truth.items()}
        table = pa.table({name: _to_column(values) for name, values in (kept | own).items()})
    seconds = time.perf_counter() - began
    progress(f"{experiment.name}: {'refused' if table is None else 'measured'} after {seconds:.0f} s")
    cued = tuple(dataset.classes[label] for label in dataset.cued)
    return Outcome(experiment, accuracy, effects, cued, table, seconds)


def _dataset(experiment: Experiment, source: PhotoSource | None) -> Dataset:
    if experiment.source == "scenes":
        return scenes(experiment)
    assert source is not None
    return photos(experiment, load_imagenet(source.images, source.solution))


def as_audited(dataset: Dataset, seed: int) -> Audited:
    """The audit half as the network sees it."""
    transforms = [_VIEW.transform(one.picture.shape[1], one.picture.shape[0]) for one in dataset.audit]
    pairs = list(zip(transforms, dataset.audit, strict=True))
    return Audited(
        views=np.stack([to_view(one.picture) for one in dataset.audit]),
        coverage=np.stack([transform.coverage(one.boxes) for transform, one in pairs]),
        boxes=pad_boxes([transform.boxes_to_view(one.boxes) for transform, one in pairs]),
        labels=np.array([one.label for one in dataset.audit]),
        seeds=tuple(int(value) for value in np.random.SeedSequence((seed, 3)).generate_state(len(dataset.audit))),
    )


def to_view(picture: np.ndarray) -> np.ndarray:
    """The view of a picture (H, W, 3), uint8: (3, 224, 224)."""
    return render_view(Image.fromarray(picture), _VIEW)


def _truth(dataset: Dataset, audited: Audited, probabilities: np.ndarray, opticam: OptiCam) -> dict[str, np.ndarray]:
    """What is known of each audit picture: the effect of its cue on p of its label, from the pair of pictures."""
    with_pair = [k for k, one in enumerate(dataset.audit) if one.without is not None]
    p_with = probabilities[np.arange(len(audited)), audited.labels]
    p_without = p_with.copy()
    clean = np.stack([to_view(one.without) for one in dataset.audit if one.without is not None])
    p_without[with_pair] = class_probabilities(opticam, clean)[range(len(with_pair)), audited.labels[with_pair]]
    cues = np.array([one.cue or "" for one in dataset.audit])
    home = np.array([dataset.cued.get(one.label) == one.cue and one.cue is not None for one in dataset.audit])
    return {
        "label": np.array([dataset.classes[label] for label in audited.labels]),
        "cue": cues,
        "at_home": home,
        "p_with": p_with,
        "p_without": p_without,
        "effect": p_with - p_without,
        "positive": p_with - p_without >= POSITIVE,
        "predicted": np.array([dataset.classes[k] for k in probabilities.argmax(axis=1)]),
        "pred_prob": probabilities.max(axis=1),
    }


def _measure_locators(network: torch.nn.Module, audited: Audited, experiment: Experiment) -> Columns:
    """Scores of every locator; NaN on the pictures that a costly one does not see."""
    columns: Columns = {}
    backbone = BACKBONES[experiment.network]
    cheap, costly = cheap_and_costly()
    few = _first_of_each(audited.labels, experiment.sizes.costly)
    every = np.arange(len(audited))

    def add(title: str, name: str, settings: OptiCamSettings, places: np.ndarray, ablate: bool) -> None:
        opticam = OptiCam(network, mean=backbone.mean, std=backbone.std, settings=settings)
        for score, values in measure_locator(opticam, audited.take(places), name, ablate).items():
            columns[f"{title}/{score}"] = np.full((len(audited), *values.shape[1:]), np.nan)
            columns[f"{title}/{score}"][places] = values

    for name, settings in PROFILES.items():
        add(f"opti_cam {name}", "opti_cam", settings, few if name in costly else every, name in cheap)
    for name in ("grad_cam", *UNINFORMED):
        add(name, name, OptiCamSettings(), every, name == "grad_cam")
    for name in experiment.methods:
        add(name, name, OptiCamSettings(), few, False)
    columns["/in_subset"] = np.isin(every, few).astype(float)
    return columns


def _to_column(values: np.ndarray) -> pa.Array:
    """Values (N,), or (N, K) as a list of K half floats a row."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float16).ravel()), values.shape[1])


def _first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Places of the first ``count`` pictures of each class; cues were dealt in a random order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def _in_words(effects: dict[str, float]) -> str:
    return ", ".join(f"{cue} {effect:+.2f}" for cue, effect in effects.items()) or CONTROL


def _digest(experiment: Experiment, source: PhotoSource | None) -> str:
    made_from = {
        "version": VERSION,
        "experiment": asdict(experiment),
        "profiles": {name: asdict(settings) for name, settings in PROFILES.items()},
        "photos": source.solution.read_text(encoding="utf-8") if source and experiment.source == "photos" else None,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]


def _write(outcome: Outcome, file: Path) -> None:
    record = {
        "accuracy": outcome.accuracy,
        "effects": outcome.effects,
        "cued": outcome.cued,
        "seconds": outcome.seconds,
        "refused": outcome.refused,
    }
    table = outcome.table if outcome.table is not None else pa.table({})
    partial = file.with_suffix(f".{os.getpid()}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"outcome": json.dumps(record)}), partial)
    partial.replace(file)


def _read(file: Path, experiment: Experiment) -> Outcome:
    table = pq.read_table(file)
    record = json.loads(table.schema.metadata[b"outcome"])
    refused = record.pop("refused")
    return Outcome(
        experiment,
        record["accuracy"],
        record["effects"],
        tuple(record["cued"]),
        None if refused else table,
        record["seconds"],
    )
