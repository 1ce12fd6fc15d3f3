"""What a network wants as its input: how many channels, and whether it normalises them itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.explain.network.outputs import taken

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray picture (ITU-R BT.601), as in Pillow's mode L."""

LARGEST = 2.0
"""A mean or standard deviation above this is that of pixels in 0 to 255."""

STEP = 0.2
"""By how much pixels in [0, 1] are made brighter, to see which step of a mean undoes it."""

_UNDONE = 0.05
"""Share of what brighter pixels change that may be left where a step of the mean undoes it: rounding makes less."""


@dataclass(frozen=True)
class OwnNormalization:
    """A mean and standard deviation of a network's own, which change its output."""

    place: str
    """The module that has them, in words."""
    white: float | None
    """White in the pixels that the network gets, 1 or 255; None where that cannot be told."""

    def told(self, given: bool) -> list[str]:
        """Sentences about it; ``given``: whether model.mean or model.std is set."""
        if self.white is None and given:
            return []
        if self.white is None:
            return [
                f"has a normalisation of its own, in {self.place}, that cannot be followed: it gets ImageNet's mean "
                "and std too; if it takes pixels in [0, 1], set model.mean: [0, 0, 0] and model.std: [1, 1, 1]"
            ]
        if given:
            return [
                f"normalises its input itself, in {self.place}, and gets it normalised by model.mean and std already"
            ]
        pixels = "[0, 1]" if self.white == 1 else "0 to 255"
        return [f"normalises its input itself, in {self.place}: it gets pixels in {pixels}"]


def to_gray(network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook: the input (N, 3, H, W) as one channel, (N, 1, H, W)."""
    images: Tensor = args[0]
    return (torch.einsum("nchw,c->nhw", images, torch.tensor(LUMA).to(images))[:, None], *args[1:])


def input_channels(network: nn.Module) -> int | None:
    """Channels of the first convolution, in the order in which modules are registered; None where there is none."""
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), None)


@torch.no_grad()
def own_normalization(network: nn.Module, images: Tensor) -> OwnNormalization | None:
    """Where a network in eval mode normalises its input itself; None if nowhere.

    ``images`` (N, C, H, W) are in [0, 1]. A module's attribute that is named for a mean, of one number or C, beside one
    for a standard deviation, is the input's if a step of it undoes a step of the input: the output is the same. Which
    step does so tells whether the network scales pixels before. It need not be the first module: a resizing before it
    leaves steps as they are. Where a mean of the network itself, or of a module called Normalize, matters and is no
    such one, white is None.
    """
    pixels, left = images * (1 - STEP), None
    for path, module, name, numbers in _candidates(network, images.shape[1]):
        kind = type(module).__name__
        place = f"{path} ({kind})" if path else f"the network itself ({kind})"
        plain, brighter = _outputs(network, pixels), _outputs(network, pixels + STEP)
        for ratio in (1.0, 255.0, 1 / 255):
            with _stepped(module, name, STEP * ratio):
                undone = _outputs(network, pixels + STEP)
            if _change(plain, undone) < _UNDONE * _change(plain, brighter) < math.inf:
                in_bytes = ratio < 1 or (ratio == 1 and max(numbers) > LARGEST)
                return OwnNormalization(place, 255.0 if in_bytes else 1.0)
        with _stepped(module, name, 1.0):
            matters = 0 < _change(plain, _outputs(network, pixels)) < math.inf
        if left is None and matters and (not path or "normali" in kind.lower()):
            left = OwnNormalization(place, None)
    return left


def _candidates(network: nn.Module, channels: int) -> Iterator[tuple[str, nn.Module, str, tuple[float, ...]]]:
    """Modules with a mean beside a standard deviation, of one number or one a channel: path, module, name of the mean,
    and the numbers of both."""
    for path, module in _modules(network):
        values = _values(module)
        for name in [name for name in values if "mean" in name.lower() and _std_of(name) in values]:
            mean, std = _numbers(values[name]), _numbers(values[_std_of(name)])
            if {len(mean), len(std)} <= {1, channels}:
                yield path, module, name, mean + std


def _modules(
    network: nn.Module, within: str = "", seen: set[nn.Module] | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """All modules with their paths, and those in lists, as torchvision's Compose has them, which torch does not see."""
    seen = set() if seen is None else seen
    for path, module in network.named_modules(seen, within):
        yield path, module
        for name, value in list(vars(module).items()):
            listed = value if isinstance(value, list | tuple) else getattr(value, "__dict__", {}).get("transforms")
            for index, inner in enumerate(listed if isinstance(listed, list | tuple) else ()):
                if isinstance(inner, nn.Module):
                    yield from _modules(inner, ".".join(filter(None, (path, name, str(index)))), seen)


def _values(module: nn.Module) -> dict[str, Any]:
    """A module's own attributes by name: its classes', its own, its buffers and parameters."""
    classes = (vars(kind) for kind in reversed(type(module).__mro__))
    return {name: value for held in (*classes, *_held(module)) for name, value in held.items()}


def _held(module: nn.Module) -> tuple[dict[str, Any], ...]:
    return vars(module), module._buffers, module._parameters


def _std_of(name: str) -> str:
    return name.replace("mean", "std").replace("Mean", "Std").replace("MEAN", "STD")


@contextmanager
def _stepped(module: nn.Module, name: str, step: float) -> Iterator[None]:
    """Have a mean larger by ``step``, and after it as it was."""
    held = next((held for held in reversed(_held(module)) if name in held), None)
    value, store = _values(module)[name], vars(module) if held is None else held
    store[name] = [number + step for number in value] if isinstance(value, list | tuple) else value + step
    try:
        yield
    finally:
        if held is None:  # the class has it
            del store[name]
        else:
            store[name] = value


def _outputs(network: nn.Module, pixels: Tensor) -> Tensor | None:
    """What a network's first layer gets, and what the network returns, in one row: p may be 1 whatever the pixels are.

    None where the network fails: what is called a mean may be a dimension.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
        if not seen and args and isinstance(args[0], Tensor):
            seen.append(args[0].flatten())

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        return torch.cat([taken(network(pixels.clone())).flatten(), *seen])
    except Exception:  # the user's own code may raise anything; the contract tells it
        return None
    finally:
        for handle in handles:
            handle.remove()


def _change(before: Tensor | None, after: Tensor | None) -> float:
    """The largest difference of two outputs; infinite where one is missing or of another size."""
    if before is None or after is None or before.shape != after.shape:
        return math.inf
    return float((after - before).abs().max())


def _numbers(value: Any) -> tuple[float, ...]:
    """The numbers of a tensor, an array, a sequence or a number; none of anything else."""
    if isinstance(value, Tensor | np.ndarray):
        value = value.flatten().tolist()
    elif isinstance(value, int | float):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value):
        return tuple(float(number) for number in value)
    return ()
