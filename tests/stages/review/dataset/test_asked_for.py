"""Views that a reviewer asks for, and the runs that can stand beside the one reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from stages.review.dataset import views
from stages.review.dataset.views import of_keys, same_cue
from stages.review.review import load, loaded_runs, other_run, run_of
from stages.review.settings import ReviewSettings
from storage.errors import UserError
from tests.stages.review.synthetic import Planted, make_run, write_cues

pytestmark = pytest.mark.usefixtures("mongo")

NAMES = [f"{letter}.png" for letter in "abcde"]


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    planted = [
        Planted(name, rules=(("relies_on_outside", "flag", severity),))
        for name, severity in zip(NAMES, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)
    ]
    run = make_run(tmp_path, planted, name=tmp_path.name)
    write_cues(
        run,
        [
            {"cue_id": "cue-1", "rank": 1, "size": 3, "sample_ids": ["a.png", "d.png", "b.png"]},
            {"cue_id": "cue-2", "rank": 2, "size": 1, "sample_ids": ["c.png"]},
        ],
    )
    return load(run, ReviewSettings())


def test_more_like_this_are_the_samples_of_its_cue_worst_first(dataset: Any) -> None:
    view = same_cue(dataset, dataset.one({"sample_key": "a.png"}))
    assert view.values("sample_key") == ["d.png", "b.png", "a.png"]
    with pytest.raises(UserError, match=r"e\.png belongs to no cue"):
        same_cue(dataset, dataset.one({"sample_key": "e.png"}))


def test_a_querys_samples_are_shown_once_in_its_order(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view, count = of_keys(dataset, ["c.png", "a.png", "nobody.png", "c.png", "e.png"])
    assert view.values("sample_key") == ["c.png", "a.png", "e.png"]
    assert count == 3
    with pytest.raises(UserError, match="no sample that is loaded"):
        of_keys(dataset, ["nobody.png"])
    monkeypatch.setattr(views, "MOST_ASKED_FOR", 2)
    assert of_keys(dataset, NAMES)[0].values("sample_key") == ["a.png", "b.png"]


def test_runs_of_the_database_are_known_by_their_datasets(dataset: Any, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", [Planted("a.png")], name=f"{tmp_path.name}-other")
    beside = load(other, ReviewSettings())
    foreign = fo.Dataset(f"{tmp_path.name}-foreign")
    try:
        assert loaded_runs(dataset)[beside.name] == str(other.local_path())
        assert not {dataset.name, foreign.name} & loaded_runs(dataset).keys()
        assert run_of(beside).url == str(other.local_path())
        with pytest.raises(UserError, match="not loaded by `sightline app`"):
            run_of(foreign)
    finally:
        foreign.delete()


def test_a_page_can_ask_for_runs_beside_its_own_and_for_those_that_were_loaded(dataset: Any, tmp_path: Path) -> None:
    own = run_of(dataset)
    beside = make_run(tmp_path, [Planted("a.png")], name="beside")
    elsewhere = make_run(tmp_path / "elsewhere", [Planted("a.png")], name=f"{tmp_path.name}-elsewhere")
    places = [
        "../../etc",
        "beside/..",
        "..",
        "beside/explain",
        "s3://bucket/run",
        "http://127.0.0.1:9/run",
        "file:///etc",
    ]
    assert beside.local_path().parent == own.local_path().parent
    assert {other_run(dataset, place).url for place in ("beside", beside.url)} == {str(beside.local_path())}
    for place in [*places, elsewhere.url]:
        with pytest.raises(UserError, match=r"is not beside .*: the App compares with runs of that folder"):
            other_run(dataset, place)
    load(elsewhere, ReviewSettings())
    assert other_run(dataset, str(elsewhere.local_path())).url == str(elsewhere.local_path())
