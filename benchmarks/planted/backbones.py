"""Networks of the planted experiments: real ImageNet weights, the last blocks and a new head fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from benchmarks.networks import LITE_MEAN, LITE_STD, efficientnet_lite0
from stages.demo.train import ARCHITECTURE, MEAN, STD, WEIGHTS, fine_tune, train_classifier
from stages.explain.network.weights import resolve_weights

LEARNING_RATE = 5e-4
_FROZEN = 11
"""Blocks of EfficientNet-Lite0, of 16, that keep their weights: as large a share as the demo's mobilenet_v2 keeps."""

Train = Callable[[Sequence[Image.Image], Sequence[int], int, int, int], nn.Module]


@dataclass(frozen=True)
class Backbone:
    """A network that can be fine-tuned, and how its input is normalised.

    ``train(pictures, class_indices, num_classes, epochs, seed)`` gives it in eval mode; the same arguments and number
    of threads give the same weights.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Train


def _mobilenet(
    pictures: Sequence[Image.Image], class_indices: Sequence[int], num_classes: int, epochs: int, seed: int
) -> nn.Module:
    return train_classifier(
        pictures,
        class_indices,
        num_classes=num_classes,
        weights=resolve_weights(ARCHITECTURE, WEIGHTS),
        epochs=epochs,
        learning_rate=LEARNING_RATE,
        seed=seed,
        progress=lambda message: None,
    )


def _lite0(
    pictures: Sequence[Image.Image], class_indices: Sequence[int], num_classes: int, epochs: int, seed: int
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = efficientnet_lite0()
        network._fc = nn.Linear(network._fc.in_features, num_classes)
        network.eval().requires_grad_(False)
        front = nn.Sequential(network._conv_stem, network._bn0, network._swish, *network._blocks[:_FROZEN])
        ends = (network._conv_head, network._bn1, network._swish, network._avg_pooling, nn.Flatten())
        tuned = nn.Sequential(*network._blocks[_FROZEN:], *ends, network._dropout, network._fc).requires_grad_(True)
        network._dropout.train()
        fine_tune(
            front,
            tuned,
            pictures,
            class_indices,
            epochs=epochs,
            learning_rate=LEARNING_RATE,
            progress=lambda message: None,
            mean=LITE_MEAN,
            std=LITE_STD,
        )
    return network.eval().requires_grad_(False)


BACKBONES = {
    "mobilenet_v2": Backbone(MEAN, STD, _mobilenet),
    "efficientnet_lite0": Backbone(LITE_MEAN, LITE_STD, _lite0),
}
"""By name; the second needs the packages that :mod:`benchmarks.networks` names."""
