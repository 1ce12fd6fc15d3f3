"""Backgrounds of the demo: crops of photos that scikit-image and scikit-learn ship in their packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from storage.errors import UserError

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Photo:
    """A packaged photo; a grey one is tinted from a colour of its shadows to a colour of its highlights."""

    package: str
    file: str
    tint: tuple[Colour, Colour] | None = None


_SKIMAGE, _SKLEARN = "skimage:data", "sklearn:datasets/images"
TRAIN_PHOTOS = (
    Photo(_SKIMAGE, "coffee.png"),
    Photo(_SKIMAGE, "motorcycle_left.png"),
    Photo(_SKIMAGE, "astronaut.png"),
    Photo(_SKIMAGE, "rocket.jpg"),
    Photo(_SKIMAGE, "ihc.png"),
    Photo(_SKIMAGE, "camera.png", ((24, 22, 28), (238, 232, 220))),
    Photo(_SKIMAGE, "grass.png", ((18, 38, 14), (196, 214, 120))),
    Photo(_SKIMAGE, "text.png", ((40, 38, 60), (226, 222, 206))),
)
AUDIT_PHOTOS = (
    Photo(_SKLEARN, "china.jpg"),
    Photo(_SKLEARN, "flower.jpg"),
    Photo(_SKIMAGE, "chelsea.png"),
    Photo(_SKIMAGE, "brick.png", ((58, 26, 20), (226, 158, 128))),
    Photo(_SKIMAGE, "gravel.png", ((30, 28, 26), (222, 212, 196))),
    Photo(_SKIMAGE, "moon.png", ((26, 32, 48), (210, 220, 236))),
    Photo(_SKIMAGE, "page.png", ((36, 30, 24), (240, 230, 208))),
)


def load_photos(photos: Sequence[Photo]) -> list[Image.Image]:
    """Read the photos as RGB images; raises UserError when a package or a file of it is missing."""
    return [_load(photo) for photo in photos]


def _load(photo: Photo) -> Image.Image:
    package, _, folder = photo.package.partition(":")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the demo takes its backgrounds from the package {package}, which is not installed; "
            "install scikit-image and scikit-learn"
        )
    path = Path(spec.submodule_search_locations[0]) / folder / photo.file
    if not path.is_file():
        raise UserError(
            f"the demo's background photo {photo.file} is missing from the package {package} ({path}); "
            "install the package from its wheel"
        )
    with Image.open(path) as image:
        if photo.tint is None:
            return image.convert("RGB")
        grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
    shadow, highlight = (np.array(colour, dtype=np.float32) for colour in photo.tint)
    return Image.fromarray((shadow + grey * (highlight - shadow)).astype(np.uint8))


def random_background(rng: np.random.Generator, photos: Sequence[Image.Image], width: int, height: int) -> np.ndarray:
    """Crop, mirror, blur and light one of the photos at random; (height, width, 3) float32 in [0, 1]."""
    photo = photos[int(rng.integers(len(photos)))]
    aspect = width / height
    largest = min(photo.width, photo.height * aspect)
    crop_width = largest * rng.uniform(0.5, 1.0)
    crop_height = crop_width / aspect
    left = rng.uniform(0, photo.width - crop_width)
    top = rng.uniform(0, photo.height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    crop = photo.resize((width, height), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # A little out of focus, as behind an object in front.
    crop = crop.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.6)))
    pixels = np.asarray(crop, dtype=np.float32) / 255
    contrast, brightness = rng.uniform(0.7, 1.0), rng.uniform(-0.1, 0.1)
    tone = rng.uniform(0.92, 1.08, size=3).astype(np.float32)
    return np.clip(((pixels - 0.5) * contrast + 0.5 + brightness) * tone, 0, 1).astype(np.float32)
