from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.audit.compare.compare import Comparison, compare, compared_scores
from storage import Run
from storage.errors import UserError
from storage.info import RunInfo
from storage.maps import MapAttributes
from storage.tables import DONORS

RIGHTWARDS = [[0, 1], [0, 1]]
DOWNWARDS = [[0, 0], [1, 1]]
FLAT = [[2, 2], [2, 2]]


def change_maps(run: Run, **changes: Any) -> None:
    run.create_maps(replace(run.maps("label").attributes, **changes), rows=1, grid=(2, 2))


@pytest.fixture
def pair(build):
    """Two runs from two lists of changes; each sample has a digest of its own, the same in both, unless changed."""

    def make(a: list[dict[str, Any]], b: list[dict[str, Any]], maps_a=(), maps_b=()):
        runs = []
        for name, changes, maps in (("a", a, maps_a), ("b", b, maps_b)):
            rows = [
                {"digest": change.get("sample_id", f"{index}.jpg"), **change} for index, change in enumerate(changes)
            ]
            run = build(*rows, name=name)
            if maps:
                run.maps("label", mode="r+").write(0, np.array(maps, dtype=np.float32))
            runs.append(run)
        return runs

    return make


def score_of(comparison: Comparison, name: str):
    return next(score for score in comparison.scores if score.score == name)


def test_scores_are_compared_sample_by_sample_where_both_are_defined(pair) -> None:
    a, b = pair(
        [{"ad": 0.5}, {"ad": 0.25}, {"ad": None}, {"ad": 0.5}],
        [{"ad": 0.25}, {"ad": 0.0}, {"ad": 0.5}, {"ad": None}],
    )
    change = score_of(compare(a, b), "ad")
    assert (change.n, change.left_out) == (2, 2)
    assert (change.mean_a, change.mean_b, change.change) == (0.375, 0.125, -0.25)
    assert change.interval == (-0.25, -0.25)


def test_scores_against_boxes_count_samples_that_are_evaluable_in_both(pair) -> None:
    unfit = {"evaluable": False, "scores_status": "box_uninformative"}
    a, b = pair([{"energy_lift": 2.0}, {"energy_lift": 1.0, "ad": 0.5}], [{"energy_lift": 3.0}, {**unfit, "ad": 1.0}])
    comparison = compare(a, b)
    lift, drop = score_of(comparison, "energy_lift"), score_of(comparison, "ad")
    assert (lift.n, lift.left_out, lift.change) == (1, 1, 1.0)
    assert (drop.n, drop.left_out, drop.change) == (2, 0, 0.25)


def test_shares_of_hits_are_compared_as_numbers(pair) -> None:
    a, b = pair([{"pointing_hit": False}, {}, {}, {}], [{}, {}, {}, {}])
    change = score_of(compare(a, b), "pointing_hit")
    assert (change.mean_a, change.mean_b, change.change) == (0.75, 1.0, 0.25)


def test_samples_pair_by_name_and_content_whatever_their_row(pair) -> None:
    a, b = pair(
        [{"sample_id": name, "ag": ag} for name, ag in (("x", 0.0), ("y", 0.5), ("only a", 0.0), ("edited", 0.0))],
        [
            {"sample_id": "edited", "ag": 1.0, "digest": "another file"},
            {"sample_id": "y", "ag": 0.75},
            {"sample_id": "only b", "ag": 1.0},
            {"sample_id": "x", "ag": 0.25},
            {"sample_id": "also only b", "ag": 1.0},
        ],
    )
    comparison = compare(a, b)
    assert (comparison.shared, comparison.only_a, comparison.only_b, comparison.changed) == (2, 1, 2, 1)
    assert score_of(comparison, "ag").interval == (0.25, 0.25)


def test_files_that_were_not_read_are_not_the_same(pair) -> None:
    a, b = pair([{}, {"digest": None}], [{}, {"digest": None}])
    comparison = compare(a, b)
    assert (comparison.shared, comparison.changed) == (1, 1)


def test_samples_that_left_a_dataset_are_not_shared(pair) -> None:
    a, b = pair([{}, {"samples_status": "removed"}], [{}, {}])
    comparison = compare(a, b)
    assert (comparison.shared, comparison.only_a, comparison.only_b) == (1, 0, 1)


