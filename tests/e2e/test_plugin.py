"""The panel in the sample modal for real: one App, one browser, a reviewer who works through it from the keyboard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.review.app.database import database
from stages.review.app.serve import open_app
from stages.review.settings import ReviewSettings
from stages.review.verdicts.table import read_reviews, standing
from storage.run import Run
from tests.e2e.browser import (
    browser_page,
    find_chromium,
    run_operator,
    sample_count,
    wait_until_painted,
    wait_until_shown,
)
from tests.stages.review.synthetic import RELYING, Planted, make_run, write_cues

RELIES = ("relies_on_outside", "flag")
MISSES = ("misses_box", "description")
PROBES = RELYING | {"hide_locator": "opti_cam", "hidden_box": {"x0": 320, "y0": 30, "x1": 430, "y1": 110}}

FIRST = Planted("first.png", 480, 320, cell=(1, 5), rules=((*RELIES, 0.9), (*MISSES, 0.8)), probes=PROBES)
SECOND = Planted("second.png", 300, 450, cell=(5, 1), rules=((*RELIES, 0.6),), probes=PROBES | {"p_box": 0.875})
THIRD = Planted("third.png", 400, 300, cell=(4, 3), rules=((*RELIES, 0.4), (*MISSES, 0.3)))
CALM = Planted("calm.png", 400, 400, cell=(4, 3))
IN_THE_OTHER = Planted("first.png", 480, 320, cell=(3, 3), probes=PROBES | {"p_hide_outside": 0.9375})

PANEL = "[data-cy=sightline-panel]"


@pytest.fixture(scope="module", autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewSettings]:
    """A home and a database of the tests' own, and a reviewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("SIGHTLINE_REVIEWER", "ann")
        patch.delenv("FIFTYONE_DATABASE_URI", raising=False)
        yield ReviewSettings(database=str(tmp_path_factory.mktemp("mongo")))


def picture(page: Any, name: str, folder: Path) -> None:
    target = Path(os.environ.get("SIGHTLINE_ARTEFACTS") or folder)
    target.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target / name)


def open_first(page: Any) -> None:
    page.locator("[data-cy=looker]").first.click()
    wait_for_sample(page, "first.png")


def wait_for_sample(page: Any, name: str) -> None:
    page.locator(f"{PANEL}[data-sample='{name}']").wait_for()


def told(page: Any) -> str:
    return str(page.locator("[data-cy=sightline-told]").inner_text())


def shown_values(page: Any, attribute: str) -> dict[str, float]:
    """Numbers behind the bars, by probe."""
    return {
        name: float(page.locator(f"[data-cy=sightline-{name}]").get_attribute(attribute))
        for name in PROBES
        if name.startswith("p_")
    }


def value_under_mouse(page: Any, x: float, y: float, size: tuple[int, int]) -> float:
    """S that the panel says of a place of the image, px."""
    box = page.locator("[data-cy=sightline-picture]").first.bounding_box()
    page.mouse.move(box["x"] + x / size[0] * box["width"], box["y"] + y / size[1] * box["height"])
    text = page.locator("[data-cy=sightline-caption]").first.inner_text()
    assert text.startswith("S = "), text
    return float(text.split()[2])


def check_the_numbers(page: Any, run: Run) -> None:
    row = next(row for row in run.table("explain").to_pylist() if row["sample_id"] == "first.png")
    values = shown_values(page, "data-value")
    assert values == {name: row[name] for name in values}
    view_map = run.maps("label").read([0], size=(224, 224))[0]
    # The middle of the lit cell, of a dark one, and the slope between: px of the image and of the view.
    for x, y in ((377, 69), (100, 250), (340, 69)):
        at = view_map[int(y * 224 / FIRST.height), int(x * 224 / FIRST.width)]
        # The mouse stands on whole px of the screen, somewhat beside.
        nearby = view_map[int(y * 0.7) - 3 : int(y * 0.7) + 4, int(x * 0.4667) - 3 : int(x * 0.4667) + 4]
        assert abs(value_under_mouse(page, x, y, (FIRST.width, FIRST.height)) - at) <= np.ptp(nearby) + 1e-6
    assert page.locator("[data-cy=sightline-words]").inner_text() == (
        "The class rests on its surroundings: without them p is .25 (one colour) or .50 (blurred), and objects of "
        "other classes have .75 of it in them, .06 alone. "
        "Hiding what matters most outside takes p(cat) from .94 to .06; a random area as large leaves it at .88."
    )
    assert "because of relies_on_outside" in page.locator(PANEL).inner_text()


