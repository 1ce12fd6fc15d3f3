"""Pictures whose class can be seen by hand, and networks that see it if they are fed as they were made for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

GRAYS = {"dark": 32, "dim": 96, "light": 160, "white": 224}
"""Class names in alphabetical order, and how bright their pictures are, in 0 to 255."""
COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


class Brightness(nn.Module):
    """Nearest of four brightnesses of the whole view, in pixels of [-1, 1]: -.75, -.25, .25, .75."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 1, 4, stride=4), nn.Identity())
        self.features[0].weight.data.fill_(1 / 48)
        self.features[0].bias.data.zero_()
        self.head = nn.Linear(1, 4)
        centres = torch.tensor([2 * value / 255 - 1 for value in GRAYS.values()])
        # |m - c|^2 is least where 2 c m - c^2 is most
        self.head.weight.data.copy_(2 * centres[:, None])
        self.head.bias.data.copy_(-centres.square())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class BlueFirst(nn.Module):
    """Blue, green or red, of an input whose channels are in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 4, stride=4)
        weight = torch.zeros(3, 3, 4, 4)
        for channel in range(3):
            weight[channel, channel] = 1 / 16
        self.features.weight.data.copy_(weight)
        self.features.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean((2, 3))


def brightness() -> nn.Module:
    return Brightness()


def sample(path: Path, picture: Image.Image, class_index: int | None, status: str = "ok") -> dict[str, Any]:
    """The picture as a file, and what the trial reads of its row of the samples table."""
    picture.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"uri": str(path), "digest": digest, "class_index": class_index, "status": status}


def grays(folder: Path, each: int = 10, shown: Sequence[str] = tuple(GRAYS)) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    return [
        sample(folder / f"{name}_{number}.png", Image.new("RGB", (40, 30), (GRAYS[name] + number,) * 3), index)
        for index, name in enumerate(GRAYS)
        if name in shown
        for number in range(each)
    ]


def colours(folder: Path, each: int = 10) -> list[dict[str, Any]]:
    return [
        sample(folder / f"{name}_{number}.png", Image.new("RGB", (40 + number, 30), colour), index)
        for index, (name, colour) in enumerate(COLOURS.items())
        for number in range(each)
    ]
