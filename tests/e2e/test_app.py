"""The App for real: MongoDB, FiftyOne's server, Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from stages.review.app.serve import open_app
from stages.review.settings import ReviewSettings, RuleText
from storage import Run
from storage.sql import run_query
from tests.e2e.browser import (
    browser_page,
    find_chromium,
    pixels,
    sample_count,
    select_saved_view,
    switch_field,
    tile_rectangles,
    wait_until_painted,
    wait_until_shown,
)
from tests.stages.review.synthetic import Planted, add_vectors, cue_box, make_run, view_of, write_cues

VISIBLE_CHANGE = 40
"""Sum over channels of 0 to 255 that an overlay changes a pixel at least by, where the map is 1."""


@pytest.fixture(scope="module", autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewSettings]:
    """A home and a database of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("FIFTYONE_DATABASE_URI", raising=False)
        yield ReviewSettings(database=str(tmp_path_factory.mktemp("mongo")))


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Where screenshots go: SIGHTLINE_ARTEFACTS, or the test's own folder."""
    folder = Path(os.environ.get("SIGHTLINE_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


LANDSCAPE = Planted("landscape.png", 480, 320, cell=(1, 5), rules=(("relies_on_outside", "flag", 0.9),))
PORTRAIT = Planted(
    "portrait.png",
    300,
    450,
    cell=(5, 1),
    predicted=1,
    predicted_cell=(0, 6),
    rules=(("relies_on_outside", "flag", 0.4), ("misses_box", "description", 0.9)),
)
CALM = Planted("calm.png", 400, 400, cell=(4, 3))
TURNED = Planted("turned.jpg", 480, 320, cell=(2, 4), turned=True, rules=(("misses_box", "description", 0.5),))


def overlay_changes(page: Any, field: str) -> list[Any]:
    """What a field adds to each tile, (H, W): sum over channels of the pixels' change when it is switched off."""
    tiles = tile_rectangles(page)
    page.mouse.move(2, 2)  # a tile under the mouse shows a checkbox
    shown = [pixels(page, tile) for tile in tiles]
    switch_field(page, field)
    return [np.abs(before - pixels(page, tile)).sum(axis=2) for before, tile in zip(shown, tiles, strict=True)]


@pytest.mark.parametrize("geometry", ["squash", "resize_crop"])
def test_the_heatmap_lies_on_the_planted_cue(
    geometry: str, settings: ReviewSettings, tmp_path: Path, artefacts: Path
) -> None:
    find_chromium()
    planted = [LANDSCAPE, PORTRAIT, TURNED, CALM]
    run = make_run(tmp_path, planted, geometry, name=f"pixels-{geometry}")
    with open_app(run, settings) as app, browser_page(app.url, tmp_path / "profile") as page:
        wait_until_painted(page, len(planted))
        page.screenshot(path=artefacts / f"grid-{geometry}.png")
        # Worst first: the order in which they are planted here.
        for one, change in zip(planted, overlay_changes(page, "saliency"), strict=True):
            assert change.max() > VISIBLE_CHANGE
            y, x = np.nonzero(change >= 0.8 * change.max())
            scale = one.width / change.shape[1], one.height / change.shape[0]
            x0, y0, x1, y1 = cue_box(one, geometry)
            tolerance = 2 * max(scale)  # a tile is laid out in fractions of a pixel
            assert x0 - tolerance <= x.min() * scale[0]
            assert (x.max() + 1) * scale[0] <= x1 + tolerance
            assert y0 - tolerance <= y.min() * scale[1]
            assert (y.max() + 1) * scale[1] <= y1 + tolerance
            left, top, right, bottom = view_of(one, geometry).view_box
            out_y, out_x = np.nonzero(change > 0)
            assert left - tolerance <= out_x.min() * scale[0], "an overlay where the network saw nothing"
            assert (out_x.max() + 1) * scale[0] <= right + tolerance
            assert top - tolerance <= out_y.min() * scale[1]
            assert (out_y.max() + 1) * scale[1] <= bottom + tolerance


def test_a_reviewer_finds_each_rules_samples_in_its_saved_view(
    settings: ReviewSettings, tmp_path: Path, artefacts: Path
) -> None:
    find_chromium()
    run = make_run(tmp_path, [LANDSCAPE, PORTRAIT, CALM], name="saved-views")
    counts = Counter(run.table("findings")["rule"].to_pylist())
    rules = {"relies_on_outside": RuleText("Relies on what is outside the boxes", "Blurring it costs p.")}
    with open_app(run, settings, rules=rules) as app, browser_page(app.url, tmp_path / "profile") as page:
        wait_until_painted(page, 3)
        assert sample_count(page) == 3
        titles = {"relies_on_outside": "Relies on what is outside the boxes", "misses_box": "Misses box"}
        for rule, title in titles.items():
            select_saved_view(page, f"{title} ({counts[rule]})", picture=artefacts / "saved-views.png")
            wait_until_shown(page, counts[rule])
            assert sample_count(page) == counts[rule]
        page.locator("[data-cy=looker]").first.click()
        page.locator("[data-cy=modal] canvas").first.wait_for()
        page.wait_for_timeout(2000)
        page.screenshot(path=artefacts / "sample.png")
        assert "misses_box: because of misses_box" in page.locator("[data-cy=modal]").inner_text()


FLAGGED = [
    Planted(f"{row:02d}.png", cell=(row, 0), drop_outside=0.95 - row / 20, rules=(("relies_on_outside", "flag", 0.9),))
    for row in range(6)
]
OTHERS = [
    Planted(f"{row:02d}.png", cell=(row - 6, 1), drop_outside=0.1, rules=(("misses_box", "description", 0.5),))
    for row in range(6, 13)
]


def test_the_workspace_shows_findings_and_evidence_and_filters_the_grid(
    settings: ReviewSettings, tmp_path: Path, artefacts: Path
) -> None:
    find_chromium()
    run = make_run(tmp_path, [*FLAGGED, *OTHERS], name="workspace")
    add_vectors(run)
    write_cues(run, [{"cue_id": "cue-1a2b", "sample_ids": ["00.png", "01.png", "02.png"], "classes": []}])
    counts = run_query(run, "SELECT rule, count(DISTINCT sample_id) AS n FROM findings GROUP BY rule").to_pylist()
    by_sql = {row["rule"]: row["n"] for row in counts}
    with open_app(run, settings) as app, browser_page(app.url, tmp_path / "profile") as page:
        wait_until_shown(page, len(FLAGGED + OTHERS))
        plot = page.locator(".js-plotly-plot .nsewdrag").first
        plot.wait_for()
        page.get_by_text("0 of 7", exact=True).wait_for()
        assert page.get_by_text("FiftyOne Enterprise").count() == 0, "an advertisement lies over the App"
        page.screenshot(path=artefacts / "workspace.png")

        # Round the upper half of the plot, where samples lose more than half of their probability.
        box = plot.bounding_box()
        left, right, top = box["x"] + 3, box["x"] + box["width"] - 3, box["y"] + 3
        below = box["y"] + box["height"] / 2
        corners = [(right, top), (right, below), (left, below), (left, top)]
        page.mouse.move(left, top)
        page.mouse.down()
        for x, y in corners:
            page.mouse.move(x, y, steps=10)
        page.mouse.up()
        wait_until_shown(page, len(FLAGGED))
        assert sample_count(page) == len(FLAGGED)
        page.screenshot(path=artefacts / "lasso.png")
        plot.dblclick(position={"x": 20, "y": box["height"] * 0.9})
        wait_until_shown(page, len(FLAGGED + OTHERS))

        for title, expected in (
            ("Relies on outside", by_sql["relies_on_outside"]),
            ("Misses box", by_sql["misses_box"]),
            ("Cue: no class in particular, cue-1a2b", 3),
        ):
            page.get_by_role("cell", name=title).click()
            wait_until_shown(page, expected)
            assert sample_count(page) == expected

        page.get_by_text("Embeddings", exact=True).first.click()
        page.get_by_text("cue_space: what lights up outside the boxes").wait_for()
        legend = page.locator(".js-plotly-plot .legendtext")
        # The view is that of the cue, so all points are of its colour.
        legend.filter(has_text="no class in particular, cue-1a2b").wait_for()
        assert legend.filter(has_text="no cue").count() == 0
        page.screenshot(path=artefacts / "embeddings.png")

        page.get_by_text("findings", exact=True).first.hover()
        page.get_by_text("Rules that found this sample, worst first.").wait_for()


SERVE = """
import sys
from stages.review.app.serve import serve
from stages.review.settings import ReviewSettings
from storage import Run

serve(Run.open(sys.argv[1]), ReviewSettings(database=sys.argv[2]), tell=lambda line: print(line, flush=True))
"""


@contextmanager
def serving(run: Run, database: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of its own that serves the run, and what it printed until the App was up; it is killed in the end."""
    command = [sys.executable, "-c", SERVE, run.url, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Stop it with Ctrl-C"):
                    break
            yield process, "".join(lines)
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_app_and_then_its_database(stop: signal.Signals, tmp_path: Path) -> None:
    run = make_run(tmp_path, [CALM], name="stopped")
    with serving(run, tmp_path / "mongo") as (process, said):
        assert process.stderr is not None
        url = re.search(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", said)
        assert url is not None, process.stderr.read()
        known = {"Authorization": f"Bearer {url[2]}", "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{url[1]}/fiftyone", headers=known)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert answer.status == 200
        below = psutil.Process(process.pid).children(recursive=True)
        mongod = int((tmp_path / "mongo" / "mongod.pid").read_text())
        # A page that is still open in a browser listens to events like this.
        listening = json.dumps({"initializer": None, "events": ["refresh"], "subscription": "page"}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url[1]}/events", listening, known), timeout=20) as page:
            assert page.status == 200
            process.send_signal(stop)
            rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest.strip() == "Stopped."
    assert "Traceback" not in errors
    assert not (tmp_path / "mongo" / "server.json").exists()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in below)
    assert not psutil.pid_exists(mongod) or psutil.Process(mongod).status() == psutil.STATUS_ZOMBIE
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(asked, timeout=5)


def test_a_database_that_is_killed_is_started_again_and_ctrl_c_still_ends_the_app(tmp_path: Path) -> None:
    run = make_run(tmp_path, [CALM], name="killed")
    with serving(run, tmp_path / "mongo") as (process, _):
        assert process.stderr is not None
        first = int((tmp_path / "mongo" / "mongod.pid").read_text())
        os.kill(first, signal.SIGKILL)
        assert "The database ended and was started again" in process.stderr.readline()
        second = int((tmp_path / "mongo" / "mongod.pid").read_text())
        os.kill(second, signal.SIGKILL)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    # Whether it was back before its last question is chance; either way the App ends, and says what it could not store.
    assert rest.strip() == "Stopped." or "`sightline reviews" in errors
