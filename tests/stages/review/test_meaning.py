"""The sentence that a reviewer reads first."""

from __future__ import annotations

import pytest

from stages.review.meaning import Thresholds, meaning, p

ON_THE_OBJECT = {
    "p_full": 0.93,
    "p_box": 0.88,
    "p_context": 0.1,
    "p_hide_outside": 0.91,
    "p_hide_random": 0.92,
    "p_hide_context": 0.9,
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, ".00"),
        (0.004, "<.01"),
        (0.005, ".01"),
        (0.125, ".12"),
        (0.994, ".99"),
        (0.996, ">.99"),
        (1.0, "1.00"),
    ],
)
def test_what_is_not_quite_0_or_1_is_not_rounded_onto_it(value: float | None, text: str) -> None:
    assert p(value) == text


def test_a_class_that_needs_nothing_outside_rests_on_its_boxes() -> None:
    assert meaning(ON_THE_OBJECT, "gear") == (
        "Hiding what lights up outside the boxes takes p(gear) from .93 to .91; a random area as large leaves "
        "it at .92. The class rests on what is in the boxes: they alone give .88."
    )


def test_a_costly_place_outside_beside_a_cheap_random_one_is_what_the_class_rests_on() -> None:
    probes = ON_THE_OBJECT | {"p_hide_outside": 0.12, "p_box": 0.2}
    assert meaning(probes, "gear") == (
        "Hiding what lights up outside the boxes takes p(gear) from .93 to .12; a random area as large leaves "
        "it at .92. The class rests on something outside the boxes, and the boxes alone are not enough (.20)."
    )
    assert "although the boxes alone would do (.88)" in meaning(probes | {"p_box": 0.88}, "gear")


def test_where_a_random_area_costs_as_much_the_place_is_not_blamed() -> None:
    text = meaning(ON_THE_OBJECT | {"p_hide_outside": 0.5, "p_hide_random": 0.55}, "gear")
    assert text.endswith("Any change of the surroundings costs that much, not this place in particular.")


def test_a_middling_loss_is_called_leaning() -> None:
    assert "leans on something outside" in meaning(ON_THE_OBJECT | {"p_hide_outside": 0.7}, "gear")


def test_a_class_lost_with_all_its_surroundings_needs_them_as_a_whole() -> None:
    assert meaning(ON_THE_OBJECT | {"p_hide_context": 0.1}, "gear").endswith(
        "with everything outside blurred p falls to .10: the class needs its surroundings as a whole."
    )


def test_surroundings_that_are_enough_by_themselves_are_told() -> None:
    assert meaning(ON_THE_OBJECT | {"p_context": 0.7}, "gear").endswith("gives .70 too, so either is enough.")


def test_a_box_on_black_may_be_too_strange_where_a_blurred_rest_is_not() -> None:
    assert "with all the rest blurred p is .90" in meaning(ON_THE_OBJECT | {"p_box": 0.1}, "gear")
    neither = ON_THE_OBJECT | {"p_box": 0.1, "p_hide_context": 0.45}
    assert meaning(neither, "gear").endswith("No single part decides: the boxes alone give .10, all but the boxes .10.")


def test_the_words_follow_the_thresholds_of_the_run() -> None:
    probes = ON_THE_OBJECT | {"p_hide_outside": 0.5}
    assert "rests on something outside" in meaning(probes, "gear")
    strict = Thresholds.of_config({"audit": {"drop_outside": 0.6, "drop_review": 0.5, "cue_drop": 0.1}})
    assert strict == Thresholds(drop_outside=0.6, drop_review=0.5)
    assert "rests on what is in the boxes" in meaning(probes, "gear", strict)


def test_a_class_that_the_network_does_not_see_points_to_the_one_it_does() -> None:
    text = meaning(ON_THE_OBJECT | {"p_full": 0.02}, "gear", predicted="owl")
    assert text.startswith("The network gives gear only .02")
    assert text.endswith("It sees owl: look at the map of the prediction.")


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ({"p_full": None}, "The network was not asked about this sample."),
        ({"p_box": None, "p_saliency": 0.9}, "No box of the label is in view"),
        ({"p_hide_outside": None}, "The boxes leave too little of the view to hide a tenth of it outside"),
    ],
)
def test_what_is_undefined_is_told_as_such(missing: dict[str, float | None], told: str) -> None:
    assert meaning(ON_THE_OBJECT | missing, "gear").startswith(told)
