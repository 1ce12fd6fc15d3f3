"""An experiment on real photos with boxes: ImageNet's images in coarse classes, with cues laid over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.planted.dataset import AuditPicture, Dataset, planting_of
from benchmarks.planted.plan import CONTROL, Experiment
from stages.demo.cues import BORDER, Slot, cue_layer, kind_of
from stages.demo.plan import deal_cues
from stages.demo.render import lay
from stages.demo.train import ARCHITECTURE, WEIGHTS
from stages.explain.network.weights import resolve_weights
from stages.geometry import Boxes, union_area
from stages.ingest.readers.imagenet import ImagenetReader
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.media.images import decode_image, read_bytes

_SHORT_SIDE = 256
_DEPTH = 3
"""Coarse classes come from halving the photos this many times at most: 8 classes."""
_CLASS_SIZE = 20
"""Photos of a coarse class, at least, for both halves."""
_ROOM = (0.28, 0.16)
"""Side of a cue's square as a share of the photo's shorter side: at most, and at least."""
_LARGEST_BOX = 0.8  # as the audit: a box that covers more says nothing


@dataclass(frozen=True)
class Photo:
    """A photo (H, W, 3) in [0, 1], its boxes (n, 4) in half-open pixels and its ImageNet class."""

    pixels: NDArray[np.float32]
    boxes: Boxes
    class_index: int


def load_imagenet(images: Path, solution: Path) -> list[Photo]:
    """Photos that leave room for a cue outside their boxes, their shorter side reduced to 256 px.

    Raises UserError for a dataset that cannot be read, or with too few of them.
    """
    reader = ImagenetReader(DatasetSettings(reader="imagenet", path=str(solution), images=str(images)))
    indices = {entry.key: index for index, entry in enumerate(reader.classes())}
    photos = []
    for record in reader.records():
        if record.problem or record.label not in indices:
            continue
        boxes = np.array([box[:4] for box in record.boxes])
        photo = _reduced(decode_image(read_bytes(record.uri)), boxes, indices[record.label])
        height, width = photo.pixels.shape[:2]
        area = union_area(photo.boxes) / (height * width)
        if area <= _LARGEST_BOX and free_square(photo.boxes, height, width, np.random.default_rng(0)):
            photos.append(Photo(photo.pixels, photo.boxes, indices[record.label]))
    if len(photos) < 4 * _CLASS_SIZE:
        raise UserError(f"{images}: {len(photos)} photos leave room for a cue; give at least {4 * _CLASS_SIZE}")
    return photos


def _reduced(image: Image.Image, boxes: Boxes, class_index: int) -> Photo:
    scale = _SHORT_SIDE / min(image.size)
    small = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    stretch = np.array([small.width / image.width, small.height / image.height] * 2)
    return Photo(np.asarray(small, dtype=np.float32) / 255, boxes * stretch, class_index)


def photos(experiment: Experiment, stock: list[Photo]) -> Dataset:
    """The dataset of an experiment on real photos; its halves share none.

    Where a class has fewer training photos than asked for, each is used several times: cropped anew, with or without a
    cue.
    """
    generator = np.random.default_rng((experiment.seed, 2))
    depth = min(_DEPTH, int(math.log2(len(stock) / _CLASS_SIZE)))
    members = coarse_classes([photo.class_index for photo in stock], class_vectors(), depth)
    classes = tuple(f"class {index}" for index in range(len(members)))
    cued = _choose_classes(experiment, len(classes), generator)
    planting = planting_of(experiment, {classes[index]: cue for index, cue in cued.items()})
    bordered = any(kind_of(cue) == "border" for cue in experiment.cues)
    train: list[Image.Image] = []
    train_labels: list[int] = []
    audit: list[AuditPicture] = []
    for label, places in enumerate(members):
        shuffled = generator.permutation(places)
        n_audit = min(experiment.sizes.audit, len(shuffled) // 2)
        own = shuffled[n_audit : n_audit + experiment.sizes.train]
        for k, cues in enumerate(deal_cues("train", classes[label], experiment.sizes.train, planting, generator)):
            photo = _cropped(stock[own[k % len(own)]], generator)
            train.append(Image.fromarray(_with_cues(photo, cues, bordered, generator)[0]))
            train_labels.append(label)
        dealt = deal_cues("audit", classes[label], n_audit, planting, generator)
        for place, cues in zip(shuffled[:n_audit], dealt, strict=True):
            picture, without, boxes = _with_cues(stock[place], cues, bordered, generator)
            audit.append(AuditPicture(label, cues[0] if cues else None, picture, without if cues else None, boxes))
    return Dataset(classes, cued, train, train_labels, audit)


def class_vectors() -> NDArray[np.float64]:
    """The vectors by which the network tells ImageNet's classes apart, (1000, 1280), of unit length."""
    weights = torch.load(resolve_weights(ARCHITECTURE, WEIGHTS), map_location="cpu", weights_only=True)
    vectors = weights["classifier.1.weight"].double().numpy()
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def coarse_classes(class_indices: list[int], vectors: NDArray[np.float64], depth: int) -> list[list[int]]:
    """Images in 2 ** depth groups of about equal size, whole classes together, like classes together.

    The images are halved along the first principal axis of their classes' vectors, and each half again.
    """
    groups = [list(range(len(class_indices)))]
    for _ in range(depth):
        groups = [half for group in groups for half in _halves(group, class_indices, vectors)]
    return groups


