"""What the surroundings of the boxes are worth: the class without them, and another class's object within them.

The two questions are the halves of a Shapley value (Shapley, "A value for n-person games", 1953) of two players, the
object and its surroundings: what the surroundings add to the object, and what they add where it is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.explain.probes.probes import ClassProbabilities, Probabilities, in_passes, of_targets
from stages.geometry import Boxes
from stages.masks import NEAR

TRANSPLANTS = 4
"""Objects of other classes that are set into an image's surroundings."""

TAKEN = 0.5
"""An object is taken for a class from this probability on."""

Part = tuple[int, int, int, int]
"""(x0, y0, x1, y1), half-open, whole view px."""


@dataclass(frozen=True)
class Donors:
    """Objects of other samples that can be set into an image, on the network's device; there are D of them."""

    objects: Sequence[Tensor]
    """Pictures of the objects, (3, h, w) in [0, 1] each, cut to their boxes."""
    classes: Sequence[int]
    """Class index of each."""
    images: Sequence[int]
    """The image that each is from, by its seed."""
    alone: Tensor
    """Probabilities of the classes on each object alone, the rest in the neutral colour: (D, C), on the CPU."""
    blank: Tensor
    """Probabilities of the classes on a view of the neutral colour, which shows nothing: (C,)."""
    lacking: int = 0
    """Donors of the plan that are not among them because their files could not be read."""

    def look_alikes(self, class_index: int, image: int) -> list[int]:
        """Places of :data:`TRANSPLANTS` donors at most for an image of a class: other images' objects of other classes.

        They are of the class whose objects, alone, have on average the highest log p of ``class_index``, then of the
        next: where a cue decides between look-alikes, it decides for one of these. Objects that alone are taken for the
        class (p of :data:`TAKEN` or more), so that no surroundings could give it much, count where there are no others.
        """
        p = self.alone[:, class_index].clamp_min(torch.finfo(torch.float32).tiny).tolist()
        likeness: dict[int, list[float]] = {}
        for own, probability in zip(self.classes, p, strict=True):
            likeness.setdefault(own, []).append(math.log(probability))
        nearest = sorted(likeness, key=lambda own: (-fmean(likeness[own]), own))
        places = [
            place
            for own in nearest
            for place, (label, source) in enumerate(zip(self.classes, self.images, strict=True))
            if own == label != class_index and source != image
        ]
        told_apart = [place for place in places if p[place] < TAKEN]
        return (told_apart or places)[:TRANSPLANTS]


@torch.no_grad()
def without_surroundings(
    probabilities: Probabilities,
    images: Tensor,
    blurred: Tensor,
    neutral: Tensor,
    coverage: Tensor,
    has_box: Tensor,
    others: Tensor | None = None,
) -> dict[str, Tensor]:
    """p of the explained class on the boxes alone, in two ways that leave different things out: name to (N,).

    ``p_hide_context_neutral``: everything outside the boxes has the ``neutral`` colour (3, 1, 1), so no tint is left,
    which a blur keeps. ``p_hide_far``: what lies more than ``NEAR`` px from the boxes is blurred, so that no object
    is cut off at its edges. NaN without a box in view; the other arguments are as in :func:`probe`.
    """
    beside = torch.zeros_like(coverage[:, None]) if others is None else others[:, None]
    kept = coverage[:, None] + beside
    near = grown((coverage > 1e-6).to(images), NEAR)[:, None] > 0
    seen = {
        "p_hide_context_neutral": images * kept + neutral * (1 - kept),
        "p_hide_far": torch.where(near, images, images * beside + blurred * (1 - beside)),
    }
    return {name: torch.where(has_box, probabilities(picture), torch.nan) for name, picture in seen.items()}


