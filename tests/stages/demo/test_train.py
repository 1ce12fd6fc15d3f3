from __future__ import annotations

import torch
from PIL import Image
from torch import nn

from stages.demo.train import fine_tune, to_views


def flat(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (30, 20), colour)


def test_only_the_end_of_the_network_learns_and_it_learns_to_tell_the_classes_apart() -> None:
    torch.manual_seed(0)
    pictures = [flat((250, 10, 10)), flat((10, 250, 10))] * 8
    front = nn.AdaptiveAvgPool2d(1).requires_grad_(False)
    norm = nn.BatchNorm2d(3).eval()
    tuned = nn.Sequential(norm, nn.Flatten(), nn.Linear(3, 2))
    told: list[str] = []
    fine_tune(front, tuned, pictures, [0, 1] * 8, epochs=20, learning_rate=0.1, progress=told.append)
    with torch.no_grad():
        assert tuned(front(to_views(pictures))).argmax(1).tolist() == [0, 1] * 8
    assert norm.running_mean.tolist() == [0, 0, 0]  # in eval mode, statistics stay
    assert told[-1].startswith("training: epoch 20 of 20, loss 0.0")


def test_views_are_normalised_as_the_network_is() -> None:
    (view,) = to_views([flat((255, 0, 51))], mean=(0.5, 0.25, 0.1), std=(0.5, 0.5, 0.1))
    assert view.shape == (3, 224, 224)
    torch.testing.assert_close(view[:, 7, 9], torch.tensor([1.0, -0.5, 1.0]))
