from __future__ import annotations

from importlib.metadata import files

import numpy as np
import pytest

from stages.demo.photos import AUDIT_PHOTOS, TRAIN_PHOTOS, Photo, load_photos, random_background
from storage.errors import UserError

DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def scene_of(photo: Photo) -> str:
    """The photographed scene; left and right views of a stereo pair show the same one."""
    return photo.file.partition(".")[0].removesuffix("_left").removesuffix("_right")


def test_the_halves_share_no_background_photo() -> None:
    assert not {scene_of(photo) for photo in TRAIN_PHOTOS} & {scene_of(photo) for photo in AUDIT_PHOTOS}


@pytest.mark.parametrize("photo", TRAIN_PHOTOS + AUDIT_PHOTOS, ids=lambda photo: photo.file)
def test_every_photo_ships_inside_its_package(photo: Photo) -> None:
    package, _, folder = photo.package.partition(":")
    shipped = files(DISTRIBUTIONS[package])
    assert shipped is not None
    assert f"{package}/{folder}/{photo.file}" in {path.as_posix() for path in shipped}


def test_a_tint_maps_black_and_white_to_its_two_colours() -> None:
    photo = Photo("skimage:data", "chessboard_GRAY.png", ((10, 20, 30), (200, 210, 220)))  # black to white
    (image,) = load_photos([photo])
    assert image.getextrema() == ((10, 200), (20, 210), (30, 220))


def test_a_background_has_the_asked_size_and_range() -> None:
    background = random_background(np.random.default_rng(3), load_photos(TRAIN_PHOTOS[:1]), 321, 200)
    assert background.shape == (200, 321, 3)
    assert background.dtype == np.float32
    assert 0 <= background.min() < background.max() <= 1


def test_a_missing_photo_names_the_file_and_the_package() -> None:
    with pytest.raises(UserError, match=r"unicorn\.png is missing from the package skimage"):
        load_photos([Photo("skimage:data", "unicorn.png")])
    with pytest.raises(UserError, match="no_such_package, which is not installed"):
        load_photos([Photo("no_such_package:data", "coffee.png")])
