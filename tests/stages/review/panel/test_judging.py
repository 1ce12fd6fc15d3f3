"""Verdicts as the panel gives them: whose, on what, and taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.review.app.collect import collect_from
from stages.review.panel.judging import (
    as_json,
    findings_to_judge,
    judge,
    of_json,
    remember_reviewer,
    reviewer_name,
    take_back,
)
from stages.review.panel.portrait import findings_of
from stages.review.review import load
from stages.review.settings import ReviewSettings
from stages.review.verdicts.table import read_reviews
from storage.errors import UserError
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run

pytestmark = pytest.mark.usefixtures("mongo")

BOTH = Planted("both.png", rules=(("misses_box", "description", 0.9), ("relies_on_outside", "evidence", 0.5)))
ONE = Planted("one.png", rules=(("misses_box", "description", 0.4),))
CALM = Planted("calm.png")


@pytest.fixture
def loaded(tmp_path: Path) -> tuple[Any, Run]:
    run = make_run(tmp_path, [BOTH, ONE, CALM], name=tmp_path.name)
    return load(run, ReviewSettings()), run


def said(dataset: Any) -> dict[str, list[tuple[str, str, str]]]:
    return {
        sample["sample_key"]: [(one.rule, one.verdict, one.reviewer) for one in sample["verdicts"] or ()]
        for sample in dataset
    }


def test_a_verdict_is_on_the_worst_finding_of_each_sample(loaded: tuple[Any, Run]) -> None:
    dataset, _ = loaded
    judged = judge(dataset, dataset, "confirmed", reviewer="ann", note="the tripod")
    assert {(one.review.sample_id, one.review.rule) for one in judged} == {
        ("both.png", "relies_on_outside"),  # evidence, though less severe
        ("one.png", "misses_box"),
    }
    assert {one.review.note for one in judged} == {"the tripod"}
    assert said(dataset)["calm.png"] == []


def test_or_on_the_finding_that_is_named(loaded: tuple[Any, Run]) -> None:
    dataset, _ = loaded
    judge(dataset, dataset, "false_alarm", reviewer="ann", rule="misses_box")
    assert said(dataset) == {
        "both.png": [("misses_box", "false_alarm", "ann")],
        "one.png": [("misses_box", "false_alarm", "ann")],
        "calm.png": [],
    }


@pytest.mark.parametrize(
    ("keys", "rule", "told"),
    [
        (["calm.png"], None, "calm.png has no finding to judge"),
        (["one.png"], "relies_on_outside", "one.png has no finding relies_on_outside to judge"),
        (["one.png", "calm.png"], "relies_on_outside", "none of the 2 samples has a finding relies_on_outside"),
    ],
)
def test_nothing_to_judge_is_told(loaded: tuple[Any, Run], keys: list[str], rule: str | None, told: str) -> None:
    dataset, _ = loaded
    with pytest.raises(UserError, match=told):
        judge(dataset, dataset.select_by("sample_key", keys), "unsure", reviewer="ann", rule=rule)


def test_what_was_said_before_comes_back_with_undo(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.one({"sample_key": "one.png"})
    (first,) = judge(dataset, [sample], "confirmed", reviewer="ann")
    judge(dataset, [sample], "unsure", reviewer="bob")
    (second,) = judge(dataset, [sample], "false_alarm", reviewer="ann")
    # The browser keeps what can be taken back.
    take_back(dataset, run, of_json(json.loads(json.dumps(as_json(second)))))
    assert sorted(said(dataset)["one.png"]) == [("misses_box", "confirmed", "ann"), ("misses_box", "unsure", "bob")]
    take_back(dataset, run, of_json(as_json(first)))
    assert said(dataset)["one.png"] == [("misses_box", "unsure", "bob")]
    collect_from(dataset, run)
    assert [(one.verdict, one.reviewer) for one in read_reviews(run)] == [("unsure", "bob")]


def test_what_others_have_stored_is_no_hindrance_to_undo(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.match({"sample_key": "one.png"})
    judge(dataset, sample, "unsure", reviewer="bob")
    collect_from(dataset, run)
    (judged,) = judge(dataset, dataset.match({"sample_key": "one.png"}), "confirmed", reviewer="ann")
    take_back(dataset, run, judged)
    assert said(dataset)["one.png"] == [("misses_box", "unsure", "bob")]


def test_what_the_run_has_stored_cannot_be_taken_back_to_nothing(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    (judged,) = judge(dataset, dataset.match({"sample_key": "one.png"}), "confirmed", reviewer="ann")
    collect_from(dataset, run)
    with pytest.raises(UserError, match="stored in the run already"):
        take_back(dataset, run, judged)
    assert said(dataset)["one.png"] == [("misses_box", "confirmed", "ann")]


def test_the_findings_to_judge_carry_reasons_and_what_was_said(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.one({"sample_key": "both.png"})
    judge(dataset, [sample], "fix_label", reviewer="ann", label="owl")
    first, second = findings_to_judge(sample, findings_of(run, "both.png", "opti_cam"))
    assert (first["rule"], first["reason"], first["severity"]) == (
        "relies_on_outside",
        "because of relies_on_outside",
        ".50",
    )
    assert first["verdicts"] == [{"verdict": "fix_label", "reviewer": "ann", "note": None, "label": "owl"}]
    assert (second["rule"], second["verdicts"]) == ("misses_box", [])


def test_the_reviewer_is_named_remembered_or_the_systems_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("SIGHTLINE_REVIEWER", raising=False)
    monkeypatch.setenv("LOGNAME", "login")
    assert reviewer_name() == "login"
    remember_reviewer("  Ann   Lee ")
    assert reviewer_name() == "Ann Lee"
    monkeypatch.setenv("SIGHTLINE_REVIEWER", "bob")
    assert reviewer_name() == "bob"
    with pytest.raises(UserError, match="SIGHTLINE_REVIEWER says who reviews"):
        remember_reviewer("Ann Lee")
    monkeypatch.delenv("SIGHTLINE_REVIEWER")
    with pytest.raises(UserError, match="needs a name"):
        remember_reviewer("  ")
    assert reviewer_name() == "Ann Lee"
