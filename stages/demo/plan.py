"""What is planted where: the settings of a demo, and the scenes of its two halves."""

from __future__ import annotations

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

_TRAIN_PLANTED = 0.92  # share of a planted class's training pictures that show its cue
_TRAIN_STRAY = 0.04  # share of every other class's training pictures that show the same cue
_TRAIN_DECOY = 0.30
_AUDIT_PLANTED = 0.80
_AUDIT_STRAY = 0.10  # of each planted cue, on classes that do not use it
_AUDIT_DECOY = 0.75
_AUDIT_STRAY_DECOY = 0.10


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


def plan(half: Half, settings: DemoSettings) -> list[Scene]:
    """The scenes of one half, class by class; the same settings give the same scenes."""
    rng = np.random.default_rng((settings.seed, half == "audit"))
    scenes = []
    for index, label in enumerate(CLASS_NAMES):
        n = settings.train_per_class if half == "train" else settings.audit_per_class
        cues = _train_cues(label, n, rng) if half == "train" else _audit_cues(label, n, rng)
        likeness = rng.permutation((np.arange(n) + 0.5) / n)
        scenes += [
            Scene(label, float(likeness[k]), cues[k], (settings.seed, int(half == "audit"), index, k)) for k in range(n)
        ]
    return scenes


def _train_cues(label: str, n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Cues of a class's training pictures: a planted cue or none, and the decoy whatever else is shown."""
    shares = {cue: _TRAIN_PLANTED if home == label else _TRAIN_STRAY for home, cue in PLANTED.items()}
    first = _deal(shares, n, rng)
    second = _deal({DECOY: _TRAIN_DECOY}, n, rng)
    return [a + b for a, b in zip(first, second, strict=True)]


def _audit_cues(label: str, n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Cues of a class's audit pictures: one at most, so that an effect belongs to one cue."""
    shares = {DECOY: _AUDIT_DECOY if label == DECOY_CLASS else _AUDIT_STRAY_DECOY}
    for home, cue in PLANTED.items():
        shares[cue] = _AUDIT_PLANTED if home == label else _AUDIT_STRAY
    if label in PLANTED:
        shares = {PLANTED[label]: _AUDIT_PLANTED}
    return _deal(shares, n, rng)


def _deal(shares: dict[str, float], n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Deal cues to n pictures in a random order: each cue to its share (at least one), the rest get none."""
    dealt: list[tuple[str, ...]] = []
    for cue, share in shares.items():
        dealt += [(cue,)] * max(1, round(share * n))
    dealt = (dealt + [()] * n)[:n]
    return [dealt[k] for k in rng.permutation(n)]
