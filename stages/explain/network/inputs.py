"""What a network wants as its input: how many channels, and whether it normalises them itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from stages.explain.network.outputs import taken

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray picture (ITU-R BT.601), as in Pillow's mode L."""

LARGEST_MEAN = 1.5
"""A mean above this is that of pixels in 0 to 255."""

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


def to_gray(network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook: the input (N, 3, H, W) as one channel, (N, 1, H, W)."""
    images: Tensor = args[0]
    return (torch.einsum("nchw,c->nhw", images, torch.tensor(LUMA).to(images))[:, None], *args[1:])


def input_channels(network: nn.Module) -> int | None:
    """Channels of the first convolution, in the order in which modules are registered; None where there is none."""
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), None)


@torch.no_grad()
def own_normalization(network: nn.Module, images: Tensor) -> tuple[str, Normalization] | None:
    """Where a network in eval mode normalises its input itself, and by what mean and std; None if nowhere.

    A module that gets the network's own input (N, C, H, W), and has C numbers named for a mean and C for a standard
    deviation, normalises by them if another mean gives another output.
    """
    for path, module, name in _candidates(network, images):
        mean, std = (_numbers(getattr(module, each)) for each in (name, _std_of(name)))
        if not len(mean) == len(std) == images.shape[1]:
            continue
        before = taken(network(images.clone()))
        kept = getattr(module, name)
        try:
            _put(module, name, kept + 1 if isinstance(kept, Tensor) else [number + 1 for number in mean])
            after = taken(network(images.clone()))
        finally:
            _put(module, name, kept)
        if not torch.equal(before, after):
            kind = type(module).__name__
            return (f"{path} ({kind})" if path else f"the network itself ({kind})"), (mean, std)
    return None


def _candidates(network: nn.Module, images: Tensor) -> Iterator[tuple[str, nn.Module, str]]:
    """Modules that are called with the network's own input, and the name of a mean that each has beside a std."""
    called: list[tuple[str, nn.Module]] = []
    given = images.clone()

    def watch(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and args[0] is given:
                called.append((path, module))

        return hook

    handles = [module.register_forward_pre_hook(watch(path)) for path, module in network.named_modules()]
    try:
        network(given)
    finally:
        for handle in handles:
            handle.remove()
    for path, module in called:
        for name in [*vars(module), *dict(module.named_buffers(recurse=False))]:
            if "mean" in name.lower() and hasattr(module, _std_of(name)):
                yield path, module, name


def _std_of(name: str) -> str:
    return name.replace("mean", "std").replace("MEAN", "STD")


def _put(module: nn.Module, name: str, value: Any) -> None:
    if name in module._buffers:
        module._buffers[name] = value
    else:
        setattr(module, name, value)


def _numbers(value: Any) -> tuple[float, ...]:
    """The numbers of a tensor or sequence; none of anything else."""
    if isinstance(value, Tensor):
        return tuple(float(number) for number in value.flatten().tolist())
    if isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value):
        return tuple(float(number) for number in value)
    return ()
