"""Verdicts and drawn boxes in FiftyOne, out of it and back in. One dataset a story: each load takes a second."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stages.review.app.collect import collect
from stages.review.settings import ReviewSettings
from stages.review.verdicts.boxes import Box
from stages.review.verdicts.table import Review, append_reviews, now, read_reviews, standing
from storage.errors import UserError
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run, object_box

pytestmark = pytest.mark.usefixtures("mongo")

ONE = Planted("one.png", rules=(("relies_on_outside", "flag", 0.5), ("misses_box", "description", 0.25)))
TWO = Planted("two.png", rules=(("misses_box", "description", 1.0),))


def make(tmp_path: Path, *planted: Planted) -> Run:
    # Datasets are named after runs, and all tests share one database.
    return make_run(tmp_path, list(planted), name=tmp_path.name)


def load_run(run: Run) -> Any:
    from stages.review.review import load

    return load(run)


def sample_of(dataset: Any, key: str) -> Any:
    from fiftyone import ViewField

    return dataset.one(ViewField("sample_key") == key)


def draw(dataset: Any, key: str, *boxes: tuple[str, float, float, float, float]) -> None:
    """What the App's annotation mode does: detections, fractions of the 400 x 300 px of the image."""
    import fiftyone as fo

    sample = sample_of(dataset, key)
    sample["corrected_boxes"] = fo.Detections(
        detections=[
            fo.Detection(label=label, bounding_box=[x0 / 400, y0 / 300, (x1 - x0) / 400, (y1 - y0) / 300])
            for label, x0, y0, x1, y1 in boxes
        ]
    )
    sample.save()


def test_verdicts_survive_loading_and_reach_the_run_with_their_history(tmp_path: Path):
    from stages.review.dataset.verdict_fields import give, verdicts_of

    run = make(tmp_path, ONE, TWO)
    dataset = load_run(run)
    first = give(dataset, "one.png", rule="relies_on_outside", verdict="confirmed", reviewer="ann", note="a $tripod")
    assert first.target == "label"
    assert (
        give(dataset, "one.png", rule="relies_on_outside", verdict="confirmed", reviewer="ann", note="a $tripod")
        == first
    )
    time = datetime.fromisoformat("2026-05-01T14:00:00.123+02:00")
    give(dataset, "one.png", rule="relies_on_outside", verdict="unsure", reviewer="bob", time=time)
    give(dataset, "two.png", rule="misses_box", verdict="fix_label", reviewer="ann", label="owl")
    assert collect(run, ReviewSettings()).appended == 3

    # The same reviewer thinks again; a load with changed numbers and findings comes between.
    second = give(dataset, "one.png", rule="relies_on_outside", verdict="false_alarm", reviewer="ann")
    run = make(tmp_path, replace(ONE, drop_outside=0.25), TWO)
    dataset = load_run(run)
    given = {review.reviewer: review for review in verdicts_of(sample_of(dataset, "one.png"))}
    assert given["ann"] == second
    assert given["bob"].verdict == "unsure"
    assert given["bob"].time == datetime(2026, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
    assert dataset.count_values("verdicts.verdict") == {"false_alarm": 1, "unsure": 1, "fix_label": 1}
    assert [(review.reviewer, review.verdict, review.note) for review in read_reviews(run)] == [
        ("bob", "unsure", None),
        ("ann", "confirmed", "a $tripod"),
        ("ann", "fix_label", None),
        ("ann", "false_alarm", None),
    ]
    assert collect(run, ReviewSettings()).appended == 0

    before = dataset.values(["id", "last_modified_at"])
    assert load_run(run).values(["id", "last_modified_at"]) == before


def test_a_verdict_needs_a_finding_that_is_there(tmp_path: Path):
    from stages.review.dataset.verdict_fields import give

    dataset = load_run(make(tmp_path, ONE))
    with pytest.raises(
        UserError, match=r"one\.png has no finding 'border_energy' to judge; it has relies_on_outside, mis"
    ):
        give(dataset, "one.png", rule="border_energy", verdict="confirmed", reviewer="ann")
    with pytest.raises(UserError, match=r"has no sample 'none\.png'"):
        give(dataset, "none.png", rule="misses_box", verdict="confirmed", reviewer="ann")
    with pytest.raises(UserError, match="no verdict 'confirm'; did you mean confirmed"):
        give(dataset, "one.png", rule="misses_box", verdict="confirm", reviewer="ann")
    # What was stored before it was gone is named with its target.
    assert give(dataset, "one.png", rule="gone", target="predicted", verdict="unsure", reviewer="ann").rule == "gone"


def test_reviewers_who_judge_one_sample_at_once_lose_nothing(tmp_path: Path):
    from stages.review.dataset.verdict_fields import give, verdicts_of

    dataset = load_run(make(tmp_path, ONE))
    stale = sample_of(dataset, "one.png")
    reviewers = [f"reviewer {number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda who: give(dataset, "one.png", rule="misses_box", verdict="confirmed", reviewer=who), reviewers
            )
        )
    stale.reload()
    assert sorted(review.reviewer for review in verdicts_of(stale)) == sorted(reviewers)


