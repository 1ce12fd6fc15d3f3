"""AUROC and average precision of classes that do not exclude each other, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from stages.audit.audit import audit
from stages.audit.ranking import Ranking, rank_classes
from stages.audit.settings import AuditSettings
from stages.audit.summary.summary import summarise


def sample(image: str, class_index: int | None, p: list[float] | None, **changes: Any) -> dict[str, Any]:
    names = {0: "mug", 1: "cat", None: None}
    label = names[class_index]
    return {
        "sample_id": f"{image}#{label}", "uri": image, "label": label, "class_index": class_index,
        "class_probabilities": p, "pred_index": 0, **changes,
    }  # fmt: skip


EMPTY = {"samples_status": "no_box", "scores_status": "no_class", "evaluable": False}


def test_by_hand(build) -> None:
    # mug: p .9 and .4 with it, .6 and .1 without. Of the four pairs .4 < .6 alone is wrong: 3/4. Precision is 1/1 down
    # to the first mug and 2/3 down to the second: 5/6.
    # cat: p .5 with it, .5, .2 and .3 without: a tie is half, so 2.5/3; precision 1/2 among the two at .5.
    run = build(
        sample("a.jpg", 0, [0.9, 0.2]),
        sample("b.jpg", 0, [0.4, 0.5], other_classes=[1]),
        sample("b.jpg", 1, [0.4, 0.5], other_classes=[0]),
        sample("c.jpg", None, [0.6, 0.5], **EMPTY),
        sample("d.jpg", None, [0.1, 0.3], **EMPTY),
    )
    assert rank_classes(run, "opti_cam") == {
        0: Ranking(pytest.approx(3 / 4), pytest.approx(5 / 6), positives=2, images=4),
        1: Ranking(pytest.approx(2.5 / 3), pytest.approx(1 / 2), positives=1, images=4),
    }
    report = audit(run, AuditSettings())
    found = {row["label"]: (row["auroc"], row["average_precision"]) for row in report.classes.to_pylist()}
    assert found == {
        "mug": (pytest.approx(3 / 4), pytest.approx(5 / 6)),
        "cat": (pytest.approx(2.5 / 3), pytest.approx(1 / 2)),
    }
    ranked = summarise(run).ranked
    assert ranked is not None
    assert (ranked.auroc, ranked.average_precision, ranked.classes) == (
        pytest.approx((3 / 4 + 2.5 / 3) / 2),
        pytest.approx((5 / 6 + 1 / 2) / 2),
        2,
    )


def test_images_whose_classes_nobody_knows_are_no_counterexamples(build) -> None:
    unknown = {"samples_status": "no_class", "scores_status": "no_class", "evaluable": False}
    run = build(
        sample("a.jpg", 0, [0.3, 0.1]),
        sample("b.jpg", 1, [0.2, 0.9]),
        sample("c.jpg", None, [0.9, 0.9], **unknown),
    )
    assert rank_classes(run, "opti_cam")[0] == Ranking(1.0, 1.0, positives=1, images=2)


def test_an_image_has_the_classes_of_its_boxes_too(build) -> None:
    # As of dataset.labels: largest_box, where the other objects of an image are no samples of their own.
    edges = {"x0": 1.0, "y0": 1.0, "x1": 2.0, "y1": 2.0}
    both = [{**edges, "label": None}, {**edges, "label": "cat"}, {**edges, "label": "no class of the model"}]
    run = build(
        sample("a.jpg", 0, [0.9, 0.8], boxes=both),
        sample("b.jpg", 0, [0.8, 0.3]),
        sample("c.jpg", 1, [0.2, 0.7]),
    )
    # cat: .8 and .7 with it, .3 without.
    assert rank_classes(run, "opti_cam")[1] == Ranking(1.0, 1.0, positives=2, images=3)


def test_a_class_that_all_images_have_cannot_be_ranked(build) -> None:
    run = build(
        sample("a.jpg", 0, [0.3, 0.1], other_classes=[1]),
        sample("b.jpg", 0, [0.2, 0.9]),
    )
    assert set(rank_classes(run, "opti_cam")) == {1}


def test_where_classes_exclude_each_other_there_is_no_ranking(build) -> None:
    run = build({}, {"label": "cat", "class_index": 1, "pred_index": 1})
    report = audit(run, AuditSettings())
    assert [row["auroc"] for row in report.classes.to_pylist()] == [None, None]
    assert summarise(run).ranked is None
