from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from stages.audit.audit import audit
from stages.audit.settings import AuditSettings

CAT = {"label": "cat", "class_index": 1, "pred_index": 1}


def entries(report: Any) -> dict[str, dict[str, Any]]:
    return {entry["label"]: entry for entry in report.classes.to_pylist()}


def test_a_class_that_relies_on_outside_leads_with_fishers_p_against_the_others(build) -> None:
    run = build(*[{"outside_effect": 0.5}] * 3, *[CAT] * 3)
    report = audit(run, AuditSettings(min_class_size=3))
    assert report.classes["label"].to_pylist() == ["mug", "cat"]
    mug, cat = entries(report)["mug"], entries(report)["cat"]
    assert mug["reliance_rate"] == 1.0
    # 3 of 3: z^2 / (n + z^2) = 3.8415 / 6.8415 = .5615 below 1.
    assert (mug["reliance_low"], mug["reliance_high"]) == (pytest.approx(0.4385, abs=1e-4), 1.0)
    assert mug["reliance_p"] == pytest.approx(1 / 20)
    assert mug["reliance_q"] == pytest.approx(2 / 20)
    assert (cat["reliance_rate"], cat["reliance_p"], cat["reliance_q"]) == (0.0, 1.0, 1.0)
    assert (mug["n_findings"], cat["n_findings"]) == (3, 0)


def test_nothing_is_claimed_about_a_small_class(build) -> None:
    run = build(*[{"outside_effect": 0.5}] * 3, *[CAT] * 2)
    classes = entries(audit(run, AuditSettings(min_class_size=3)))
    assert classes["cat"]["reliance_p"] is None
    assert classes["cat"]["reliance_q"] is None
    assert classes["mug"]["reliance_q"] == classes["mug"]["reliance_p"] == pytest.approx(1 / 10)


def test_a_single_class_has_nothing_to_be_compared_with(build) -> None:
    classes = entries(audit(build(*[{}] * 4), AuditSettings(min_class_size=1)))
    assert classes["mug"]["reliance_p"] is None


def test_the_miss_rate_stands_beside_the_chance_of_missing_the_same_boxes(build) -> None:
    hits = [{"box_area_frac": 0.2}] * 8
    misses = [{"box_area_frac": 0.7, "pointing_hit": False}] * 2
    mug = entries(audit(build(*hits, *misses), AuditSettings()))["mug"]
    assert mug["miss_rate"] == pytest.approx(0.2)
    # Wilson of 2/10 mirrors that of 8/10.
    assert (mug["miss_rate_low"], mug["miss_rate_high"]) == pytest.approx((1 - 0.943, 1 - 0.490), abs=5e-4)
    assert mug["miss_rate_null"] == pytest.approx((8 * 0.8 + 2 * 0.3) / 10)


def test_undefined_is_left_out_and_never_counted_as_a_miss(build) -> None:
    run = build({}, {"pointing_hit": None, "outside_effect": None, "energy_lift": None}, {"evaluable": False})
    mug = entries(audit(run, AuditSettings()))["mug"]
    assert (mug["n"], mug["n_evaluable"]) == (3, 2)
    assert (mug["miss_rate"], mug["reliance_rate"], mug["lift_median"]) == (0.0, 0.0, 2.0)


def test_a_class_without_an_evaluable_sample_has_an_accuracy_and_nulls(build) -> None:
    mug = entries(audit(build({"evaluable": False}, {"evaluable": False, "pred_index": 2}), AuditSettings()))["mug"]
    assert mug["accuracy"] == 0.5
    assert mug["miss_rate"] is None
    assert mug["miss_rate_null"] is None
    assert mug["reliance_low"] is None
    assert mug["context_reliance_median"] is None


def test_accuracy_counts_a_sample_once_however_many_targets_it_has(build) -> None:
    right = [{"sample_id": "r.jpg"}, {"sample_id": "r.jpg", "target": "predicted"}]
    wrong = {"sample_id": "w.jpg", "pred_index": 2}
    run = build(*right, wrong, {**wrong, "target": "predicted", "explained": 2})
    mug = entries(audit(run, AuditSettings()))["mug"]
    assert (mug["n"], mug["accuracy"]) == (2, 0.5)


def test_an_unreadable_sample_and_an_unknown_label_make_no_class(build) -> None:
    run = build(
        {},
        {"samples_status": "unreadable", "pred_index": None, "evaluable": None, "label": "dog", "class_index": 2},
        {"label": None, "class_index": None, "target": "predicted", "explained": 0, "evaluable": None},
    )
    assert list(entries(audit(run, AuditSettings()))) == ["mug"]


def test_a_label_that_the_model_lacks_has_no_accuracy(build) -> None:
    run = build({"label": "yak", "class_index": None, "target": "predicted", "explained": 0, "evaluable": None})
    yak = entries(audit(run, AuditSettings()))["yak"]
    assert (yak["n"], yak["accuracy"], yak["class_index"]) == (1, None, None)


def test_an_effect_of_exactly_the_threshold_counts_for_the_class_as_for_the_rule(build) -> None:
    # .7 is not a float32: the stored value lies below the Python number.
    report = audit(build({"outside_effect": 0.7}), AuditSettings(outside_effect=0.7))
    assert report.findings["rule"].to_pylist() == ["relies_on_outside"]
    assert entries(report)["mug"]["reliance_rate"] == 1.0


