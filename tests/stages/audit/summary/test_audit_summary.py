from __future__ import annotations

import pytest

from stages.audit.audit import audit
from stages.audit.prevalence import MEASURED, prevalence
from stages.audit.settings import AuditSettings
from stages.audit.summary.summary import Share, headline, summarise
from storage.errors import UserError
from tests.stages.audit.conftest import measured


def test_the_summary_counts_and_averages_by_hand(build) -> None:
    run = build(
        {"ad": 0.0, "ai": 1.0, "ag": 0.8, "outside_effect": 0.6, "box_area_frac": 0.4},
        {"ad": 0.1, "ai": 0.0, "ag": 0.0, "pointing_hit": False, "box_area_frac": 0.2, "energy_lift": 1.0},
        {"ad": 0.2, "ai": 0.0, "ag": 0.4, "samples_status": "no_box", "scores_status": "no_box", "evaluable": False},
        {
            "samples_status": "unreadable", "explain_status": "unreadable", "scores_status": "unreadable",
            "pred_index": None, "ad": None, "ai": None, "ag": None, "evaluable": False,
        },
        {"pred_index": 2, "explain_status": "degenerate_map", "scores_status": "degenerate_map", "evaluable": False},
    )  # fmt: skip
    audit(run, AuditSettings())
    summary = summarise(run)
    assert summary.method == "opti_cam"
    assert summary.samples == {"ok": 3, "no_box": 1, "unreadable": 1}
    assert summary.unscored == {"degenerate_map": 1, "no_box": 1, "unreadable": 1}
    assert summary.accuracy == Share(3, 4)
    (faithful,) = summary.faithfulness
    assert (faithful.method, faithful.target, faithful.n) == ("opti_cam", "label", 3)
    assert (faithful.ad, faithful.ai, faithful.ag) == pytest.approx((10.0, 100 / 3, 40.0), abs=1e-4)
    assert (summary.evaluable, summary.misses, summary.reliance) == (2, Share(1, 2), Share(1, 2))
    assert not summary.standing_out
    assert summary.miss_null == pytest.approx((0.6 + 0.8) / 2)
    assert summary.lift_median == pytest.approx(1.5)
    counts = {rule.rule: rule.count for rule in summary.rules if rule.count}
    assert counts == {"relies_on_outside": 1, "misses_box": 1}


def test_a_class_stands_out_that_relies_on_outside_more_often_than_the_others(build) -> None:
    cat = {"label": "cat", "class_index": 1, "pred_index": 1}
    flagged = [{"outside_effect": 0.6}] * 6  # of 10 mugs, of 10 cats none: Fisher's p is .005
    run = build(*flagged, *[{}] * 4, *[cat] * 10)
    audit(run, AuditSettings())
    summary = summarise(run)
    assert list(summary.standing_out) == ["mug"]
    assert headline(summary.reliance) == "6 of 20 images rest on something outside their boxes"


def test_the_flags_own_errors_are_counted_in_the_share_of_images_and_of_a_class(build) -> None:
    cat = {"label": "cat", "class_index": 1, "pred_index": 1}
    run = build(*[{"outside_effect": 0.6}] * 6, *[{}] * 4, *[cat] * 10)
    audit(run, AuditSettings())
    summary = summarise(run)
    finds, flags_others = MEASURED.found / MEASURED.shortcuts, MEASURED.wrong / MEASURED.others
    assert summary.prevalence is not None
    assert summary.prevalence.rate == pytest.approx((6 / 20 - flags_others) / (finds - flags_others))
    mug = summary.standing_out["mug"]
    assert mug is not None
    assert mug.rate == pytest.approx((6 / 10 - flags_others) / (finds - flags_others), abs=1e-6)
    assert mug.low < 6 / 10 < mug.high


def test_the_errors_of_another_threshold_are_not_known(build) -> None:
    run = build(*[{"outside_effect": 0.6}] * 6, *[{}] * 4)
    assert prevalence(6, 10, AuditSettings(outside_effect=0.4)) is None
    (row,) = audit(run, AuditSettings(outside_effect=0.4)).classes.to_pylist()
    assert (row["reliance_rate"], row["corrected_rate"]) == (pytest.approx(0.6), None)


def test_the_top_findings_of_a_rule_are_its_most_severe(build) -> None:
    run = build(*({"outside_effect": effect} for effect in (0.5, 0.9, 0.6, 0.7)))
    audit(run, AuditSettings())
    first = summarise(run, top=2).rules[0]
    assert (first.rule, first.kind, first.count) == ("relies_on_outside", "flag", 4)
    assert [finding.sample_id for finding in first.top] == ["1.jpg", "3.jpg"]


def test_findings_on_wrong_predictions_alone_are_not_counted_as_the_labels(build) -> None:
    wrong = {"sample_id": "x.jpg", "pred_index": 1}
    of_prediction = {"target": "predicted", "explained": 1, "outside_effect": 0.9}
    run = build(wrong, wrong | of_prediction, {"outside_effect": 0.0})
    audit(run, AuditSettings())
    summary = summarise(run)
    (flag,) = (rule for rule in summary.rules if rule.rule == "relies_on_outside")
    assert (flag.count, flag.by_prediction) == (0, 1)
    assert summary.reliance.hits == 0


def test_faithfulness_is_told_by_method_and_target_with_the_audited_method_first(build) -> None:
    x = {"sample_id": "x.jpg"}
    run = build(x, {**x, "target": "predicted"}, {**x, "method": "fake_cam"})
    audit(run, AuditSettings())
    groups = [(faithful.method, faithful.target) for faithful in summarise(run).faithfulness]
    assert groups == [("opti_cam", "label"), ("opti_cam", "predicted"), ("fake_cam", "label")]


def test_metrics_are_told_by_method_and_target_with_the_audited_method_first(build) -> None:
    x = {"sample_id": "x.jpg"}
    run = build(
        x,
        {**x, "method": "fake_cam"},
        metrics=[
            measured("energy_in", 0.25, method="fake_cam", n=3),
            measured("ad", 0.5, n=5),
            measured("energy_in", 0.75, n=4),
        ],
    )
    audit(run, AuditSettings())
    first, second = summarise(run).metrics
    assert (first.method, first.target, first.n, first.values) == (
        "opti_cam",
        "label",
        4,
        {"ad": 0.5, "energy_in": 0.75},
    )
    assert (second.method, second.n, second.values) == ("fake_cam", 3, {"energy_in": 0.25})


def test_nothing_evaluable_leaves_shares_undefined(build) -> None:
    run = build({"evaluable": False})
    audit(run, AuditSettings())
    summary = summarise(run)
    assert (summary.misses.rate, summary.misses.interval) == (None, None)
    assert (summary.miss_null, summary.lift_median, summary.lift_interval) == (None, None, None)


def test_a_run_that_was_not_audited_says_so(build) -> None:
    with pytest.raises(UserError, match="no findings table yet"):
        summarise(build({}))
