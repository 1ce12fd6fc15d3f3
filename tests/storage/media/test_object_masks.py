from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from storage.media.object_masks import decode_mask, encode_mask, from_runs

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=40)


@given(arrays(bool, SHAPES))
def test_a_mask_is_decoded_as_pycocotools_does(mask: np.ndarray) -> None:
    counts, (height, width) = encode_mask(mask), mask.shape
    assert np.array_equal(coco.decode({"size": [height, width], "counts": counts}), mask)
    assert np.array_equal(decode_mask(counts, width, height), mask)


@given(st.integers(1, 900), st.integers(1, 900), st.data())
def test_runs_of_thousands_of_pixels_are_decoded_too(width: int, height: int, data: st.DataObject) -> None:
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(2):
        y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        mask[y:, x:] = ~mask[y:, x:]
    assert np.array_equal(decode_mask(encode_mask(mask), width, height), mask)


def test_runs_go_down_the_columns_and_begin_outside() -> None:
    assert from_runs(np.array([1, 2, 3]), width=2, height=3).tolist() == [[False, False], [True, False], [True, False]]
    assert encode_mask(np.array([[0, 0], [1, 0], [1, 0]], dtype=bool)) == "123"


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ("122", "its runs are of 5 pixels, not of 2 x 3"),
        ("124", "its runs are of 7 pixels, not of 2 x 3"),
        ("", "no compressed run lengths"),
        ("1 2", "no compressed run lengths"),
        ("é12", "no compressed run lengths"),
        ("12o", "no compressed run lengths"),
        ("o" * 40 + "0", "no compressed run lengths"),
    ],
)
def test_what_is_no_mask_of_the_size_is_refused(counts: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decode_mask(counts, width=2, height=3)
