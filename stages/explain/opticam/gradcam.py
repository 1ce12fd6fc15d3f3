"""Grad-CAM of one layer: one forward and one backward pass from the layer to the logit.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017. Here it
is the second opinion on what to hide: a cheap map that often points where Opti-CAM's does not.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from stages.explain.opticam.layer import TargetLayer


def grad_cam(network: nn.Module, layer: TargetLayer, inputs: Tensor, targets: Tensor) -> Tensor:
    """relu(sum_k alpha_k A_k), alpha_k the mean of d logit / d A_k over the grid: (N, h, w).

    ``inputs`` are normalised images (N, 3, H, W), ``targets`` class indices (N,).
    """
    maps, slopes = maps_and_slopes(network, layer, inputs, targets)
    return torch.einsum("nk,nkhw->nhw", slopes.mean((2, 3)), maps).relu()


def maps_and_slopes(network: nn.Module, layer: TargetLayer, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps A of the layer and d logit / d A, each (N, K, h, w).

    The gradient is taken from the layer on, so what lies before it costs a forward pass alone.
    """
    taken: list[Tensor] = []

    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        # A module may be called several times: the last call counts. What follows may work in place, on the copy.
        leaf = output.detach().requires_grad_()
        taken[:] = [leaf]
        return leaf.clone()

    handle = network.get_submodule(layer.path).register_forward_hook(hook)
    try:
        with torch.enable_grad():
            logits = network(inputs)
            (slope,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), taken[0])
    finally:
        handle.remove()
    # Gradients are laid out as maps are, but keep their sign.
    return layer.to_maps(taken[0].detach()), replace(layer, relu=False).to_maps(slope)
