"""The demo's classifier: mobilenet_v2 with ImageNet weights, its last blocks and a new head fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

ARCHITECTURE, WEIGHTS = "mobilenet_v2", "IMAGENET1K_V1"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEW = 224  # pictures are squashed to this square

_FROZEN = 14  # blocks in front that keep their ImageNet weights: their output is computed once and kept
_BATCH = 32


def to_views(pictures: Sequence[Image.Image], mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> torch.Tensor:
    """Squash pictures to the model's view: (N, 3, 224, 224) float32, normalised."""
    views = [np.asarray(picture.resize((VIEW, VIEW), Image.Resampling.BILINEAR)) for picture in pictures]
    pixels = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def probabilities(network: nn.Module, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Class probabilities of pictures as they are read from their files: (N, classes) float32."""
    with torch.inference_mode():
        batches = [network(to_views(pictures[k : k + _BATCH])).softmax(dim=1) for k in range(0, len(pictures), _BATCH)]
    return torch.cat(batches)


def train_classifier(
    pictures: Sequence[Image.Image],
    class_indices: Sequence[int],
    *,
    num_classes: int,
    weights: Path,
    epochs: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[str], None],
) -> torchvision.models.MobileNetV2:
    """Fine-tune the classifier; the same pictures, seed and number of threads give the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.mobilenet_v2()
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        network.classifier[1] = nn.Linear(network.last_channel, num_classes)
        network.eval().requires_grad_(False)
        front, tail = network.features[:_FROZEN], network.features[_FROZEN:]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.classifier)
        tuned = nn.Sequential(tail, head).requires_grad_(True)
        network.classifier.train()  # its dropout; the batch norms stay as they are
        fine_tune(front, tuned, pictures, class_indices, epochs=epochs, learning_rate=learning_rate, progress=progress)
    return network.eval().requires_grad_(False)


def fine_tune(
    front: nn.Module,
    tuned: nn.Module,
    pictures: Sequence[Image.Image],
    class_indices: Sequence[int],
    *,
    epochs: int,
    learning_rate: float,
    progress: Callable[[str], None],
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> None:
    """Train ``tuned``, the end of a network, on what ``front``, its frozen beginning, gives for the pictures.

    Every picture is seen as it is and mirrored. Modules are taken in the mode, train or eval, that they are in: batch
    norms in eval keep their statistics, so that a prediction in training is the prediction in use.
    """
    progress(f"running the frozen blocks once over {len(pictures)} pictures and their mirror images")
    features = _front_features(front, pictures, mean, std)
    labels = torch.tensor(class_indices).repeat(2)
    optimiser = torch.optim.AdamW(tuned.parameters(), lr=learning_rate, weight_decay=1e-4)
    steps = epochs * -(-len(labels) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=learning_rate, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(labels)), _BATCH):
            loss = nn.functional.cross_entropy(tuned(features[batch]), labels[batch])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        progress(f"training: epoch {epoch + 1} of {epochs}, loss {total / len(labels):.3f}")


def _front_features(
    front: nn.Module, pictures: Sequence[Image.Image], mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Output of the frozen blocks on the pictures, then on their mirror images: (2N, K, h, w)."""
    straight, mirrored = [], []
    with torch.no_grad():
        for k in range(0, len(pictures), _BATCH):
            views = to_views(pictures[k : k + _BATCH], mean, std).contiguous(memory_format=torch.channels_last)
            straight.append(front(views))
            mirrored.append(front(views.flip(3)))
    return torch.cat(straight + mirrored)
