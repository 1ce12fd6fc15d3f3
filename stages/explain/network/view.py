"""What the network sees of an image: the view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.geometry import Geometry, Interpolation, ViewTransform

MAX_SCALED_PIXELS = 2**25
"""Pixels of the resized image before the crop, at most; a very thin image would exhaust the memory there."""


@dataclass(frozen=True)
class ViewSettings:
    """How an image becomes the network's input."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    geometry: Literal["squash", "resize_crop", "auto"] = "squash"
    """``squash``: the whole image, nothing is lost. ``resize_crop``: short side to ``resize``, then a centre crop.
    ``auto``: what the weights of torchvision, timm or Hugging Face were evaluated with, size and interpolation too."""
    size: int = 224
    """Side of the view, px."""
    resize: int = 256
    """Short side before the crop, px (``resize_crop`` only)."""
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"size is {self.size} px; take at least 8")
        if self.geometry == "resize_crop" and self.resize < self.size:
            raise ValueError(f"resize is {self.resize} px, smaller than the crop of {self.size} px; take at least that")
        if self.geometry == "auto" and (self.size, self.resize, self.interpolation) != (224, 256, "bilinear"):
            raise ValueError("geometry auto takes size, resize and interpolation from the weights; leave these out")

    def transform(self, width: int, height: int) -> ViewTransform:
        """The transform from an upright image of ``width`` x ``height`` px to the view."""
        return ViewTransform.make(self.known_geometry, width, height, size=self.size, resize=self.resize)

    @property
    def known_geometry(self) -> Geometry:
        """The geometry; raises ValueError for ``auto``, which the view of the loaded classifier replaces."""
        if self.geometry == "auto":
            raise ValueError("the view is auto: take that of the loaded classifier")
        return self.geometry

    def __str__(self) -> str:
        before = f" after {self.resize} px" if self.geometry == "resize_crop" else ""
        return f"{self.geometry} {self.size} px{before}, {self.interpolation}"


def render_view(image: Image.Image, settings: ViewSettings) -> NDArray[np.uint8]:
    """The view of an upright RGB image, uint8 (3, size, size), resampled with antialiasing.

    Raises ValueError for an image so thin that its resized form before the crop would be enormous.
    """
    transform = settings.transform(*image.size)
    width, height = transform.scaled_size
    if width * height > MAX_SCALED_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} px would become {width} x {height} before the centre crop; "
            "use view.geometry squash for images as thin as this"
        )
    return np.ascontiguousarray(transform.render(image, settings.interpolation).transpose(2, 0, 1))
