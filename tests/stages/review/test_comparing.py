"""The App's comparison of two runs: the same samples as `sightline compare`, and the panel that shows both."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fiftyone as fo
import pyarrow as pa
import pytest

from stages.audit.compare.compare import compare
from storage.run import Part, Run
from tests.stages.review.synthetic import Planted, make_run, write_cues

pytestmark = pytest.mark.usefixtures("mongo")

FLAGGED = (("relies_on_outside", "flag", 0.9),)
NAMES = ("cured.png", "kept.png", "new.png", "calm.png")


def run_with(folder: Path, name: str, effects: dict[str, float]) -> Run:
    """A run in which what lies outside the boxes is worth ``effects``, by sample; its flags are from .5 on."""
    planted = [Planted(sample, rules=FLAGGED if effects[sample] >= 0.5 else ()) for sample in effects]
    run = make_run(folder, planted, name=f"{folder.name}-{name}")
    part = Part("scores", "opti_cam", 0)
    rows = run.read_part(part).to_pylist()
    for row in rows:
        # The flag is on the label alone.
        effect = effects[row["sample_id"]] if row["target"] == "label" else 0.0
        row.update(outside_effect=effect, evaluable=True)
    run.write_part(part, pa.Table.from_pylist(rows, schema=run.read_part(part).schema), {})
    return run


@pytest.fixture
def before(tmp_path: Path) -> Run:
    return run_with(tmp_path, "before", dict(zip(NAMES, (0.9, 0.8, 0.1, 0.0), strict=True)))


@pytest.fixture
def after(tmp_path: Path) -> Run:
    return run_with(tmp_path, "after", dict(zip(NAMES, (0.2, 0.7, 0.6, 0.0), strict=True)))


class App:
    """What an operator of the App sees and does: its dataset and parameters, the view that it sets, what it tells.

    As the App's page it knows the names of the views that were saved when it was loaded, and the stages of others.
    """

    def __init__(self, dataset: Any, **params: Any) -> None:
        self.dataset, self.params, self.ops = dataset, params, self
        self.listed = dataset.list_saved_views()
        self.view: Any = dataset.view()
        self.told: list[str] = []

    def set_view(self, view: Any = None, name: str | None = None) -> None:
        if name is None:
            stages = json.loads(json.dumps(view._serialize()))
            self.view = fo.DatasetView._build(self.dataset, stages)
        else:
            assert name in self.listed, "the page does not know this view"
            self.view = self.dataset.load_saved_view(name)

    def notify(self, message: str, variant: str) -> None:
        self.told.append(f"{variant}: {message}")

    def keys(self, view: str) -> list[str]:
        return sorted(self.dataset.load_saved_view(view).values("sample_key"))


def compared(dataset: Any, other: str) -> App:
    from stages.review.plugin.runs import CompareRuns

    app = App(dataset, run=other)
    CompareRuns().execute(app)
    return app


def test_the_views_of_a_comparison_hold_what_the_command_counts(before: Run, after: Run):
    from stages.review.review import load

    dataset = load(after)
    app = compared(dataset, before.name)
    (flag,) = (change for change in compare(before, after).rules if change.rule == "relies_on_outside")
    fixed, broken = f"Fixed since {before.name} (1)", f"Broken since {before.name} (1)"
    assert app.keys(fixed) == list(flag.fixed) == ["cured.png"]
    assert app.keys(broken) == list(flag.broken) == ["new.png"]
    assert app.view.values("sample_key") == ["new.png"]
    assert app.told == [
        f"info: Since {before.name}, of 4 samples that both runs have: 1 fixed, 1 broken, 1 flagged in both; "
        f"saved views: {broken}, {fixed}"
    ]


def test_runs_of_the_same_folder_are_offered_and_those_that_were_loaded(before: Run, after: Run, tmp_path: Path):
    from stages.review.review import load, runs_to_compare

    elsewhere = run_with(tmp_path / "elsewhere", "far", dict.fromkeys(NAMES, 0.0))
    load(elsewhere)
    (tmp_path / "runs" / "no run").mkdir()
    offered = runs_to_compare(load(after))
    assert offered[before.name] == before.url
    assert offered[elsewhere.name] == elsewhere.url
    assert after.name not in offered
    assert "no run" not in offered


def test_where_nothing_changed_no_empty_view_is_shown(after: Run, tmp_path: Path):
    from stages.review.review import load

    same = run_with(tmp_path, "same", dict(zip(NAMES, (0.2, 0.7, 0.6, 0.0), strict=True)))
    app = compared(load(after), same.name)
    assert app.told == [
        f"info: Since {same.name}, of 4 samples that both runs have: 0 fixed, 0 broken, 2 flagged in both"
    ]
    assert app.view.name is None
    assert not [name for name in app.dataset.list_saved_views() if "since" in name]


def test_in_a_view_of_a_comparison_the_panel_shows_the_other_run_beside(before: Run, after: Run):
    from stages.review.plugin.operators import Portrait
    from stages.review.review import load

    app = compared(load(after), before.name)

    def beside(view: Any, **asked: Any) -> Any:
        sample = app.dataset.one(_key("new.png")).id
        panel = SimpleNamespace(dataset=app.dataset, view=view, params={"sample": sample, **asked})
        return Portrait().execute(panel)["other"]

    assert beside(app.view)["run"] == before.url
    assert beside(app.dataset.view()) is None
    assert beside(app.view, other={"run": ""}) is None  # the reviewer chose nothing
    named = App(app.dataset)  # the page is loaded again
    named.set_view(name=f"Fixed since {before.name} (1)")
    assert beside(named.view)["run"] == before.url
    for view in ("Fixed", "Broken"):  # a reviewer deletes them, and the page still shows one
        app.dataset.delete_saved_view(f"{view} since {before.name} (1)")
        assert (beside(app.view) is None) == (view == "Broken")


def test_a_load_that_changes_samples_drops_what_was_compared_before(before: Run, after: Run, tmp_path: Path):
    from stages.review.review import load

    compared(load(after), before.name)
    assert [name for name in load(after).list_saved_views() if "since" in name]  # nothing changed
    run_with(tmp_path, "after", dict(zip(NAMES, (0.9, 0.7, 0.6, 0.0), strict=True)))
    assert not [name for name in load(after).list_saved_views() if "since" in name]


def test_a_cue_that_is_named_while_the_page_is_open_is_shown_from_the_list_of_findings(tmp_path: Path):
    from stages.review.plugin.panels import Findings
    from stages.review.plugin.runs import NameCue
    from stages.review.review import load

    run = make_run(tmp_path, [Planted("a.png", rules=FLAGGED), Planted("b.png")], name=f"{tmp_path.name}-cued")
    write_cues(run, [{"cue_id": "cue-1", "rank": 1, "size": 1, "sample_ids": ["a.png"]}])
    app = App(load(run), name="a sticker")
    app.view, app.selected, app.current_sample = app.dataset, [app.dataset.one(_key("a.png")).id], None
    NameCue().execute(app)
    assert app.told == ["success: cue-1 is called a sticker from now on"]
    app.panel = SimpleNamespace(state=SimpleNamespace())
    Findings().on_load(app)
    app.params = {"row": app.panel.state.views.index("Cue: a sticker, cue-1 (1)")}
    Findings().show(app)
    assert app.view.values("sample_key") == ["a.png"]
    app.params = {"row": app.panel.state.views.index("Relies on outside (1)")}
    Findings().show(app)
    assert app.view.name == "Relies on outside (1)"


def _key(name: str) -> Any:
    from fiftyone import ViewField

    return ViewField("sample_key") == name
