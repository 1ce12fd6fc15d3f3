from __future__ import annotations

from benchmarks.planted.plan import (
    CONTROL,
    DEVELOPMENT_SEEDS,
    REPORT_SEEDS,
    Experiment,
    Sizes,
    experiments,
    quick_experiment,
)

SOURCES = ("scenes", "photos")


def planned(seeds: tuple[int, ...]) -> list[Experiment]:
    return [one for seed in seeds for source in SOURCES for one in experiments(seed, source, Sizes())]


def test_development_and_report_share_no_seed_and_no_cue() -> None:
    assert not set(DEVELOPMENT_SEEDS) & set(REPORT_SEEDS)
    development, report = planned(DEVELOPMENT_SEEDS), planned(REPORT_SEEDS)
    assert not {one.seed for one in development} & {one.seed for one in report}
    assert not {cue for one in development for cue in one.cues} & {cue for one in report for cue in one.cues}
    assert quick_experiment("scenes").seed in {one.seed for one in development}


def test_a_master_seed_covers_every_kind_strength_and_number_of_classes_and_a_control() -> None:
    for seed in (*DEVELOPMENT_SEEDS, *REPORT_SEEDS):
        own = experiments(seed, "scenes", Sizes())
        assert {one.kind for one in own} == {"sticker", "text", "companion", "cast", "border", CONTROL}
        assert {one.strength for one in own if one.kind != CONTROL} == {0.5, 0.8, 0.95}
        assert {len(one.cues) for one in own if one.kind != CONTROL} == {1, 2}
        assert sorted(one.classes for one in own if one.kind == CONTROL) == [2, 3, 8]
        assert {one.kind for one in own if one.classes == 2} == {one.kind for one in own}
        assert len({one.seed for one in own}) == len({one.name for one in own}) == len(own)


def test_the_same_seed_plans_the_same_and_another_one_others() -> None:
    assert experiments(11, "scenes", Sizes()) == experiments(11, "scenes", Sizes())
    assert not {one.seed for one in experiments(11, "scenes", Sizes())} & {
        one.seed for one in experiments(12, "scenes", Sizes())
    }
    assert not {one.seed for one in experiments(11, "scenes", Sizes())} & {
        one.seed for one in experiments(11, "photos", Sizes())
    }
