"""The main job as a newcomer runs it: the demo, the pipeline on real Dask workers, the App in Chromium."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from stages.demo.demo import DemoReport
from stages.review.app.serve import open_app
from stages.review.settings import ReviewSettings
from storage import Run
from tests.e2e.browser import (
    browser_page,
    find_chromium,
    select_saved_view,
    wait_until_painted,
    wait_until_shown,
)
from tests.e2e.test_app import overlay_changes

ROOT = Path(__file__).parents[2]

Box = tuple[float, float, float, float]


def sightline(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def config(small_demo: DemoReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped pipeline.yaml, pointed at the small demo."""
    folder = tmp_path_factory.mktemp("config")
    content = yaml.safe_load((ROOT / "pipeline.yaml").read_text())
    content["run"] = str(folder / "run")
    content["dataset"] |= {
        "path": str(small_demo.directory / "audit.csv"),
        "truth": str(small_demo.directory / "truth.parquet"),
    }
    content["model"] |= {
        "checkpoint": str(small_demo.directory / "model.pt"),
        "classes": str(small_demo.directory / "classes.txt"),
    }
    content["explain"]["steps"] = 20
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def first(config: Path) -> subprocess.CompletedProcess[str]:
    return sightline("run", config)


@pytest.fixture(scope="module")
def run(config: Path, first: subprocess.CompletedProcess[str]) -> Run:
    assert first.returncode == 0, first.stderr
    return Run.open(yaml.safe_load(config.read_text())["run"])


def flagged(run: Run) -> set[str]:
    rows = run.table("findings").to_pylist()
    return {row["sample_id"] for row in rows if row["rule"] == "relies_on_outside" and row["target"] == "label"}


def positives(demo: DemoReport) -> set[str]:
    rows = pq.read_table(demo.directory / "truth.parquet").to_pylist()
    return {row["sample_id"] for row in rows if row["p_with"] - row["p_without"] >= 0.3}


def test_every_sample_has_a_map_and_the_summary_says_what_to_do_next(
    first: subprocess.CompletedProcess[str], run: Run, small_demo: DemoReport
) -> None:
    explained = run.table("explain").to_pylist()
    assert len(explained) == 2 * small_demo.n_audit  # label and predicted
    assert {row["status"] for row in explained} == {"ok"}
    assert not np.isnan(run.maps("label").read(slice(0, small_demo.n_audit))).any()
    for expected in ("accuracy", "AD", "AI", "AG", "precision", "images/s", "squash"):
        assert expected in first.stdout
    # How to call it depends on whether `sightline` is on the PATH.
    called = "|".join(("sightline {} ", "make {} RUN="))
    assert re.search(
        ".*\n.*".join(f"({called.format(name, name)})" for name in ("app", "report", "query", "sanity")), first.stdout
    )


def test_the_maps_raise_the_probability_of_the_class(run: Run) -> None:
    rows = [row for row in run.table("explain").to_pylist() if row["target"] == "label"]
    gain = np.array([row["objective_best"] - row["objective_start"] for row in rows])
    assert (gain >= 0).all()
    assert np.median(gain) > 1  # logits
    increased = np.mean([row["p_saliency"] > row["p_full"] for row in rows])
    assert increased > 0.7


def test_what_is_flagged_does_rely_on_the_planted_cue(
    first: subprocess.CompletedProcess[str], run: Run, small_demo: DemoReport
) -> None:
    found, planted = flagged(run), positives(small_demo)
    hits = len(found & planted)
    assert hits >= 4
    # By chance a flag would be right for one image in six.
    assert hits / len(found) > 0.7
    assert re.search(rf"result +{len(found)} of \d+ images rest on something outside their boxes", first.stdout)
    line = re.search(r"relies_on_outside +(\d+) +(\d+) +([\d.]+) \[", first.stdout)
    assert line is not None, first.stdout
    assert (int(line[1]), int(line[2])) == (len(found), hits)
    assert float(line[3]) == pytest.approx(hits / len(found), abs=0.00501)  # two digits


