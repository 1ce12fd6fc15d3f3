"""Find the layer whose feature maps Opti-CAM combines, and take its output."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
)
_RELU: tuple[Any, ...] = (torch.nn.functional.relu, torch.nn.functional.relu_, torch.relu, torch.relu_)


@dataclass(frozen=True)
class TargetLayer:
    """A module whose output (N, K, h, w) is the feature maps."""

    path: str
    """Module path in the network."""
    relu: bool
    """The network applies a functional ReLU to the output, and so do we (DenseNet)."""
    channels: int
    grid: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.path} + relu" if self.relu else self.path


@dataclass(frozen=True)
class _Output:
    path: str
    module: nn.Module
    value: Tensor
    relus: int
    """Functional ReLUs applied before the module completed."""


class _ReluWatch(TorchFunctionMode):
    """Collects the tensors that a functional ReLU was applied to."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _RELU and isinstance(args[0], Tensor):
            self.inputs.append(args[0])
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def find_target_layer(network: nn.Module, example: Tensor, path: str = "auto") -> TargetLayer:
    """The layer at ``path``, or for ``auto`` the last feature maps before the final pooling.

    ``example`` is an input (1, 3, H, W). ``auto`` runs it through the network and takes the module that completes last
    among those whose output is a map (1, K, h, w) larger than 1 x 1 and not the output of a pooling; so for VGG it is
    the 14 x 14 activation before the last max-pool, as in the paper.

    Raises ValueError, naming near module paths, if the path does not exist or is no feature map.
    """
    modules = dict(network.named_modules())
    if path != "auto" and path not in modules:
        near = difflib.get_close_matches(path, modules, n=3) or [name for name in modules if name][-3:]
        raise ValueError(f"the network has no module {path!r}; near names: {', '.join(near)}")

    outputs: list[_Output] = []

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                outputs.append(_Output(name, module, output, len(watch.inputs)))

        return hook

    watch = _ReluWatch()
    handles = [module.register_forward_hook(record(name)) for name, module in modules.items() if name]
    was_training = network.training
    try:
        with watch:
            network.eval()(example)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()

    if path != "auto":
        outputs = [output for output in outputs if output.path == path]
    pooled = {id(output.value) for output in outputs if isinstance(output.module, POOLING)}
    candidates = [output for output in outputs if id(output.value) not in pooled]
    if not candidates:
        wanted = "no module" if path == "auto" else f"module {path!r} has no output that"
        raise ValueError(
            f"target_layer: {wanted} is a feature map (N, K, h, w) larger than 1 x 1; name one by its module path, "
            f"for example one of: {', '.join([name for name in modules if name][-5:])}"
        )
    chosen = candidates[-1]
    relu = any(value is chosen.value for value in watch.inputs[chosen.relus :])
    _, channels, height, width = chosen.value.shape
    return TargetLayer(chosen.path, relu, int(channels), (int(height), int(width)))


@torch.no_grad()
def capture(network: nn.Module, layer: TargetLayer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps (N, K, h, w) of the layer and logits (N, C), in one pass; the hook is gone afterwards."""
    taken: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        # A module may be called several times (ResNet's one ReLU a block): the last call counts. The network may
        # change the tensor in place later, hence the copy.
        taken[:] = [output.relu() if layer.relu else output.clone()]

    handle = network.get_submodule(layer.path).register_forward_hook(hook)
    try:
        logits = network(inputs)
    finally:
        handle.remove()
    return taken[0].contiguous(), logits
