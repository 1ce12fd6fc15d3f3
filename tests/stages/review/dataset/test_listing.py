"""The list of findings, evidence against confidence, and the workspace that shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.review.settings import RuleText
from tests.stages.review.synthetic import Planted, add_vectors, make_run, write_cues

pytestmark = pytest.mark.usefixtures("mongo")

FLAG = ("relies_on_outside", "flag", 0.75)
MISS = ("misses_box", "description", 0.5)
PLANTED = [
    Planted("a.png", drop_outside=0.9, rules=(FLAG, MISS)),
    Planted("b.png", drop_outside=0.8, rules=(FLAG,)),
    Planted("c.png", drop_outside=0.3, rules=(("misses_box", "description", 1.0),)),  # severe, and no flag all the same
    Planted("d.png", drop_outside=-0.1),
    Planted("e.png", status="unreadable"),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    from stages.review.review import load

    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    write_cues(run, [{"cue_id": "cue-1a2b", "sample_ids": ["a.png", "b.png"], "classes": [{"label": "cat", "n": 2}]}])
    return load(
        run, rules={"relies_on_outside": RuleText("Relies on what is outside"), "misses_box": RuleText("Misses")}
    )


def test_the_list_counts_what_is_reviewed_of_each_rule_and_cue(dataset: Any):
    from stages.review.dataset.listing import reviewed_findings
    from stages.review.dataset.verdict_fields import give

    def lines() -> list[tuple[str, str, int, int]]:
        return [
            (one.listed.title, one.listed.kind, one.reviewed, one.listed.samples) for one in reviewed_findings(dataset)
        ]

    assert lines() == [
        ("Relies on what is outside", "flag", 0, 2),
        ("Misses", "described", 0, 2),
        ("cat, cue-1a2b", "cue", 0, 2),
    ]
    give(dataset, "a.png", rule="misses_box", verdict="confirmed", reviewer="ann")
    give(dataset, "a.png", rule="misses_box", verdict="unsure", reviewer="bob")
    # Two verdicts on one finding review it once; the other finding of a.png has none.
    assert [line[2:] for line in lines()] == [(0, 2), (1, 2), (1, 2)]
    give(dataset, "b.png", rule="relies_on_outside", verdict="confirmed", reviewer="ann")
    assert [line[2:] for line in lines()] == [(1, 2), (1, 2), (2, 2)]


def test_each_line_leads_to_a_view_of_as_many_samples_as_it_says(dataset: Any):
    from stages.review.dataset.listing import reviewed_findings

    for one in reviewed_findings(dataset):
        assert len(dataset.load_saved_view(one.listed.view)) == one.listed.samples


def test_evidence_is_a_point_a_sample_and_a_bar_for_each_group(dataset: Any):
    from stages.review.dataset.listing import evidence_of

    evidence = evidence_of(dataset)
    assert evidence.keys == ["a.png", "b.png", "c.png", "d.png"]
    assert evidence.drop == pytest.approx([0.9, 0.8, 0.3, -0.1])
    assert evidence.confidence == [0.75] * 4
    assert evidence.group == [2, 2, 1, 0]
    assert evidence.total == 4
    # 40 bins from -.1 to 1, each .0275 wide: .3 lies in the one that starts at -.1 + 14 * .0275 = .285.
    assert evidence.edges[[0, -1]].tolist() == pytest.approx([-0.1, 1])
    assert evidence.counts.sum(axis=1).tolist() == [1, 1, 2]
    assert (evidence.counts[0][0], evidence.counts[1][14]) == (1, 1)
    # It follows the view.
    assert evidence_of(dataset.match({"sample_key": "c.png"})).keys == ["c.png"]


def test_of_many_samples_the_most_severe_are_points_and_all_are_counted(dataset: Any, monkeypatch: pytest.MonkeyPatch):
    from stages.review.dataset import listing

    monkeypatch.setattr(listing, "MOST_POINTS", 3)
    evidence = listing.evidence_of(dataset)
    assert evidence.keys == ["a.png", "b.png", "c.png"]
    assert (evidence.total, evidence.counts.sum()) == (4, 4)


def test_a_view_of_nothing_has_no_points(dataset: Any):
    from stages.review.dataset.listing import evidence_of

    evidence = evidence_of(dataset.limit(1).match({"sample_key": "none"}))
    assert (evidence.ids, evidence.total, evidence.counts.sum()) == ([], 0, 0)


def panels(component: Any) -> list[Any]:
    return [component] if not hasattr(component, "children") else [p for c in component.children for p in panels(c)]


def test_the_workspace_is_saved_once_and_a_persons_changes_to_it_stay(dataset: Any, tmp_path: Path):
    import fiftyone as fo

    from stages.review.review import load

    types = [panel.type for panel in panels(dataset.load_workspace("Review"))]
    # No vectors in this run, so no panel for them.
    assert types == ["Samples", "sightline_findings", "sightline_evidence", "Histograms"]
    dataset.save_workspace("Review", fo.Space(children=[fo.Panel(type="Samples")]), overwrite=True)
    dataset = load(make_run(tmp_path, PLANTED, name=tmp_path.name))
    assert [panel.type for panel in panels(dataset.load_workspace("Review"))] == ["Samples"]
    # Also where the default has changed since: with vectors there is a panel more.
    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    add_vectors(run, count=4)
    dataset = load(run)
    assert [panel.type for panel in panels(dataset.load_workspace("Review"))] == ["Samples"]
    dataset.delete_workspace("Review")
    dataset = load(make_run(tmp_path, [*PLANTED[:3], replace(PLANTED[3], drop_outside=0.2)], name=tmp_path.name))
    assert len(panels(dataset.load_workspace("Review"))) == 4


def test_a_workspace_that_nobody_changed_follows_the_default(dataset: Any, tmp_path: Path):
    from stages.review.review import load

    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    add_vectors(run, count=4)
    types = [panel.type for panel in panels(load(run).load_workspace("Review"))]
    assert types == ["Samples", "sightline_findings", "sightline_evidence", "sightline_embeddings", "Histograms"]


def test_each_stack_of_the_workspace_has_a_panel_in_front(dataset: Any):
    def stacks(component: Any) -> list[Any]:
        children = list(getattr(component, "children", ()))
        if children and not hasattr(children[0], "children"):
            return [component]
        return [stack for child in children for stack in stacks(child)]

    for stack in stacks(dataset.load_workspace("Review")):
        assert stack.active_child == stack.children[0].component_id
