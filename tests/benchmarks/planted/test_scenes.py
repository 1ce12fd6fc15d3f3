"""Experiments on generated pictures of all classes and of few."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.planted.plan import CONTROL, QUICK, Experiment, experiments
from benchmarks.planted.scenes import scenes

DOUBLES = ({"gear", "sawblade"}, {"star", "starfish"})


def of(kind: str, classes: int) -> Experiment:
    found = next(one for one in experiments(11, "scenes", QUICK) if (one.kind, one.classes) == (kind, classes))
    return replace(found, sizes=replace(QUICK, train=10, audit=10))


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_hold_a_pair_of_doubles(classes: int) -> None:
    dataset = scenes(of(CONTROL, classes))
    assert len(dataset.classes) == classes
    assert any(pair <= {*dataset.classes} for pair in DOUBLES)
    assert dataset.cued == {}
    assert {picture.label for picture in dataset.audit} == {*dataset.train_labels} == {*range(classes)}


def test_the_cue_of_two_classes_stands_on_one_of_them() -> None:
    dataset = scenes(of("sticker", 2))
    ((label, cue),) = dataset.cued.items()
    shown = [picture.label for picture in dataset.audit if picture.cue == cue]
    assert shown.count(label) == 8  # .8 of 10
    assert shown.count(1 - label) == 1
