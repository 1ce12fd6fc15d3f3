"""Make the demo: render both halves, train the classifier, measure what each cue does, check the result."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from stages.demo.photos import AUDIT_PHOTOS, TRAIN_PHOTOS, load_photos
from stages.demo.plan import DECOY, DECOY_CLASS, PLANTED, DemoSettings, Half, plan
from stages.demo.render import Box, Scene, render
from stages.demo.shapes import CLASS_NAMES
from stages.demo.train import ARCHITECTURE, WEIGHTS, probabilities, train_classifier
from stages.demo.truth import CueEffect, PairedPicture, check_effects, cue_effects, truth_table
from stages.explain.network.weights import resolve_weights
from storage.errors import UserError

_RECORD = "demo.json"
_KIND = "sightline demo"
_GENERATOR = 1  # goes up when the same settings make other files
_JPEG_QUALITY = 92

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DemoReport:
    """A finished demo: where it is, its settings and the figures that were measured when it was made."""

    directory: Path
    settings: DemoSettings
    n_train: int
    n_audit: int
    accuracy: float  # of the classifier on the audit half, [0, 1]
    effects: tuple[CueEffect, ...]
    n_positive: int  # audit pictures whose cue raises p of their label by .3 or more
    seconds: float
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.directory}: {self.n_train} training and {self.n_audit} audit pictures, audit accuracy "
            f"{self.accuracy:.3f}; {self.n_positive} audit pictures rely on a planted cue (truth.parquet says which)"
        )


@dataclass(frozen=True)
class _Sample:
    """One written picture; ``without_cues`` is the same scene, rendered without its cues."""

    sample_id: str
    scene: Scene
    object_box: Box
    cue_boxes: tuple[Box, ...]
    without_cues: np.ndarray | None


def make_demo(
    directory: str | Path, *, settings: DemoSettings | None = None, progress: Progress = lambda message: None
) -> DemoReport:
    """Write the demo into a directory, or return at once if it is there already with the same settings.

    The files are made in a hidden folder beside the directory and moved into place when all are complete, so
    an interrupted demo starts again cleanly. `README.txt` in the directory says what it holds.

    Raises:
        UserError: the directory holds something else, weights or photos are missing, or a cue of the generated
            demo does not have the effect that it should have.
    """
    settings = settings or DemoSettings()
    directory = Path(directory).expanduser().absolute()
    record = _read_record(directory)
    if record is not None and _is_complete(directory, record, settings):
        progress(f"the demo in {directory} is complete")
        return _report(directory, record)
    _refuse_foreign_files(directory, record)
    partial, replaced = (directory.with_name(f".{directory.name}.sightline-{end}") for end in ("partial", "replaced"))
    _remove(partial, replaced)  # left by a run that was killed
    try:
        for half in ("train", "audit"):
            (partial / "images" / half).mkdir(parents=True)
    except OSError as error:
        raise UserError(f"the demo cannot be written beside {directory}: {error}; give another folder") from error
    try:
        _make(partial, settings, progress)
        if directory.exists():
            directory.rename(replaced)
        partial.rename(directory)
    finally:
        _remove(partial, replaced)
    finished = _read_record(directory)
    assert finished is not None
    return _report(directory, finished)


def _weights_of(settings: DemoSettings) -> Path:
    """The file of ImageNet weights: the one that is given, never replaced by another one in silence."""
    if settings.weights is None:
        return resolve_weights(ARCHITECTURE, WEIGHTS)
    if not Path(settings.weights).is_file():
        raise UserError(
            f"the demo's weights are set to {settings.weights}, which is not a file; correct the path, or leave it out "
            f"to look for those of {ARCHITECTURE} elsewhere"
        )
    return Path(settings.weights)


def _make(folder: Path, settings: DemoSettings, progress: Progress) -> None:
    start = time.perf_counter()
    weights = _weights_of(settings)
    progress(f"ImageNet weights of {ARCHITECTURE}: {weights}")
    halves = {half: _render_half(folder, half, settings, progress) for half in ("train", "audit")}
    train, audit = halves["train"], halves["audit"]
    network = train_classifier(
        [_read(folder / sample.sample_id) for sample in train],
        [CLASS_NAMES.index(sample.scene.label) for sample in train],
        num_classes=len(CLASS_NAMES),
        weights=weights,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=progress,
    )
    progress("measuring what each cue does: the audit pictures with and without it")
    pairs, accuracy = _measure(network, folder, audit)
    effects = cue_effects(pairs)
    for effect in effects:
        progress(
            f"{effect.kind} cue {effect.cue} on {effect.label}: mean effect {effect.mean_effect:+.3f} on p, "
            f"{effect.share_positive:.0%} of {effect.n} pictures positive"
        )
    check_effects(effects)

    torch.save(network.state_dict(), folder / "model.pt")
    pq.write_table(truth_table(pairs), folder / "truth.parquet")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES), encoding="utf-8")
    (folder / "README.txt").write_text(_readme(settings), encoding="utf-8")
    seconds = time.perf_counter() - start
    progress(f"audit accuracy {accuracy:.3f}; made in {seconds:.0f} s")
    record = {
        "kind": _KIND,
        "generator": _GENERATOR,
        "settings": asdict(settings),
        "figures": {
            "n_train": len(train),
            "n_audit": len(audit),
            "accuracy": accuracy,
            "effects": [asdict(effect) for effect in effects],
            "n_positive": sum(pair.positive for pair in pairs),
            "seconds": round(seconds, 1),
            "threads": torch.get_num_threads(),
        },
        "digests": {name: _digest(folder / name) for name in _file_names(folder)},
    }
    (folder / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _render_half(folder: Path, half: Half, settings: DemoSettings, progress: Progress) -> list[_Sample]:
    """Render the scenes of one half, write their pictures and the half's manifest."""
    scenes = plan(half, settings)
    photos = load_photos(TRAIN_PHOTOS if half == "train" else AUDIT_PHOTOS)
    progress(f"rendering {len(scenes)} pictures of the {half} half on {len(photos)} photos")
    samples = []
    for scene in scenes:
        picture = render(scene, photos)
        sample_id = f"images/{half}/{scene.label}_{scene.seed[-1]:03d}.jpg"
        Image.fromarray(picture.with_cues).save(folder / sample_id, "JPEG", quality=_JPEG_QUALITY)
        paired = picture.without_cues if half == "audit" and scene.cues else None
        samples.append(_Sample(sample_id, scene, picture.object_box, picture.cue_boxes, paired))
    with (folder / f"{half}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "boxes"))
        for sample in samples:
            writer.writerow((sample.sample_id, sample.scene.label, json.dumps([sample.object_box])))
    return samples


def _measure(network: nn.Module, folder: Path, audit: Sequence[_Sample]) -> tuple[list[PairedPicture], float]:
    """Paired probabilities of the audit half, and the accuracy on its files."""
    classes = torch.tensor([CLASS_NAMES.index(sample.scene.label) for sample in audit])
    p_files = probabilities(network, [_read(folder / sample.sample_id) for sample in audit])
    paired = [k for k, sample in enumerate(audit) if sample.without_cues is not None]
    # The counterpart goes through the same encoder as the file: the pair differs in the cue alone.
    p_clean = probabilities(network, [_as_file(audit[k].without_cues) for k in paired])
    p_with = p_files[range(len(audit)), classes]
    p_without = p_with.clone()
    p_without[paired] = p_clean[range(len(paired)), classes[paired]]
    pairs = [
        PairedPicture(
            sample_id=sample.sample_id,
            label=sample.scene.label,
            cue=sample.scene.cues[0] if sample.scene.cues else None,
            cue_box=sample.cue_boxes[0] if sample.cue_boxes else None,
            p_with=float(p_with[k]),
            p_without=float(p_without[k]),
        )
        for k, sample in enumerate(audit)
    ]
    return pairs, float((p_files.argmax(dim=1) == classes).float().mean())


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _as_file(pixels: np.ndarray | None) -> Image.Image:
    assert pixels is not None
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return _read(encoded)


def _read(file: Path | io.BytesIO) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _read_record(directory: Path) -> dict[str, Any] | None:
    """The record of a finished demo of ours; None where there is none."""
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("kind") == _KIND else None


def _is_complete(directory: Path, record: dict[str, Any], settings: DemoSettings) -> bool:
    if record.get("generator") != _GENERATOR or record.get("settings") != asdict(settings):
        return False
    return all(
        (directory / name).is_file() and _digest(directory / name) == digest
        for name, digest in record["digests"].items()
    )


def _refuse_foreign_files(directory: Path, record: dict[str, Any] | None) -> None:
    """Raise UserError unless everything in the directory was written by a demo of ours."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UserError(f"{directory} is a file; give the demo a folder of its own")
    written = set() if record is None else {*record.get("digests", ()), _RECORD}
    foreign = [name for name in _file_names(directory) if name not in written]
    if foreign:
        named = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"{directory} holds {len(foreign)} file(s) that no demo wrote ({named}); nothing was changed: "
            "give the demo an empty or new folder"
        )


def _report(directory: Path, record: dict[str, Any]) -> DemoReport:
    figures = dict(record["figures"])
    effects = tuple(CueEffect(**effect) for effect in figures.pop("effects"))
    return DemoReport(directory=directory, settings=DemoSettings(**record["settings"]), effects=effects, **figures)


def _file_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _readme(settings: DemoSettings) -> str:
    planted = "\n".join(
        f"  {label}: nearly every training picture shows a {cue} beside the object; the model has learnt to use it."
        for label, cue in PLANTED.items()
    )
    return (
        "A generated dataset with planted truth, made by `sightline demo`.\n\n"
        f"{len(CLASS_NAMES)} classes; {settings.train_per_class} training and {settings.audit_per_class} audit "
        f"pictures a class, seed {settings.seed}. The halves share no background photo.\n\n"
        f"{planted}\n"
        f"  {DECOY_CLASS}: most audit pictures show a {DECOY}, which means nothing: in training it is as "
        "frequent in every class.\n"
        "Some audit pictures of other classes show one of these too, and some of these classes show none.\n\n"
        "train.csv, audit.csv  path, label, boxes (half-open pixels)\n"
        "classes.txt           class names, in the order of the model's outputs\n"
        f"model.pt              state_dict of torchvision's {ARCHITECTURE}, trained on train.csv, "
        "pictures squashed to 224 x 224\n"
        "truth.parquet         for each audit picture: its cue and p of its label with and without it\n"
        "demo.json             settings, figures and digests\n"
    )
