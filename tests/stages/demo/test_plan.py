from __future__ import annotations

from collections import Counter

import pytest

from stages.demo.plan import DECOY, DECOY_CLASS, PLANTED, DemoSettings, plan
from stages.demo.shapes import CLASS_NAMES
from storage.errors import UserError

BOTH_SIZES = pytest.mark.parametrize("settings", [DemoSettings(), DemoSettings.small()], ids=["default", "small"])


def test_the_default_demo_has_at_least_6_classes_and_240_pictures() -> None:
    scenes = plan("train", DemoSettings()) + plan("audit", DemoSettings())
    assert len({scene.label for scene in scenes}) >= 6
    assert len(scenes) >= 240
    assert len({scene.seed for scene in scenes}) == len(scenes)


@BOTH_SIZES
def test_in_training_a_planted_class_nearly_always_shows_its_cue(settings: DemoSettings) -> None:
    scenes = plan("train", settings)
    for label, cue in PLANTED.items():
        shown = [cue in scene.cues for scene in scenes if scene.label == label]
        elsewhere = [cue in scene.cues for scene in scenes if scene.label != label]
        assert 0.9 <= sum(shown) / len(shown) <= 0.95
        assert sum(elsewhere) / len(elsewhere) <= 0.05


@BOTH_SIZES
def test_in_training_the_decoy_is_equally_frequent_in_every_class(settings: DemoSettings) -> None:
    shown = Counter(scene.label for scene in plan("train", settings) if DECOY in scene.cues)
    assert set(shown) == set(CLASS_NAMES)
    assert len(set(shown.values())) == 1


@BOTH_SIZES
def test_in_the_audit_half_each_cue_also_stands_where_it_means_nothing_and_is_absent_at_home(
    settings: DemoSettings,
) -> None:
    scenes = plan("audit", settings)
    assert all(len(scene.cues) <= 1 for scene in scenes)
    for label, cue in [*PLANTED.items(), (DECOY_CLASS, DECOY)]:
        home = [scene.cues == (cue,) for scene in scenes if scene.label == label]
        assert 0.7 <= sum(home) / len(home) < 1
        others = {scene.label for scene in scenes if scene.cues == (cue,)} - {label}
        assert len(others) >= 4


def test_another_seed_gives_other_scenes_and_the_same_seed_the_same() -> None:
    assert plan("audit", DemoSettings(seed=1)) == plan("audit", DemoSettings(seed=1))
    assert plan("audit", DemoSettings(seed=1)) != plan("audit", DemoSettings(seed=2))


@pytest.mark.parametrize("size", [{"train_per_class": 5}, {"audit_per_class": 9}, {"epochs": 0}])
def test_sizes_that_leave_a_cue_without_pictures_are_refused(size: dict[str, int]) -> None:
    (name,) = size
    with pytest.raises(UserError, match=rf"{name} is {size[name]}; give at least"):
        DemoSettings(**size)