def check_two_runs_side_by_side(page: Any, other: Run, folder: Path) -> None:
    page.locator("[data-cy=sightline-other-run]").select_option("path")
    page.get_by_placeholder("a run beside this one, then Enter").fill(other.name)
    page.keyboard.press("Enter")
    page.locator("[data-cy=sightline-other-words]").wait_for()
    assert page.locator("[data-cy=sightline-picture]").count() == 2
    assert shown_values(page, "data-value")["p_hide_outside"] == 0.0625
    assert shown_values(page, "data-other")["p_hide_outside"] == 0.9375
    picture(page, "panel-two-runs.png", folder)
    page.locator("[data-cy=sightline-other-run]").select_option("")
    page.locator("[data-cy=sightline-other-words]").wait_for(state="detached")


def judge_from_the_keyboard(page: Any, folder: Path) -> None:
    page.keyboard.press("1")
    wait_for_sample(page, "second.png")
    assert told(page) == "confirmed on first.png, relies_on_outside, by ann"
    # Keys that are typed into a note are no verdicts.
    page.keyboard.press("n")
    page.keyboard.type("4 of 5")
    page.keyboard.press("Enter")
    assert page.locator(f"{PANEL}[data-sample='second.png']").count() == 1
    page.keyboard.press("2")
    wait_for_sample(page, "third.png")
    assert told(page) == "false_alarm on second.png, relies_on_outside, by ann: 4 of 5"
    page.keyboard.press("f")
    assert "finding 2 of 2" in page.locator("[data-cy=sightline-judging]").inner_text()
    page.keyboard.press("5")
    wait_for_sample(page, "calm.png")
    assert told(page) == "unsure on third.png, misses_box, by ann"
    picture(page, "panel-nothing-found.png", folder)
    page.keyboard.press("1")
    assert told(page) == "no rule found anything here: there is nothing to judge"
    page.keyboard.press("0")
    page.get_by_text("taken back: unsure on third.png").wait_for()
    page.keyboard.press("ArrowLeft")
    wait_for_sample(page, "third.png")
    page.keyboard.press("3")
    wait_for_sample(page, "calm.png")
    # The finding that was chosen stays chosen on the samples that have it.
    assert told(page) == "fix_box on third.png, misses_box, by ann"
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    wait_for_sample(page, "first.png")
    judge_a_whole_cue(page, folder)
    assert "ann: confirmed" in page.locator("[data-cy=sightline-finding-relies_on_outside]").inner_text()
    picture(page, "panel.png", folder)


def judge_a_whole_cue(page: Any, folder: Path) -> None:
    """On first.png, of whose cue third.png is: a verdict for both, and both taken back."""
    page.keyboard.press("f")
    judging = page.locator("[data-cy=sightline-judging]")
    judging.get_by_text("finding 1 of 2").wait_for()
    page.locator("[data-cy=sightline-progress]").get_by_text("2 of 3").wait_for()
    page.keyboard.press("a")
    judging.get_by_text("on all 2 of cue-1").wait_for()
    picture(page, "panel-whole-cue.png", folder)
    page.keyboard.press("2")
    wait_for_sample(page, "second.png")
    assert told(page) == "false_alarm on 2 samples, relies_on_outside, by ann"
    page.keyboard.press("0")
    page.get_by_text("taken back: false_alarm on 2 samples").wait_for()
    page.keyboard.press("ArrowLeft")
    wait_for_sample(page, "first.png")


def leaf_through(page: Any, names: list[str]) -> None:
    """The grid has these samples in this order: seen by opening the first and going on to the last."""
    wait_until_shown(page, len(names))
    assert sample_count(page) == len(names)
    page.locator("[data-cy=looker]").first.click()
    for name in names:
        wait_for_sample(page, name)
        page.keyboard.press("ArrowRight")
    wait_for_sample(page, names[-1])


