"""What a library does to an image before its network sees it, found by having it done.

What a library's settings mean, its own code alone knows: processors of Hugging Face reverse the channels, normalise
twice, or take 8/7 of the size that they name. So pictures go through it, and what comes out is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stages.explain.network.view import ViewSettings, render_view

Prepare = Callable[[Image.Image], Tensor]
"""A library's way from an upright RGB image to the network's input (3, h, w)."""

COLOUR = (230, 120, 20)
"""A colour whose channels differ, 0 to 255."""
DIFFERENCE = 0.004
"""Mean difference of two views of a picture, as a share of white, up to which they are one: libraries that resample by
other code differ by less than .001, and short sides of 254 and 256 px by .009."""
_ALIKE = 1e-3
"""Difference of normalised values up to which they are the same."""
_SIDES = ((480, 320), (320, 480))
"""Of the pictures of which views are compared, px: one wide, one tall, larger than most networks' inputs."""


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std of pixels x in [0, 1], by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reversed: bool = False
    """Whether the network gets blue, green, red; mean and std are in the order red, green, blue."""

    def agrees(self, mean: Iterable[float], std: Iterable[float]) -> bool:
        """Whether a mean and std do the same."""
        own, other = np.array([self.mean, self.std]), np.array([tuple(mean), tuple(std)])
        return own.shape == other.shape and bool(np.allclose(own, other, atol=_ALIKE))


def measure_normalization(prepare: Prepare) -> Normalization:
    """What ``prepare`` does to colours, from pictures of one colour each.

    Raises ValueError, in words, where that is more than a mean and std, and an order of channels.
    """
    black, white, seen = (_middle(prepare, colour) for colour in ((0, 0, 0), (255, 255, 255), COLOUR))
    if np.allclose(black, white):
        raise ValueError("black and white become the same")
    std = 1 / (white - black)
    mean = -black * std
    shares = seen * std + mean  # of white, in the order of the network's channels
    wanted = np.array(COLOUR) / 255
    for turned in (False, True):
        if np.allclose(shares, wanted[::-1] if turned else wanted, atol=_ALIKE):
            order = slice(None, None, -1) if turned else slice(None)
            return Normalization(_numbers(mean[order]), _numbers(std[order]), turned)
    raise ValueError(f"the colour {COLOUR} becomes {tuple(np.round(shares, 3).tolist())} of white")


def agreeing_view(prepare: Prepare, views: Iterable[ViewSettings], normalization: Normalization) -> ViewSettings | None:
    """The first of some views that shows the network what ``prepare`` does; None if none does."""
    pictures = [_picture(*sides) for sides in _SIDES]
    prepared = [_shares(prepare(picture), normalization) for picture in pictures]
    for view in views:
        shown = [render_view(picture, view).astype(np.float32) / 255 for picture in pictures]
        if all(
            own.shape == other.shape and np.abs(own - other).mean() <= DIFFERENCE
            for own, other in zip(shown, prepared, strict=True)
        ):
            return view
    return None


def reverse_channels(network: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook: the input (N, 3, H, W) with its channels in the other order."""
    images: Tensor = args[0]
    return (images.flip(1), *args[1:])


def _middle(prepare: Prepare, colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """The three values in the middle of a picture of one colour; raises ValueError for what is no picture."""
    found = prepare(Image.new("RGB", _SIDES[0], colour))
    if found.ndim != 3 or found.shape[0] != 3:
        raise ValueError(f"a picture becomes {tuple(found.shape)}, not (3, height, width)")
    return found[:, found.shape[1] // 2, found.shape[2] // 2].double().numpy()


def _shares(prepared: Tensor, normalization: Normalization) -> NDArray[np.float32]:
    """A network's input as shares of white, red first."""
    found = prepared.numpy()[:: -1 if normalization.reversed else 1]
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (normalization.mean, normalization.std))
    return np.asarray(found * std + mean, np.float32)


def _picture(width: int, height: int) -> Image.Image:
    """Smooth blots of all colours, alike nowhere."""
    blots = np.random.default_rng(0).integers(0, 256, (height // 32, width // 32, 3), np.uint8)
    return Image.fromarray(blots).resize((width, height), Image.Resampling.BICUBIC)


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
