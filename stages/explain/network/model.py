"""Load the classifier that is audited: from torchvision, from timm, or from the user's own factory."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torchvision
from torch import Tensor, nn

from stages.explain.network.weights import resolve_weights
from storage.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSettings:
    """Which classifier, with which weights."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "protected_namespaces": ()}

    source: str = "torchvision:mobilenet_v2"
    """``torchvision:NAME``, ``timm:NAME`` or ``python:package.module:factory``."""
    weights: str = "DEFAULT"
    """torchvision's name of pretrained weights; unused with a checkpoint."""
    checkpoint: str | None = None
    """A state dict saved with ``torch.save``; loaded with ``weights_only=True``."""
    classes: str | None = None
    """A text file with one class a line, line k = class index k; by default what the weights come with."""
    target_layer: str = "auto"
    """Module path of the layer whose feature maps are combined."""
    mean: tuple[float, float, float] | None = None
    """Mean of the input normalisation, in [0, 1] pixel space; by default what the weights come with."""
    std: tuple[float, float, float] | None = None


class Classifier(nn.Module):
    """A network with the normalisation of its input: images (N, 3, H, W) in [0, 1] to logits (N, C)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        class_names: tuple[str, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.class_names = class_names
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def digest(self) -> str:
        """SHA-256 of the network's structure as it prints itself, and of every parameter and buffer.

        Code of a ``forward`` that no module shows (an activation called as a function) is not seen.
        """
        state = hashlib.sha256(repr(self.network).encode())
        for name, tensor in sorted(self.state_dict().items()):
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return state.hexdigest()


@dataclass(frozen=True)
class _Built:
    network: nn.Module
    class_names: tuple[str, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_classifier(settings: ModelSettings, size: int = 224) -> Classifier:
    """The classifier of ``settings`` in eval mode, on the CPU, float32; ``size`` is the side of its input, px.

    Raises UserError, naming the key and the remedy, for an unknown source or name, missing weights, a checkpoint or
    class list that does not fit, or a network that does not work on images of that size.
    """
    names = read_class_names(settings.classes) if settings.classes else None
    kind, _, rest = settings.source.partition(":")
    builders: dict[str, Callable[[str, ModelSettings, int | None], _Built]] = {
        "torchvision": _torchvision,
        "timm": _timm,
        "python": _python,
    }
    if kind not in builders or not rest:
        raise UserError(
            f"model.source {settings.source!r} is not understood; write torchvision:NAME, timm:NAME or "
            "python:package.module:factory"
        )
    built = builders[kind](rest, settings, len(names) if names else None)
    if settings.checkpoint:
        load_checkpoint(built.network, settings.checkpoint)
    found = names or built.class_names
    outputs = _count_outputs(built.network, settings.source, size)
    if found is None:
        found = tuple(str(index) for index in range(outputs))
    if len(found) != outputs:
        raise UserError(
            f"model.classes lists {len(found)} classes but {settings.source} has {outputs} outputs; "
            "give one class a line, in the order of the outputs"
        )
    return Classifier(built.network, found, settings.mean or built.mean, settings.std or built.std)


def read_class_names(path: str) -> tuple[str, ...]:
    """Class names of a text file, one a line; raises UserError if it is missing, empty or names a class twice."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.classes: cannot read {path}: {error}; give a text file with one class a line") from None
    names = tuple(line.strip() for line in lines if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if not names or repeated:
        what = f"names {repeated[0]!r} twice" if repeated else "is empty"
        raise UserError(f"model.classes: {path} {what}; give one class a line")
    return names


def load_checkpoint(network: nn.Module, path: str) -> None:
    """Load a state dict into ``network``; raises UserError if it is missing, unsafe or does not fit."""
    if not Path(path).is_file():
        raise UserError(f"model.checkpoint: no file {path}; give the path of a state dict saved with torch.save")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is not a plain state dict
        raise UserError(
            f"model.checkpoint: {path} does not load with weights_only=True ({_said(error)}); "
            "save the state dict alone: torch.save(model.state_dict(), path)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"model.checkpoint: {path} does not fit the network: {str(error).splitlines()[-1].strip()}; "
            "check model.source and model.classes"
        ) from None
    if missing or unexpected:
        raise UserError(
            f"model.checkpoint: {path} does not fit the network: {len(missing)} keys missing "
            f"({', '.join(missing[:3])}), {len(unexpected)} unknown ({', '.join(unexpected[:3])}); check model.source"
        )


def _torchvision(name: str, settings: ModelSettings, classes: int | None) -> _Built:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise UserError(
            f"model.source: torchvision has no classifier {name!r}"
            + (f"; did you mean {', '.join(near)}?" if near else f"; it has {', '.join(known[:5])} ...")
        )
    choices = torchvision.models.get_model_weights(name)
    extra: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if settings.checkpoint:
        size = {"num_classes": classes} if classes else {}
        network = torchvision.models.get_model(name, weights=None, **size, **extra)
        names = None if classes else _categories(choices)
        return _Built(network, names, *_normalization(choices))
    if settings.weights not in {"DEFAULT", *choices.__members__}:
        raise UserError(
            f"model.weights: torchvision has no weights {settings.weights!r} for {name}; "
            f"it has {', '.join(choices.__members__)}"
        )
    weights = choices[settings.weights]
    network = torchvision.models.get_model(name, weights=None, **extra)
    if extra:
        network.transform_input = True
    network.load_state_dict(torch.load(resolve_weights(name, settings.weights), map_location="cpu", weights_only=True))
    return _Built(network, tuple(weights.meta["categories"]), *_normalization([weights]))


def _categories(weights: Any) -> tuple[str, ...] | None:
    """Class names that the architecture's weights come with; None if it has none."""
    for member in weights:
        return tuple(member.meta["categories"])
    return None


def _normalization(weights: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for member in weights:
        transforms = member.transforms()
        if hasattr(transforms, "mean"):
            return tuple(transforms.mean), tuple(transforms.std)
    return IMAGENET_MEAN, IMAGENET_STD


def _timm(name: str, settings: ModelSettings, classes: int | None) -> _Built:
    try:
        import timm
    except ImportError:
        raise UserError(f"model.source timm:{name} needs the extra `timm`: pip install -e '.[timm]'") from None
    size = {"num_classes": classes} if classes else {}
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UserError(f"model.source: timm has no model {name!r}; did you mean {', '.join(near) or 'another'}?")
    network = timm.create_model(name, pretrained=settings.checkpoint is None, **size)
    config = timm.data.resolve_model_data_config(network)
    return _Built(network, None, tuple(config["mean"]), tuple(config["std"]))


def _python(path: str, settings: ModelSettings, classes: int | None) -> _Built:
    module_name, _, factory_name = path.partition(":")
    if os.getcwd() not in sys.path:  # the console script does not put the working directory there; `python -m` does
        sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except Exception as error:  # importing runs the user's own code, which may raise anything
        raise UserError(
            f"model.source python:{path}: {_said(error)}; write python:package.module:factory, "
            f"importable from {os.getcwd()}"
        ) from error
    try:
        network = factory()
    except Exception as error:  # the user's own code may raise anything
        raise UserError(f"model.source python:{path}: the factory raised {_said(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model.source python:{path} returned {type(network).__name__}; return a torch.nn.Module")
    return _Built(network, None, IMAGENET_MEAN, IMAGENET_STD)


def _said(error: Exception) -> str:
    """An exception in one line: its type and the first line of its message."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@torch.no_grad()
def _count_outputs(network: nn.Module, source: str, size: int) -> int:
    try:
        logits = network.eval()(torch.zeros(1, 3, size, size))
    except Exception as error:  # the user's own code may raise anything
        raise UserError(
            f"model.source: {source} fails on an image of {size} x {size} px ({_said(error)}); "
            "set view.size to what it takes"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UserError(
            f"model.source: {source} does not return logits (N, C) for images (N, 3, {size}, {size}); "
            "wrap it in a module that does"
        )
    return int(logits.shape[1])
