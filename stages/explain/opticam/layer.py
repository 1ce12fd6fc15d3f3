"""Find the layer whose feature maps Opti-CAM combines, and take its output."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
)
_RELU: tuple[Any, ...] = (torch.nn.functional.relu, torch.nn.functional.relu_, torch.relu, torch.relu_)

_ATTENTION = re.compile("attention|attn|mhsa|^gpsa$|^xca$", re.IGNORECASE)
"""Names of the classes of attention, in the libraries of models that there are."""
_MOST_PREFIX_TOKENS = 8

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


def find_target_layer(network: nn.Module, example: Tensor, path: str = "auto") -> TargetLayer:
    """The layer at ``path``, or for ``auto`` the last feature maps before the final pooling.

    ``example`` is an input (1, 3, H, W). ``auto`` runs it through the network and takes the module that completes last
    among those whose output is a map (1, K, h, w) larger than 1 x 1 and not the output of a pooling; so for VGG it is
    the 14 x 14 activation before the last max-pool, as in the paper. Where self-attention on tokens follows (ViT,
    DeiT), it is the layer norm before the last one, as in the paper; class and register tokens are dropped. Where
    tokens of that map follow without an attention that is known as one (MLP-Mixer), it is the last of them.
    The logits depend on the output of every layer that is returned.

    Raises ValueError, naming near module paths, if the path does not exist, is no feature map, or does nothing for the
    logits.
    """
    modules = dict(network.named_modules())
    if path != "auto" and path not in modules:
        near = difflib.get_close_matches(path, modules, n=3) or [name for name in modules if name][-3:]
        raise ValueError(f"the network has no module {path!r}; near names: {', '.join(near)}")
    seen = _record(network, example, auto=path == "auto")
    candidates = _candidates(seen) if path == "auto" else [output for output in seen.outputs if output.path == path]
    layers = [(output, layer) for output in candidates if (layer := _as_layer(output, seen.relu_inputs)) is not None]
    if not layers:
        wanted = "no module has an output" if path == "auto" else f"module {path!r} has no output"
        raise ValueError(
            f"{wanted} that is a feature map: (N, K, h, w) larger than 1 x 1, (N, h, w, K), or (N, T, K) whose "
            "tokens end in a square grid; name such a layer by its module path, for example one of: "
            f"{', '.join([name for name in modules if name][-5:])}; or wrap the network so that one of its modules "
            "reshapes its output to (N, K, h, w)"
        )
    gradients = seen.gradients([output.value for output, _ in layers])
    used = [layer for (_, layer), gradient in zip(layers, gradients, strict=True) if _acts(layer, gradient)]
    if not used:
        raise ValueError(
            f"the logits do not depend on the feature maps of {layers[-1][1]}, as those of an unused branch, or of "
            "tokens of which the class token alone goes on; name a layer on the way to the logits by its module path"
        )
    return used[-1]


@dataclass(frozen=True)
class _Pass:
    """What one pass of an example through a network showed."""

    example: Tensor
    logits: Tensor | None
    """None where the network returns something else."""
    outputs: list[_Output]
    """Those that may be feature maps, in the order in which their modules completed."""
    attention: int | None
    """How many of these there were when the last attention on tokens began."""
    relu_inputs: list[Tensor]
    """What functional ReLUs were applied to."""

    def gradients(self, values: list[Tensor]) -> list[Tensor | None]:
        """Of a random sum of the logits, for each value; None where they do not depend on it.

        Ones, which say nothing, where there are no logits or these are the same for every input, as those of a head of
        zeros before it is trained.
        """
        if self.logits is None:
            return [torch.ones_like(value) for value in values]
        if not self.logits.requires_grad:
            return [None for _ in values]
        weights = torch.randn(self.logits.shape, generator=torch.Generator().manual_seed(0)).to(self.logits)
        asked = [value for value in (self.example, *values) if value.requires_grad]
        first, *others = torch.autograd.grad((self.logits * weights).sum(), asked, allow_unused=True)
        if first is not None and not first.any():
            return [torch.ones_like(value) for value in values]
        found = iter(others)
        return [next(found) if value.requires_grad else None for value in values]


def _acts(layer: TargetLayer, gradient: Tensor | None) -> bool:
    """Whether the feature maps, and not the prefix tokens alone, have a gradient."""
    return gradient is not None and bool(replace(layer, relu=False).to_maps(gradient).any())


def _candidates(seen: _Pass) -> list[_Output]:
    """The outputs that ``auto`` may take, the best one last."""
    pooled = {id(output.value) for output in seen.outputs if isinstance(output.module, POOLING)}
    maps = [
        (place, output)
        for place, output in enumerate(seen.outputs)
        if output.value.ndim == 4 and id(output.value) not in pooled and _is_map(output.value)
    ]
    # One channel is a gate where others have more.
    maps = [(place, output) for place, output in maps if _channels(output.value) > 1] or maps
    candidates = [output for _, output in maps]
    if maps and (layer := _as_layer(maps[-1][1], [])) is not None:
        candidates += [output for output in seen.outputs[maps[-1][0] + 1 :] if _continues(output, layer)]
    if seen.attention is not None and not any(_map_size(output.value) > 1 for output in seen.outputs[seen.attention :]):
        before = [output for output in seen.outputs[: seen.attention] if output.value.ndim == 3]
        norms = [output for output in before if "norm" in type(output.module).__name__.lower()]
        candidates += norms[-1:] or before[-1:]
    return candidates


def _is_map(value: Tensor) -> bool:
    """Whether four dimensions are channels and a grid, whose sides are equal, since the view is square."""
    _, first, second, third = value.shape
    return second == third or first == second


def _channels(value: Tensor) -> int:
    _, first, second, third = value.shape
    return int(third if first == second != third else first)


def _continues(output: _Output, maps: TargetLayer) -> bool:
    """Whether an output is the tokens of the maps of a layer: as many channels, on which its module has weights, and a
    token a place behind a few prefix tokens."""
    value, places = output.value, math.prod(maps.grid)
    return (
        value.ndim == 3
        and value.shape[2] == maps.channels
        and 0 <= value.shape[1] - places <= _MOST_PREFIX_TOKENS
        and any(weights.shape[-1:] == (maps.channels,) for weights in output.module.parameters())
    )


def _record(network: nn.Module, example: Tensor, *, auto: bool) -> _Pass:
    """One pass. What is computed within an attention is left out, and for ``auto`` maps within a module from tokens to
    tokens: there, four dimensions are (N, heads, T, K), or a convolution on what is a grid for a moment alone."""
    outputs: list[_Output] = []
    attention: int | None = None
    inside_attention = 0
    began: list[int] = []
    watch = _ReluWatch()
    batch = len(example)

    def begins(_: nn.Module, args: Any, kwargs: Any) -> None:
        began.append(len(outputs) if _first_tensor((args, kwargs)).ndim == 3 else -1)

    def completed(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            start = began.pop()
            if auto and start >= 0 and _first_tensor(output).ndim == 3:
                outputs[start:] = [inner for inner in outputs[start:] if inner.value.ndim == 3]
            if not inside_attention and isinstance(output, Tensor) and output.ndim in (3, 4) and len(output) == batch:
                outputs.append(_Output(name, module, output, len(watch.inputs)))

        return hook

    def attention_begins(module: nn.Module, _: Any) -> None:
        nonlocal attention, inside_attention
        if not inside_attention:
            attention = len(outputs)
        inside_attention += 1

    def attention_ends(module: nn.Module, _: Any, __: Any) -> None:
        nonlocal inside_attention
        inside_attention -= 1

    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(begins, with_kwargs=True))
            handles.append(module.register_forward_hook(completed(name)))
        if isinstance(module, nn.MultiheadAttention) or _ATTENTION.search(type(module).__name__):
            handles.append(module.register_forward_pre_hook(attention_begins))
            handles.append(module.register_forward_hook(attention_ends))
    training = network.training
    example = example.detach().requires_grad_()
    try:
        with watch, torch.enable_grad():
            logits = network.eval()(example)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return _Pass(example, logits if isinstance(logits, Tensor) else None, outputs, attention, watch.inputs)


def _first_tensor(value: Any) -> Tensor:
    """The first tensor in what a module is given or returns; an empty one where there is none."""
    found = next((leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)), None)
    return torch.empty(0) if found is None else found


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
