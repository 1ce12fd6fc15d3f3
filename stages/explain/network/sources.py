"""Where classifiers come from: torchvision, timm, Hugging Face transformers, TorchScript, the user's own factory."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from stages.explain.network.contract import NO_TORCHSCRIPT, refuse_unreachable
from stages.explain.network.factory import call_factory, code_of, said
from stages.explain.network.settings import ModelSettings
from stages.explain.network.view import ViewSettings
from stages.explain.network.weights import resolve_weights
from stages.geometry import Interpolation
from storage.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that a view may use."""


@dataclass(frozen=True)
class Built:
    """A network and what its source says of it; None where it says nothing."""

    network: nn.Module
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    view: ViewSettings | None = None
    """What the weights were evaluated with."""
    sigmoid: bool = False
    """Whether it was trained for several labels an image."""
    notes: tuple[str, ...] = ()
    """What its source leaves open, in sentences."""
    code: str = ""
    """Digest of the user's own code that it runs; empty where that is of packages alone."""


def build(settings: ModelSettings, classes: int | None) -> Built:
    """The network of ``settings``, without ``model.checkpoint``; ``classes`` is how many ``model.classes`` lists.

    Raises UserError, naming the key and the remedy, for an unknown source or name, weights that cannot be had, or a
    network whose layers cannot be reached.
    """
    kind, _, rest = settings.source.partition(":")
    if kind not in _SOURCES or not rest:
        raise UserError(
            f"model.source {settings.source!r} is not understood; write torchvision:NAME, timm:NAME, "
            "huggingface:FOLDER_OR_NAME, python:package.module:factory or python:path/to/file.py:factory"
        )
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
        return Built(network, names, *_transforms(choices))
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
    if _is_path(name):
        name = f"local-dir:{_folder(name, 'timm')}"
    if ":" not in name and not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UserError(f"model.source: timm has no model {name!r}; did you mean {', '.join(near) or 'another'}?")
    # Pretrained weights have a head of their own: another number of classes would get one of random numbers.
    size = {"num_classes": classes} if classes and settings.checkpoint else {}
    with _needs_weights(f"timm:{name}"):
        network = timm.create_model(name, pretrained=settings.checkpoint is None, **size)
    if not network.num_classes:
        raise UserError(f"model.source: timm:{name} has no classifier, it gives features alone; take one that has")
    config = timm.data.resolve_model_data_config(network)
    names = None if size else _timm_names(network.pretrained_cfg, timm.data)
    return Built(network, names, tuple(config["mean"]), tuple(config["std"]), _timm_view(config))


def _timm_names(config: Mapping[str, Any], data: Any) -> tuple[str, ...] | None:
    """Class names of timm's weights: their own, or ImageNet's; None where they have none."""
    if config.get("label_names"):
        return tuple(config["label_names"])
    subset = data.infer_imagenet_subset(dict(config))
    if subset is None:
        return None
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def _timm_view(config: Mapping[str, Any]) -> ViewSettings | None:
    """The view of timm's evaluation; None where ours has no such form."""
    _, height, width = config["input_size"]
    share, mode, interpolation = config["crop_pct"], config["crop_mode"], config["interpolation"]
    if height != width or interpolation not in _RESAMPLING.values() or mode not in ("center", "squash"):
        return None
    if mode == "squash":
        return ViewSettings("squash", height, interpolation=interpolation) if share == 1 else None
    return ViewSettings("resize_crop", height, int(height / share), interpolation)


def _huggingface(name: str, settings: ModelSettings, classes: int | None) -> Built:
    try:
        import transformers
    except ImportError:
        raise UserError(
            f"model.source huggingface:{name} needs the extra `transformers`: pip install -e '.[transformers]'"
        ) from None
    if _is_path(name):
        name = _folder(name, "huggingface")
    transformers.utils.logging.disable_progress_bar()
    loader: Any = transformers.AutoModelForImageClassification
    missing: list[str] = []
    with _needs_weights(f"huggingface:{name}"):
        size = {"num_labels": classes} if classes and settings.checkpoint else {}
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **size)
        if settings.checkpoint:
            network = loader.from_config(config)
        else:
            network, loading = loader.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
            missing = sorted([*loading["missing_keys"], *(str(key[0]) for key in loading["mismatched_keys"])])
    if missing:
        raise UserError(
            f"model.source: huggingface:{name} has no weights for {', '.join(missing[:3])}, which would be random: it "
            "is no trained classifier; name one, or give model.checkpoint"
        )
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    named = names != tuple(f"LABEL_{index}" for index in range(len(names)))  # what the library calls them without names
    built = Built(network, names if named else None, sigmoid=config.problem_type == "multi_label_classification")
    try:
        processor, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        note = "has no preprocessor_config.json: ImageNet's mean and std are taken"
        return replace(built, mean=IMAGENET_MEAN, std=IMAGENET_STD, notes=(note,))
    mean, std = _huggingface_normalization(processor)
    return replace(built, mean=mean, std=std, view=_huggingface_view(processor))


def _is_path(name: str) -> bool:
    return name.startswith((".", os.sep, "~"))


def _folder(name: str, source: str) -> str:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"model.source: {source}:{name}: no such folder; give the one that holds config.json")
    return str(folder)


def _huggingface_normalization(processor: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std in [0, 1] pixel space that do what an image processor does with pixels in 0 to 255."""
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if processor.get("do_normalize", True):
        mean = tuple(processor.get("image_mean", IMAGENET_MEAN))
        std = tuple(processor.get("image_std", IMAGENET_STD))
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    # (x * scale - offset - mean) / std
    return tuple((number + offset) / scale for number in mean), tuple(number / scale for number in std)


def _huggingface_view(processor: Mapping[str, Any]) -> ViewSettings | None:
    """The view of an image processor; None where ours has no such form."""
    size, interpolation = processor.get("size"), _RESAMPLING.get(processor.get("resample", 2))
    if isinstance(size, int):
        size = {"shortest_edge": size} if processor.get("do_center_crop") else {"height": size, "width": size}
    if not isinstance(size, Mapping) or interpolation is None or not processor.get("do_resize", True):
        return None
    crop = processor.get("crop_size")
    if isinstance(crop, Mapping):
        crop = crop.get("height")
    crop = crop if processor.get("do_center_crop") else None
    short, height = size.get("shortest_edge"), size.get("height")
    if short and processor.get("crop_pct"):  # ConvNeXt: the crop's side, not the short side before it
        if short >= 384:
            return ViewSettings("squash", short, interpolation=interpolation)
        return ViewSettings("resize_crop", short, int(short / processor["crop_pct"]), interpolation)
    if short and crop:
        return ViewSettings("resize_crop", crop, short, interpolation)
    if height and height == size.get("width") and crop in (None, height):
        return ViewSettings("squash", height, interpolation=interpolation)
    return None


@contextlib.contextmanager
def _needs_weights(source: str) -> Iterator[None]:
    """Turn what a library says of weights that it cannot get or that do not fit into a UserError.

    Libraries read other people's files: torch is told to take tensors alone from them.
    """
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    except Exception as error:  # a library and its downloads may raise anything
        raise UserError(
            f"model.source: {source} cannot be had ({said(error)}); without a network, name a folder that holds it, "
            "fill the library's cache beforehand (HF_HOME, TORCH_HOME), or give model.checkpoint"
        ) from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


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
    "huggingface": _huggingface,
    "torchscript": _torchscript,
    "python": _python,
}
