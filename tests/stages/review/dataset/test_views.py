"""Saved views that follow the verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stages.review.synthetic import Planted, make_run

pytestmark = pytest.mark.usefixtures("mongo")

TWO_RULES = (("relies_on_outside", "flag", 0.5), ("misses_box", "description", 0.25))
PLANTED = [
    Planted("worst.png", rules=(("relies_on_outside", "flag", 0.9), TWO_RULES[1])),
    Planted("bad.png", rules=TWO_RULES),
    Planted("fine.png"),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    from stages.review.review import load

    return load(make_run(tmp_path, PLANTED, name=tmp_path.name))


def shown(dataset: Any, view: str) -> list[str]:
    return list(dataset.load_saved_view(view).values("sample_key"))


def test_what_is_not_reviewed_yet_gets_less_with_each_verdict(dataset: Any):
    from stages.review.dataset.verdict_fields import give, withdraw

    assert shown(dataset, "Not reviewed yet") == ["worst.png", "bad.png"]
    given = give(dataset, "worst.png", rule="misses_box", verdict="unsure", reviewer="ann")
    assert shown(dataset, "Not reviewed yet") == ["bad.png"]
    withdraw(dataset, given)
    assert shown(dataset, "Not reviewed yet") == ["worst.png", "bad.png"]


def test_reviewers_disagree_only_about_one_and_the_same_finding(dataset: Any):
    from stages.review.dataset.verdict_fields import give

    def say(reviewer: str, rule: str, verdict: str) -> list[str]:
        give(dataset, "bad.png", rule=rule, verdict=verdict, reviewer=reviewer)
        return shown(dataset, "Reviewers disagree")

    assert say("ann", "relies_on_outside", "confirmed") == []
    # Another finding of the same sample, and the same verdict on the same finding, are no disagreement.
    assert say("bob", "misses_box", "false_alarm") == []
    assert say("bob", "relies_on_outside", "confirmed") == []
    assert say("bob", "relies_on_outside", "false_alarm") == ["bad.png"]
    assert say("ann", "relies_on_outside", "false_alarm") == []
    assert say("cem", "misses_box", "unsure") == ["bad.png"]


def test_a_rules_view_is_about_its_finding(dataset: Any):
    from stages.review.dataset.views import rule_shown

    found = ["relies_on_outside", "misses_box"]
    assert rule_shown(dataset.load_saved_view("Misses box (2)"), found) == "misses_box"
    assert rule_shown(dataset.load_saved_view("Everything, worst first (3)"), found) is None


def test_views_that_did_not_change_are_not_saved_again(tmp_path: Path):
    from stages.review.review import load

    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    before = {str(view.id) for view in load(run)._doc.saved_views}
    assert {str(view.id) for view in load(run)._doc.saved_views} == before
    # What somebody changed in one of ours is put right.
    dataset = load(run)
    dataset.save_view("Misses box (2)", dataset.limit(1), overwrite=True)
    dataset = load(run)
    assert shown(dataset, "Misses box (2)") == ["worst.png", "bad.png"]


def test_a_comparison_is_two_views_of_what_was_fixed_and_what_broke(dataset: Any):
    from stages.review.dataset.views import compared_run, drop_comparisons, save_comparison

    broken, fixed = save_comparison(dataset, "old", "/runs/old", fixed={"fine.png"}, broken={"worst.png", "bad.png"})
    assert (broken, fixed) == ("Broken since old (2)", "Fixed since old (1)")
    assert shown(dataset, broken) == ["worst.png", "bad.png"]
    assert shown(dataset, fixed) == ["fine.png"]
    assert compared_run(dataset.load_saved_view(fixed)) == "/runs/old"
    assert compared_run(dataset.load_saved_view("Misses box (2)")) is None
    save_comparison(dataset, "older", "/runs/older", fixed={"fine.png"}, broken=())
    save_comparison(dataset, "old", "/runs/old", fixed={"fine.png"}, broken=())
    assert sorted(name for name in dataset.list_saved_views() if "since" in name) == [
        "Broken since old (0)",
        "Broken since older (0)",
        "Fixed since old (1)",
        "Fixed since older (1)",
    ]
    drop_comparisons(dataset)
    assert not [name for name in dataset.list_saved_views() if "since" in name]