def test_what_costs_most_is_one_cue_and_it_is_the_planted_one(
    first: subprocess.CompletedProcess[str], run: Run, small_demo: DemoReport
) -> None:
    truth = {row["sample_id"]: row for row in pq.read_table(small_demo.directory / "truth.parquet").to_pylist()}
    cue = run.table("cues").to_pylist()[0]
    # By chance one member in six would show it.
    shown = Counter(truth[name]["cue"] for name in cue["sample_ids"] if truth[name]["cue_kind"] == "planted")
    planted, members = shown.most_common(1)[0]
    assert members >= 0.9 * cue["size"]
    homes = {row["label"] for row in truth.values() if row["cue"] == planted and row["is_planted"]}
    assert {enriched["label"] for enriched in cue["classes"]} == homes
    assert re.search(rf"{cue['cue_id']} {cue['size']} images, {homes.pop()}: hiding it costs 0\.\d\d", first.stdout)


def test_the_decoy_is_never_the_reason(run: Run, small_demo: DemoReport) -> None:
    truth = pq.read_table(small_demo.directory / "truth.parquet").to_pylist()
    decoyed = {row["sample_id"] for row in truth if row["cue_kind"] == "decoy"}
    assert decoyed
    assert not decoyed & flagged(run)


def test_a_second_run_computes_nothing_and_takes_seconds(config: Path, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.local_path("explain").rglob("*.parquet")}
    began = time.monotonic()
    again = sightline("run", config)
    assert again.returncode == 0, again.stderr
    assert "0 of 3 shards computed, 3 were done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in run.local_path("explain").rglob("*.parquet")} == before
    assert time.monotonic() - began < 60


def test_a_query_answers_in_sql(config: Path, run: Run) -> None:
    answer = sightline("query", run.url, "SELECT count(*) AS n FROM samples", "--format", "csv")
    assert answer.stdout.split() == ["n", str(run.table("samples").num_rows)]


def test_the_heatmap_of_a_flagged_image_lights_up_the_planted_cue(
    run: Run, small_demo: DemoReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_chromium()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    cues = lit_cues(run, small_demo)
    seen = set()
    with (
        open_app(run, ReviewSettings(database=str(tmp_path / "mongo"))) as app,
        browser_page(app.url, tmp_path / "profile") as page,
    ):
        wait_until_painted(page, 4)
        view = next(name for name in app.dataset.list_saved_views() if name.lower().startswith("relies on"))
        select_saved_view(page, view)
        samples = list(app.dataset.load_saved_view(view))
        wait_until_shown(page, len(samples))
        for sample, change in zip(samples, overlay_changes(page, "saliency"), strict=False):
            if sample["sample_key"] in cues:
                assert contrast(change, cues[sample["sample_key"]]) > 1, sample["sample_key"]
                seen.add(sample["sample_key"])
    assert seen


def lit_cues(run: Run, demo: DemoReport) -> dict[str, Box]:
    """The cue's place in the three flagged samples whose stored map lights up most on it.

    A model that was taught a cue looks at the object too: most of what is flagged here, the occlusion scan found and no
    map points at.
    """
    samples = {sample["sample_id"]: sample for sample in run.table("samples").to_pylist()}
    contrasts: dict[str, tuple[float, Box]] = {}
    for row in pq.read_table(demo.directory / "truth.parquet").to_pylist():
        if row["sample_id"] in flagged(run) and row["positive"]:
            sample, box = samples[row["sample_id"]], row["cue_box"]
            width, height = sample["width"], sample["height"]
            cue = box["x0"] / width, box["y0"] / height, box["x1"] / width, box["y1"] / height
            stored = run.maps("label").read([sample["row"]], size=(224, 224))[0]
            contrasts[row["sample_id"]] = contrast(stored, cue), cue
    brightest = sorted(contrasts, key=lambda sample_id: contrasts[sample_id][0])[-3:]
    assert all(contrasts[sample_id][0] > 1.2 for sample_id in brightest)
    return {sample_id: contrasts[sample_id][1] for sample_id in brightest}


def contrast(picture: Any, cue: Box) -> float:
    """Mean of a picture (H, W) inside a box, over its mean outside; the box in shares of width and height."""
    y = (np.arange(picture.shape[0]) + 0.5) / picture.shape[0]
    x = (np.arange(picture.shape[1]) + 0.5) / picture.shape[1]
    inside = ((cue[1] <= y) & (y <= cue[3]))[:, None] & ((cue[0] <= x) & (x <= cue[2]))
    return float(picture[inside].mean() / picture[~inside].mean())