def test_accuracy_counts_samples_that_one_alone_has_right(pair) -> None:
    wrong: dict[str, Any] = {"pred_index": 2}
    a, b = pair([{}, wrong, wrong, {}, {"pred_index": None}], [{}, {}, {}, wrong, {}])
    accuracy = compare(a, b).accuracy
    assert (accuracy.n, accuracy.a, accuracy.b) == (4, 0.5, 0.75)
    assert (accuracy.only_a, accuracy.only_b) == (1, 2)
    assert accuracy.p == pytest.approx(1.0)  # three coin tosses, one head or fewer, both tails


def test_findings_are_fixed_broken_unchanged_or_unjudged(pair) -> None:
    found: dict[str, Any] = {"outside_effect": 0.9}
    unfit = {"evaluable": False, "scores_status": "no_box"}
    a, b = pair([found, {}, found, found, unfit, {}], [{}, found, found, unfit, found, {}])
    (rule,) = compare(a, b).rules
    assert (rule.rule, rule.kind) == ("relies_on_outside", "flag")
    assert rule.fixed == ("0.jpg",)
    assert rule.broken == ("1.jpg",)
    assert rule.unchanged == ("2.jpg",)
    assert rule.unjudged == ("3.jpg", "4.jpg")


def test_both_sides_are_judged_by_the_thresholds_of_a(pair) -> None:
    a, b = pair([{"outside_effect": 0.5}], [{"outside_effect": 0.5}])
    a.write_info(RunInfo(config={"audit": {"outside_effect": 0.4, "rules": []}}))
    b.write_info(RunInfo(config={"audit": {"outside_effect": 0.6, "rules": []}}))
    comparison = compare(a, b)
    assert [(rule.rule, rule.unchanged) for rule in comparison.rules] == [("relies_on_outside", ("0.jpg",))]
    assert [(entry.key, entry.a, entry.b) for entry in comparison.differences] == [("audit.outside_effect", 0.4, 0.6)]


def test_a_users_own_rule_is_compared_too(pair) -> None:
    own = {"id": "dim", "title": "Dim", "when": "p_full < .5", "severity": "0.5", "reason": "", "target": "label"}
    a, b = pair([{"p_full": 0.25}, {}], [{}, {}])
    a.write_info(RunInfo(config={"audit": {"rules": [own]}}))
    assert [(rule.rule, rule.fixed) for rule in compare(a, b).rules] == [("dim", ("0.jpg",))]


def test_a_finding_on_the_label_speaks_for_a_prediction_of_the_same_class(build) -> None:
    found: dict[str, Any] = {"outside_effect": 0.9}
    runs = []
    for name, change in (("a", found), ("b", {})):
        rows = [
            {"sample_id": sample, "digest": sample, "target": target, "explained": explained, **change}
            for sample, predicted in (("same", 0), ("other", 1))
            for target, explained in (("label", 0), ("predicted", predicted))
        ]
        run = build(*rows, name=name)
        run.create_maps(MapAttributes("opti_cam", "predicted", size=8), rows=2, grid=(2, 2))
        runs.append(run)
    (on_label,) = compare(*runs, target="label").rules
    (on_predicted,) = compare(*runs, target="predicted").rules
    assert on_label.fixed == ("other", "same")
    assert on_predicted.fixed == ("other", "same")  # of "same" the audit has a finding on the label alone
    assert compare(*runs, target="predicted").scores == compare(*runs, target="label").scores


def test_maps_agree_in_rank_at_the_resolution_of_the_view(pair) -> None:
    turned = (np.array(RIGHTWARDS) * -3).tolist()
    stretched = (np.array(RIGHTWARDS) * 5 + 7).tolist()
    a, b = pair([{}] * 4, [{}] * 4, [RIGHTWARDS] * 4, [stretched, turned, DOWNWARDS, FLAT])
    maps = compare(a, b, top=2).maps
    assert (maps.n, maps.undefined, maps.other_class) == (3, 1, 0)
    assert maps.median == pytest.approx(0.0, abs=1e-6)
    assert [(entry.sample_id, round(entry.correlation, 6)) for entry in maps.least] == [("1.jpg", -1.0), ("2.jpg", 0.0)]