def name_the_cue(page: Any, folder: Path) -> None:
    """Its view has a name that the page did not know when it was loaded."""
    run_operator(page, "Sightline: name the cue")
    page.locator("[data-cy=operators-prompt-modal]").get_by_role("textbox").last.fill("a sticker")
    page.get_by_role("button", name="Execute").click()
    page.get_by_text("cue-1 is called a sticker from now on").wait_for()
    page.keyboard.press("Escape")
    page.locator(PANEL).wait_for(state="detached")
    picture(page, "cue-named.png", folder)
    page.get_by_text("a sticker, cue-1").first.click()
    leaf_through(page, ["first.png", "third.png"])


def look_for_more(page: Any, folder: Path) -> None:
    page.keyboard.press("m")
    leaf_through(page, ["first.png", "third.png"])
    page.locator("[data-cy=sightline-words]").click()  # wherever the mouse is, Escape closes the sample
    page.keyboard.press("Escape")
    page.locator(PANEL).wait_for(state="detached")
    run_operator(page, "Sightline: query the audit")
    form = page.locator("[data-cy=operators-prompt-modal]")
    form.get_by_role("combobox").click()
    page.get_by_role("option", name="SQL of your own").click()
    form.get_by_role("textbox").last.fill(
        "SELECT DISTINCT sample_id FROM audit WHERE sample_id <> 'third.png' ORDER BY sample_id DESC"
    )
    picture(page, "query.png", folder)
    page.get_by_role("button", name="Execute").click()
    leaf_through(page, ["second.png", "first.png", "calm.png"])
    page.keyboard.press("Escape")


def judge_the_selected(page: Any, folder: Path) -> None:
    tile = page.locator("[data-cy=looker]").first  # second.png, as the query sorts
    tile.hover()
    tile.click(position={"x": 12, "y": 12})
    page.get_by_text("1 selected").or_(page.locator("[data-cy=action-manage-selected]")).first.wait_for()
    run_operator(page, "Sightline: give a verdict")
    page.get_by_text("a verdict on 1 sample(s), by ann").wait_for()
    page.get_by_text("unsure: cannot tell").click()
    page.locator("[data-cy=operators-prompt-modal]").get_by_role("textbox").last.fill("in the grid")
    picture(page, "verdict-form.png", folder)
    page.get_by_role("button", name="Execute").click()
    page.get_by_text("unsure on 1 sample(s)").wait_for()


EXPECTED = {
    ("first.png", "relies_on_outside", "confirmed", None),
    ("second.png", "relies_on_outside", "unsure", "in the grid"),  # in place of the one by the key
    ("third.png", "misses_box", "fix_box", None),
}


def stored(run: Run) -> set[tuple[str, str, str, str | None]]:
    reviews = standing(read_reviews(run)).values()
    assert {review.reviewer for review in reviews} <= {"ann"}
    return {(review.sample_id, review.rule, review.verdict, review.note) for review in reviews}


def test_an_hour_of_review_from_the_keyboard(settings: ReviewSettings, tmp_path: Path) -> None:
    find_chromium()
    run = make_run(tmp_path, [FIRST, SECOND, THIRD, CALM], name="reviewed")
    write_cues(run, [{"cue_id": "cue-1", "rank": 1, "size": 2, "sample_ids": ["first.png", "third.png"]}])
    other = make_run(tmp_path, [IN_THE_OTHER], name="retrained")
    with open_app(run, settings) as app, browser_page(app.url, tmp_path / "profile") as page:
        wait_until_painted(page, 4)
        open_first(page)
        check_the_numbers(page, run)
        check_two_runs_side_by_side(page, other, tmp_path)
        judge_from_the_keyboard(page, tmp_path)
        name_the_cue(page, tmp_path)
        look_for_more(page, tmp_path)
        judge_the_selected(page, tmp_path)
    assert stored(run) == EXPECTED
    # A second load changes nothing that was said.
    with database(settings.database_directory):
        from stages.review.review import load

        dataset = load(run, settings)
        kept = {
            (sample["sample_key"], one.rule, one.verdict, one.note)
            for sample in dataset
            for one in sample["verdicts"] or ()
        }
    assert kept == stored(run) == EXPECTED
