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
    "p_hide_context_neutral": 0.85,
    "p_hide_far": 0.92,
    "p_transplant": 0.06,
    "p_transplant_null": 0.05,
}


def said(probes: dict[str, float | None], *found: str, predicted: str | None = None) -> Meaning:
    """Of the class gear, on whose map these rules found something."""
    return meaning(probes, "gear", found, predicted=predicted)


def test_a_class_that_needs_nothing_outside_rests_on_its_boxes() -> None:
    assert said(ON_THE_OBJECT) == (
        "The class rests on what is in the boxes: they alone give .88.",
        "Hiding what matters most outside takes p(gear) from .93 to .91; a random area as large leaves it at .92.",
    )


def test_a_flag_says_what_the_class_is_without_its_surroundings_and_they_without_it() -> None:
    probes = {"p_hide_context_neutral": 0.1, "p_hide_far": 0.2, "p_transplant": 0.8, "p_hide_outside": 0.12}
    assert said(ON_THE_OBJECT | probes, "relies_on_outside", "misses_box") == (
        "The class rests on its surroundings: without them p is .10 (one colour) or .20 (blurred), and objects of "
        "other classes have .80 of it in them, .05 alone.",
        "Hiding what matters most outside takes p(gear) from .93 to .12; a random area as large leaves it at .92.",
    )


def test_what_is_worth_less_than_a_flag_needs_is_called_leaning() -> None:
    probes = {"p_hide_context_neutral": 0.5, "p_transplant": 0.3}
    assert said(ON_THE_OBJECT | probes, "may_rely_on_outside").conclusion.startswith(
        "The class leans on its surroundings: without them p is .50"
    )


def test_a_class_lost_with_its_surroundings_that_they_do_not_give_needs_them() -> None:
    assert said(ON_THE_OBJECT | {"p_hide_context": 0.1}, "needs_context").conclusion == (
        "The class needs its surroundings: with everything outside blurred p falls to .10. They do not give it to "
        "objects of other classes."
    )


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
