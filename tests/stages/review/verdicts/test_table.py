from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.review.verdicts.boxes import Box, same_boxes
from stages.review.verdicts.table import Review, append_reviews, latest, read_reviews, standing
from storage.errors import UserError
from storage.run import Run

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FIRST = Review("a.png", "label", "misses_box", "confirmed", "ann", time=NOON)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(str(tmp_path / "run"))


def later(review: Review, minutes: int = 1, **changes: object) -> Review:
    return replace(review, time=review.time + timedelta(minutes=minutes), **changes)


def test_verdicts_come_back_as_they_were_given(run: Run):
    boxes = (Box("cat", 1.5, 2, 30.25, 40), Box(None, 0, 0, 10, 10))
    given = [FIRST, Review("b.png", "predicted", "r", "fix_box", "bob", boxes=boxes, note="Ünder", time=NOON)]
    given.append(Review("b.png", "label", "r", "fix_label", "bob", label="owl", time=NOON))
    assert append_reviews(run, given) == 3
    assert read_reviews(run) == given


def test_what_is_said_already_is_not_stored_twice(run: Run):
    assert append_reviews(run, [FIRST]) == 1
    assert append_reviews(run, [FIRST, later(FIRST), replace(FIRST, note="")]) == 0
    assert append_reviews(run, [later(FIRST, note="a tripod")]) == 1
    assert [review.note for review in read_reviews(run)] == [None, "a tripod"]


def test_a_changed_mind_counts_and_the_history_stays(run: Run):
    append_reviews(run, [FIRST])
    append_reviews(run, [later(FIRST, 1, verdict="false_alarm")])
    append_reviews(run, [later(FIRST, 2)])
    assert [review.verdict for review in read_reviews(run)] == ["confirmed", "false_alarm", "confirmed"]
    (counts,) = standing(read_reviews(run)).values()
    assert counts.time == NOON + timedelta(minutes=2)


def test_an_older_verdict_that_comes_late_is_kept_and_does_not_count(run: Run):
    append_reviews(run, [later(FIRST, 10)])
    assert append_reviews(run, [later(FIRST, 5, verdict="unsure")]) == 1
    assert [review.verdict for review in read_reviews(run)] == ["confirmed", "unsure"]
    assert [review.verdict for review in standing(read_reviews(run)).values()] == ["confirmed"]


def test_a_verdict_given_just_now_counts_whatever_the_clock_says(run: Run):
    append_reviews(run, [later(FIRST, 10), later(FIRST, 11, reviewer="bob")], just_now=True)
    assert append_reviews(run, [later(FIRST, 5, verdict="unsure")], just_now=True) == 1
    assert append_reviews(run, [later(FIRST, 4, verdict="false_alarm")], just_now=True) == 1
    stored = read_reviews(run)
    assert [review.number for review in stored] == [0, 0, 1, 2]
    assert standing(stored)[FIRST.key].verdict == "false_alarm"
    assert latest(standing(stored).values()) == later(FIRST, 4, verdict="false_alarm")
    assert append_reviews(run, [later(FIRST, 5, verdict="unsure")]) == 0, "collected from FiftyOne once more"


def test_a_verdict_that_was_withdrawn_does_not_count_until_it_is_given_again(run: Run):
    withdrawn = replace(FIRST, verdict="withdrawn")
    assert append_reviews(run, [FIRST], just_now=True) == 1
    assert append_reviews(run, [withdrawn], just_now=True) == 1
    assert append_reviews(run, [withdrawn], just_now=True) == 0
    assert standing(read_reviews(run)) == {}
    assert append_reviews(run, [FIRST], just_now=True) == 1
    assert [review.verdict for review in read_reviews(run)] == ["confirmed", "withdrawn", "confirmed"]
    assert standing(read_reviews(run)) == {FIRST.key: FIRST}