def test_the_maps_of_a_seeded_choice_stand_for_all_where_there_are_many(pair) -> None:
    turned = (np.array(RIGHTWARDS) * -3).tolist()
    flat = [{}, {}, {"explained": 2}, {}, {}]
    a, b = pair([{}] * 5, flat, [RIGHTWARDS] * 5, [turned, RIGHTWARDS, turned, RIGHTWARDS, turned])
    whole, seen = compare(a, b).maps, []
    maps = compare(a, b, most_maps=3, progress=lambda done, total: seen.append((done, total))).maps
    assert (whole.n, whole.left_out) == (4, 0)
    assert (maps.n, maps.left_out, maps.other_class, maps.undefined) == (3, 1, 1, 0)
    assert {entry.sample_id for entry in maps.least} < {entry.sample_id for entry in whole.least}
    assert {entry.sample_id: entry.correlation for entry in maps.least}.items() < {
        entry.sample_id: entry.correlation for entry in whole.least
    }.items()
    assert seen == [(3, 3)]
    assert compare(a, b, most_maps=3).maps == maps
    none = compare(a, b, most_maps=0).maps
    assert (none.n, none.left_out, none.undefined, none.median) == (0, 4, 0, None)


def test_the_agreement_stands_beside_that_of_maps_of_different_samples(pair) -> None:
    # Each of B's maps beside A's of the sample before, constant ones passed over: alike, turned, alike.
    turned = (np.array(RIGHTWARDS) * -3).tolist()
    a, b = pair([{}] * 5, [{}] * 5, [RIGHTWARDS] * 5, [DOWNWARDS, RIGHTWARDS, FLAT, turned, RIGHTWARDS])
    maps = compare(a, b).maps
    assert (maps.n, maps.chance) == (4, pytest.approx(1.0))
    one, other = pair([{}], [{}], [RIGHTWARDS], [RIGHTWARDS])
    assert compare(one, other).maps.chance is None


def test_maps_of_different_classes_are_not_compared(pair) -> None:
    a, b = pair([{}, {}], [{}, {"explained": 2}], [RIGHTWARDS] * 2, [RIGHTWARDS] * 2)
    maps = compare(a, b).maps
    assert (maps.n, maps.other_class, maps.undefined, maps.median) == (1, 1, 0, pytest.approx(1.0))
    assert maps.interval is None


def test_a_map_that_no_part_vouches_for_is_left_out(pair) -> None:
    a, b = pair(
        [{}, {}], [{}, {"explain_status": "non_finite", "evaluable": False}], [RIGHTWARDS] * 2, [RIGHTWARDS] * 2
    )
    assert (compare(a, b).maps.n, compare(a, b).maps.undefined) == (1, 1)


def test_two_methods_of_one_run_compare(build) -> None:
    rows = [
        {"sample_id": "x", "digest": "x", "method": method, "ad": ad}
        for method, ad in (("opti_cam", 0.25), ("fake", 1.0))
    ]
    run = build(*rows)
    for method, grid in (("opti_cam", RIGHTWARDS), ("fake", DOWNWARDS)):
        run.maps("label", method, mode="r+").write(0, np.array([grid], dtype=np.float32))
    comparison = compare(run, run, "opti_cam", "fake")
    assert (comparison.method_a, comparison.method_b, comparison.shared) == ("opti_cam", "fake", 1)
    assert score_of(comparison, "ad").change == 0.75
    assert comparison.maps.median == pytest.approx(0.0, abs=1e-6)


def test_other_labels_and_boxes_are_counted_and_compared(pair) -> None:
    box = {"x0": 0.0, "y0": 0.0, "x1": 5.0, "y1": 5.0, "label": None}
    a, b = pair([{}, {}, {}], [{}, {"label": "cat", "boxes": [box]}, {"boxes": [box]}])
    comparison = compare(a, b)
    assert (comparison.shared, comparison.relabelled, comparison.reboxed) == (3, 1, 2)
    masked: dict[str, Any] = {"mask": "04"}
    a, b = pair([masked, masked, {}, {"label": None}, {}], [masked, {}, masked, {"label": None}, {"label": None}])
    comparison = compare(a, b)
    assert (comparison.shared, comparison.relabelled, comparison.reboxed) == (5, 1, 2)


def test_a_score_that_an_earlier_version_did_not_have_is_undefined(pair) -> None:
    a, b = pair([{"pixel_f1": 0.5}, {}], [{"pixel_f1": 0.75}, {}])
    part = next(a.parts("scores"))
    sink = io.BytesIO()
    pq.write_table(a.read_part(part).drop_columns(["pixel_f1"]), sink)
    a.directory.write(part.path, sink.getvalue())
    comparison = compare(a, b)
    assert (score_of(comparison, "pixel_f1").n, score_of(comparison, "pixel_f1").left_out) == (0, 2)
    assert score_of(comparison, "ad").n == 2