def test_drawn_boxes_come_back_with_the_verdict_fix_box(tmp_path: Path):
    from stages.review.dataset.verdict_fields import give, start_correction

    run = make(tmp_path, ONE, TWO)
    dataset = load_run(run)
    assert dataset.active_label_schemas == ["corrected_boxes"]
    assert start_correction(dataset) == 2
    assert start_correction(dataset) == 0
    give(dataset, "one.png", rule="misses_box", verdict="fix_box", reviewer="ann")
    collected = collect(run, ReviewSettings())
    assert (collected.appended, collected.without_verdict) == (1, 0)
    assert read_reviews(run)[0].boxes is None, "an unchanged copy of the ground truth is no drawing"

    draw(dataset, "one.png", ("cat", 10, 20, 110, 70), ("owl", 390, 290, 420, 310))
    draw(dataset, "two.png", ("cat", 0, 0, 10, 10))
    collected = collect(run, ReviewSettings())
    assert (collected.appended, collected.without_verdict) == (1, 1)
    assert "boxes drawn on 1 sample do not count yet" in str(collected)
    counts = list(standing(read_reviews(run)).values())[-1]
    # The second box reaches out of the image and is cut to it.
    assert [box.label for box in counts.boxes or ()] == ["cat", "owl"]
    assert [box.edges for box in counts.boxes or ()] == [
        pytest.approx((10, 20, 110, 70), abs=1e-3),
        pytest.approx((390, 290, 400, 300), abs=1e-3),
    ]
    (truth,) = sample_of(load_run(run), "one.png").ground_truth.detections
    assert truth.bounding_box[0] == pytest.approx(object_box(ONE)[0] / 400)
    assert len(sample_of(dataset, "one.png").corrected_boxes.detections) == 2

    # Drawn again, then taken away: each is a verdict of its own, and the last counts.
    draw(dataset, "one.png", ("cat", 10, 20, 110, 71))
    assert collect(run, ReviewSettings()).appended == 1
    draw(dataset, "one.png")
    give(dataset, "one.png", rule="misses_box", verdict="fix_box", reviewer="ann", note="cannot say where")
    assert collect(run, ReviewSettings()).appended == 1
    assert [review.boxes for review in standing(read_reviews(run)).values()] == [None]


def test_what_was_stored_or_imported_comes_into_a_database_that_lacks_it(tmp_path: Path):
    import fiftyone as fo

    from stages.review.dataset.verdict_fields import give, verdicts_of

    run = make(tmp_path, ONE, TWO)
    dataset = load_run(run)
    give(dataset, "one.png", rule="misses_box", verdict="confirmed", reviewer="ann")
    collect(run, ReviewSettings())
    later = now() + timedelta(minutes=1)
    imported = [
        Review("one.png", "label", "misses_box", "false_alarm", "ann", time=later),
        Review("two.png", "label", "misses_box", "fix_box", "bob", boxes=(Box("cat", 4, 3, 40, 30),), time=later),
    ]
    append_reviews(run, imported)
    dataset = load_run(run)
    assert verdicts_of(sample_of(dataset, "one.png")) == imported[:1]

    fo.delete_dataset(dataset.name)
    dataset = load_run(run)
    assert verdicts_of(sample_of(dataset, "one.png")) == imported[:1]
    (box,) = sample_of(dataset, "two.png").corrected_boxes.detections
    assert box.bounding_box == pytest.approx([0.01, 0.01, 0.09, 0.09])
    assert collect(run, ReviewSettings()).appended == 0


def test_boxes_from_elsewhere_are_adopted_where_they_differ(tmp_path: Path):
    from stages.review.dataset.verdict_fields import adopt_corrections, start_correction, verdicts_of

    dataset = load_run(make(tmp_path, ONE, TWO))
    start_correction(dataset)
    draw(dataset, "two.png", ("cat", 0, 0, 10, 10))
    assert adopt_corrections(dataset.view(), "misses_box", "cvat") == 1
    assert verdicts_of(sample_of(dataset, "one.png")) == []
    (given,) = verdicts_of(sample_of(dataset, "two.png"))
    assert (given.rule, given.verdict, given.reviewer) == ("misses_box", "fix_box", "cvat")


def test_a_database_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make(tmp_path, ONE)
    assert "was not loaded into it yet" in str(collect(run, ReviewSettings()))
    monkeypatch.delitem(os.environ, "FIFTYONE_DATABASE_URI")
    nowhere = collect(run, ReviewSettings(database=str(tmp_path / "nowhere")))
    assert str(nowhere) == f"FiftyOne was not asked: there is no database in {tmp_path / 'nowhere'} yet"
    assert not (tmp_path / "nowhere").exists()