def without_numbers(run: Run, reviews: list[Review]) -> None:
    """Store reviews as an earlier version did."""
    append_reviews(run, reviews)
    path = run.local_path("reviews.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["number"]), path)


def test_a_table_of_an_earlier_version_goes_on_by_time_and_then_by_number(run: Run):
    without_numbers(run, [FIRST, later(FIRST, 10, verdict="unsure")])
    assert standing(read_reviews(run))[FIRST.key].verdict == "unsure"
    append_reviews(run, [later(FIRST, 5, verdict="false_alarm")])
    assert standing(read_reviews(run))[FIRST.key].verdict == "unsure"
    append_reviews(run, [later(FIRST, 6, verdict="fix_box")], just_now=True)
    assert standing(read_reviews(run))[FIRST.key].verdict == "fix_box"
    assert [review.number for review in read_reviews(run)] == [0, 0, 0, 1]


def test_an_import_takes_its_place_among_numbered_verdicts_by_its_time(run: Run):
    for minutes, verdict in ((0, "confirmed"), (10, "unsure"), (20, "false_alarm")):
        append_reviews(run, [later(FIRST, minutes, verdict=verdict)], just_now=True)
    append_reviews(run, [later(FIRST, 15, verdict="fix_box"), later(FIRST, 15, reviewer="bob")])
    by_order = sorted(read_reviews(run), key=lambda review: review.order)
    assert [review.verdict for review in by_order if review.reviewer == "ann"] == [
        "confirmed",
        "unsure",
        "fix_box",
        "false_alarm",
    ]
    append_reviews(run, [later(FIRST, 25, verdict="fix_box")])
    assert standing(read_reviews(run))[FIRST.key].verdict == "fix_box"


def test_the_last_three_states_of_the_table_are_kept_and_a_damaged_one_names_the_newest(run: Run):
    for minutes, verdict in enumerate(("confirmed", "unsure", "confirmed", "unsure", "confirmed")):
        append_reviews(run, [later(FIRST, minutes, verdict=verdict)])
    copies = run.local_path("reviews.copies")
    assert [pq.read_table(path).num_rows for path in sorted(copies.iterdir())] == [2, 3, 4]
    table = run.local_path("reviews.parquet")
    table.write_bytes(table.read_bytes()[:-10])
    (copies / "000000004.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        UserError, match=r"reviews\.parquet is damaged: .*copy .*/000000003\.parquet, its first 3 verdicts"
    ):
        read_reviews(run)
    with pytest.raises(UserError, match=r"reviews\.parquet is damaged"):
        append_reviews(run, [later(FIRST, 9)])
    shutil.copy(copies / "000000003.parquet", table)
    assert [review.verdict for review in read_reviews(run)] == ["confirmed", "unsure", "confirmed"]


def test_reviewers_targets_and_rules_do_not_replace_each_other():
    others = [later(FIRST, reviewer="bob"), later(FIRST, target="predicted"), later(FIRST, rule="border_energy")]
    assert len(standing([FIRST, *others])) == 4


def test_redrawn_boxes_are_another_verdict_and_rounding_is_not(run: Run):
    drawn = replace(FIRST, verdict="fix_box", boxes=(Box("cat", 0.1, 0.2, 10.3, 10.4),))
    append_reviews(run, [drawn])
    assert append_reviews(run, [later(drawn, boxes=(Box("cat", 0.1001, 0.2, 10.3, 10.4),))]) == 0
    assert append_reviews(run, [later(drawn, boxes=(Box("cat", 0.1, 0.2, 11.3, 10.4),))]) == 1


def test_sets_of_boxes_are_the_same_in_any_order():
    one, two = Box("cat", 0, 0, 5, 5), Box("dog", 0, 0, 5, 5)
    assert same_boxes([one, two, one], [one, one, two])
    assert not same_boxes([one, two, two], [one, one, two])
    assert not same_boxes([one], [one, one])
    assert not same_boxes([one], None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "confirm"}, "no verdict 'confirm'; did you mean confirmed?"),
        ({"verdict": "?"}, "verdicts are confirmed, false_alarm, fix_box, fix_label, unsure"),
        ({"reviewer": " "}, "a verdict needs a reviewer"),
        ({"label": "dog"}, "a label goes with the verdict fix_label, not with confirmed"),
        ({"boxes": ()}, "boxes go with the verdict fix_box, not with confirmed"),
    ],
)
def test_a_verdict_that_cannot_be_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        replace(FIRST, **changes)
