from __future__ import annotations

import hashlib
import io
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipeline.show.console import plain_console
from pipeline.show.run import print_summary
from stages.audit import cues as module
from stages.audit.audit import audit
from stages.audit.canned import load_query
from stages.audit.compare.compare import compare
from stages.audit.cues import Hidden, alike, chance_alike, choose, cluster, default_size, enriched, name_cues
from stages.audit.settings import AuditSettings
from stages.audit.summary.summary import summarise
from storage import Run
from storage.sql import run_query

CHANNELS = 24
BOX = {"x0": 1.0, "y0": 2.0, "x1": 3.0, "y1": 4.0}


def near(channel: int, seed: int) -> list[float]:
    """Features that point along one channel, but for a little of all the others; their length means nothing."""
    generator = np.random.default_rng(seed)
    vector = 0.05 * generator.random(CHANNELS)
    vector[channel] += 1
    return (vector * generator.uniform(0.5, 20)).tolist()


def sample(name: str, features: list[float] | None, **values: Any) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"sample_id": name, "digest": digest, "outside_features": features, "hidden_box": BOX, **values}


def group(prefix: str, channel: int, count: int, start: int = 0, **values: Any) -> list[dict[str, Any]]:
    return [sample(f"{prefix}{k}.jpg", near(channel, 100 * channel + k), **values) for k in range(start, start + count)]


def scattered(count: int, **values: Any) -> list[dict[str, Any]]:
    """Samples whose features have nothing in common."""
    generator = np.random.default_rng(7)
    return [sample(f"other{k}.jpg", generator.normal(size=CHANNELS).tolist(), **values) for k in range(count)]


STICKERS = group("sticker", 0, 9, drop_outside=0.8, outside_effect=0.9, label="cat", class_index=1)
TAPES = group("tape", 1, 6, drop_outside=0.4, outside_effect=0.6, label="dog", class_index=2)
PLAIN = scattered(30)
PLANTED = [*STICKERS, *TAPES, *PLAIN]


def cues_of(run: Run, **settings: Any) -> list[dict[str, Any]]:
    audit(run, AuditSettings(**settings))
    return run.table("cues").to_pylist()


