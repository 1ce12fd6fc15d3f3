"""A network and what its source says of it, and what all sources share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stages.explain.network.factory import said
from stages.explain.network.view import ViewSettings
from stages.geometry import Interpolation
from storage.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
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
    no_view: str = "does not say how it was evaluated, or not in a way that a view can be"
    """Why there is no view, said of the source."""
    sigmoid: bool = False
    """Whether it was trained for several labels an image."""
    notes: tuple[str, ...] = ()
    """What its source leaves open, in sentences."""
    code: str = ""
    """What tells it from a network of the same weights that computes otherwise: a digest of the user's own code, or
    what a hook does to its input. Empty for a network that is its package's own."""


def is_path(name: str) -> bool:
    """Whether the name of a model is the path of a folder."""
    return name.startswith((".", os.sep, "~"))


def folder_of(name: str, source: str) -> str:
    """The folder of a model; raises UserError if there is none."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"model.source: {source}:{name}: no such folder; give the one that holds config.json")
    return str(folder)


@contextlib.contextmanager
def needs_weights(source: str) -> Iterator[None]:
    """Turn what a library says of weights that it cannot get or that do not fit into a UserError.

    Libraries read other people's files: torch is told to take tensors alone from them.
    """
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    except Exception as error:  # a library and its downloads may raise anything
        raise UserError(f"model.source: {source} cannot be had ({said(error)}); {_remedy(error)}") from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def _remedy(error: BaseException) -> str:
    """What to do about weights that a library could not get. A hub that answers is no missing network."""
    causes = set()
    cause: BaseException | None = error
    while cause is not None:
        causes |= {kind.__name__ for kind in type(cause).__mro__}
        cause = cause.__cause__ or cause.__context__
    if "GatedRepoError" in causes:
        return "the hub gives it to those who accepted its terms: do so on its page, and set HF_TOKEN"
    if "RepositoryNotFoundError" in causes:
        return "the hub has no such model, or only for those who may see it: correct the name, or set HF_TOKEN"
    return (
        "without a network, name a folder that holds it, fill the library's cache beforehand (HF_HOME, TORCH_HOME), or "
        "give model.checkpoint"
    )


def timm_view(config: Mapping[str, Any]) -> ViewSettings | None:
    """The view of timm's evaluation, of its data config; None where ours has no such form."""
    _, height, width = config["input_size"]
    share, mode, interpolation = config["crop_pct"], config["crop_mode"], config["interpolation"]
    if height != width or interpolation not in RESAMPLING.values() or mode not in ("center", "squash"):
        return None
    if mode == "squash":
        return ViewSettings("squash", height, interpolation=interpolation) if share == 1 else None
    return ViewSettings("resize_crop", height, int(height / share), interpolation)
