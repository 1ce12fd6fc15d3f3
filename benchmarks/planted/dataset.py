"""What an experiment trains on and audits, whichever pictures it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.planted.plan import CONTROL, Experiment
from stages.demo.plan import Planting
from stages.geometry import Boxes


@dataclass(frozen=True)
class AuditPicture:
    """One picture of the audit half: (H, W, 3) uint8, and the same without its cue where it has one."""

    label: int
    cue: str | None
    picture: np.ndarray
    without: np.ndarray | None
    boxes: Boxes
    """(n, 4), half-open pixels."""


@dataclass(frozen=True)
class Dataset:
    """Both halves; ``cued`` says which cue was planted on which class index."""

    classes: tuple[str, ...]
    cued: dict[int, str]
    train: list[Image.Image]
    train_labels: list[int]
    audit: list[AuditPicture]


def planting_of(experiment: Experiment, planted: dict[str, str]) -> Planting:
    """What stands where, given the cue of each cued class; in a control every cue is a decoy, as frequent in one class
    as in another."""
    if experiment.kind == CONTROL:
        share = 0.8 / len(experiment.cues)
        return Planting(planted={}, decoys=experiment.cues, train_decoy=share, audit_decoy=share)
    return Planting(planted=planted, train_home=experiment.strength)
