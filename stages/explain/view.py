"""What the network sees of an image: the view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.geometry import ViewTransform

MAX_SCALED_PIXELS = 2**25
"""Pixels of the resized image before the crop, at most; a very thin image would exhaust the memory there."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class ViewSettings:
    """How an image becomes the network's input."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    geometry: Literal["squash", "resize_crop"] = "squash"
    """``squash``: the whole image, nothing is lost. ``resize_crop``: short side to ``resize``, then a centre crop."""
    size: int = 224
    """Side of the view, px."""
    resize: int = 256
    """Short side before the crop, px (``resize_crop`` only)."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"size is {self.size} px; take at least 8")
        if self.geometry == "resize_crop" and self.resize < self.size:
            raise ValueError(f"resize is {self.resize} px, smaller than the crop of {self.size} px; take at least that")

    def transform(self, width: int, height: int) -> ViewTransform:
        """The transform from an upright image of ``width`` x ``height`` px to the view."""
        return ViewTransform.make(self.geometry, width, height, size=self.size, resize=self.resize)


def render_view(image: Image.Image, settings: ViewSettings) -> NDArray[np.uint8]:
    """The view of an upright RGB image, uint8 (3, size, size), resampled with antialiasing.

    Raises ValueError for an image so thin that its resized form before the crop would be enormous.
    """
    transform = settings.transform(*image.size)
    scaled = (round(image.width * transform.scale_x), round(image.height * transform.scale_y))
    if scaled[0] * scaled[1] > MAX_SCALED_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} px would become {scaled[0]} x {scaled[1]} before the centre crop; "
            "use view.geometry squash for images as thin as this"
        )
    resized = image.resize(scaled, _FILTERS[settings.interpolation])
    left, top = round(-transform.offset_x), round(-transform.offset_y)
    view = resized.crop((left, top, left + settings.size, top + settings.size))
    return np.ascontiguousarray(np.asarray(view, dtype=np.uint8).transpose(2, 0, 1))
