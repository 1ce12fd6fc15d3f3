"""Image classifiers of Hugging Face transformers, with what their image processors do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from stages.explain.network.factory import said
from stages.explain.network.settings import ModelSettings
from stages.explain.network.sources.built import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RESAMPLING,
    Built,
    folder_of,
    is_path,
    needs_weights,
    timm_view,
)
from stages.explain.network.sources.prepared import (
    Prepare,
    agreeing_view,
    measure_normalization,
    reverse_channels,
)
from stages.explain.network.view import ViewSettings
from storage.errors import UserError

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Each may say what is done to an image."""
_LEVIT = 256 / 224
"""LeViT's processor makes the short side this much longer than the size that it names."""


def huggingface(name: str, settings: ModelSettings, classes: int | None) -> Built:
    """The classifier in a folder, or on the hub, by its name.

    Raises UserError for one that cannot be had, has no trained head, or is fed in a way that cannot be followed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError(
            f"model.source huggingface:{name} needs the extra `transformers`: pip install -e '.[transformers]'"
        ) from None
    if is_path(name):
        name = folder_of(name, "huggingface")
    transformers.utils.logging.disable_progress_bar()
    loader: Any = transformers.AutoModelForImageClassification
    missing: list[str] = []
    with needs_weights(f"huggingface:{name}"):
        size = {"num_labels": classes} if classes and settings.checkpoint else {}
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **size)
        (getattr(config, "model_args", None) or {}).pop("num_classes", None)  # timm's, which would be passed twice
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
    names, notes = _names(config.id2label, config.num_labels)
    built = Built(network, names, sigmoid=config.problem_type == "multi_label_classification", notes=notes)
    maker: Any = transformers.AutoImageProcessor
    try:
        said_of_it, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
    except OSError as error:
        said_of_it = _said_by_timm(config)
        if not said_of_it:
            _refuse_unread_processor(name, error)
            note = "has no preprocessor_config.json: ImageNet's mean and std are taken"
            return replace(built, mean=IMAGENET_MEAN, std=IMAGENET_STD, notes=(*notes, note))
        maker = transformers.TimmWrapperImageProcessor
    try:
        processor = maker.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # of a class that this version does not have, or of code beside the weights
        raise UserError(
            f"model.source: huggingface:{name}: its image processor cannot be made ({said(error)}); wrap the network "
            "in a factory (python:...), which normalises its input itself"
        ) from error
    return _as_processed(built, processor, said_of_it, settings)


def _names(given: Mapping[int, Any], outputs: int) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Names of the outputs, None where there are none but the library's own; and a sentence where some lack one."""
    if all(given.get(index) == f"LABEL_{index}" for index in range(outputs)):  # what the library calls them then
        return None, ()
    names = tuple(str(given.get(index, index)) for index in range(outputs))
    if not (unnamed := [str(index) for index in range(outputs) if index not in given]):
        return names, ()
    note = f"id2label of config.json has no name for output {', '.join(unnamed[:3])}{' ...' if unnamed[3:] else ''}"
    return names, (f"{note}: a number is taken for it; model.classes names all",)


def _said_by_timm(config: Any) -> dict[str, Any]:
    """Settings of the image processor of a model that timm saved, whose config.json says them; of others none."""
    said_of_it = getattr(config, "pretrained_cfg", None) if config.model_type == "timm_wrapper" else None
    return {f"image_{key}": said_of_it[key] for key in ("mean", "std") if key in said_of_it} if said_of_it else {}


def _refuse_unread_processor(name: str, error: OSError) -> None:
    """Raise UserError unless no file says what is done to an image before the network sees it.

    The library raises one error for a file that is not there, one that it cannot read, and a hub out of reach. Only of
    the first may ImageNet's mean and std be taken.
    """
    import huggingface_hub

    if Path(name).is_dir():
        unread = any((Path(name) / file).exists() for file in _PROCESSOR_FILES)
    else:
        try:
            unread = any(
                huggingface_hub.try_to_load_from_cache(name, file) is not huggingface_hub._CACHED_NO_EXIST
                and huggingface_hub.file_exists(name, file)
                for file in _PROCESSOR_FILES
            )
        except Exception as cause:  # the network may raise anything
            raise UserError(
                f"model.source: huggingface:{name}: whether it has an image processor cannot be asked ({said(cause)}); "
                "load it once with a network, or name a folder that holds all of its files"
            ) from cause
    if unread:
        raise UserError(
            f"model.source: huggingface:{name}: its image processor cannot be read ({said(error)}); correct the file"
        ) from error


