"""``sightline compare`` on runs that were really made, and its printed form on one written by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from pipeline.show.comparison import comparison_json, print_comparison
from pipeline.show.console import plain_console
from stages.audit.compare.compare import Comparison, Difference, compared_scores
from stages.audit.compare.paired import AccuracyChange, Agreement, MapAgreement, RuleChange, ScoreChange
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run
from tests.stages.explain import shards

COMPARISON = Comparison(
    run_a="runs/a",
    run_b="runs/b",
    method_a="opti_cam",
    method_b="grad_cam",
    target="label",
    shared=40,
    only_a=1,
    only_b=0,
    changed=2,
    relabelled=3,
    reboxed=4,
    differences=(Difference("weights_digest", "a" * 64, "b" * 64), Difference("model.checkpoint", None, "b[1].pt")),
    notes=("one thing to know",),
    accuracy=AccuracyChange(40, 0.5, 0.75, 2, 12, 0.0129),
    scores=(
        ScoreChange("ad", 38, 2, 0.5, 0.25, -0.25, (-0.3, -0.2)),
        ScoreChange("ag", 38, 2, 0.5, 0.501, 0.001, (-0.1, 0.1)),
        ScoreChange("pixel_f1", 0, 40, None, None, None, None),
    ),
    rules=(
        RuleChange("relies_on_outside", "flag", ("x.jpg", "y.jpg", "z.jpg"), (), ("u.jpg",), ("v.jpg",)),
        RuleChange("misses_box", "description", ("w.jpg",), (), (), ()),
    ),
    maps=MapAgreement(30, 6, 4, 0, 0.625, (0.5, 0.75), (Agreement("[a].jpg", -0.25),), 0.125),
)


def printed(comparison: Comparison, top: int = 10) -> list[str]:
    stream = io.StringIO()
    print_comparison(comparison, plain_console(stream, width=80), top)  # as in a file
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_the_printed_comparison_says_what_was_left_out_and_what_is_sure() -> None:
    lines = printed(COMPARISON, top=2)
    assert lines[2] == "samples 40 shared, 1 only in A, 2 of one name with other files"
    assert lines[3] == "of the shared ones 3 have another label and 4 other boxes"
    assert lines[4] == "settings weights_digest: aaaaaaaaaaaa... -> bbbbbbbbbbbb..."
    assert lines[5] == "model.checkpoint: - -> b[1].pt"
    assert lines[6] == "note one thing to know"
    assert lines[7] == "accuracy 50.0% -> 75.0% of 40; 2 right in A alone, 12 in B alone, McNemar p 0.013"
    assert "ad lower 38 2 0.500 0.250 -0.250 [-0.300, -0.200] *" in lines
    assert "ag higher 38 2 0.500 0.501 +0.001 [-0.100, +0.100]" in lines
    assert "defined on no sample in both: pixel_f1" in lines
    assert "relies_on_outside flag 3 0 1 1" in lines
    assert "relies_on_outside fixed: x.jpg, y.jpg and 1 more" in lines
    assert "misses_box description 1 0 0 0" in lines
    assert not [line for line in lines if "w.jpg" in line]  # descriptions are counted; the JSON names their samples
    assert "--format json lists the samples of every rule" in lines
    assert "median 0.62 [0.50, 0.75] over 30 samples; maps of two different samples have 0.12" in lines
    assert "left out: 6 explain another class, 4 have no two maps or a constant one" in lines
    assert lines[-1] == "-0.25 [a].jpg"


def test_maps_that_were_chosen_are_counted_beside_those_that_could_be() -> None:
    lines = printed(replace(COMPARISON, maps=replace(COMPARISON.maps, left_out=970)))
    assert any(line.startswith("median 0.62 [0.50, 0.75] over 30 samples, chosen by seed of 1000;") for line in lines)


def test_every_score_that_has_a_better_end_says_which() -> None:
    for column in compared_scores().values():
        for end in ("lower", "higher"):
            if f"{end.capitalize()} is better" in column.description:  # the reference says it in words
                assert column.better == end, column.name
    better = {name: column.better for name, column in compared_scores().items()}
    assert better["energy_in"] == better["pixel_f1"] == better["insertion"] == "higher"
    assert better["drop_outside"] == better["official_metric"] == better["ad"] == "lower"
    assert better["entropy"] == better["p_full"] == ""


def test_the_json_has_every_list_whole_and_null_for_undefined() -> None:
    content = json.loads(comparison_json(COMPARISON))
    assert content["rules"][0]["fixed"] == ["x.jpg", "y.jpg", "z.jpg"]
    assert content["scores"][2]["change"] is None
    assert content["maps"]["least"] == [{"sample_id": "[a].jpg", "correlation": -0.25}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same six pictures: of 2 steps, and of 6 from which one picture is missing."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, seeds, steps in (("short", range(6), 2), ("long", range(1, 6), 6)):
        samples = shards.samples_of(folder / "images", seeds)
        sized = [row | {"width": 40, "height": 30} for row in samples.to_pylist()]
        run, _ = shards.explain(
            str(folder / name), samples.from_pylist(sized, samples.schema), shards.settings(steps=steps)
        )
        score(run, ScoreSettings(), workers=1)
        made[name] = folder / name
    return made


def test_compare_reads_two_runs(command, runs) -> None:
    status, out, err = command("compare", runs["short"], runs["long"], "--format", "json")
    assert (status, err) == (0, "")
    content = json.loads(out)
    assert (content["shared"], content["only_a"], content["only_b"]) == (5, 1, 0)
    gains = [
        {
            row["sample_id"]: row["ag"]
            for row in Run.open(str(runs[name])).table("scores").to_pylist()
            if row["target"] == "label"
        }
        for name in ("short", "long")
    ]
    gain = next(entry for entry in content["scores"] if entry["score"] == "ag")
    assert gain["n"] == 5
    assert gain["change"] == pytest.approx(sum(gains[1][name] - gains[0][name] for name in gains[1]) / 5)
    assert gain["change"] != 0
    assert content["maps"]["median"] < 1
    status, out, _ = command("compare", runs["short"], runs["long"], "--top", "1")
    assert status == 0
    assert "samples     5 shared, 1 only in A" in out
    assert out.rstrip().splitlines()[-1].split()[-1] == content["maps"]["least"][0]["sample_id"]


def test_mistakes_of_compare_are_told(command, runs, tmp_path) -> None:
    for arguments, said in (
        ((runs["short"], runs["long"], "--method-b", "grad_cam"), "no maps by 'grad_cam'; choose with --method"),
        ((runs["short"], tmp_path / "none"), "no run at"),
        ((runs["short"], runs["long"], "--format", "csv"), "no format 'csv'; formats are table, json"),
    ):
        status, _, err = command("compare", *arguments)
        assert status == 2
        assert err.startswith("error: ")
        assert said in err
