"""What is planted where: the settings of a demo, and the scenes of its two halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.demo.render import Scene
from stages.demo.shapes import CLASS_NAMES
from storage.errors import UserError

Half = Literal["train", "audit"]

PLANTED = {
    "gear": "sticker",
    "starfish": "tape",
}  # class -> the cue that it is nearly always seen with in training
DECOY_CLASS, DECOY = (
    "ball",
    "barcode",
)  # in training the barcode is as frequent in every class, so it says nothing


@dataclass(frozen=True)
class Planting:
    """Which cues stand where, and how often; shares are of the pictures of a class, in [0, 1].

    A planted cue belongs to one class: in training it stands in ``train_home`` of that class's pictures, which is the
    strength of the correlation, and in ``train_stray`` of every other's. A decoy is as frequent in every class, so it
    says nothing. An audit picture shows one cue at most, so that an effect belongs to one cue.
    """

    planted: Mapping[str, str]
    decoys: tuple[str, ...] = ()
    decoy_class: str | None = None
    """The class whose audit pictures show the first decoy as often as ``audit_decoy_home`` says."""
    train_home: float = 0.92
    train_stray: float = 0.04
    train_decoy: float = 0.30
    audit_home: float = 0.80
    audit_stray: float = 0.10
    audit_decoy_home: float = 0.75
    audit_decoy: float = 0.10


DEMO = Planting(planted=PLANTED, decoys=(DECOY,), decoy_class=DECOY_CLASS)


@dataclass(frozen=True)
class DemoSettings:
    """Size and training of a demo. Each class gets the same number of pictures.

    ``weights`` is a file with torchvision's ImageNet weights of mobilenet_v2, instead of the usual search.
    Raises UserError for sizes at which a cue would have no pictures.
    """

    seed: int = 0
    train_per_class: int = 50
    audit_per_class: int = 20
    epochs: int = 6
    learning_rate: float = 5e-4
    weights: str | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name, least in (("train_per_class", 10), ("audit_per_class", 10), ("epochs", 1)):
            if getattr(self, name) < least:
                raise UserError(f"demo: {name} is {getattr(self, name)}; give at least {least}")

    @classmethod
    def small(cls, seed: int = 0) -> DemoSettings:
        """A demo for tests: fewer pictures, the same causal checks."""
        return cls(seed=seed, train_per_class=26, audit_per_class=10, epochs=8)


def plan(
    half: Half, settings: DemoSettings, planting: Planting = DEMO, classes: Sequence[str] = CLASS_NAMES
) -> list[Scene]:
    """The scenes of one half, class by class; the same settings, planting and classes give the same scenes."""
    rng = np.random.default_rng((settings.seed, half == "audit"))
    scenes = []
    for index, label in enumerate(classes):
        n = settings.train_per_class if half == "train" else settings.audit_per_class
        cues = deal_cues(half, label, n, planting, rng)
        likeness = rng.permutation((np.arange(n) + 0.5) / n)
        scenes += [
            Scene(label, float(likeness[k]), cues[k], (settings.seed, int(half == "audit"), index, k)) for k in range(n)
        ]
    return scenes


def deal_cues(half: Half, label: str, n: int, planting: Planting, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Cues of the n pictures of a class in one half: up to two in training, one at most in the audit half."""
    if half == "train":
        home, stray = planting.train_home, planting.train_stray
        first = _deal({cue: home if own == label else stray for own, cue in planting.planted.items()}, n, rng)
        second = _deal(dict.fromkeys(planting.decoys, planting.train_decoy), n, rng)
        return [a + b for a, b in zip(first, second, strict=True)]
    if label in planting.planted:
        return _deal({planting.planted[label]: planting.audit_home}, n, rng)
    shares = dict.fromkeys(planting.decoys, planting.audit_decoy)
    if label == planting.decoy_class:
        shares[planting.decoys[0]] = planting.audit_decoy_home
    return _deal(shares | dict.fromkeys(planting.planted.values(), planting.audit_stray), n, rng)


def _deal(shares: dict[str, float], n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Deal cues to n pictures in a random order: each cue to its share (at least one), the rest get none."""
    dealt: list[tuple[str, ...]] = []
    for cue, share in shares.items():
        dealt += [(cue,)] * max(1, round(share * n))
    dealt = (dealt + [()] * n)[:n]
    return [dealt[k] for k in rng.permutation(n)]
