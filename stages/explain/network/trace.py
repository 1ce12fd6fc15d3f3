"""Which module of a network is the first to do something, read off the inputs and outputs of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """A module's call with a tensor in and a tensor out, both as they were at that time."""

    path: str
    module: nn.Module
    input: Tensor
    output: Tensor

    def __str__(self) -> str:
        kind = type(self.module).__name__
        return f"{self.path} ({kind})" if self.path else f"the network's own forward ({kind})"


def recorded(network: nn.Module, inputs: Tensor) -> list[Call]:
    """One pass of ``inputs``: its calls, in the order in which they end, so that a module comes before its parents."""
    calls: list[Call] = []
    entered: list[Any] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        entered.append(args[0].clone() if args and isinstance(args[0], Tensor) else None)

    def leave(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            given = entered.pop()
            if isinstance(given, Tensor) and isinstance(output, Tensor):
                calls.append(Call(path, module, given, output.clone()))

        return hook

    handles = []
    for path, module in network.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):  # it takes no hooks
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave(path))]
    try:
        network(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def first_call(calls: list[Call], wanted: Callable[[Call], bool]) -> str:
    """The first call that ``wanted`` is true of, by its module; words for none."""
    return next((str(call) for call in calls if wanted(call)), "the network's own forward")


def first_difference(a: list[Call], b: list[Call], same: Callable[[Tensor, Tensor], bool]) -> str:
    """The first module of two passes whose inputs are the same and whose outputs are not."""
    for one, other in zip(a, b, strict=False):  # chance may leave out a module
        if one.path != other.path:
            break
        if same(one.input, other.input) and not same(one.output, other.output):
            return str(one)
    return "the network's own forward"


def near(a: Tensor, b: Tensor, share: float = 1e-4) -> bool:
    """Whether two tensors are of one shape and differ nowhere by more than this share of their largest number."""
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    a, b = a.float(), b.float()
    return float((a - b).abs().max()) <= share * float(a.abs().max())
