from __future__ import annotations

from dataclasses import replace

import pytest

from stages.audit.audit import audit
from stages.audit.report import gather, render
from stages.audit.report.headline import explanation, next_steps
from stages.audit.settings import AuditSettings
from stages.audit.summary.summary import headline, mispredicted, untested

FLAGGED = {"outside_effect": 0.6}


@pytest.mark.parametrize(
    ("flagged", "words"),
    [
        (0, "None of 4 images was found to rest on something outside its boxes"),
        (1, "1 of 4 images rests on something outside its boxes"),
        (2, "2 of 4 images rest on something outside their boxes"),
    ],
)
def test_the_headline_counts_images(build, flagged: int, words: str) -> None:
    run = build(*(FLAGGED if index < flagged else {} for index in range(4)))
    audit(run, AuditSettings())
    assert headline(gather(run).summary.reliance) == words


def test_a_run_without_flags_says_how_much_it_may_have_missed(build) -> None:
    run = build(*({} for _ in range(4)))
    audit(run, AuditSettings())
    contents = gather(run)
    # 95% Wilson for 0 of 4: 1.96² / (4 + 1.96²) = .490.
    assert "up to 49.0% of such images may still do so" in explanation(contents)
    assert next_steps(contents)[-1].what == "Do not take this for a proof"


def test_the_next_steps_are_those_that_the_run_calls_for(build) -> None:
    cats = ({"label": "cat", "class_index": 1, "pred_index": 1, "sample_id": f"cat{i}", **FLAGGED} for i in range(12))
    run = build(*cats, *({} for _ in range(12)), name="a run")
    audit(run, AuditSettings())
    steps = next_steps(gather(run))
    assert [step.what for step in steps] == [
        "Look at the 12 flagged images",
        "Where it is a shortcut, break it in: cat",
        "Check that the maps depend on the network",
    ]
    assert steps[0].command == f"sightline app '{run.url}'", "a space in the run's path does not break the command"


def test_doubts_about_the_annotation_are_counted_in_one_step(build) -> None:
    run = build(
        {"p_crop_outside": 0.9, "pred_crop_outside": 0, "explained": 0},
        {"sample_id": "x.jpg", "pred_index": 2, "p_full": 0.01},
        {"sample_id": "x.jpg", "target": "predicted", "pred_index": 2, "explained": 2, "p_full": 0.9},
    )
    audit(run, AuditSettings())
    steps = next_steps(gather(run))
    assert steps[0].what == "Check 1 image that may lack a box and 1 suspect label"
    assert steps[0].command == f"sightline app {run.url}"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"outside_room": 0.2}, "because the classifier sees the class in an empty picture or other objects too"),
        (
            {"outside_effect": None, "outside_room": None, "p_transplant": None},
            "because no image of another class lends an object: it needs boxes",
        ),
    ],
)
def test_a_class_that_cannot_be_tested_is_named_with_the_reason(build, change: dict, why: str) -> None:
    run = build(change, change)
    audit(run, AuditSettings())
    contents = gather(run)
    assert headline(contents.summary.reliance) == "What the model relies on could not be tested"
    assert untested(contents.summary) == f"cannot be tested: mug (2 of 2), {why}"
    assert explanation(contents).startswith(f"Cannot be tested: mug (2 of 2), {why}.")
    assert "Give the dataset boxes" not in [step.what for step in next_steps(contents)]


def test_what_cannot_be_tested_stands_beside_what_was(build) -> None:
    run = build({}, {"outside_room": 0.2}, {"label": "cat", "class_index": 1, "outside_effect": 0.8})
    audit(run, AuditSettings())
    contents = gather(run)
    assert headline(contents.summary.reliance) == "1 of 2 images rests on something outside its boxes"
    assert "Cannot be tested: mug (1 of 2), because" in explanation(contents)


def test_a_run_without_boxes_is_told_to_get_some(build) -> None:
    run = build({"evaluable": False, "scores_status": "no_box"})
    audit(run, AuditSettings())
    contents = gather(run)
    assert headline(contents.summary.reliance) == "What the model relies on could not be tested"
    assert "Give the dataset boxes" in [step.what for step in next_steps(contents)]


def test_flags_on_wrong_predictions_alone_are_said_and_to_be_looked_at(build) -> None:
    wrong = {"sample_id": "x.jpg", "pred_index": 2}
    run = build(*({} for _ in range(3)), wrong, {**wrong, **FLAGGED, "target": "predicted", "explained": 2})
    audit(run, AuditSettings())
    contents = gather(run)
    assert headline(contents.summary.reliance).startswith("None of 4 images")
    assert mispredicted(contents.summary) == "Of 1 image a wrong prediction rests on something outside the boxes"
    assert "Of 1 image a wrong prediction rests on something outside the boxes." in explanation(contents)
    assert next_steps(contents)[0].what == "Look at the 1 image flagged by a wrong prediction"
    assert "Nothing was found outside the boxes" not in render(contents)


def test_a_run_of_predictions_alone_has_no_wrong_prediction_where_all_are_right(build) -> None:
    right = {"target": "predicted", "explained": 0, "boxes": [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": None}]}
    run = build(*({**right, "sample_id": f"{i}.jpg"} for i in range(3)), {**right, **FLAGGED, "sample_id": "x.jpg"})
    run.create_maps(replace(run.maps("label").attributes, target="predicted"), rows=4, grid=(2, 2))
    run.discard_maps("label", "opti_cam")
    audit(run, AuditSettings())
    contents = gather(run)
    (flag,) = [rule for rule in contents.summary.rules if rule.rule == "relies_on_outside"]
    assert (flag.count, flag.by_prediction, contents.summary.labelled) == (1, 0, False)
    assert "Give the dataset boxes" not in [step.what for step in next_steps(contents)]


def test_where_an_image_is_several_samples_samples_are_counted(build) -> None:
    run = build({"sample_id": "a.jpg#mug", "uri": "a.jpg", **FLAGGED}, {"sample_id": "a.jpg#cat", "uri": "a.jpg"})
    audit(run, AuditSettings())
    contents = gather(run)
    assert contents.summary.unit == "sample"
    assert headline(contents.summary.reliance, contents.summary.unit).startswith("1 of 2 samples rests")
    assert next_steps(contents)[0].what == "Look at the 1 flagged sample"
