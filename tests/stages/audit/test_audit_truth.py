from __future__ import annotations

import pyarrow as pa
import pytest

from stages.audit.audit import audit
from stages.audit.settings import AuditSettings
from stages.audit.truth import against_truth
from storage.errors import UserError


def truth(positive: dict[str, bool]) -> pa.Table:
    return pa.table({"sample_id": list(positive), "positive": list(positive.values())})


def test_precision_and_recall_of_the_evidence_rule_by_hand(build) -> None:
    # Flagged 0, 1, 2, 3; planted 0, 1, 2, 4, 5: three hits of four flags and of five positives.
    run = build(*[{"outside_effect": 0.5}] * 4, {}, {"evaluable": False}, {})
    audit(run, AuditSettings())
    planted = {f"{index}.jpg": index in (0, 1, 2, 4, 5) for index in range(7)}
    report = against_truth(run, truth(planted))
    assert (report.n, report.positives, report.missing) == (7, 5, ())
    (rule,) = report.rules
    assert (rule.rule, rule.flagged, rule.true_positives, rule.positives) == ("relies_on_outside", 4, 3, 5)
    assert (rule.precision, rule.recall) == (0.75, 0.6)
    # Wilson: 3/4 [.301, .954], 3/5 [.231, .882].
    assert rule.precision_interval == pytest.approx((0.301, 0.954), abs=5e-4)
    assert rule.recall_interval == pytest.approx((0.231, 0.882), abs=5e-4)


def test_a_flag_on_another_target_or_a_description_does_not_count(build) -> None:
    run = build(
        {"sample_id": "x.jpg", "pred_index": 1},
        {"sample_id": "x.jpg", "target": "predicted", "pred_index": 1, "explained": 1, "outside_effect": 0.9},
        {"sample_id": "y.jpg", "pointing_hit": False},
    )
    audit(run, AuditSettings())
    (rule,) = against_truth(run, truth({"x.jpg": True, "y.jpg": False})).rules
    assert (rule.flagged, rule.precision, rule.precision_interval, rule.recall) == (0, None, None, 0.0)


def test_samples_without_truth_are_named_and_count_nowhere(build) -> None:
    run = build({"outside_effect": 0.5}, {"outside_effect": 0.5})
    audit(run, AuditSettings())
    report = against_truth(run, truth({"0.jpg": True, "elsewhere.jpg": True}))
    assert report.missing == ("1.jpg",)
    assert (report.n, report.positives, report.rules[0].flagged) == (1, 1, 1)


def test_a_truth_table_of_another_dataset_is_refused(build) -> None:
    run = build({})
    audit(run, AuditSettings())
    with pytest.raises(UserError, match=r"share no sample: the truth has other\.jpg, the run 0\.jpg"):
        against_truth(run, truth({"other.jpg": True}))
    with pytest.raises(UserError, match="lacks the columns positive"):
        against_truth(run, pa.table({"sample_id": ["0.jpg"]}))
