from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from stages.audit.audit import audit
from stages.audit.rules import RULES
from stages.audit.settings import AuditSettings, CustomRule
from storage.errors import SightlineError, UserError
from storage.run import Part

WRONG = {"target": "predicted", "pred_index": 1, "explained": 1, "p_full": 0.85, "pred_prob": 0.85}
OFF = {"pointing_hit": False, "energy_in": 0.1, "energy_lift": 0.33}


def found(report: Any) -> set[tuple[str, str, str]]:
    table: pa.Table = report.findings
    return {(row["sample_id"], row["target"], row["rule"]) for row in table.to_pylist()}


def wrong_sample(p_label: float, **change: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    label = {"sample_id": "x.jpg", "p_full": p_label, "pred_index": 1, "pred_prob": 0.85}
    return label, {"sample_id": "x.jpg", **WRONG, **change}


def test_a_right_sample_that_looks_at_its_box_is_not_found(build) -> None:
    assert found(audit(build({}), AuditSettings())) == set()


def test_the_worth_of_the_surroundings_is_a_flag_from_the_threshold_and_a_review_band_below(build) -> None:
    run = build(*({"outside_effect": effect} for effect in (0.5, 0.499, 0.3, 0.299, None)))
    report = audit(run, AuditSettings())
    assert found(report) == {
        ("0.jpg", "label", "relies_on_outside"),
        ("1.jpg", "label", "may_rely_on_outside"),
        ("2.jpg", "label", "may_rely_on_outside"),
    }
    kinds = dict(zip(report.findings["rule"].to_pylist(), report.findings["kind"].to_pylist(), strict=True))
    assert kinds == {"relies_on_outside": "flag", "may_rely_on_outside": "description"}


def test_the_threshold_is_the_settings(build) -> None:
    run = build({"outside_effect": 0.55})
    assert found(audit(run, AuditSettings(outside_effect=0.6, outside_review=0.56))) == set()


def test_a_sample_that_could_not_be_tested_is_in_no_rate(build) -> None:
    run = build(
        {"outside_effect": 0.1, "outside_room": 0.5},
        {"outside_effect": 0.1, "outside_room": 0.499},
        {"outside_effect": 0.6, "outside_room": 0.4},  # lost more than an empty view would: it was tested after all
        {"outside_effect": None, "outside_room": None},
    )
    report = audit(run, AuditSettings())
    assert found(report) == {("2.jpg", "label", "relies_on_outside")}
    (mug,) = report.classes.to_pylist()
    assert (mug["reliance_rate"], mug["n_untestable"]) == (1 / 2, 2)


def test_a_class_that_is_lost_without_its_surroundings_needs_them_unless_they_are_flagged(build) -> None:
    lost = {"p_full": 0.875, "p_hide_context": 0.375}
    run = build(
        lost,
        {**lost, "p_hide_context": 0.376},
        {**lost, "outside_effect": 0.6},
        {**lost, "drop_outside": None, "drop_random": None, "outside_effect": None},
        {**lost, "p_hide_context": None},
    )
    report = audit(run, AuditSettings())
    assert found(report) == {
        ("0.jpg", "label", "needs_context"),
        ("2.jpg", "label", "relies_on_outside"),
        ("3.jpg", "label", "needs_context"),
    }
    reasons = {row["sample_id"]: row["reason"] for row in report.findings.to_pylist()}
    assert reasons["0.jpg"] == (
        "with all that lies outside the boxes blurred, p(mug) falls from .88 to .38; "
        "hiding the tenth of the view that costs most takes .02"
    )
    assert reasons["3.jpg"].endswith("takes unknown")


def test_something_outside_that_passes_for_the_class_alone_may_be_a_missing_box(build) -> None:
    # An empty view has .2: four fifths of what that leaves are .64, so .84 is the least.
    seen = {"p_crop_outside": 0.85, "pred_crop_outside": 0, "crop_outside_box": {"x0": 1, "y0": 2, "x1": 3, "y1": 4.5}}
    run = build(
        {**seen, "p_full": 0.9, "drop_outside": 0.05},
        {**seen, "p_crop_outside": 0.83},
        {**seen, "p_crop_outside": 0.85, "p_blank": 0.3},
        {**seen, "pred_crop_outside": 1},
        {**seen, "target": "predicted"},
    )
    (finding,) = audit(run, AuditSettings()).findings.to_pylist()
    assert (finding["sample_id"], finding["rule"], finding["kind"]) == ("0.jpg", "missing_box", "description")
    assert finding["severity"] == pytest.approx(0.85)
    assert finding["reason"] == (
        "the part outside the boxes that lights up most, shown alone, is taken for mug with p .85; "
        "p on an empty view is .20, on the whole view .90, and hiding something outside costs .05"
    )
    assert json.loads(finding["evidence"])["crop_outside_box"] == {"x0": 1, "y0": 2, "x1": 3, "y1": 4.5}


def test_a_box_is_suspect_that_the_class_is_seen_beside_and_not_in(build) -> None:
    run = build(
        {"p_box": 0.25, "p_crop_outside": 0.75, "p_hide_far": 0.5},  # the part outside has .5 more of it
        {"p_box": 0.25, "p_hide_context_neutral": 0.5, "p_hide_far": 0.95},  # .45 more with a rim of 16 px
        {"p_box": 0.25, "p_hide_context_neutral": 0.6, "p_hide_far": 0.95},  # .35: in one colour the box is enough
        {"p_box": 0.9, "p_crop_outside": 0.95},
    )
    findings = audit(run, AuditSettings()).findings.to_pylist()
    assert [(row["sample_id"], row["rule"], row["kind"]) for row in findings] == [
        ("0.jpg", "box_suspect", "description"),
        ("1.jpg", "box_suspect", "description"),
    ]
    assert [row["severity"] for row in findings] == pytest.approx([0.5, 0.45])
    assert findings[0]["reason"] == (
        "shown alone, the boxes have p(mug) .25 and the part outside that lights up most .75; "
        "with 16 px around the boxes left as they are, and the rest blurred, p is .50"
    )


def test_the_reason_says_in_words_what_the_surroundings_are_worth(build) -> None:
    probes = {"p_full": 0.93, "p_hide_context_neutral": 0.2, "p_hide_far": 0.25, "p_hide_outside": 0.41}
    probes |= {"p_hide_random": 0.92, "p_transplant": 0.85, "p_transplant_null": 0.002}
    run = build({**probes, "outside_effect": 0.78, "drop_outside": 0.52})
    finding = audit(run, AuditSettings()).findings.to_pylist()[0]
    assert finding["reason"] == (
        "p(mug) is .93, .20 with all that lies outside the boxes in one colour and .25 with it blurred from 16 px on; "
        "objects of other classes have .85 of mug in these surroundings, <.01 alone; with the costliest tenth outside "
        "hidden (opti_cam) p is .41, with a random tenth .92"
    )
    assert finding["severity"] == pytest.approx(0.78)
    evidence = json.loads(finding["evidence"])
    assert (evidence["outside_effect"], evidence["drop_outside"]) == (0.78, 0.52)
    assert evidence["hide_locator"] == "opti_cam"


def test_a_row_that_is_not_evaluable_is_never_found(build) -> None:
    run = build({"outside_effect": 0.9, **OFF, "evaluable": False}, {"outside_effect": 0.9, "evaluable": None})
    assert found(audit(run, AuditSettings())) == set()


def test_a_removed_sample_is_never_found(build) -> None:
    assert found(audit(build({"outside_effect": 0.9, "samples_status": "removed"}), AuditSettings())) == set()


def test_two_targets_of_one_class_are_one_finding(build) -> None:
    same = {"sample_id": "x.jpg", "outside_effect": 0.5}
    run = build(same, {**same, "target": "predicted"})
    assert found(audit(run, AuditSettings())) == {("x.jpg", "label", "relies_on_outside")}


def test_a_wrong_prediction_may_rely_on_outside_too(build) -> None:
    run = build(*wrong_sample(0.3, outside_effect=0.6))
    assert ("x.jpg", "predicted", "relies_on_outside") in found(audit(run, AuditSettings()))


def test_a_pointing_miss_is_a_description_and_only_that(build) -> None:
    run = build({"pointing_hit": False, "energy_in": 0.4, "energy_lift": 1.3})
    report = audit(run, AuditSettings())
    assert found(report) == {("0.jpg", "label", "misses_box")}
    assert report.findings["kind"].to_pylist() == ["description"]
    assert report.findings["severity"].to_pylist() == [pytest.approx(0.6)]


def test_an_unlikely_label_with_another_class_on_the_box_is_suspect(build) -> None:
    run = build(*wrong_sample(0.02))
    report = audit(run, AuditSettings())
    assert found(report) == {
        ("x.jpg", "predicted", "label_suspect"),
        ("x.jpg", "predicted", "wrong_but_on_object"),
    }
    reason = next(row["reason"] for row in report.findings.to_pylist() if row["rule"] == "label_suspect")
    assert reason == (
        "p(mug) is .02 and p(cat) is .85, with 60% of the map of cat in the boxes, which cover 30% of the view"
    )


@pytest.mark.parametrize(
    ("p_label", "change"),
    [(0.2, {}), (0.02, {"p_full": 0.6, "pred_prob": 0.6}), (0.02, OFF)],
    ids=["label still possible", "other class unsure", "map off the box"],
)
def test_a_label_is_not_suspect_without_all_three_signs(build, p_label: float, change: dict[str, Any]) -> None:
    rules = {rule for *_, rule in found(audit(build(*wrong_sample(p_label, **change)), AuditSettings()))}
    assert "label_suspect" not in rules


def test_a_wrong_prediction_off_the_box_is_background(build) -> None:
    run = build(*wrong_sample(0.3, **OFF))
    assert found(audit(run, AuditSettings())) == {("x.jpg", "predicted", "wrong_and_elsewhere")}


def test_right_and_confident_but_elsewhere_needs_all_of_it(build) -> None:
    run = build(OFF, {**OFF, "pred_prob": 0.7}, {**OFF, "energy_lift": 1.1})
    elsewhere = {key for key in found(audit(run, AuditSettings())) if key[2] == "looks_elsewhere_but_right"}
    assert elsewhere == {("0.jpg", "label", "looks_elsewhere_but_right")}


def test_border_and_collapsed_maps_are_described(build) -> None:
    run = build({"border_energy": 0.6}, {"entropy": 0.5})
    assert found(audit(run, AuditSettings())) == {
        ("0.jpg", "label", "border_energy"),
        ("1.jpg", "label", "collapsed_map"),
    }


def test_scores_of_another_part_of_explain_than_is_there_are_not_audited(build) -> None:
    run = build({})
    explain, scores = Part("explain", "opti_cam", 0), Part("scores", "opti_cam", 0)
    run.write_part(explain, run.read_part(explain), {"maps_checksum": "a", "probes_fingerprint": "b"})
    run.write_part(scores, run.read_part(scores), {"made_from": "a b"})
    assert audit(run, AuditSettings()).findings.num_rows == 0
    run.write_part(explain, run.read_part(explain), {"maps_checksum": "a", "probes_fingerprint": "other"})
    with pytest.raises(SightlineError, match=r"scores/opti_cam/part-00000.parquet was not made from .* Run again"):
        audit(run, AuditSettings())


def test_findings_come_evidence_first_then_by_severity_whatever_the_order_of_rows(build) -> None:
    changes = [
        {"sample_id": "a.jpg", "outside_effect": 0.6},
        {"sample_id": "b.jpg", **OFF},
        {"sample_id": "c.jpg", "outside_effect": 0.8},
        {"sample_id": "d.jpg", "outside_effect": 0.6},
    ]
    order = [
        [row["sample_id"] for row in audit(build(*rows, name=name), AuditSettings()).findings.to_pylist()]
        for name, rows in {"forward": changes, "backward": changes[::-1]}.items()
    ]
    assert order[0] == order[1]
    assert order[0][:3] == ["c.jpg", "a.jpg", "d.jpg"]


def test_every_rule_says_what_it_means_in_two_sentences() -> None:
    for rule in RULES:
        assert rule.meaning.count(". ") + 1 in (1, 2), rule.id
        assert rule.meaning.endswith("."), rule.id


def test_only_the_worth_of_the_surroundings_is_a_flag() -> None:
    assert [rule.id for rule in RULES if rule.kind == "flag"] == ["relies_on_outside"]


def test_a_rule_of_the_users_own_finds_and_explains(build) -> None:
    own = CustomRule(
        id="small_box",
        title="The box is tiny",
        when="box_area_frac < .05 AND drop_inside < {outside_review}",
        severity="1 - box_area_frac",
        reason="the boxes of {label} cover {box_area_frac:%}",
    )
    run = build({"box_area_frac": 0.04, "drop_inside": 0.1}, {"box_area_frac": 0.04, "drop_inside": 0.4})
    finding = audit(run, AuditSettings(rules=(own,))).findings.to_pylist()
    assert [(row["sample_id"], row["rule"], row["kind"]) for row in finding] == [("0.jpg", "small_box", "description")]
    assert finding[0]["reason"] == "the boxes of mug cover 4%"
    assert finding[0]["severity"] == pytest.approx(0.96)
    assert json.loads(finding[0]["evidence"]) == {"box_area_frac": 0.04, "drop_inside": 0.1}


def test_a_severity_is_clipped_may_be_a_constant_and_is_zero_for_null(build) -> None:
    rules = (
        CustomRule(id="high", title="High", when="true", severity="7"),
        CustomRule(id="plain", title="Plain", when="true"),
        CustomRule(id="null", title="Null", when="true", severity="NULL::FLOAT"),
    )
    rows = audit(build({}), AuditSettings(rules=rules)).findings.to_pylist()
    assert {row["rule"]: row["severity"] for row in rows} == {"high": 1.0, "plain": 0.5, "null": 0.0}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"when": "drop_outsid > .1"}, r"rule 'mine'.*drop_outsid.*nearest: drop_outside"),
        ({"when": "drop_outside > "}, r"rule 'mine'.*syntax error"),
        ({"when": "drop_outside > {drop_outsde}"}, r"rule 'mine'.*\{drop_outsde\}.*did you mean drop_outside"),
        ({"when": "true", "reason": "{energy_inn}"}, r"rule 'mine'.*energy_inn.*did you mean energy_in"),
        ({"when": "true", "id": "misses_box"}, r"rule 'misses_box': the id is taken"),
    ],
    ids=["column", "syntax", "threshold", "reason", "id"],
)
def test_a_mistake_in_a_users_rule_names_the_rule_and_the_nearest_name(
    build, rule: dict[str, str], message: str
) -> None:
    own = CustomRule(**{"id": "mine", "title": "Mine", **rule})
    with pytest.raises(UserError, match=message):
        audit(build({}), AuditSettings(rules=(own,)))


def test_an_audit_of_a_method_that_the_run_lacks_says_which_it_has(build) -> None:
    with pytest.raises(UserError, match=r"no maps by 'grad_cam'; it has opti_cam"):
        audit(build({}), AuditSettings(method="grad_cam"))


def test_only_the_audited_method_is_found(build) -> None:
    run = build(
        {"sample_id": "x.jpg", "outside_effect": 0.5},
        {"sample_id": "x.jpg", "outside_effect": 0.9, "method": "uniform"},
    )
    assert audit(run, AuditSettings()).findings["method"].to_pylist() == ["opti_cam"]
    assert audit(run, AuditSettings(method="uniform")).findings["method"].to_pylist() == ["uniform"]