def _as_processed(built: Built, processor: Any, said_of_it: Mapping[str, Any], settings: ModelSettings) -> Built:
    """The network with the normalisation, order of channels and view of its image processor.

    Raises UserError where these are more than a mean and std, and the settings do not give them.
    """
    kind = type(processor).__name__

    def prepare(image: Image.Image) -> Tensor:
        try:
            return torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"][0])
        except Exception as error:  # its settings may be anything
            raise ValueError(said(error)) from error

    try:
        found = measure_normalization(prepare)
    except ValueError as error:
        if settings.mean and settings.std:
            return replace(built, no_view=f"has an image processor, {kind}, of which no view can be told")
        raise UserError(
            f"model.source: {settings.source}: its image processor, {kind}, does what no mean and std do: {error}; "
            "give model.mean and model.std, or wrap the network in a factory (python:...)"
        ) from None
    mean, std = found.mean, found.std
    with suppress(TypeError, ZeroDivisionError):  # of settings that were not what they seem
        named = _named_normalization(said_of_it)
        if found.agrees(*named):
            mean, std = named  # which have more digits than can be measured
    view = None
    with suppress(ValueError):  # of an image processor that not every picture passes
        view = agreeing_view(prepare, _views(processor, prepare), found)
    no_view = f"has an image processor, {kind} ({_sizes(processor)}), which makes of an image what no view is"
    built = replace(built, mean=mean, std=std, view=view, no_view=no_view)
    if not found.reversed:
        return built
    built.network.register_forward_pre_hook(reverse_channels)
    note = f"gets blue, green, red: {kind} reverses the channels"
    return replace(built, notes=(*built.notes, note), code="channels reversed")


def _named_normalization(processor: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that an image processor's settings name, for pixels in [0, 1]."""
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if processor.get("do_normalize", True):
        mean = tuple(processor.get("image_mean", IMAGENET_MEAN))
        std = tuple(processor.get("image_std", IMAGENET_STD))
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    # (x * scale - offset - mean) / std
    return tuple((number + offset) / scale for number in mean), tuple(number / scale for number in std)


def _sizes(processor: Any) -> str:
    """The sizes that an image processor names, in words."""
    if config := getattr(processor, "data_config", None):
        _, height, width = config["input_size"]
        return f"{height} x {width} px, crop_pct {config['crop_pct']}, crop_mode {config['crop_mode']}"
    kinds = ["size"] if not getattr(processor, "do_center_crop", None) else ["size", "crop_size"]
    named = {kind: dict(getattr(processor, kind, None) or {}) for kind in kinds}
    told = (
        ", ".join(f"{name} {side}" for name, side in sides.items() if side is not None) + " px"
        for sides in named.values()
    )
    return ", then a crop of ".join(told)


def _views(processor: Any, prepare: Prepare) -> list[ViewSettings]:
    """The views that an image processor may mean, by the numbers that it names."""
    if config := getattr(processor, "data_config", None):  # timm's
        return [view] if (view := timm_view(config)) else []
    interpolation = RESAMPLING.get(int(getattr(processor, "resample", None) or 0))
    _, height, width = prepare(Image.new("RGB", (480, 320))).shape
    if interpolation is None or height != width:
        return []
    size = dict(processor.size or {})
    named = [side for key in ("shortest_edge", "height") if (side := size.get(key))]
    shares = [1.0, _LEVIT, *([1 / share] if (share := getattr(processor, "crop_pct", None)) else [])]
    shorts = dict.fromkeys(int(side * share) for side in named for share in shares)
    crops = [ViewSettings("resize_crop", height, short, interpolation) for short in shorts if short >= height]
    return [ViewSettings("squash", height, interpolation=interpolation), *crops]
