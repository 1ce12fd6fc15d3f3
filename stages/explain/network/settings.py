"""Which classifier is audited: the section ``model`` of the config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from storage.errors import UserError

SOURCES = ("torchvision", "timm", "huggingface", "torchscript", "python")
"""Where classifiers come from: what stands before the colon of ``model.source``."""

OutputForm = Literal["auto", "logits", "probabilities", "log_probabilities", "sigmoid"]


@dataclass(frozen=True)
class ModelSettings:
    """Which classifier, with which weights."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "protected_namespaces": ()}

    source: str = "torchvision:mobilenet_v2"
    """``torchvision:NAME``, ``timm:NAME_OR_FOLDER`` (also ``timm:hf-hub:NAME``), ``huggingface:NAME_OR_FOLDER``,
    ``python:package.module:factory`` or ``python:path/to/file.py:factory``."""
    weights: str = "DEFAULT"
    """torchvision's name of pretrained weights; unused with a checkpoint."""
    checkpoint: str | None = None
    """Weights saved with ``torch.save`` or as safetensors: a state dict, bare or where training puts it; read with
    ``weights_only=True``."""
    checkpoint_key: str | None = None
    """Where in the checkpoint the weights are, ``model_ema`` say, with dots from dict to dict; or the prefix of their
    names, ``teacher``. By default they are looked for, and weights that are no average come first."""
    classes: str | None = None
    """A text file with one class a line, line k = class index k; by default what the weights come with."""
    outputs: OutputForm = "auto"
    """What the network returns: ``logits``, ``probabilities`` (softmax), ``log_probabilities``, or ``sigmoid``: a logit
    or probability for each class by itself, as in multi-label classifiers. ``auto`` finds out from two images, and says
    so; a multi-label network that returns logits cannot be told from another, so name it."""
    target_layer: str = "auto"
    """Module path of the layer whose feature maps are combined."""
    mean: tuple[float, float, float] | None = None
    """Mean of the input normalisation, in [0, 1] pixel space; by default what the weights come with."""
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.mean is not None and not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean is {list(self.mean)}; give three finite numbers")
        if self.std is not None and not all(0 < number < math.inf for number in self.std):
            raise ValueError(f"std is {list(self.std)}; give three numbers above 0: the input is divided by them")


def source_of(text: str) -> tuple[str, str]:
    """What stands before and behind the first colon of a ``model.source``; raises UserError for another text."""
    kind, _, rest = text.partition(":")
    if kind not in SOURCES or not rest:
        raise UserError(
            f"model.source {text!r} is not understood; write torchvision:NAME, timm:NAME, "
            "huggingface:FOLDER_OR_NAME, python:package.module:factory or python:path/to/file.py:factory"
        )
    return kind, rest