def grown(regions: Tensor, gap: int) -> Tensor:
    """Regions (N, H, W) of 1 in 0, grown by ``gap`` px along both axes.

    Along one after the other: a square window of 33 px takes longer than the network.
    """
    wide = F.max_pool2d(regions[:, None], (1, 2 * gap + 1), stride=1, padding=(0, gap))
    return F.max_pool2d(wide, (2 * gap + 1, 1), stride=1, padding=(gap, 0))[:, 0]


@torch.no_grad()
def transplants(
    class_probabilities: ClassProbabilities,
    images: Tensor,
    boxes: Sequence[Boxes],
    targets: Tensor,
    seeds: Sequence[int],
    donors: Donors,
    neutral: Tensor | None = None,
    others: Tensor | None = None,
) -> dict[str, Tensor]:
    """Other classes' objects in the place of each image's own: name to (N,), NaN without a box or without a donor.

    ``p_transplant`` is the mean p of ``targets`` over :data:`TRANSPLANTS` look-alikes, each resized into every one of
    the image's ``boxes`` (n, 4), view px; ``p_transplant_null`` is their mean p alone, without these surroundings, and
    ``p_blank`` p where there is nothing at all. ``seeds`` name the images, so that none gets its own object. Images
    beyond the ``boxes`` fill up the batch and have none. ``others`` (N, H, W) is the share of each pixel that is
    another class's object: where an image has any, they stay, and ``p_transplant_null`` is p with them, the rest in the
    ``neutral`` colour (3, 1, 1).
    """
    parts, classes = [whole_parts(own, images.shape[2], images.shape[3]) for own in boxes], targets.tolist()
    pairs = [
        (place, donor)
        for place, own in enumerate(parts)
        if own
        for donor in donors.look_alikes(classes[place], seeds[place])
    ]
    accompanied: dict[int, Tensor] = {}
    if others is not None and neutral is not None:
        with_others = {place for place, _ in pairs if bool(others[place].any())}
        accompanied = {k: images[k] * others[k] + neutral * (1 - others[k]) for k in sorted(with_others)}
    alone = [pair for pair in pairs if pair[0] in accompanied]
    grounds = [(images[place], place, donor) for place, donor in pairs]
    grounds += [(accompanied[place], place, donor) for place, donor in alone]
    pictures = (implanted(ground, parts[place], donors.objects[donor]) for ground, place, donor in grounds)
    table = in_passes(class_probabilities, pictures, len(images))
    given = of_targets(table, [classes[place] for _, place, _ in grounds])
    nulls = dict(zip(alone, given[len(pairs) :], strict=True))
    p: dict[str, list[list[float]]] = {name: [[] for _ in images] for name in ("p_transplant", "p_transplant_null")}
    for (place, donor), found in zip(pairs, given, strict=False):  # the nulls follow
        p["p_transplant"][place].append(found)
        null = nulls.get((place, donor))
        p["p_transplant_null"][place].append(float(donors.alone[donor, classes[place]]) if null is None else null)
    means = {name: [fmean(values) if values else math.nan for values in each] for name, each in p.items()}
    return {
        **{name: torch.tensor(values, device=images.device) for name, values in means.items()},
        "p_blank": donors.blank.to(images.device)[targets],
    }


def implanted(image: Tensor, parts: Sequence[Part], source: Tensor) -> Tensor:
    """``image`` (3, H, W) with the picture ``source`` (3, h, w) resized into each of its ``parts``."""
    picture = image.clone()
    for x0, y0, x1, y1 in parts:
        size = (y1 - y0, x1 - x0)
        resized = F.interpolate(source[None], size=size, mode="bilinear", align_corners=False, antialias=True)
        picture[:, y0:y1, x0:x1] = resized[0]
    return picture


def whole_parts(boxes: Boxes, height: int, width: int) -> list[Part]:
    """Boxes (n, 4) of the view grown to whole pixels and cut to it."""
    low, high = np.floor(boxes[:, :2]).clip(0).astype(int), np.ceil(boxes[:, 2:]).astype(int)
    return [
        (x0, y0, min(x1, width), min(y1, height))
        for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True)
    ]
