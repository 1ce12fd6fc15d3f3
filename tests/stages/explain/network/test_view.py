import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from stages.explain.network.view import ViewSettings, render_view

SIDE = st.integers(1, 90)
FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def uint8(image):
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("interpolation", FILTERS)
@settings(max_examples=60, deadline=None)
@given(width=SIDE, height=SIDE, size=st.integers(8, 40), more=st.integers(0, 20))
@example(width=500, height=375, size=224, more=32)
@example(width=375, height=500, size=224, more=32)
@example(width=1, height=700, size=32, more=1)
def test_resize_crop_is_torchvision_s_resize_and_centre_crop(interpolation, width, height, size, more):
    image = picture(width, height)
    view = ViewSettings("resize_crop", size=size, resize=size + more, interpolation=interpolation)
    reference = transforms.Compose(
        [transforms.Resize(size + more, FILTERS[interpolation]), transforms.CenterCrop(size)]
    )
    np.testing.assert_array_equal(render_view(image, view), uint8(reference(image)))


@pytest.mark.parametrize("interpolation", FILTERS)
@settings(max_examples=30, deadline=None)
@given(width=SIDE, height=SIDE, size=st.integers(8, 40))
@example(width=500, height=375, size=224)
def test_squash_is_torchvision_s_resize_to_a_square(interpolation, width, height, size):
    image = picture(width, height)
    reference = transforms.Resize((size, size), FILTERS[interpolation])
    rendered = render_view(image, ViewSettings("squash", size=size, interpolation=interpolation))
    np.testing.assert_array_equal(rendered, uint8(reference(image)))


def test_an_image_of_the_view_s_size_is_left_as_it_is():
    image = picture(32, 32)
    np.testing.assert_array_equal(render_view(image, ViewSettings(size=32)), uint8(image))


def test_a_view_is_contiguous_bytes_of_three_planes():
    view = render_view(picture(50, 40), ViewSettings(size=32))
    assert view.shape == (3, 32, 32)
    assert view.dtype == np.uint8
    assert view.flags.c_contiguous
    torch.from_numpy(view)  # writable: no warning


def test_a_box_of_one_colour_is_found_where_the_transform_says_it_is():
    image = Image.new("RGB", (200, 100))
    image.paste((255, 0, 0), (80, 20, 120, 60))
    for settings_ in (ViewSettings(size=64), ViewSettings("resize_crop", size=64, resize=80)):
        x0, y0, x1, y1 = settings_.transform(200, 100).boxes_to_view([[80, 20, 120, 60]])[0]
        red = render_view(image, settings_)[0] > 127
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(found, [x0, y0, x1, y1], rtol=0, atol=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 4}, "size is 4 px"),
        ({"geometry": "resize_crop", "size": 64, "resize": 60}, "smaller than the crop"),
        ({"geometry": "auto", "size": 64}, "geometry auto takes size, resize and interpolation from the weights"),
    ],
)
def test_views_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViewSettings(**wrong)
