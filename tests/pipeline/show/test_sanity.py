"""``sightline sanity`` on a run that was really made, and its printed form."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Config, stored_config
from pipeline.show.console import plain_console
from pipeline.show.sanity import print_sanity
from stages.explain.sanity.check import Check, SanityReport, SanitySettings, Similarity
from storage import Run
from storage.errors import UserError
from storage.info import RunInfo
from tests.stages.explain import shards


def same(median: float | None, n: int = 4) -> dict[str, Similarity]:
    low, high = (None, None) if median is None else (median - 0.125, median)
    return dict.fromkeys(("spearman", "ssim", "hog"), Similarity(median, low, high, n))


REPORT = SanityReport(
    method="opti_cam",
    target="label",
    layer="features[1]",
    samples=4,
    unreadable=2,
    after_layer=1,
    settings=SanitySettings(seed=3),
    checks=(
        Check("again", None, "", same(1.0)),
        Check("weights", 1, "head", same(0.5)),
        Check("weights", 2, "features", same(0.25, 3)),
        Check("noise", None, "sigma 0.0157", same(0.75)),
        Check("reference", None, "another image", same(0.125)),
        Check("reference", None, "uniform", same(None, 0)),
        Check("reference", None, "center", same(0.375)),
    ),
    fault=None,
)


def printed(report: SanityReport) -> list[str]:
    stream = io.StringIO()
    print_sanity(report, plain_console(stream, width=200))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_the_printed_report_has_a_row_a_check_and_a_verdict_in_words() -> None:
    lines = printed(REPORT)
    assert lines[0] == ("Sanity of opti_cam, target label, layer features[1]: 4 images (seed 3); 2 could not be read")
    cells = {line.rpartition("  ")[2] for line in lines}
    assert "1 head 0.50 [0.38, 0.50] 0.50 0.50 4" in cells
    assert "2 + features 0.25 [0.12, 0.25] 0.25 0.25 3" in cells
    assert "uniform – – – 0" in cells
    assert "stability noise on the input (standard deviation 0.0157) leaves 0.75 [0.62, 0.75]" in lines
    assert "by chance another image 0.12, center 0.38: maps that know nothing of this image have that much" in lines
    assert not [line for line in lines if line.startswith("class")]  # the check has no map of another class
    assert lines[-1] == (
        "passes the maps depend on the network: with all weights random a rank correlation of 0.25 [0.12, 0.25] is "
        "left (a fault from 0.5 on), with only those after the target layer random 0.50 [0.38, 0.50] (a fault from "
        "0.9 on)"
    )


def test_maps_that_random_weights_leave_constant_are_told_as_such() -> None:
    checks = (*REPORT.checks[:2], Check("weights", 2, "features", same(None, 0)), *REPORT.checks[3:])
    assert "with all weights random no map is left" in printed(replace(REPORT, checks=checks))[-1]


def test_a_fault_is_the_last_line() -> None:
    assert printed(replace(REPORT, fault="the maps [survive]"))[-1] == "FAULT the maps [survive]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a network whose maps survive a random head."""
    folder = tmp_path_factory.mktemp("sanity")
    source = shards.model("tests.stages.explain.networks:one_channel")
    made, _ = shards.explain(str(folder / "run"), shards.samples_of(folder / "images", range(3)), source=source)
    config = Config.model_validate(
        {
            "run": str(folder / "run"),
            "dataset": {"reader": "manifest", "path": "unused.csv"},
            "model": {"source": source.source},
            "view": {"size": shards.VIEW.size},
            "explain": {"profile": "paper", "steps": 4, "learning_rate": 0.5},
        }
    )
    made.write_info(RunInfo(config=config.model_dump(mode="json")))
    assert stored_config(made) == config
    return folder / "run"


def test_sanity_says_that_a_map_survives(command, run) -> None:
    status, out, err = command("sanity", run, "--samples", "2", "--device", "cpu")
    assert (status, err) == (0, "")
    assert "target label, layer features: 2 images (seed 0)" in out
    assert out.splitlines()[-1].startswith("FAULT  with ")
    assert "the maps survive" in out.splitlines()[-1]
    rows = Run.open(str(run)).table("sanity").to_pylist()
    assert {row["n"] for row in rows if row["check"] == "weights" and row["level"] == 1} == {2}
    status, out, _ = command("query", run, "SELECT median FROM sanity WHERE level = 1 AND metric = 'spearman'")
    assert "1.000" in out


def test_a_run_without_maps_of_the_label_is_checked_by_those_that_it_has(command, run, tmp_path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    Run.open(str(other)).discard_maps("label", "opti_cam")
    status, out, err = command("sanity", other, "--samples", "2", "--device", "cpu")
    assert (status, err) == (0, "")
    assert "target predicted, layer features: 2 images (seed 0)" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--samples", "0"), "samples is 0; take at least 1"),
        (("--levels", "1"), "levels is 1; take at least 2"),
        (("--device", "tpu"), "no device 'tpu'; devices are auto, cpu, cuda"),
        (("--method", "grad_cam"), "has no maps 'grad_cam/label'"),
        (("--target", "top9"), "has no maps 'opti_cam/top9'"),
    ],
)
def test_mistakes_of_sanity_are_told(command, run, arguments, said) -> None:
    status, _, err = command("sanity", run, *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert said in err


def test_a_run_without_a_config_or_of_another_version_is_told(tmp_path) -> None:
    run = Run.create(str(tmp_path))
    with pytest.raises(UserError, match=r"was not finished: its run.json has no config"):
        stored_config(run)
    run.write_info(RunInfo(config={"run": "x", "dataset": {"reader": "manifest", "path": "x", "colour": "red"}}))
    with pytest.raises(UserError, match=r"run.json: dataset.colour: .*; run the pipeline again with this version"):
        stored_config(run)
