"""Verdicts as the panel gives them: whose, on what, and taken back."""

from __future__ import annotations

import errno
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stages.review.app.collect import collect_from
from stages.review.dataset import verdict_fields
from stages.review.dataset.verdict_fields import give
from stages.review.panel.judging import (
    as_json,
    findings_to_judge,
    judge,
    of_json,
    progress,
    remember_reviewer,
    reviewer_name,
    take_back,
    whole_cue,
)
from stages.review.panel.portrait import findings_of
from stages.review.review import load
from stages.review.settings import ReviewSettings
from stages.review.verdicts.table import now, read_reviews, standing
from storage.errors import UserError
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run, write_cues

pytestmark = pytest.mark.usefixtures("mongo")

BOTH = Planted("both.png", rules=(("misses_box", "description", 0.9), ("relies_on_outside", "flag", 0.5)))
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
    dataset, run = loaded
    judged = judge(dataset, run, dataset, "confirmed", reviewer="ann", note="the tripod")
    assert {(one.review.sample_id, one.review.rule) for one in judged} == {
        ("both.png", "relies_on_outside"),  # evidence, though less severe
        ("one.png", "misses_box"),
    }
    assert {one.review.note for one in judged} == {"the tripod"}
    assert said(dataset)["calm.png"] == []


def test_or_on_the_finding_that_is_named(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    judge(dataset, run, dataset, "false_alarm", reviewer="ann", rule="misses_box")
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
    dataset, run = loaded
    with pytest.raises(UserError, match=told):
        judge(dataset, run, dataset.select_by("sample_key", keys), "unsure", reviewer="ann", rule=rule)


def test_what_was_said_before_comes_back_with_undo(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.one({"sample_key": "one.png"})
    (first,) = judge(dataset, run, [sample], "confirmed", reviewer="ann")
    judge(dataset, run, [sample], "unsure", reviewer="bob")
    (second,) = judge(dataset, run, [sample], "false_alarm", reviewer="ann")
    # The browser keeps what can be taken back.
    take_back(dataset, run, [of_json(json.loads(json.dumps(as_json(second))))])
    assert sorted(said(dataset)["one.png"]) == [("misses_box", "confirmed", "ann"), ("misses_box", "unsure", "bob")]
    take_back(dataset, run, [of_json(as_json(first))])
    assert said(dataset)["one.png"] == [("misses_box", "unsure", "bob")]
    assert [(one.verdict, one.reviewer) for one in standing(read_reviews(run)).values()] == [("unsure", "bob")]
    assert [(one.verdict, one.reviewer) for one in read_reviews(run)] == [
        ("confirmed", "ann"),
        ("unsure", "bob"),
        ("false_alarm", "ann"),
        ("confirmed", "ann"),
        ("withdrawn", "ann"),
    ]


def test_what_was_taken_back_stays_so_in_every_database(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.match({"sample_key": "one.png"})
    (judged,) = judge(dataset, run, sample, "confirmed", reviewer="ann")
    take_back(dataset, run, [judged])
    # As a database that was copied before the undo.
    give(dataset, "one.png", rule="misses_box", verdict="confirmed", reviewer="ann", time=judged.review.time)
    load(run, ReviewSettings())
    assert said(dataset)["one.png"] == []
    assert collect_from(dataset, run).appended == 0


def test_a_verdict_is_in_the_run_as_soon_as_it_is_given(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    judge(dataset, run, dataset, "confirmed", reviewer="ann")
    assert {(one.sample_id, one.verdict) for one in read_reviews(run)} == {
        ("both.png", "confirmed"),
        ("one.png", "confirmed"),
    }
    assert collect_from(dataset, run).appended == 0


def test_the_last_verdict_counts_though_the_clock_was_set_back(
    loaded: tuple[Any, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, run = loaded
    sample = dataset.match({"sample_key": "one.png"})
    judge(dataset, run, sample, "confirmed", reviewer="ann")
    an_hour_ago = now() - timedelta(hours=1)
    monkeypatch.setattr(verdict_fields, "now", lambda: an_hour_ago)
    judge(dataset, run, dataset.match({"sample_key": "one.png"}), "false_alarm", reviewer="ann")
    collect_from(dataset, run)
    load(run, ReviewSettings())
    assert [one.verdict for one in standing(read_reviews(run)).values()] == ["false_alarm"]
    assert said(dataset)["one.png"] == [("misses_box", "false_alarm", "ann")]


def test_a_run_that_cannot_be_written_is_told_in_a_line(
    loaded: tuple[Any, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, run = loaded

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sample = dataset.match({"sample_key": "one.png"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device; make it writable"):
            judge(dataset, run, sample, "confirmed", reviewer="ann")
    judge(dataset, run, dataset.match({"sample_key": "one.png"}), "confirmed", reviewer="ann")
    assert [one.verdict for one in read_reviews(run)] == ["confirmed"], "given again, it is stored once"


def test_what_others_have_stored_is_no_hindrance_to_undo(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.match({"sample_key": "one.png"})
    judge(dataset, run, sample, "unsure", reviewer="bob")
    (judged,) = judge(dataset, run, dataset.match({"sample_key": "one.png"}), "confirmed", reviewer="ann")
    take_back(dataset, run, [judged])
    assert said(dataset)["one.png"] == [("misses_box", "unsure", "bob")]


@pytest.fixture
def stickers(tmp_path: Path) -> tuple[Any, Run]:
    """Three samples of one cue with the finding, one of the cue without it, and one of no cue."""
    flag = (("relies_on_outside", "flag", 0.5),)
    planted = [Planted(f"{name}.png", rules=() if name == "d" else flag) for name in "abcde"]
    run = make_run(tmp_path, planted, name=tmp_path.name)
    write_cues(run, [{"cue_id": "cue-1a2b", "sample_ids": ["a.png", "b.png", "c.png", "d.png"], "classes": []}])
    return load(run, ReviewSettings()), run


def of(dataset: Any, key: str) -> Any:
    return dataset.one({"sample_key": key})


def test_one_verdict_on_the_whole_cue_and_one_undo(stickers: tuple[Any, Run]) -> None:
    dataset, run = stickers
    judge(dataset, run, [of(dataset, "b.png")], "unsure", reviewer="ann")
    cue = whole_cue(dataset, of(dataset, "a.png"), "relies_on_outside", "ann")
    assert {sample["sample_key"] for sample in cue} == {"a.png", "c.png"}, "b.png has her verdict, d.png no finding"
    judged = judge(dataset, run, cue, "confirmed", reviewer="ann", rule="relies_on_outside")
    by_ann = {key: [verdict for _, verdict, _ in verdicts] for key, verdicts in said(dataset).items()}
    assert by_ann == {"a.png": ["confirmed"], "b.png": ["unsure"], "c.png": ["confirmed"], "d.png": [], "e.png": []}
    take_back(dataset, run, judged)
    assert [(one.sample_id, one.verdict) for one in standing(read_reviews(run)).values()] == [("b.png", "unsure")]
    assert said(dataset)["a.png"] == said(dataset)["c.png"] == []


def test_ones_own_progress_counts_ones_own_verdicts_in_the_view(stickers: tuple[Any, Run]) -> None:
    dataset, run = stickers

    def seen(view: Any, reviewer: str) -> dict[str, int]:
        return progress(view, of(dataset, "a.png"), "relies_on_outside", reviewer)

    judge(dataset, run, [of(dataset, "b.png"), of(dataset, "e.png")], "confirmed", reviewer="ann")
    judge(dataset, run, [of(dataset, "c.png")], "confirmed", reviewer="bob")
    assert seen(dataset, "ann") == {"done": 2, "of": 4, "cue": 2}
    assert seen(dataset, "bob") == {"done": 1, "of": 4, "cue": 2}
    assert seen(dataset.select_by("sample_key", ["a.png", "b.png", "d.png"]), "ann") == {"done": 1, "of": 2, "cue": 2}


def test_the_findings_to_judge_carry_reasons_and_what_was_said(loaded: tuple[Any, Run]) -> None:
    dataset, run = loaded
    sample = dataset.one({"sample_key": "both.png"})
    judge(dataset, run, [sample], "fix_label", reviewer="ann", label="owl")
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
