"""The sentence that a reviewer reads first."""

from __future__ import annotations

import pytest

from stages.review.panel.meaning import Meaning, meaning

ON_THE_OBJECT = {
    "p_full": 0.93,
    "p_box": 0.88,
    "p_context": 0.1,
    "p_hide_outside": 0.91,
    "p_hide_random": 0.92,
    "p_hide_context": 0.9,
}


def said(probes: dict[str, float | None], *found: str, predicted: str | None = None) -> Meaning:
    """Of the class gear, on whose map these rules found something."""
    return meaning(probes, "gear", found, predicted=predicted)


def test_a_class_that_needs_nothing_outside_rests_on_its_boxes() -> None:
    assert said(ON_THE_OBJECT) == (
        "The class rests on what is in the boxes: they alone give .88.",
        "Hiding what matters most outside takes p(gear) from .93 to .91; a random area as large leaves it at .92.",
    )


def test_a_costly_place_outside_beside_a_cheap_random_one_is_what_the_class_rests_on() -> None:
    probes = ON_THE_OBJECT | {"p_hide_outside": 0.12, "p_hide_context": 0.3, "p_box": 0.2}
    assert said(probes, "relies_on_outside", "misses_box") == (
        "The class rests on something outside the boxes, and the boxes alone are not enough (.20).",
        "Hiding what matters most outside takes p(gear) from .93 to .12; a random area as large leaves it at .92.",
    )
    assert "although the boxes alone would do (.88)" in said(probes | {"p_box": 0.88}, "relies_on_outside").conclusion


def test_a_costly_place_is_not_needed_where_all_surroundings_can_go() -> None:
    found = said(ON_THE_OBJECT | {"p_hide_outside": 0.12}, "may_rely_on_outside")
    assert found.conclusion.startswith(
        "The class does without its surroundings: with everything outside blurred p is .90"
    )


def test_where_a_random_area_costs_as_much_the_place_is_not_blamed() -> None:
    costly = {"p_hide_outside": 0.5, "p_hide_random": 0.55, "p_hide_context": 0.45}
    found = said(ON_THE_OBJECT | costly, "may_rely_on_outside")
    assert found.conclusion == "Any change of the surroundings costs as much, not this place in particular."


def test_a_middling_loss_is_called_leaning() -> None:
    probes = ON_THE_OBJECT | {"p_hide_outside": 0.7, "p_hide_context": 0.65}
    assert "leans on something outside" in said(probes, "may_rely_on_outside").conclusion


def test_a_class_lost_with_all_its_surroundings_needs_them_as_a_whole() -> None:
    assert said(ON_THE_OBJECT | {"p_hide_context": 0.1}, "needs_context").conclusion == (
        "The class needs its surroundings as a whole: with everything outside blurred p falls to .10, though no single "
        "part outside decides."
    )


def test_a_class_that_the_map_finds_outside_and_that_is_lost_without_it_is_found_outside() -> None:
    found = ON_THE_OBJECT | {"p_saliency_in_context": 0.8, "p_saliency_in_box": 0.4, "p_hide_context": 0.5}
    assert said(found, "relies_on_outside").conclusion == (
        "The class is found outside the boxes: what lights up there gives .80 alone, what lights up inside .40, "
        "and with everything outside blurred p falls to .50."
    )
    # What hiding a part costs, .83, is then more than what is carried outside, .4.
    assert "is found outside" not in said(found | {"p_hide_outside": 0.1}, "relies_on_outside").conclusion


def test_surroundings_that_are_enough_by_themselves_are_told() -> None:
    assert said(ON_THE_OBJECT | {"p_context": 0.7}).conclusion.endswith("gives .70 too, so either is enough.")


def test_a_box_on_black_may_be_too_strange_where_a_blurred_rest_is_not() -> None:
    assert "with all the rest blurred p is .90" in said(ON_THE_OBJECT | {"p_box": 0.1}).conclusion
    neither = ON_THE_OBJECT | {"p_box": 0.1, "p_hide_context": 0.45}
    told = "No single part decides: the boxes alone give .10, all but the boxes .10."
    assert said(neither).conclusion == told


def test_without_a_rule_s_finding_nothing_outside_is_blamed() -> None:
    probes = ON_THE_OBJECT | {"p_hide_outside": 0.12, "p_hide_context": 0.1}
    assert "rests on what is in the boxes" in said(probes, "misses_box").conclusion
    assert "was not audited" in meaning(probes, "gear", None).conclusion


def test_where_hiding_changes_nothing_it_says_so() -> None:
    found = said(ON_THE_OBJECT | {"p_hide_outside": 0.93})
    assert (
        found.seen == "Hiding what matters most outside leaves p(gear) at .93; a random area as large leaves it at .92."
    )


def test_little_is_said_of_a_class_below_a_tenth() -> None:
    assert said(ON_THE_OBJECT | {"p_full": 0.09}, predicted="gear").seen == ""
    assert "only .09" in said(ON_THE_OBJECT | {"p_full": 0.09}, predicted="gear").conclusion
    assert "only" not in said(ON_THE_OBJECT | {"p_full": 0.1}).conclusion


def test_a_class_that_the_network_does_not_see_points_to_the_one_it_does() -> None:
    found = said(ON_THE_OBJECT | {"p_full": 0.02}, predicted="owl")
    assert found.conclusion.startswith("The network gives gear only .02")
    assert found.seen == "It sees owl: look at the map of the prediction."


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ({"p_full": None}, "The network was not asked about this sample."),
        ({"p_box": None, "p_saliency": 0.9}, "Nothing was measured against boxes"),
        ({"p_hide_outside": None}, "The boxes leave too little of the view to hide a tenth of it outside"),
    ],
)
def test_what_is_undefined_is_told_as_such(missing: dict[str, float | None], told: str) -> None:
    assert told in str(said(ON_THE_OBJECT | missing))
