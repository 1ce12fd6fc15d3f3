"""Other classes' objects are neither inside nor outside: what the network is shown, against the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import stages.explain.plan as plan_module
from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD
from stages.explain.network.view import render_view
from stages.explain.opticam.blur import blur
from stages.masks import NEAR
from tests.stages.explain.networks import tiny
from tests.stages.explain.shards import VIEW, edited, explain, maps_by_key, picture, rows_by_key, samples_of

OWN = (5, 5, 25, 20)
DOG = (0, 12, 40, 30)  # covers the lower part of the own box, which stays the sample's
KEY = ("1.png", "label")


def with_dog(images):
    named = [(OWN, None), (DOG, "dog")]
    boxes = [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)) | {"label": label} for box, label in named]
    return edited(samples_of(images, range(3)), 1, boxes=boxes)


@pytest.fixture(scope="module")
def plain(images, tmp_path_factory):
    return explain(str(tmp_path_factory.mktemp("plain")), samples_of(images, range(3)))[0]


def share(fine):
    """32 px of the view are 40 and 30 of the image."""
    return torch.from_numpy(np.kron(fine, np.ones((32, 32))).reshape(32, 30, 32, 40).mean(axis=(1, 3))).float()


def test_a_probe_that_keeps_a_part_does_not_keep_them_and_one_that_hides_does_not_hide_them(images, tmp_path, plain):
    run, _ = explain(str(tmp_path), with_dog(images))
    row, network = rows_by_key(run)[KEY], tiny()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    view = torch.from_numpy(render_view(picture(1), VIEW))[None] / 255
    own, dog = np.zeros((30, 40), dtype=bool), np.zeros((30, 40), dtype=bool)
    own[OWN[1] : OWN[3], OWN[0] : OWN[2]] = True
    dog[DOG[1] : DOG[3], DOG[0] : DOG[2]] = True
    inside, theirs, rest = share(own), share(dog & ~own), share(~dog & ~own)
    near = torch.from_numpy(ndimage.maximum_filter(inside.numpy(), 2 * NEAR + 1, mode="constant") > 1e-6)
    blurred = blur(view)
    seen = {
        "p_box": view * inside,
        "p_context": view * rest,
        "p_hide_context": view * (inside + theirs) + blurred * rest,
        "p_hide_context_neutral": view * (inside + theirs) + mean * rest,
        "p_hide_far": torch.where(near, view, view * theirs + blurred * (1 - theirs)),
    }
    for name, shown in seen.items():
        with torch.no_grad():
            p = network((shown - mean) / std).softmax(1)[0, 1].item()
        assert row[name] == pytest.approx(p, rel=1e-4), name
    before, after = rows_by_key(plain), rows_by_key(run)
    assert maps_by_key(run) == maps_by_key(plain)
    assert [after[key] for key in before if key[0] != "1.png"] == [before[key] for key in before if key[0] != "1.png"]
    kept = ("p_full", "p_saliency", "p_box", "p_saliency_in_box", "p_hide_inside", "p_crop")
    assert [row[name] for name in kept] == [before[KEY][name] for name in kept]


def test_only_shards_with_other_classes_objects_depend_on_what_probes_do_with_them(images, tmp_path, monkeypatch):
    alone, beside = samples_of(images, range(3)), with_dog(images)
    explain(str(tmp_path / "a"), alone)
    explain(str(tmp_path / "b"), beside)
    monkeypatch.setattr(plan_module, "OTHERS_VERSION", plan_module.OTHERS_VERSION + 1)
    assert explain(str(tmp_path / "a"), alone)[1] == []
    assert len(explain(str(tmp_path / "b"), beside)[1]) == 1