def test_samples_that_could_not_be_tested_are_in_no_rate_and_count_as_not_flagged_beside_other_classes(build) -> None:
    untestable = {**CAT, "outside_effect": 0.1, "outside_room": 0.2}
    run = build(*[{"outside_effect": 0.5}] * 3, *[untestable] * 3)
    classes = entries(audit(run, AuditSettings(min_class_size=3)))
    mug, cat = classes["mug"], classes["cat"]
    assert (cat["n_evaluable"], cat["n_untestable"], cat["reliance_rate"]) == (3, 3, None)
    assert (cat["reliance_p"], cat["reliance_q"]) == (None, None)
    assert (mug["n_untestable"], mug["reliance_rate"], mug["reliance_p"]) == (0, 1.0, pytest.approx(1 / 20))


def test_the_median_of_an_even_count_is_the_middle(build) -> None:
    mug = entries(audit(build({"energy_lift": 1.0}, {"energy_lift": 4.0}), AuditSettings()))["mug"]
    assert mug["lift_median"] == 2.5


def test_medians_have_a_bootstrap_interval_from_the_minimum_n_on(build) -> None:
    lifts = [1.0] * 4 + [2.0] * 2 + [3.0] * 4
    rows = [{"energy_lift": lift, "context_reliance": 0.25} for lift in lifts]
    mug = entries(audit(build(*rows), AuditSettings(min_class_size=10)))["mug"]
    # 6 or more of 10 draws are 1 (or 3) with probability .166 each, so that both ends of the 95% lie there.
    assert (mug["lift_low"], mug["lift_median"], mug["lift_high"]) == (1.0, 2.0, 3.0)
    assert (mug["context_low"], mug["context_reliance_median"], mug["context_high"]) == (0.25, 0.25, 0.25)
    small = entries(audit(build(*rows, name="small"), AuditSettings(min_class_size=11)))["mug"]
    assert (small["lift_low"], small["lift_median"], small["lift_high"]) == (None, 2.0, None)
    assert (small["context_low"], small["context_high"]) == (None, None)


def test_five_classes_by_another_s_statistics(build) -> None:
    """Rates, intervals, p and q of a whole table from scipy's functions and the definitions alone."""
    # class: (evaluable rows, reliant, pointing misses, wrong predictions, rows without a box)
    sizes = {
        "mug": (12, 6, 3, 4, 2),
        "cat": (20, 1, 0, 0, 0),
        "dog": (15, 0, 15, 15, 0),
        "owl": (10, 4, 5, 1, 3),
        "yak": (4, 3, 1, 0, 0),  # below the minimum
    }
    rows, lifts = [], {}
    for number, (label, (n, reliant, missed, wrong, unboxed)) in enumerate(sizes.items()):
        lifts[label] = np.random.default_rng(number).gamma(2.0, size=n).astype(np.float32)
        for place in range(n + unboxed):
            row = {"label": label, "class_index": number, "pred_index": 9 if place < wrong else number}
            if place >= n:
                rows.append({**row, "evaluable": False, "outside_effect": None, "pointing_hit": None})
                continue
            effect = 0.6 if place < reliant else 0.1
            hit = place >= missed
            rows.append(
                {**row, "outside_effect": effect, "pointing_hit": hit, "energy_lift": float(lifts[label][place])}
            )
    found = entries(audit(build(*rows), AuditSettings(min_class_size=10)))

    def wilson(hits: int, n: int) -> tuple[float, float]:
        interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
        return pytest.approx((interval.low, interval.high))

    n_all, reliant_all = sum(n for n, *_ in sizes.values()), sum(k for _, k, *_ in sizes.values())
    p = {
        label: stats.fisher_exact([[k, n - k], [reliant_all - k, n_all - n - reliant_all + k]], "greater").pvalue
        for label, (n, k, *_) in sizes.items()
        if n >= 10
    }
    q = dict(zip(p, stats.false_discovery_control(list(p.values())), strict=True))
    for label, (n, k, missed, wrong, unboxed) in sizes.items():
        entry = found[label]
        assert (entry["n"], entry["n_evaluable"]) == (n + unboxed, n)
        assert entry["accuracy"] == pytest.approx(1 - wrong / (n + unboxed))
        assert (entry["accuracy_low"], entry["accuracy_high"]) == wilson(n + unboxed - wrong, n + unboxed)
        assert entry["miss_rate"] == pytest.approx(missed / n)
        assert (entry["miss_rate_low"], entry["miss_rate_high"]) == wilson(missed, n)
        assert entry["reliance_rate"] == pytest.approx(k / n)
        assert (entry["reliance_low"], entry["reliance_high"]) == wilson(k, n)
        assert entry["lift_median"] == pytest.approx(np.median(lifts[label]))
        if label in p:
            assert (entry["reliance_p"], entry["reliance_q"]) == pytest.approx((p[label], q[label]))
            assert entry["lift_low"] <= entry["lift_median"] <= entry["lift_high"]
        else:
            claims = ("reliance_p", "reliance_q", "lift_low", "lift_high", "context_low", "context_high")
            assert {entry[name] for name in claims} == {None}
    # The most reliant by q first, the class without a claim last.
    assert list(found) == [*sorted(q, key=lambda label: (q[label], -sizes[label][1] / sizes[label][0])), "yak"]
