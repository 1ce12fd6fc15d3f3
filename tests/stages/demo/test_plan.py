from __future__ import annotations

from collections import Counter

import pytest

from stages.demo.plan import DECOY, DECOY_CLASS, PLANTED, DemoSettings, Planting, plan
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


@pytest.mark.parametrize("strength", [0.5, 0.8, 0.95])
def test_the_strength_of_a_correlation_is_the_share_of_training_pictures_with_the_cue(strength: float) -> None:
    planting = Planting(planted={"star": "frame_wood"}, train_home=strength)
    scenes = plan("train", DemoSettings(train_per_class=40), planting)
    shown = Counter(scene.label for scene in scenes if scene.cues)
    assert shown == {label: round(strength * 40) if label == "star" else 2 for label in CLASS_NAMES}


def test_cues_that_are_all_decoys_are_equally_frequent_in_every_class_of_both_halves() -> None:
    planting = Planting(planted={}, decoys=("sticker", "cast_warm"), train_decoy=0.2, audit_decoy=0.2)
    for half, n in (("train", 30), ("audit", 10)):
        scenes = plan(half, DemoSettings(train_per_class=30, audit_per_class=10), planting)
        shown = Counter((scene.label, cue) for scene in scenes for cue in scene.cues)
        assert shown == {(label, cue): n / 5 for label in CLASS_NAMES for cue in ("sticker", "cast_warm")}