def names_of(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    return {row["cue_id"]: {name[:3] for name in row["sample_ids"]} for row in rows}


def test_samples_that_rely_on_the_same_thing_make_a_cue_the_costliest_first(build) -> None:
    first, second = cues_of(build(*PLANTED))
    assert (first["rank"], first["size"], set(first["sample_ids"])) == (1, 9, {row["sample_id"] for row in STICKERS})
    assert (second["rank"], second["size"], set(second["sample_ids"])) == (2, 6, {row["sample_id"] for row in TAPES})
    assert (first["method"], first["mean_drop"]) == ("opti_cam", pytest.approx(0.8))
    assert (first["mean_drop_low"], first["mean_drop_high"]) == pytest.approx((0.8, 0.8))
    assert first["mean_drop_random"] == pytest.approx(0.01)
    assert first["centroid"][0] > 0.98
    assert np.linalg.norm(first["centroid"]) == pytest.approx(1)
    assert first["exemplars"][0] == {"sample_id": first["sample_ids"][0], "target": "label", "box": BOX}
    assert len(first["exemplars"]) == 6


def test_the_one_cue_of_a_run_is_found_beside_what_costs_nothing(build) -> None:
    # Alone they are noise to HDBSCAN: there is nothing that they are denser than.
    assert [set(cue["sample_ids"]) for cue in cues_of(build(*STICKERS, *PLAIN))] == [{s["sample_id"] for s in STICKERS}]
    assert cues_of(build(*STICKERS, name="alone")) == []


def test_likeness_is_the_mean_cosine_of_pairs() -> None:
    # Three pairs: one the same, two at right angles.
    assert alike(np.array([[1, 0], [1, 0], [0, 1]], np.float32)) == pytest.approx(1 / 3)


def test_a_cue_is_compared_with_the_neighbourhoods_of_the_samples_in_no_cue() -> None:
    others = np.eye(5, dtype=np.float32)[[0, 0, 1, 2]]
    # In pairs with the nearest other, two of the four are as alike as .5, none as 1.01; the cue itself counts in.
    assert chance_alike(0.5, 2, others) == pytest.approx(3 / 5)
    assert chance_alike(1.01, 2, others) == pytest.approx(1 / 5)
    assert chance_alike(0.5, 5, others) is None, "five of four cannot be compared"


def test_a_cue_is_weak_that_costs_less_than_a_flag_needs_or_looks_no_more_alike_than_others(build) -> None:
    strong, cheap = cues_of(build(*STICKERS, *group("tape", 1, 6, drop_outside=0.15), *PLAIN))
    assert (strong["weak"], cheap["weak"]) == (None, "hiding it costs less than a flag needs")
    # No neighbourhood among the 30 scattered samples is as tight.
    assert (strong["alike_p"], cheap["alike_p"]) == pytest.approx((1 / 31, 1 / 31))
    assert strong["alike"] > 0.95
    # A second look of as many samples that cost nothing is as tight as the first one is.
    (common,) = cues_of(build(*STICKERS, *group("plain", 2, 9), *PLAIN, name="common"))
    assert common["alike_p"] > 0.05
    assert common["weak"] == "its images are no more alike than others are"


def test_what_is_a_cue_is_neither_a_missing_box_nor_a_box_in_the_wrong_place(build) -> None:
    outside = {"p_crop_outside": 0.95, "pred_crop_outside": 1, "p_box": 0.1}
    stickers = [{**row, **outside} for row in STICKERS]
    alone = {**sample("object.jpg", [0.1] * CHANNELS, label="cat", class_index=1), **outside}
    findings = audit(build(*stickers, alone, *PLAIN), AuditSettings()).findings.to_pylist()
    assert {row["sample_id"] for row in findings if row["rule"] == "missing_box"} == {"object.jpg"}
    assert {row["sample_id"] for row in findings if row["rule"] == "box_suspect"} == {"object.jpg"}
    # Tapes that cost less than a flag needs are a weak cue, which may be none.
    cheap = [{**row, **outside, "pred_crop_outside": 2} for row in group("tape", 1, 6, drop_outside=0.15)]
    weak = [{**row, "label": "dog", "class_index": 2} for row in cheap]
    findings = audit(build(*STICKERS, *weak, *PLAIN, name="weak"), AuditSettings()).findings.to_pylist()
    assert len({row["sample_id"] for row in findings if row["rule"] == "missing_box"}) == 6


def test_a_comparison_counts_the_findings_that_the_audits_of_both_runs_have(build) -> None:
    outside = {"p_crop_outside": 0.95, "pred_crop_outside": 1, "p_box": 0.1}
    alone = {**sample("object.jpg", [0.1] * CHANNELS, label="cat", class_index=1), **outside}
    # In A the stickers are a cue, so that neither misses a box; in B they cost nothing and are no cue.
    a = build(*({**row, **outside} for row in STICKERS), alone, *PLAIN, name="a")
    cheap = [{**row, **outside, "drop_outside": 0.0, "outside_effect": 0.0} for row in STICKERS]
    b = build(*cheap, alone, *PLAIN, name="b")
    found = [
        {(row["rule"], row["sample_id"]) for row in audit(run, AuditSettings()).findings.to_pylist()} for run in (a, b)
    ]
    rules = compare(a, b).rules
    assert ("missing_box", "sticker0.jpg") in found[1] - found[0]
    in_a = {(rule.rule, name) for rule in rules for name in (*rule.fixed, *rule.unchanged)}
    in_b = {(rule.rule, name) for rule in rules for name in (*rule.broken, *rule.unchanged)}
    assert [in_a, in_b] == found


def test_weak_cues_are_folded_away_in_the_summary(build) -> None:
    run = build(*STICKERS, *group("tape", 1, 6, drop_outside=0.15), *PLAIN)
    strong, weak = cues_of(run)
    stream = io.StringIO()
    print_summary(run, plain_console(stream), "run")
    said = stream.getvalue()
    assert f"{strong['cue_id']} 9 images" in said
    assert f"1 weak, perhaps none: {weak['cue_id']}" in said


def test_the_most_central_sample_comes_first() -> None:
    angles = np.radians([0, 4, 9, 15, 22, 30, *range(180, 204, 3)])
    directions = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    # The first six point to 13.3 degrees on average; the others are contrast.
    assert [members.tolist() for members in cluster(directions, 6, 5)] == [[3, 2, 4, 1, 0, 5]]


def test_the_interval_is_that_of_the_mean(build) -> None:
    drops = [0.2, 0.3, 0.5, 0.6, 0.9]
    samples = [row | {"drop_outside": drop} for row, drop in zip(group("s", 0, 5), drops, strict=True)]
    (cue,) = cues_of(build(*samples, *PLAIN))
    assert cue["mean_drop"] == pytest.approx(0.5)
    # The 95% interval of the means of all 5^5 resamples.
    means = np.mean(np.array(np.meshgrid(*[drops] * 5)).reshape(5, -1), axis=0)
    assert [cue["mean_drop_low"], cue["mean_drop_high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.03)


def test_a_class_is_enriched_by_fishers_test_over_all_cues_and_classes(build) -> None:
    first, second = cues_of(build(*PLANTED))
    # All 9 of 9 cats among 45: 1 / C(45, 9); all 6 of 6 dogs: 1 / C(45, 6). Six tests: two cues, three classes.
    assert first["classes"] == [
        {"label": "cat", "n": 9, "p": pytest.approx(1 / 886163135), "q": pytest.approx(6 / 886163135)}
    ]
    assert second["classes"] == [
        {"label": "dog", "n": 6, "p": pytest.approx(1 / 8145060), "q": pytest.approx(3 / 8145060)}
    ]


def test_a_cue_of_any_class_is_enriched_in_none(build) -> None:
    classes = [{"label": label, "class_index": index} for index, label in enumerate(("mug", "cat", "dog"))]
    mixed = [row | classes[k % 3] for k, row in enumerate([*STICKERS, *PLAIN])]
    (cue,) = cues_of(build(*mixed))
    assert cue["classes"] == []


def test_fewer_than_make_a_cue_make_an_empty_table(build) -> None:
    assert cues_of(build(*STICKERS[:4], *PLAIN)) == []
    (cue,) = cues_of(build(*STICKERS[:4], *PLAIN, name="two"), cue_min_size=3)
    assert cue["size"] == 4
    assert cues_of(build({}, name="one")) == []


def test_what_costs_too_little_is_in_no_cue(build) -> None:
    harmless = [row | {"drop_outside": 0.09} for row in group("weak", 0, 5, start=20)]
    exact = [row | {"drop_outside": 0.1} for row in group("exact", 0, 5, start=30)]
    (cue,) = cues_of(build(*STICKERS, *harmless, *exact, *PLAIN))
    assert set(cue["sample_ids"]) == {row["sample_id"] for row in (*STICKERS, *exact)}
    assert cues_of(build(*STICKERS, *PLAIN, name="strict"), cue_drop=0.9) == []


def test_samples_without_features_are_left_out(build) -> None:
    nothing = [
        sample("null.jpg", None, drop_outside=0.9),
        sample("zero.jpg", [0.0] * CHANNELS, drop_outside=0.9),
        sample("nan.jpg", [float("nan")] * CHANNELS, drop_outside=0.9),
        sample("infinite.jpg", [float("inf")] * CHANNELS, drop_outside=0.9),
        sample("unmeasured.jpg", near(0, 50), drop_outside=None),
        sample("no box.jpg", near(0, 51), drop_outside=0.9, evaluable=False),
    ]
    (cue,) = cues_of(build(*STICKERS, *nothing, *PLAIN))
    assert set(cue["sample_ids"]) == {row["sample_id"] for row in STICKERS}


def test_a_sample_speaks_once_for_the_class_that_loses_most(build) -> None:
    wrong = [
        {**row, "target": target, "drop_outside": drop, "outside_effect": drop, "explained": index, "pred_index": 2}
        for row in STICKERS
        for target, index, drop in (("label", 1, 0.2), ("predicted", 2, 0.7))
    ]
    run = build(*wrong, *PLAIN)
    (cue,) = cues_of(run)
    assert (cue["size"], cue["mean_drop"]) == (9, pytest.approx(0.7))
    assert [enriched["label"] for enriched in cue["classes"]] == ["dog"]
    assert {exemplar["target"] for exemplar in cue["exemplars"]} == {"predicted"}
    found = {row["target"]: row["cue_id"] for row in run.table("findings").to_pylist() if row["kind"] == "flag"}
    assert found == {"predicted": cue["cue_id"]}


def test_evidence_bears_its_cue_and_descriptions_do_not(build) -> None:
    run = build(
        *PLANTED,
        {**scattered(31, drop_outside=0.9, outside_effect=0.9)[-1], "pointing_hit": False},
        {**STICKERS[0], "pointing_hit": False, "sample_id": "again.jpg"},
    )
    stickers, tapes = cues_of(run)
    rows = run.table("findings").to_pylist()
    assert {row["cue_id"] for row in rows if row["kind"] == "description"} == {None}
    flagged = {row["sample_id"]: row["cue_id"] for row in rows if row["rule"] == "relies_on_outside"}
    assert flagged.pop("other30.jpg") is None
    assert {name for name, cue in flagged.items() if cue == stickers["cue_id"]} == set(stickers["sample_ids"])
    assert {name for name, cue in flagged.items() if cue == tapes["cue_id"]} == set(tapes["sample_ids"])
    assert "again.jpg" in flagged


def test_the_same_run_gives_the_same_bytes_whatever_the_order_of_its_rows(build) -> None:
    run = build(*PLANTED)
    cues_of(run)
    before = run.directory.read("cues.parquet")
    cues_of(run)
    assert run.directory.read("cues.parquet") == before
    turned = build(*PLANTED[::-1], name="turned")
    cues_of(turned)
    assert turned.directory.read("cues.parquet") == before


def test_a_cue_keeps_its_name_when_samples_come_and_its_centre_moves(build) -> None:
    run = build(*PLANTED)
    before = names_of(cues_of(run))
    assert len(before) == 2
    more = [
        *group("stick", 0, 12, start=40, drop_outside=0.8),
        *group("label", 2, 7, drop_outside=0.6),
    ]
    after = names_of(cues_of(build(*more, *PLANTED)))
    assert {name: kinds - {"lab"} for name, kinds in after.items() if name in before} == before
    (new,) = after.keys() - before.keys()
    assert after[new] == {"lab"}
    # Without a table to go by, a name is that of the most central sample.
    fresh = names_of(cues_of(build(*more, *PLANTED, name="fresh")))
    assert len(fresh) == 3
    assert fresh.keys() != after.keys()


def hidden(*names: str, label: str = "cat") -> tuple[Hidden, ...]:
    return tuple(Hidden(name, 0, "label", f"digest of {name}", label, 0.5, 0.0, None) for name in names)


def test_names_follow_the_samples() -> None:
    former = {"cue-aaaa": set("abcd"), "cue-bbbb": set("wxyz")}
    # Half of the smaller is enough; the one with more in common has the name.
    assert name_cues([hidden(*"wx12"), hidden(*"abc"), hidden(*"d34")], former)[:2] == ["cue-bbbb", "cue-aaaa"]
    *_, third = name_cues([hidden(*"wx12"), hidden(*"abc"), hidden(*"d34")], former)
    assert third not in former
    (lost,) = name_cues([hidden(*"a2345")], former)
    assert lost not in former


def test_new_names_come_from_the_most_central_sample_and_are_given_once() -> None:
    (name,) = name_cues([hidden(*"abc")], {})
    assert name.startswith("cue-")
    assert len(name) == 8
    assert name_cues([hidden(*"axyz")], {}) == [name]
    assert name_cues([hidden(*"bca")], {}) != [name]
    twice = name_cues([hidden(*"abc"), hidden(*"ade")], {})
    assert twice[0] == name
    assert twice[1] != name
    # Nor is a name given to another cue while the table has it.
    assert name_cues([hidden(*"abc")], {name: set("xyz")}) != [name]


def test_enrichment_counts_every_cue_and_class() -> None:
    assert enriched([], Counter(cat=1)) == []
    cue = hidden("a", "b", "c")
    # 3 of 3 cats among 6: 1 / C(6, 3) = .05, and two tests make it .1.
    assert enriched([cue], Counter(cat=3, dog=3)) == [()]


def test_of_many_samples_the_largest_drops_are_clustered(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "CONTRAST", (3, 5))
    samples = [
        Hidden(str(k), k, "label", str(k), "cat", drop, 0.0, None) for k, drop in enumerate([0.2, 0.9, 0.4] + [0.0] * 9)
    ]
    with_drop, without = choose(samples, 0.1)
    assert [one.drop for one in with_drop] == [0.9, 0.4]
    assert [one.sample_id for one in without] == ["3", "4", "5"]


def test_an_audit_says_which_samples_it_looked_for_cues_in(build, monkeypatch) -> None:
    run = build(*PLANTED)
    assert audit(run, AuditSettings()).sampled is None
    monkeypatch.setattr(module, "MOST", 9)
    report = audit(run, AuditSettings())
    assert report.sampled == "cues were looked for in the 9 samples with the largest drops, of 15"
    (cue,) = report.cues.to_pylist()
    assert set(cue["sample_ids"]) == {row["sample_id"] for row in STICKERS}
    # The classes of a cue are still compared with all samples: 1 / C(45, 9), and three classes are tested.
    assert cue["classes"][0]["p"] == pytest.approx(1 / 886163135)


def test_more_samples_make_larger_cues_within_bounds() -> None:
    assert [default_size(n) for n in (0, 499, 1200, 50_000)] == [5, 5, 12, 25]


def test_the_query_and_the_summary_tell_of_the_cues(build) -> None:
    run = build(*PLANTED)
    rows = cues_of(run)
    first = run_query(run, load_query("cues").of(run)).to_pylist()[0]
    assert (first["cue_id"], first["size"], first["more_frequent_in"]) == (rows[0]["cue_id"], 9, "cat (9)")
    assert first["exemplars"] == ", ".join(rows[0]["sample_ids"][:3])
    told = summarise(run).cues
    assert [(cue.cue_id, cue.size, cue.classes) for cue in told] == [
        (rows[0]["cue_id"], 9, ("cat",)),
        (rows[1]["cue_id"], 6, ("dog",)),
    ]
    assert told[0].exemplars == tuple(rows[0]["sample_ids"][:3])


def test_sql_does_not_see_vectors_nor_the_cues_of_an_audit_that_is_gone(build) -> None:
    run = build(*PLANTED)
    cues_of(run)
    seen = "SELECT table_name, column_name FROM information_schema.columns"
    columns = {(row["table_name"], row["column_name"]) for row in run_query(run, seen).to_pylist()}
    assert {("cues", "cue_id"), ("explain", "hidden_box"), ("audit", "hidden_box")} <= columns
    assert not {"outside_features", "centroid"} & {column for _, column in columns}
    run.discard_table("findings")
    assert "cues" not in {row["table_name"] for row in run_query(run, seen).to_pylist()}
    assert names_of(cues_of(run))  # and the names are still known
