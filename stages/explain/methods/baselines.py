"""The saliency methods of the package grad-cam, stopped before it scales and upsamples their maps.

The package says how activations and gradients become a map. Both are taken here, as Opti-CAM takes them: from the
layer alone, laid out as maps whatever the layer's form, with a functional ReLU applied. Where the package departs from
the paper of a method, docs/definitions.md says so.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.explain.opticam.gradcam import maps_and_slopes
from stages.explain.opticam.layer import TargetLayer
from storage.errors import UserError

_CLASSES = {
    "grad_cam": "GradCAM",
    "grad_cam_pp": "GradCAMPlusPlus",
    "score_cam": "ScoreCAM",
    "layer_cam": "LayerCAM",
    "hires_cam": "HiResCAM",
    "ablation_cam": "AblationCAM",
}

ONE_BY_ONE = ("score_cam", "ablation_cam")
"""Methods without gradients: one forward pass a channel, image by image."""


@lru_cache(maxsize=1)
def load_package() -> Any:
    """The module ``pytorch_grad_cam``; raises UserError if it is not installed."""
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise UserError(
            f"explain.method: the methods of the package grad-cam need it ({error}): pip install -e '.[baselines]'"
        ) from None
    for module in (pytorch_grad_cam.score_cam, pytorch_grad_cam.ablation_cam):
        module.tqdm = SimpleNamespace(tqdm=lambda steps: steps)  # it draws a progress bar for each image
    return pytorch_grad_cam


def package_maps(
    method: str, network: nn.Module, layer: TargetLayer, inputs: Tensor, features: Tensor, targets: Tensor, count: int
) -> Tensor:
    """Raw maps (N, h, w), not negative, of normalised images (N, 3, H, W) for the classes ``targets`` (N,).

    ``features`` (N, K, h, w) are the layer's maps for these images. Score-CAM and Ablation-CAM run N masked images at a
    time and leave the maps of images from ``count`` on NaN. Raises UserError for a layer that Ablation-CAM cannot use.
    """
    package = load_package()
    scores = [package.utils.model_targets.ClassifierOutputTarget(int(target)) for target in targets]
    module = network.get_submodule(layer.path)
    cam = getattr(package, _CLASSES[method])(network, [module])
    cam.activations_and_grads.release()  # its hooks would keep the activations of every pass

    def combine(images: Tensor, wanted: list[Any], maps: Tensor, slopes: Tensor | None) -> Tensor:
        gradients = None if slopes is None else slopes.cpu().numpy()
        raw = cam.get_cam_image(images, module, wanted, maps.detach().cpu().numpy(), gradients, False)
        return torch.from_numpy(np.maximum(raw, 0)).to(features)

    if method not in ONE_BY_ONE:
        return combine(inputs, scores, *maps_and_slopes(network, layer, inputs, targets))
    cam.batch_size = len(inputs)
    if method == "ablation_cam":
        _check_called_once(network, module, layer, inputs[:1])
        channels_last = layer.layout != "nchw"
        cam.ablation_layer = package.AblationLayerVit() if channels_last else package.AblationLayer()
    grid = torch.full((len(inputs), *layer.grid), torch.nan, dtype=features.dtype, device=features.device)
    try:
        for one in range(count):
            here = slice(one, one + 1)
            grid[here] = combine(inputs[here], scores[here], features[here], None)
    finally:
        network.set_submodule(layer.path, module)  # Ablation-CAM puts its own there
    return grid


@torch.no_grad()
def _check_called_once(network: nn.Module, module: nn.Module, layer: TargetLayer, image: Tensor) -> None:
    calls: list[None] = []
    handle = module.register_forward_hook(lambda *_: calls.append(None))
    try:
        network(image)
    finally:
        handle.remove()
    if len(calls) > 1:
        raise UserError(
            f"model.target_layer: ablation_cam replaces the layer's output, and {layer.path} runs {len(calls)} times "
            "in one pass; name the block around it"
        )
