"""Find the layer whose feature maps Opti-CAM combines, and take its output."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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

Layout = Literal["nchw", "nhwc", "tokens"]


@dataclass(frozen=True)
class TargetLayer:
    """A module whose output is, or can be laid out as, feature maps (N, K, h, w)."""

    path: str
    """Module path in the network."""
    relu: bool
    """The network applies a functional ReLU to the output, and so do we (DenseNet)."""
    channels: int
    grid: tuple[int, int]
    layout: Layout = "nchw"
    """``nhwc`` for channels last (Swin); ``tokens`` for (N, T, K) of a transformer."""
    prefix_tokens: int = 0
    """Class and register tokens before the grid's, which have no place in the image and are dropped."""

    def __str__(self) -> str:
        return f"{self.path} + relu" if self.relu else self.path

    def to_maps(self, output: Tensor) -> Tensor:
        """The module's output as feature maps (N, K, h, w)."""
        if self.layout == "nhwc":
            output = output.permute(0, 3, 1, 2)
        elif self.layout == "tokens":
            tokens = output[:, self.prefix_tokens :].transpose(1, 2)
            output = tokens.reshape(len(tokens), self.channels, *self.grid)
        return output.relu() if self.relu else output


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
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RELU and isinstance(args[0], Tensor):
            self.inputs.append(args[0])
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def find_target_layer(network: nn.Module, example: Tensor, path: str = "auto") -> TargetLayer:
    """The layer at ``path``, or for ``auto`` the last feature maps before the final pooling.

    ``example`` is an input (1, 3, H, W). ``auto`` runs it through the network and takes the module that completes last
    among those whose output is a map (1, K, h, w) larger than 1 x 1 and not the output of a pooling; so for VGG it is
    the 14 x 14 activation before the last max-pool, as in the paper. Where self-attention on tokens follows (ViT,
    DeiT), it is the layer norm before the last one, as in the paper; class and register tokens are dropped.

    Raises ValueError, naming near module paths, if the path does not exist or is no feature map.
    """
    modules = dict(network.named_modules())
    if path != "auto" and path not in modules:
        near = difflib.get_close_matches(path, modules, n=3) or [name for name in modules if name][-3:]
        raise ValueError(f"the network has no module {path!r}; near names: {', '.join(near)}")
    outputs, before_attention, relu_inputs = _record(network, example)
    if path != "auto":
        candidates = [output for output in outputs if output.path == path]
    elif before_attention is not None:
        candidates = [before_attention]
    else:
        pooled = {id(output.value) for output in outputs if isinstance(output.module, POOLING)}
        candidates = [output for output in outputs if output.value.ndim == 4 and id(output.value) not in pooled]
    layers = [layer for output in candidates if (layer := _as_layer(output, relu_inputs)) is not None]
    if not layers:
        wanted = "no module has an output" if path == "auto" else f"module {path!r} has no output"
        raise ValueError(
            f"{wanted} that is a feature map: (N, K, h, w) larger than 1 x 1, (N, h, w, K), or (N, T, K) whose "
            "tokens end in a square grid; name such a layer by its module path, for example one of: "
            f"{', '.join([name for name in modules if name][-5:])}; or wrap the network so that one of its modules "
            "reshapes its output to (N, K, h, w)"
        )
    return layers[-1]


def _record(network: nn.Module, example: Tensor) -> tuple[list[_Output], _Output | None, list[Tensor]]:
    """One pass: every output that may be a feature map, the layer norm before the last attention on tokens if nothing
    but tokens follows it, and the tensors that went into functional ReLUs."""
    outputs: list[_Output] = []
    before_attention: _Output | None = None
    inside_attention = 0
    watch = _ReluWatch()

    def completed(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            nonlocal before_attention
            # Within an attention, four dimensions are (N, heads, T, K).
            if not inside_attention and isinstance(output, Tensor) and output.ndim in (3, 4):
                outputs.append(_Output(name, module, output, len(watch.inputs)))
                if _map_size(output) > 1:
                    before_attention = None

        return hook

    def attention_begins(module: nn.Module, _: Any) -> None:
        nonlocal before_attention, inside_attention
        inside_attention += 1
        norms = [out for out in outputs if isinstance(out.module, nn.LayerNorm) and out.value.ndim == 3]
        before_attention = norms[-1] if norms else None

    def attention_ends(module: nn.Module, _: Any, __: Any) -> None:
        nonlocal inside_attention
        inside_attention -= 1

    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_hook(completed(name)))
        if isinstance(module, nn.MultiheadAttention) or type(module).__name__.endswith("Attention"):
            handles.append(module.register_forward_pre_hook(attention_begins))
            handles.append(module.register_forward_hook(attention_ends))
    training = network.training
    try:
        with watch:
            network.eval()(example)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return outputs, before_attention, watch.inputs


def _map_size(output: Tensor) -> int:
    """Places of a map in an output; 1 for what is no map."""
    return int(output.shape[2] * output.shape[3]) if output.ndim == 4 else 1


def _as_layer(output: _Output, relu_inputs: list[Tensor]) -> TargetLayer | None:
    """The layer that an output is, None if it cannot be laid out as maps larger than 1 x 1."""
    shape = tuple(output.value.shape)
    relu = any(value is output.value for value in relu_inputs[output.relus :])
    if len(shape) == 3:
        side = math.isqrt(shape[1])
        if side < 2:
            return None
        return TargetLayer(output.path, relu, shape[2], (side, side), "tokens", shape[1] - side * side)
    # The view is square, so a grid's sides are equal and the channels are the odd one out.
    if shape[1] == shape[2] != shape[3]:
        return TargetLayer(output.path, relu, shape[3], (shape[1], shape[2]), "nhwc")
    if shape[2] * shape[3] < 2:
        return None
    return TargetLayer(output.path, relu, shape[1], (shape[2], shape[3]))


@torch.no_grad()
def capture(network: nn.Module, layer: TargetLayer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps (N, K, h, w) of the layer and logits (N, C), in one pass; the hook is gone afterwards."""
    taken: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        # A module may be called several times (ResNet's one ReLU a block): the last call counts. The network may
        # change the tensor in place later, hence the copy.
        taken[:] = [layer.to_maps(output).clone()]

    handle = network.get_submodule(layer.path).register_forward_hook(hook)
    try:
        logits = network(inputs)
    finally:
        handle.remove()
    return taken[0].contiguous(), logits
