"""The report in a real browser: it opens from a file, asks for nothing, fits the window and the paper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stages.audit.audit import audit
from stages.audit.report import gather, render
from stages.audit.settings import AuditSettings
from storage.run import Part
from storage.tables import METRICS, SCORES
from tests.e2e.browser import ARGUMENTS, find_chromium
from tests.stages.audit.conftest import QUIET, fill, measured
from tests.stages.review.synthetic import Planted, make_run

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

# WCAG 2.2, 1.4.3: the luminance contrast of every piece of text with what is painted behind it.
CONTRASTS = """() => {
    const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = rgb => rgb.slice(0, 3).map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
        if (!text || ['STYLE', 'title', 'desc'].includes(element.tagName)) continue;
        const style = getComputedStyle(element);
        const ink = light(parse(element.closest('svg') ? style.fill : style.color)), page = light(behind(element));
        found.push([(Math.max(ink, page) + .05) / (Math.min(ink, page) + .05), text]);
    }
    return found;
}"""


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Where screenshots go: SIGHTLINE_ARTEFACTS, or the test's own folder."""
    folder = Path(os.environ.get("SIGHTLINE_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The page of a run of ten samples, of which two are flagged."""
    planted = [Planted(f"{index}.png", *((480, 320) if index % 2 else (320, 480))) for index in range(10)]
    run = make_run(tmp_path, planted, "resize_crop", name="report")
    scores = [
        {**QUIET, "sample_id": one.name, "row": row, "status": "ok", "drop_outside": 0.6 if row < 2 else 0.05}
        for row, one in enumerate(planted)
    ]
    run.write_part(Part("scores", "opti_cam", 0), fill(SCORES, scores), {})
    run.write_table("metrics", fill(METRICS, [measured("energy_in", 0.4, low=0.3, high=0.5, n=10)]))
    audit(run, AuditSettings())
    file = tmp_path / "report.html"
    file.write_text(render(gather(run)), encoding="utf-8")
    return file


@contextmanager
def opened(file: Path, **options: Any) -> Iterator[Any]:
    """A page on the file, in which neither an error nor a request for anything else may happen."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
    executable = find_chromium()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            page = browser.new_context(**options).new_page()
            faults: list[str] = []
            requests: list[str] = []
            page.on("console", lambda message: faults.append(message.text))
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("requestfailed", lambda request: faults.append(request.url))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(file.as_uri())
            yield page
            assert faults == []
            assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
        finally:
            browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_a_request_and_every_text_can_be_read(
    report: Path, artefacts: Path, scheme: str
) -> None:
    with opened(report, viewport={"width": 1366, "height": 768}, color_scheme=scheme) as page:
        page.screenshot(path=artefacts / f"report-{scheme}.png", full_page=True)
        assert page.evaluate("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
        assert page.locator("img").count() >= 4, "each of two findings has its image and its map"
        verdict, steps = page.locator("h1").bounding_box(), page.locator("ol.steps").bounding_box()
        assert 0 < verdict["y"] < steps["y"] + steps["height"] < 768, "verdict and next steps fit the first screen"
        assert page.evaluate(OVERFLOW) == 0
        dim = [(round(contrast, 2), text) for contrast, text in page.evaluate(CONTRASTS) if contrast < 4.5]
        assert dim == []


def test_the_page_fits_a_telephone(report: Path, artefacts: Path) -> None:
    with opened(report, viewport={"width": 390, "height": 844}) as page:
        page.screenshot(path=artefacts / "report-narrow.png", full_page=True)
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate("Array.from(document.images).every(i => i.getBoundingClientRect().right <= innerWidth)"), (
            "no picture is cut off"
        )


def test_no_figure_is_torn_on_paper(report: Path, artefacts: Path) -> None:
    width = 680  # CSS px of A4 between margins of 15 mm
    with opened(report, viewport={"width": width, "height": 1000}, color_scheme="dark") as page:
        page.emulate_media(media="print")
        page.screenshot(path=artefacts / "report-print.png", full_page=True)
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate(
            "Array.from(document.querySelectorAll('figure')).every(f => getComputedStyle(f).breakInside === 'avoid')"
        )
        content = page.pdf(path=artefacts / "report.pdf", format="A4")
        assert content.startswith(b"%PDF")