def test_a_run_compared_with_itself_has_not_changed(pair) -> None:
    run, _ = pair([{"outside_effect": 0.9}, {}], [{}], [RIGHTWARDS, DOWNWARDS])
    comparison = compare(run, run)
    assert {score.interval for score in comparison.scores if score.n} == {(0.0, 0.0)}
    assert comparison.accuracy.p is None
    assert comparison.differences == ()
    assert [(rule.fixed, rule.broken, rule.unchanged) for rule in comparison.rules] == [((), (), ("0.jpg",))]
    assert comparison.maps.interval == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("view", "geometry", ("squash", "resize_crop")),
        ("view", "size", (8, 16)),
        ("view", "interpolation", ("bilinear", "bicubic")),
        ("explain", "fill", ("black", "blur")),
    ],
)
def test_another_view_or_mask_is_refused_with_the_key(pair, section, key, values) -> None:
    runs = pair([{}], [{}])
    for run, value in zip(runs, values, strict=True):
        change_maps(run, **{key: value})
    with pytest.raises(
        UserError, match=rf"{section}\.{key} is {values[0]} in .* and {values[1]} in .*; run one of them"
    ):
        compare(*runs)


@pytest.mark.parametrize("name", ["outside", "scan"])
def test_a_locator_on_one_side_alone_is_noted(pair, name) -> None:
    a, b = pair([{}], [{}])
    assert compare(a, b).notes == ()
    b.write_info(RunInfo(config={"explain": {name: True}}))
    (note,) = compare(a, b).notes
    assert f"explain.{name} is on in B alone" in note


def test_other_donors_are_noted(pair) -> None:
    a, b = pair([{}], [{}])
    donor = {"sample_id": "0.jpg", "row": 0, "digest": "d", "class_index": 0, "boxes": []}
    for run in (a, b):
        run.write_table("donors", pa.Table.from_pylist([donor], schema=DONORS))
    assert compare(a, b).notes == ()
    b.write_table("donors", pa.Table.from_pylist([donor | {"digest": "e"}], schema=DONORS))
    (note,) = compare(a, b).notes
    assert note.startswith("the runs have other donors")


def test_another_mean_is_told_and_not_taken_for_other_weights(pair) -> None:
    a, b = pair([{}], [{}])
    for run, mean in ((a, [0.5, 0.5, 0.5]), (b, [0.4, 0.5, 0.6])):
        run.write_info(RunInfo(config={"model": {"mean": mean}}))
        change_maps(run, weights_digest=str(mean))
    comparison = compare(a, b)
    assert [entry.key for entry in comparison.differences] == ["model.mean", "weights_digest"]
    (note,) = comparison.notes
    assert note.startswith("model.mean or std changed")
    b.write_info(RunInfo(config={"model": {"mean": [0.5, 0.5, 0.5]}}))
    assert compare(a, b).notes == ()


def test_a_resize_that_squash_does_not_use_may_differ(pair) -> None:
    runs = pair([{}], [{}])
    for run, resize in zip(runs, (256, 300), strict=True):
        change_maps(run, geometry="squash", resize=resize)
    assert compare(*runs).shared == 1


def test_a_method_that_masks_nothing_compares_with_any_mask(pair) -> None:
    runs = pair([{}], [{}])
    for run, fill in zip(runs, ("blur", None), strict=True):
        change_maps(run, fill=fill)
    runs[1].write_info(RunInfo(config={"explain": {"fill": "black"}}))
    assert compare(*runs).shared == 1


def test_runs_without_a_common_sample_are_refused_with_names(pair) -> None:
    with pytest.raises(UserError, match=r"share no sample \(cat.jpg \.\.\., dog.jpg \.\.\.\); make both runs"):
        compare(*pair([{"sample_id": "cat.jpg"}], [{"sample_id": "dog.jpg"}]))
    with pytest.raises(UserError, match=r"share no sample \(1 have one name, but none of them the same file\)"):
        compare(*pair([{"digest": "1"}], [{"digest": "2"}]))


def test_a_method_or_target_that_a_run_lacks_is_told_with_those_it_has(pair) -> None:
    a, b = pair([{}], [{}])
    with pytest.raises(UserError, match="no maps by 'grad_cam'; choose with --method or --method-b: opti_cam"):
        compare(a, b, method_b="grad_cam")
    with pytest.raises(UserError, match="no opti_cam maps of 'predicted'; choose with --target: label"):
        compare(a, b, target="predicted")


def test_boxes_themselves_are_no_scores() -> None:
    names = compared_scores()
    assert {"p_full", "insertion", "ad", "energy_lift", "drop_outside", "pointing_hit", "entropy"} <= set(names)
    assert not {"box_area_frac", "box_kept_frac", "n_boxes", "evaluable", "row"} & set(names)
