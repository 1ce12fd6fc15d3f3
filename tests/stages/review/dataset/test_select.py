from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.review.settings import RuleText, Selection
from stages.review.verdicts.table import read_reviews
from storage.errors import UserError
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run

pytestmark = pytest.mark.usefixtures("mongo")

# Each lights up another cell, so that each has a heatmap of its own.
PLANTED = [
    Planted(f"{name}.png", cell=(1, column), rules=(("misses_box", "description", column / 10),))
    for column, name in enumerate("abcd")
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, PLANTED, name=tmp_path.name)


def load_run(run: Run, selection: Selection | None = None) -> tuple[Any, Any]:
    from stages.review.review import load

    reports: list[Any] = []
    rules = {"misses_box": RuleText("Misses")}
    return load(run, rules=rules, selection=selection, tell=reports.append), reports[0]


def only(*names: str) -> Selection:
    return Selection("a selection", frozenset(f"{name}.png" for name in names))


def heatmaps(run: Run) -> int:
    return len(list(run.local_path("heatmaps").iterdir()))


def test_only_what_is_selected_is_loaded_and_drawn(run: Run):
    dataset, report = load_run(run, only("b", "d"))
    assert dataset.values("sample_key") == ["d.png", "b.png"]
    assert report.added == 2
    assert heatmaps(run) == 2
    assert dataset.list_saved_views() == [
        "Selected, worst first (2)",
        "Not reviewed yet",
        "Reviewers disagree",
        "Misses (2)",
    ]
    dataset, report = load_run(run)
    assert (report.added, report.unchanged, heatmaps(run)) == (2, 2, 4)
    assert dataset.list_saved_views()[0] == "Everything, worst first (4)"


def test_another_selection_takes_out_the_rest_but_nobodys_work(run: Run):
    import fiftyone as fo

    from stages.review.dataset.verdict_fields import give, verdicts_of

    dataset, _ = load_run(run)
    dataset.match({"sample_key": "a.png"}).tag_samples("mine")
    dataset.add_sample_field("note", fo.StringField)
    dataset.set_values("note", {"b.png": "a tripod"}, key_field="sample_key")
    give(dataset, "c.png", rule="misses_box", verdict="confirmed", reviewer="ann")
    dataset, report = load_run(run, only("d"))
    assert sorted(dataset.values("sample_key")) == ["a.png", "b.png", "d.png"]
    assert report.removed == 1
    assert "1 taken out (no longer in the run, or not selected)" in str(report)
    # The verdict is in the run, and comes back with its sample.
    assert [review.sample_id for review in read_reviews(run)] == ["c.png"]
    dataset, _ = load_run(run)
    (judged,) = (verdicts_of(sample) for sample in dataset if sample["sample_key"] == "c.png")
    assert [review.verdict for review in judged] == ["confirmed"]


def test_a_saved_view_selects(run: Run):
    dataset, _ = load_run(run)
    dataset.save_view("two of them", dataset.match(fo_field("severity.misses_box") > 0.15))
    dataset, _ = load_run(run, Selection("two of them", None))
    assert dataset.values("sample_key") == ["d.png", "c.png"]
    with pytest.raises(
        UserError, match=r"'three' is no rule \(misses_box\), no SQL and no saved view \(.*'two of them'"
    ):
        load_run(run, Selection("three", None))


def test_a_view_of_a_dataset_that_is_not_there_is_told(run: Run):
    with pytest.raises(UserError, match=r"no saved view \(the dataset has none yet\)"):
        load_run(run, Selection("mine", None))


def test_a_selection_of_what_cannot_be_shown_is_told(run: Run):
    with pytest.raises(UserError, match="none of the 1 samples that it selects can be shown"):
        load_run(run, only("z"))


def fo_field(path: str) -> Any:
    from fiftyone import ViewField

    return ViewField(path)