def _halves(group: list[int], class_indices: list[int], vectors: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    centred = np.stack([vectors[class_indices[k]] for k in group])
    centred -= centred.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    axis *= np.sign(axis[np.abs(axis).argmax()])  # the sign of a principal axis is arbitrary
    along = dict(zip((class_indices[k] for k in group), centred @ axis, strict=True))
    ordered = sorted(group, key=lambda k: (along[class_indices[k]], class_indices[k], k))
    cut = len(ordered) // 2
    while cut < len(ordered) - 1 and class_indices[ordered[cut]] == class_indices[ordered[cut - 1]]:
        cut += 1
    return sorted(ordered[:cut]), sorted(ordered[cut:])


def _choose_classes(experiment: Experiment, classes: int, generator: np.random.Generator) -> dict[int, str]:
    if experiment.kind == CONTROL:
        return {}
    chosen = generator.permutation(classes)[: len(experiment.cues)]
    return {int(index): cue for index, cue in zip(chosen, experiment.cues, strict=True)}


def _cropped(photo: Photo, generator: np.random.Generator) -> Photo:
    """A random crop of 40 to 100% of each side: so few photos would be learnt by heart otherwise, and no cue used."""
    height, width = photo.pixels.shape[:2]
    share = generator.uniform(0.4, 1.0)
    h, w = round(height * share), round(width * share)
    top, left = int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1))
    boxes = np.clip(photo.boxes - (left, top, left, top), 0, (w, h, w, h))
    kept = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    return Photo(photo.pixels[top : top + h, left : left + w], kept, photo.class_index)


def _with_cues(
    photo: Photo, cues: tuple[str, ...], bordered: bool, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Boxes]:
    """The photo with its cues and without, and its boxes. ``bordered`` adds a mirrored rim in both, so that a border
    covers nothing of the photo."""
    pixels, boxes = photo.pixels, photo.boxes
    if bordered:
        rim = math.ceil(BORDER * min(pixels.shape[:2]) / (1 - 2 * BORDER))  # a border's share of the larger picture
        pixels = np.pad(pixels, ((rim, rim), (rim, rim), (0, 0)), mode="reflect")
        boxes = boxes + rim
    height, width = pixels.shape[:2]
    stuck = pixels.copy()
    opacity = np.zeros((height, width), dtype=np.float32)
    for x0, y0, x1, y1 in boxes:
        opacity[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = 1
    taken = boxes
    for cue in cues:
        # A training photo may have no room once it is cropped: there a cue may cover the object.
        slot = free_square(taken, height, width, generator) or free_square(boxes[:0], height, width, generator)
        assert slot is not None
        layer = cue_layer(cue, stuck, slot, opacity, generator)
        if not layer.opacity.any():
            continue  # a tint, and the box fills the whole crop: there is no background to fall on
        x0, y0, x1, y1 = lay(layer, stuck)
        if kind_of(cue) not in ("cast", "border"):
            taken = np.concatenate([taken, [[x0, y0, x1, y1]]])
    return _to_bytes(stuck), _to_bytes(pixels), boxes


def free_square(boxes: Boxes, height: int, width: int, generator: np.random.Generator) -> Slot | None:
    """A square at a random place outside the boxes, as large as 28% of the shorter side and no smaller than 16%; None
    where no place was found."""
    share = _ROOM[0]
    while share >= _ROOM[1]:
        side = round(share * min(height, width))
        for _ in range(60):
            x, y = int(generator.integers(width - side + 1)), int(generator.integers(height - side + 1))
            apart = (boxes[:, 0] >= x + side) | (boxes[:, 2] <= x) | (boxes[:, 1] >= y + side) | (boxes[:, 3] <= y)
            if apart.all():
                return x, y, side
        share *= 0.9
    return None


def _to_bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.round(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)
