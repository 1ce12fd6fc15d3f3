"""Factories of small networks that normalise their input themselves, and of some that only seem to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from tests.stages.explain.networks import tiny


class Normalize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def normalize_first() -> nn.Module:
    return nn.Sequential(Normalize(MEAN, STD), tiny())


def normalize_of_torchvision() -> nn.Module:
    return nn.Sequential(transforms.Normalize(MEAN, STD), tiny())


class OwnBuffers(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.inner = tiny()
        self.register_buffer("pixel_mean", scale * torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("pixel_std", scale * torch.tensor(STD).view(3, 1, 1))

    def forward(self, x):
        return self.inner((x - self.pixel_mean) / self.pixel_std)


def own_buffers() -> nn.Module:
    return OwnBuffers()


def own_buffers_of_bytes() -> nn.Module:
    return OwnBuffers(255.0)


class Remembers(nn.Module):
    """It knows what it was trained with, and leaves the normalising to the caller."""

    def __init__(self):
        super().__init__()
        self.inner, self.mean, self.std = tiny(), MEAN, STD

    def forward(self, x):
        return self.inner(x)


class First(nn.Module):
    """The tiny network, and what is done to its input before: a module or a function."""

    def __init__(self, before):
        super().__init__()
        self.inner, self.before = tiny(), before

    def forward(self, x):
        return self.inner(self.before(x))


def one_number_of_torchvision() -> nn.Module:
    return First(transforms.Normalize((0.5,), (0.25,)))


def composed() -> nn.Module:
    return First(transforms.Compose([transforms.Normalize(MEAN, STD)]))


def composed_by_v2() -> nn.Module:
    return First(v2.Compose([v2.Normalize(MEAN, STD)]))


class _Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny()

    def forward(self, x):
        return self.inner((x - self.mean) / self.std)


class Numbers(_Own):
    """One mean and one std for all channels, as numbers of the class."""

    mean, std = 0.5, 0.25


class OneBuffer(_Own):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.5))
        self.register_buffer("std", torch.tensor(0.25))


class Parameters(_Own):
    def __init__(self):
        super().__init__()
        self.mean, self.std = (nn.Parameter(torch.tensor(numbers).view(1, 3, 1, 1)) for numbers in (MEAN, STD))


class Scales(OwnBuffers):
    """It multiplies pixels by ``factor`` and normalises that."""

    def __init__(self, factor, scale):
        super().__init__(scale)
        self.factor = factor

    def forward(self, x):
        return self.inner((x * self.factor - self.pixel_mean) / self.pixel_std)


def makes_bytes() -> nn.Module:
    return Scales(255.0, 255.0)


def takes_bytes_and_makes_shares() -> nn.Module:
    return Scales(1 / 255, 1.0)


class OnlyDivides(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.mean, self.std = tiny(), [0.0] * 3, [255.0] * 3

    def forward(self, x):
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return self.inner((x - mean) / std)


class ResizesFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm = tiny(), transforms.Normalize(MEAN, STD)

    def forward(self, x):
        return self.inner(self.norm(F.interpolate(x, size=(16, 16), mode="bilinear")))


def sure_of_itself() -> nn.Module:
    """p is 1 for one class whatever the pixels are."""
    return nn.Sequential(transforms.Normalize(MEAN, STD), Sure())


class Sure(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny()
        self.inner.head.bias.data[0] = 200.0

    def forward(self, x):
        return self.inner(x).softmax(1)


class Squares(nn.Module):
    """What is normalised is no pixel: a step of the mean undoes none of theirs."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm = tiny(), transforms.Normalize(MEAN, STD)

    def forward(self, x):
        return self.inner(self.norm(x.square()))


class PadsFirst(OwnBuffers):
    """The black around the image is none of the input's pixels."""

    def forward(self, x):
        return super().forward(F.pad(x, (4, 4, 4, 4)))


class Axes(nn.Module):
    """Numbers that are named for a mean, and are dimensions; and a list that holds what holds it."""

    mean_axis, std_axis = 1, 1

    def __init__(self):
        super().__init__()
        self.inner, self.around = tiny(), [self]

    def forward(self, x):
        return self.inner(x - x.mean(self.mean_axis, keepdim=True))
