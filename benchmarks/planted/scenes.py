"""An experiment on generated pictures: the demo's objects and photos, other cues."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks.planted.dataset import AuditPicture, Dataset, planting_of
from benchmarks.planted.plan import CONTROL, Experiment
from stages.demo.cues import BORDER, kind_of
from stages.demo.photos import AUDIT_PHOTOS, TRAIN_PHOTOS, load_photos
from stages.demo.plan import DemoSettings, plan
from stages.demo.render import render
from stages.demo.shapes import CLASS_NAMES

_DOUBLES = (("gear", "sawblade"), ("star", "starfish"))
"""Pairs of classes that are hard to tell apart: where a model has a use for a cue."""


def scenes(experiment: Experiment) -> Dataset:
    """The dataset of an experiment on generated pictures; the halves share no background photo."""
    classes, planted = _choose_classes(experiment)
    planting = planting_of(experiment, planted)
    settings = DemoSettings(experiment.seed, experiment.sizes.train, experiment.sizes.audit)
    # Objects stay clear of the border in every picture of an experiment that has a cue there.
    margin = BORDER if any(kind_of(cue) == "border" for cue in experiment.cues) else 0.0
    train_scenes, photos = plan("train", settings, planting, classes), load_photos(TRAIN_PHOTOS)
    train = [Image.fromarray(render(scene, photos, margin).with_cues) for scene in train_scenes]
    photos = load_photos(AUDIT_PHOTOS)
    audit = []
    for scene in plan("audit", settings, planting, classes):
        picture = render(scene, photos, margin)
        audit.append(
            AuditPicture(
                label=classes.index(scene.label),
                cue=scene.cues[0] if scene.cues else None,
                picture=picture.with_cues,
                without=picture.without_cues if scene.cues else None,
                boxes=np.array([picture.object_box], dtype=np.float64),
            )
        )
    cued = {classes.index(label): cue for label, cue in planted.items()}
    return Dataset(classes, cued, train, [classes.index(scene.label) for scene in train_scenes], audit)


def _choose_classes(experiment: Experiment) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classes, and a class for each cue, from different pairs of doubles; few classes are a pair and others."""
    generator = np.random.default_rng((experiment.seed, 1))
    pairs = [_DOUBLES[pair] for pair in generator.permutation(len(_DOUBLES))]
    chosen = zip(pairs, experiment.cues, strict=False)
    planted = {} if experiment.kind == CONTROL else {pair[generator.integers(2)]: cue for pair, cue in chosen}
    if experiment.classes == len(CLASS_NAMES):
        return CLASS_NAMES, planted
    alone = [name for name in CLASS_NAMES if not any(name in pair for pair in _DOUBLES)]
    others = generator.choice(alone, experiment.classes - 2, replace=False).tolist()
    return tuple(sorted((*pairs[0], *others))), planted
