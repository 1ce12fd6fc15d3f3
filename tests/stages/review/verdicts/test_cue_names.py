"""Names of cues: who gives them, where they show, and that an audit leaves them alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.audit.canned import load_query
from stages.audit.summary.summary import summarise
from stages.review.verdicts.cue_names import name_cue
from storage.cues import cue_names
from storage.errors import UserError
from storage.run import Run
from storage.sql import run_query
from storage.tables import CLASSES
from tests.stages.review.synthetic import Planted, make_run, write_cues

CUES = [{"cue_id": cue, "sample_ids": [key], "classes": []} for cue, key in (("cue-1", "a.png"), ("cue-2", "b.png"))]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make_run(tmp_path, [Planted("a.png"), Planted("b.png")], name=tmp_path.name)
    write_cues(run, CUES)
    return run


def test_the_last_name_counts_and_stays_when_the_cues_are_made_again(run: Run) -> None:
    name_cue(run, "cue-1", "a sticker", "ann")
    name_cue(run, "cue-1", "  the lightning   sticker ", "bob")
    write_cues(run, CUES)
    assert cue_names(run) == {"cue-1": "the lightning sticker"}
    given = run.table("cue_names").to_pylist()
    assert [(row["name"], row["reviewer"]) for row in given] == [
        ("a sticker", "ann"),
        ("the lightning sticker", "bob"),
    ]


def test_sql_has_the_names(run: Run) -> None:
    cues = load_query("cues").of(run)
    assert [row["name"] for row in run_query(run, cues).to_pylist()] == [None, None]
    name_cue(run, "cue-2", "a stripe", "ann")
    name_cue(run, "cue-2", "a tape", "ann")
    rows = run_query(run, cues).to_pylist()
    assert sorted((row["cue_id"], row["name"]) for row in rows) == [("cue-1", None), ("cue-2", "a tape")]


def test_the_summary_has_the_names(run: Run) -> None:
    run.write_table("classes", CLASSES.empty_table())
    name_cue(run, "cue-2", "a tape", "ann")
    assert {cue.cue_id: cue.name for cue in summarise(run).cues} == {"cue-1": None, "cue-2": "a tape"}


@pytest.mark.parametrize(
    ("cue", "name", "told"),
    [
        ("cue-9", "x", "has no cue 'cue-9'; it has cue-1, cue-2"),
        ("cue-1", "  ", "cue-1 needs a name"),
        ("cue-1", "a tape", "cue-2 is called 'a tape' already"),
    ],
)
def test_what_is_no_name_is_told(run: Run, cue: str, name: str, told: str) -> None:
    name_cue(run, "cue-2", "a tape", "ann")
    with pytest.raises(UserError, match=told):
        name_cue(run, cue, name, "ann")


@pytest.mark.usefixtures("mongo")
def test_the_app_shows_a_name_at_once_and_after_the_next_load(run: Run) -> None:
    from stages.review.dataset.listing import reviewed_findings
    from stages.review.dataset.views import rename_cue
    from stages.review.review import load

    dataset = load(run)
    name_cue(run, "cue-2", "a tape", "ann")
    rename_cue(dataset, "cue-2", "a tape")
    for shown in (dataset, load(run)):
        (line,) = [one.listed for one in reviewed_findings(shown) if one.listed.cue == "cue-2"]
        assert (line.title, line.view) == ("a tape, cue-2", "Cue: a tape, cue-2 (1)")
        assert shown.load_saved_view(line.view).values("sample_key") == ["b.png"]
