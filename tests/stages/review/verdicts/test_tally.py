from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stages.review.verdicts.table import Review
from stages.review.verdicts.tally import tally

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def said(verdict: str, key: int, reviewer: str = "ann", rule: str = "r") -> Review:
    return Review(f"{key}.png", "label", rule, verdict, reviewer, time=NOON)


def findings(n: int, rule: str = "r") -> list[tuple[str, str, str]]:
    return [(f"{key}.png", "label", rule) for key in range(n)]


def test_precision_counts_faults_of_the_model_the_boxes_and_the_label():
    verdicts = ["confirmed"] * 5 + ["fix_box"] * 2 + ["fix_label"] + ["false_alarm"] * 2 + ["unsure"]
    found = tally([said(verdict, key) for key, verdict in enumerate(verdicts)], findings(20))
    (rule,) = found.rules
    assert (rule.findings, rule.judged, rule.right, rule.wrong) == (20, 11, 8, 2)
    assert rule.verdicts == {"confirmed": 5, "fix_box": 2, "fix_label": 1, "false_alarm": 2, "unsure": 1}
    assert rule.precision == 0.8
    # Wilson for 8 of 10 at z = 1.96: (.8 + .19207 +- 1.96 sqrt(.016 + .0096037)) / 1.38415.
    assert rule.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_finding_that_several_judged_counts_once_and_a_tie_not_at_all():
    reviews = [
        *(said("confirmed", 0, "ann"), said("confirmed", 0, "bob"), said("false_alarm", 0, "cyd")),
        *(said("confirmed", 1, "ann"), said("false_alarm", 1, "bob")),
        *(said("unsure", 2, "ann"), said("false_alarm", 2, "bob")),
    ]
    (rule,) = tally(reviews, findings(3)).rules
    assert (rule.judged, rule.right, rule.wrong, rule.precision) == (3, 1, 1, 0.5)


def test_what_is_undecided_has_no_precision():
    (rule,) = tally([said("unsure", 0)], findings(1)).rules
    assert (rule.precision, rule.interval) == (None, None)


def test_only_the_last_verdict_and_only_findings_of_the_run_count():
    changed = replace(said("false_alarm", 0), time=NOON + timedelta(minutes=1))
    found = tally([said("confirmed", 0), changed, said("confirmed", 7)], findings(2))
    assert (found.stored, found.standing, found.gone) == (3, 2, 1)
    assert found.verdicts == {"false_alarm": 1, "confirmed": 1}
    assert [(rule.right, rule.wrong) for rule in found.rules] == [(0, 1)]


def test_kappa_of_a_known_table():
    # Cohen's kappa of the table [[20, 5], [10, 15]]: observed .7, by chance .5 * .6 + .5 * .4 = .5, so .2 / .5 = .4.
    pairs = (
        [("confirmed", "confirmed")] * 20
        + [("confirmed", "false_alarm")] * 5
        + [("false_alarm", "confirmed")] * 10
        + [("false_alarm", "false_alarm")] * 15
    )
    reviews = [said(one, key, "ann") for key, (one, _) in enumerate(pairs)]
    reviews += [said(other, key, "bob") for key, (_, other) in enumerate(pairs)]
    reviews.append(said("unsure", 99, "ann"))
    (pair,) = tally(reviews, findings(50)).agreements
    assert (pair.reviewers, pair.n, pair.agreement) == (("ann", "bob"), 50, 0.7)
    assert pair.kappa == pytest.approx(0.4)


def test_kappa_is_undefined_where_nothing_varies():
    reviews = [said("confirmed", key, who) for key in range(3) for who in ("bob", "ann")]
    (pair,) = tally(reviews, findings(3)).agreements
    assert (pair.agreement, pair.kappa) == (1.0, None)
