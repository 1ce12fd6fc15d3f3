"""What is inside and outside the object is said by its mask, where the sample has one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD
from stages.explain.network.view import render_view
from stages.explain.opticam.blur import blur
from storage.media.object_masks import encode_mask
from tests.stages.explain.networks import tiny
from tests.stages.explain.shards import VIEW, edited, explain, maps_by_key, picture, rows_by_key, samples_of

# An L in the 40 x 30 px of the pictures, whose box is that of the samples: (5, 5, 25, 20).
MASK = np.zeros((30, 40), dtype=bool)
MASK[5:20, 5:10] = True
MASK[15:20, 5:25] = True
FILLED = np.zeros((30, 40), dtype=bool)
FILLED[5:20, 5:25] = True
KEY = ("1.png", "label")


def masked(images, mask):
    return edited(samples_of(images, range(3)), 1, mask=encode_mask(mask), width=40, height=30)


@pytest.fixture(scope="module")
def boxed(images, tmp_path_factory):
    return explain(str(tmp_path_factory.mktemp("boxed")), samples_of(images, range(3)))[0]


@pytest.fixture(scope="module")
def with_mask(images, tmp_path_factory):
    return explain(str(tmp_path_factory.mktemp("masked")), masked(images, MASK))[0]


def test_the_probes_keep_and_hide_what_the_mask_says(with_mask):
    row, network = rows_by_key(with_mask)[KEY], tiny()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    view = torch.from_numpy(render_view(picture(1), VIEW))[None] / 255
    # 32 px of the view are 40 and 30 of the image: the mask's share of each is a mean over tiles of 4 x 15 copies.
    fine = np.kron(MASK, np.ones((32, 32)))
    inside = torch.from_numpy(fine.reshape(32, 30, 32, 40).mean(axis=(1, 3))).float()
    seen = {
        "p_box": view * inside,
        "p_context": view * (1 - inside),
        "p_hide_context": view * inside + blur(view) * (1 - inside),
        "p_hide_context_neutral": view * inside + mean * (1 - inside),
    }
    for name, shown in seen.items():
        with torch.no_grad():
            p = network((shown - mean) / std).softmax(1)[0, 1].item()
        assert row[name] == pytest.approx(p, rel=1e-4), name


def test_a_mask_that_fills_its_box_gives_what_the_box_gives(images, tmp_path, boxed):
    run, _ = explain(str(tmp_path), masked(images, FILLED))
    for key, row in rows_by_key(boxed).items():
        for name, value in rows_by_key(run)[key].items():
            assert value == (pytest.approx(row[name], rel=1e-5) if isinstance(value, float) else row[name]), (key, name)


def test_an_object_less_than_its_box_has_more_outside(boxed, with_mask):
    before, after = rows_by_key(boxed), rows_by_key(with_mask)
    names = ("p_box", "p_context", "p_saliency_in_box", "p_hide_context", "p_hide_context_neutral")
    assert all(before[KEY][name] != after[KEY][name] for name in names)
    others = [key for key in before if key[0] != "1.png"]
    assert [after[key] for key in others] == [before[key] for key in others]


def test_a_new_mask_makes_the_probes_again_and_no_map(images, tmp_path, boxed, with_mask):
    samples = samples_of(images, range(3))
    run, _ = explain(str(tmp_path), samples)
    run, reports = explain(str(tmp_path), masked(images, MASK))
    assert len(reports) == 1
    assert rows_by_key(run) == rows_by_key(with_mask)
    assert maps_by_key(run) == maps_by_key(boxed)
    assert explain(str(tmp_path), masked(images, MASK))[1] == []
    run, _ = explain(str(tmp_path), samples)
    assert rows_by_key(run) == rows_by_key(boxed)
