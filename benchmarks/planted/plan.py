"""The experiments: which cue, how strong a correlation, how many cued classes, from which seed.

The development seeds are for choosing rules, thresholds and locators; the report seeds are for the numbers that are
printed. Neither they nor their cues overlap, and the thresholds are the defaults of ``AuditSettings``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stages.demo.cues import CUE_KINDS

DEVELOPMENT_SEEDS = tuple(range(11, 20))
REPORT_SEEDS = (70_003, 70_004, 70_005, 70_006)

Role = Literal["development", "report"]
Source = Literal["scenes", "photos"]

CONTROL = "none"
"""Kind of the control: every cue is as frequent in every class, so none of them says anything."""

STRONG = 0.95
"""Share of the training pictures of a class that show its cue where the correlation is strong."""
ALL_CLASSES = 8

_KINDS = ("sticker", "text", "companion", "cast", "border")
_CUES = {
    "development": {kind: CUE_KINDS[kind][:2] for kind in _KINDS},
    "report": {kind: CUE_KINDS[kind][2:4] for kind in _KINDS},
}


@dataclass(frozen=True)
class Sizes:
    """How large an experiment is; numbers of pictures are per class."""

    train: int = 60
    audit: int = 12
    measured: int = 12
    """Audit pictures that are measured; the truth is checked on all."""
    costly: int = 1
    """Audit pictures that the costly maps see, the same for all of them."""
    epochs: int = 12
    """With fewer pictures and passes a model does not learn to use a word or a tint, and there is nothing to find."""


QUICK = Sizes(train=26, audit=10, measured=2, costly=1, epochs=5)


@dataclass(frozen=True)
class Experiment:
    """One dataset and its classifier, with one cue for each cued class."""

    source: Source
    kind: str
    strength: float
    """Share of a cued class's training pictures that show its cue, [0, 1]; elsewhere it is rare."""
    cues: tuple[str, ...]
    seed: int
    sizes: Sizes = Sizes()
    methods: tuple[str, ...] = ()
    """Further methods of a run whose maps are made of the pictures that the costly maps see."""
    classes: int = ALL_CLASSES
    """Classes of the classifier: all, or, on generated pictures, 2 or 3, two of which are hard to tell apart. With so
    few, one of them is what the classifier says of an empty view."""
    network: str = "mobilenet_v2"
    """What is fine-tuned: a name of :data:`benchmarks.planted.backbones.BACKBONES`."""

    @property
    def name(self) -> str:
        """What the tables call it."""
        of = "" if self.classes == ALL_CLASSES else f" of {self.classes}"
        if self.kind == CONTROL:
            return f"{self.source}, control" + (of and f"{of} classes")
        classes = "1 class" if len(self.cues) == 1 and not of else f"{len(self.cues)}{of} classes"
        return f"{self.source}, {self.kind} {self.strength:g}, {classes}"


def experiments(master_seed: int, source: Source, sizes: Sizes) -> list[Experiment]:
    """The experiments of a master seed; which cues they show follows from the seed's role.

    Every kind of cue once at .95 on one class and once at .8 on two; the kind that the seed picks at .5, which most
    models do not learn to use; and one control. On generated pictures also every kind at .95 on one class of two, on
    one class of three for the kind that the seed picks, and a control of two and of three classes.
    """
    cues = _CUES[role_of(master_seed)]
    designs = [(kind, STRONG, cues[kind][:1]) for kind in _KINDS]
    designs += [(kind, 0.8, cues[kind]) for kind in _KINDS]
    weak = _KINDS[np.random.default_rng((master_seed, 0)).integers(len(_KINDS))]
    designs.append((weak, 0.5, cues[weak][1:]))
    designs.append((CONTROL, 0.0, tuple(own[0] for own in cues.values())))
    seeds = np.random.SeedSequence((master_seed, source == "photos")).generate_state(len(designs))
    found = [
        Experiment(source, kind, strength, chosen, int(seed), sizes)
        for (kind, strength, chosen), seed in zip(designs, seeds, strict=True)
    ]
    return found + (_of_few_classes(found, weak, master_seed) if source == "scenes" else [])


def _of_few_classes(experiments: list[Experiment], kind_of_three: str, master_seed: int) -> list[Experiment]:
    """The strong experiments and the control again with 2 classes, one of the kinds and the control with 3; as many
    pictures as fit three times the classes, so that a class has enough for a claim."""
    strong = [one for one in experiments if one.strength == STRONG]
    control = experiments[-1]
    designs = [(one, 2) for one in (*strong, control)]
    designs += [(one, 3) for one in strong if one.kind == kind_of_three] + [(control, 3)]
    seeds = np.random.SeedSequence((master_seed, 2)).generate_state(len(designs))
    return [
        replace(
            one,
            classes=classes,
            seed=int(seed),
            sizes=replace(one.sizes, audit=3 * one.sizes.audit, measured=3 * one.sizes.measured),
        )
        for (one, classes), seed in zip(designs, seeds, strict=True)
    ]


def quick_experiment(source: Source) -> Experiment:
    """One small experiment of the first development seed, to see that all works."""
    return experiments(DEVELOPMENT_SEEDS[0], source, QUICK)[0]


def role_of(master_seed: int) -> Role:
    """What a seed is for: a seed is for development unless it is reserved for the report."""
    return "report" if master_seed in REPORT_SEEDS else "development"
