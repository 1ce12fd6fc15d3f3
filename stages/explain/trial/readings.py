"""How a classifier may have been meant to be fed and read: as configured, and the likely other ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD, Classifier
from stages.explain.network.view import ViewSettings

CROP_SHARE = 0.875
"""Side of the usual centre crop as a share of the short side before it: 224 of 256 px."""

_NORMALIZATIONS = {
    "ImageNet's mean and std": (IMAGENET_MEAN, IMAGENET_STD),
    "pixels in [-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "pixels in [0, 1]": ((0.0,) * 3, (1.0,) * 3),
    "pixels in 0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
}


@dataclass(frozen=True)
class Reading:
    """A way to make the network's input of an image, and a class of its output."""

    name: str
    remedy: str
    """What to set, so that the run reads so."""
    view: ViewSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    """Whether the network gets blue first."""
    order: tuple[int, ...] | None = None
    """Class index of each output; None: output k is class k."""

    @property
    def inputs(self) -> tuple[ViewSettings, tuple[float, ...], tuple[float, ...], bool]:
        """What the network sees: readings that share it share their forward passes."""
        return self.view, self.mean, self.std, self.bgr

    @torch.no_grad()
    def outputs(self, classifier: Classifier, images: Tensor) -> Tensor:
        """Logits (N, C), by output, of images (N, 3, H, W) in [0, 1]."""
        mean, std = (torch.tensor(numbers).view(1, 3, 1, 1).to(images) for numbers in (self.mean, self.std))
        inputs = (images - mean) / std
        logits: Tensor = classifier.network(inputs.flip(1) if self.bgr else inputs)
        return logits


def configured(classifier: Classifier, view: ViewSettings) -> Reading:
    """The reading that the run would have."""
    mean, std = (tuple(numbers.flatten().tolist()) for numbers in (classifier.mean, classifier.std))
    return Reading("as configured", "", view, mean, std)


def alternatives(classifier: Classifier, view: ViewSettings) -> Iterator[Reading]:
    """The likely other readings, each of which differs from the configured one in one thing."""
    usual = configured(classifier, view)
    for name, (mean, std) in _NORMALIZATIONS.items():
        same = torch.allclose(torch.tensor([mean, std]), torch.tensor([usual.mean, usual.std]))
        if not same and not (classifier.gray and len(set(mean)) > 1):
            remedy = f"model.mean: {_list(mean)} and model.std: {_list(std)}"
            yield replace(usual, name=name, remedy=remedy, mean=mean, std=std)
    if not classifier.gray:
        remedy = "model.source: python:..., a factory whose network does images.flip(1) first"
        yield replace(usual, name="blue first (BGR)", remedy=remedy, bgr=True)
    for name, other, remedy in _views(classifier, view):
        yield replace(usual, name=name, view=other, remedy=remedy)
    for name, order, remedy in _orders(classifier.class_names):
        yield replace(usual, name=name, order=order, remedy=f"model.classes: {remedy}")


def centre_crop(view: ViewSettings) -> ViewSettings:
    """The view if it is a crop, else the usual crop of its size."""
    if view.geometry == "resize_crop":
        return view
    return ViewSettings("resize_crop", view.size, round(view.size / CROP_SHARE), view.interpolation)


def _views(classifier: Classifier, view: ViewSettings) -> Iterator[tuple[str, ViewSettings, str]]:
    weights = classifier.view
    if weights is not None and weights != view:
        yield f"the view of the weights ({weights})", weights, "view.geometry: auto, without size and resize"
    if view.geometry == "resize_crop":
        other = ViewSettings("squash", view.size, interpolation=view.interpolation)
        remedy = "view.geometry: squash"
    else:
        other = centre_crop(view)
        remedy = f"view.geometry: resize_crop and view.resize: {other.resize}"
    if other != weights:
        yield str(other), other, remedy


def _orders(names: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...], str]]:
    count = len(names)
    later = tuple((index - 1) % count for index in range(count))
    earlier = tuple((index + 1) % count for index in range(count))
    known = {tuple(range(count))}
    # torchvision's ImageFolder and most training scripts number classes so.
    sorted_ = tuple(sorted(range(count), key=lambda index: names[index]))
    for name, order, remedy in (
        ("classes in alphabetical order", sorted_, "the same names in alphabetical order"),
        ("each class one output later", later, "its last line moved to the top"),
        ("each class one output earlier", earlier, "its first line moved to the end"),
    ):
        if order not in known and len(set(names)) == count:
            known.add(order)
            yield name, order, remedy


def _list(numbers: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{number:.6g}' for number in numbers)}]"
