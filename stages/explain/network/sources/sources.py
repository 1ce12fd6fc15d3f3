"""Where classifiers come from: torchvision, timm, Hugging Face transformers, TorchScript, the user's own factory."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torchvision

from stages.explain.network.contract import NO_TORCHSCRIPT, refuse_unreachable
from stages.explain.network.factory import call_factory, code_of
from stages.explain.network.settings import ModelSettings, source_of
from stages.explain.network.sources.built import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Built,
    folder_of,
    is_path,
    needs_weights,
    timm_view,
)
from stages.explain.network.sources.huggingface import huggingface
from stages.explain.network.sources.prepared import Normalization, agreeing_view
from stages.explain.network.view import ViewSettings
from stages.explain.network.weights import resolve_weights
from storage.errors import UserError

_TRANSFORMED = (
    "its input is normalised anew, as torchvision's weights want it (transform_input); a checkpoint does not say "
    "whether it does: for one that was trained without, wrap the network in a factory (python:...)"
)


def build(settings: ModelSettings, classes: int | None) -> Built:
    """The network of ``settings``, without ``model.checkpoint``; ``classes`` is how many ``model.classes`` lists.

    Raises UserError, naming the key and the remedy, for an unknown source or name, weights that cannot be had, or a
    network whose layers cannot be reached.
    """
    kind, rest = source_of(settings.source)
    return _SOURCES[kind](rest, settings, classes)


def _torchvision(name: str, settings: ModelSettings, classes: int | None) -> Built:
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
        built = Built(network, names, *_transforms(choices))
        if not extra:
            return built
        network.transform_input = True
        return replace(built, notes=(_TRANSFORMED,), code="transform_input")
    if settings.weights not in {"DEFAULT", *choices.__members__}:
        raise UserError(
            f"model.weights: torchvision has no weights {settings.weights!r} for {name}; "
            f"it has {', '.join(choices.__members__)}; a file is named by model.checkpoint"
        )
    weights = choices[settings.weights]
    network = torchvision.models.get_model(name, weights=None, **extra)
    if extra:
        network.transform_input = True
    network.load_state_dict(torch.load(resolve_weights(name, settings.weights), map_location="cpu", weights_only=True))
    return Built(network, tuple(weights.meta["categories"]), *_transforms([weights]))


def _categories(weights: Iterable[Any]) -> tuple[str, ...] | None:
    """Class names that the architecture's weights come with; None if it has none."""
    for member in weights:
        return tuple(member.meta["categories"])
    return None


def _transforms(weights: Iterable[Any]) -> tuple[tuple[float, ...], tuple[float, ...], ViewSettings | None]:
    """Mean, std and view of the first of torchvision's weights."""
    for member in weights:
        transforms = member.transforms()
        if hasattr(transforms, "mean"):
            view = ViewSettings(
                "resize_crop", transforms.crop_size[0], transforms.resize_size[0], transforms.interpolation.value
            )
            return tuple(transforms.mean), tuple(transforms.std), view
    return IMAGENET_MEAN, IMAGENET_STD, None


def _timm(name: str, settings: ModelSettings, classes: int | None) -> Built:
    try:
        import timm
    except ImportError:
        raise UserError(f"model.source timm:{name} needs the extra `timm`: pip install -e '.[timm]'") from None
    if is_path(name):
        name = f"local-dir:{folder_of(name, 'timm')}"
    if ":" not in name and not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UserError(f"model.source: timm has no model {name!r}; did you mean {', '.join(near) or 'another'}?")
    # Pretrained weights have a head of their own: another number of classes would get one of random numbers.
    size = {"num_classes": classes} if classes and settings.checkpoint else {}
    with needs_weights(f"timm:{name}"):
        network = timm.create_model(name, pretrained=settings.checkpoint is None, **size)
    if not network.num_classes:
        raise UserError(f"model.source: timm:{name} has no classifier, it gives features alone; take one that has")
    config = timm.data.resolve_model_data_config(network)
    names = None if size else _timm_names(network.pretrained_cfg, timm.data)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    views = [view] if (view := timm_view(config)) else []
    prepare = timm.data.create_transform(**config, is_training=False)
    return Built(network, names, mean, std, agreeing_view(prepare, views, Normalization(mean, std)))


def _timm_names(config: Mapping[str, Any], data: Any) -> tuple[str, ...] | None:
    """Class names of timm's weights: their own, or ImageNet's; None where they have none."""
    if config.get("label_names"):
        return tuple(config["label_names"])
    subset = data.infer_imagenet_subset(dict(config))
    if subset is None:
        return None
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def _torchscript(path: str, settings: ModelSettings, classes: int | None) -> Built:
    """Always a UserError: nothing can watch a layer of TorchScript."""
    raise UserError(f"model.source: torchscript:{path} {NO_TORCHSCRIPT}")


def _python(path: str, settings: ModelSettings, classes: int | None) -> Built:
    made, factory = call_factory(path)
    network = refuse_unreachable(made, f"model.source: python:{path}")
    return Built(network, code=code_of(network, factory))


_SOURCES: dict[str, Callable[[str, ModelSettings, int | None], Built]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "huggingface": huggingface,
    "torchscript": _torchscript,
    "python": _python,
}
