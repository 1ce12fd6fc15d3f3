"""A whole audited image to be timed: the map, the other locators, and the probes, as explain takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.speed.clock import Variant
from benchmarks.speed.methods import Task, explained, profiles
from stages.explain.opticam.opticam import OptiCam, to_masks, upsample
from stages.explain.probes.evidence import Explained, evidence
from stages.explain.probes.probes import outside_of
from stages.explain.probes.surroundings import TRANSPLANTS, Donors
from stages.explain.settings import ExplainSettings
from stages.geometry import ViewTransform

PHOTO = (500, 375)
"""Width and height of the pictures, px: ImageNet's median."""
BOX = (100.0, 80.0, 350.0, 300.0)
"""The object's box in such a picture, px: 29% of it."""
SCAN = "instead: probes with explain.scan"
"""The part that a run of the default settings does not have."""


def audited(task: Task, steps: int | None) -> tuple[list[Variant], list[Variant]]:
    """The parts of an audited image beside its map, and the profiles that make the map, with ``steps`` if given."""
    own = profiles(steps, False)
    opticam = task.opticam(own["paper"])
    batch, donors = _explained(task, opticam), _stand_ins(task, opticam)
    features, outside = batch.features, outside_of(batch.coverage, batch.has_box)

    def probes(**settings: bool) -> Callable[[], object]:
        asked = ExplainSettings(**settings)
        return lambda: evidence(opticam.probabilities, batch, donors, task.layer.grid, asked)

    work: dict[str, Callable[[], object]] = {
        "p of every class": lambda: opticam.probabilities(task.images),
        "Grad-CAM, the second locator": lambda: opticam.grad_cam(task.images, task.targets),
        "Opti-CAM of the outside, the third locator": lambda: opticam.maximize_outside(
            task.images, features, task.targets, outside
        ),
        "probes": probes(),
        SCAN: probes(scan=True),
    }
    networks = (opticam.network, opticam.iterated)
    parts = [Variant(name, one, len(task.images), networks, short=one) for name, one in work.items()]
    return parts, [explained(name, task, profile) for name, profile in own.items()]


def _explained(task: Task, opticam: OptiCam) -> Explained:
    """The task's images with their maps, as the pictures of a run are when their probes are taken."""
    count, side = len(task.images), task.images.shape[2]
    transform = ViewTransform.make("squash", *PHOTO, size=side)
    coverage = torch.from_numpy(np.stack([transform.coverage([BOX])] * count)).to(task.images)
    has_box = torch.ones(count, dtype=torch.bool, device=coverage.device)
    features = opticam.features(task.images).maps
    outside = opticam.maximize_outside(task.images, features, task.targets, outside_of(coverage, has_box))
    return Explained(
        images=task.images,
        features=features,
        targets=task.targets,
        maps=to_masks(opticam(task.images, task.targets).grid, (side, side), "range"),
        second=upsample(opticam.grad_cam(task.images, task.targets), (side, side)),
        coverage=coverage,
        has_box=has_box,
        boxes=[transform.boxes_to_view([BOX])] * count,
        neutral=opticam.mean[0],
        seeds=list(range(count)),
        status=["ok"] * count,
        transforms=[transform] * count,
        outside_map=outside.maps(),
    )


def _stand_ins(task: Task, opticam: OptiCam) -> Donors:
    """Donors of as many transplants as an image of a run gets: corners of the task's first image, as another class."""
    side, classes = task.images.shape[2] // 2, opticam.probabilities(task.images[:1])
    other = int((task.targets[0] + 1) % classes.shape[1])
    return Donors(
        objects=[task.images[0, :, :side, :side]] * TRANSPLANTS,
        classes=[other] * TRANSPLANTS,
        images=[-1] * TRANSPLANTS,
        alone=classes.expand(TRANSPLANTS, -1).cpu(),
        blank=classes[0],
    )
