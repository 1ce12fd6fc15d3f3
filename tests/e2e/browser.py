"""Chromium on the App: waiting for what is really drawn, switching fields, comparing pixels."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A tile stands in the page long before anything is painted on it; the App says on the document when it has been.
RECORD_EVENTS = """
window.__painted = [];
window.__mounted = 0;
document.addEventListener("grid-mount", () => { window.__mounted += 1; });
document.addEventListener("canvas-loaded", event => { window.__painted.push(event.detail.sampleFilepath); });
"""


def find_chromium() -> str:
    """Path of a Chromium; skips the test if there is none."""
    named = os.environ.get("SIGHTLINE_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = named or next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        told = (
            "no Chromium: install one (apt-get install chromium, or playwright install chromium) or name it in "
            "SIGHTLINE_CHROMIUM"
        )
        if os.environ.get("SIGHTLINE_REQUIRE_BROWSER"):
            pytest.fail(told)
        pytest.skip(told)
    return found


@contextmanager
def browser_page(
    url: str, profile: Path, *, width: int = 1440, height: int = 900, arguments: Sequence[str] = ()
) -> Iterator[Any]:
    """A page on ``url`` whose grid has been mounted; ``arguments`` are more of Chromium's."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
    executable = find_chromium()
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=executable,
            args=[*ARGUMENTS, *arguments],
            viewport={"width": width, "height": height},
        )
        try:
            context.add_init_script(RECORD_EVENTS)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(url)
            page.wait_for_function("window.__mounted > 0")
            yield page
        finally:
            context.close()


@dataclass(frozen=True)
class Rectangle:
    """Part of the page, CSS px (one a screen pixel here)."""

    x: float
    y: float
    width: float
    height: float


def wait_until_painted(page: Any, tiles: int) -> None:
    page.wait_for_function(f"new Set(window.__painted).size >= {tiles}")


def wait_until_shown(page: Any, tiles: int) -> None:
    """Wait until the grid has that many tiles, each painted."""
    page.wait_for_function(
        f"""() => {{
            const canvases = Array.from(document.querySelectorAll('[data-cy=looker] canvas'));
            return canvases.length === {tiles} && canvases.every(c => c.getAttribute('canvas-loaded') === 'true');
        }}"""
    )


def tile_rectangles(page: Any) -> list[Rectangle]:
    """Canvases of the grid's tiles in reading order."""
    found = page.evaluate(
        """Array.from(document.querySelectorAll('[data-cy=looker] canvas')).map(canvas => {
            const r = canvas.getBoundingClientRect();
            return [r.x, r.y, r.width, r.height];
        })"""
    )
    return [Rectangle(*values) for values in sorted(found, key=lambda r: (round(r[1]), r[0]))]


def pixels(page: Any, part: Rectangle) -> NDArray[np.float32]:
    """What a person sees there: (H, W, 3), 0 to 255. Taken when two looks in a row are the same."""
    clip = {"x": part.x, "y": part.y, "width": part.width, "height": part.height}
    before = page.screenshot(clip=clip)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        page.wait_for_timeout(400)
        now = page.screenshot(clip=clip)
        if now == before:
            return np.asarray(Image.open(io.BytesIO(now)).convert("RGB"), dtype=np.float32)
        before = now
    raise AssertionError("the page does not come to rest")


def switch_field(page: Any, field: str) -> None:
    """Check or uncheck a field in the sidebar."""
    page.locator(f"[data-cy=checkbox-{field}]").click()


def select_saved_view(page: Any, name: str, picture: Path | None = None) -> None:
    """Choose a saved view from the list, after a picture of the open list."""
    page.locator("[data-cy=saved-views-selection]").click()
    entry = page.get_by_text(name, exact=True).last
    entry.wait_for()
    if picture:
        page.wait_for_timeout(500)  # the list fades in
        page.screenshot(path=picture)
    entry.click()


def sample_count(page: Any) -> int:
    """Samples that the grid says it shows."""
    return int(page.locator("[data-cy=entry-counts]").inner_text().replace(",", "").split()[0])


def run_operator(page: Any, label: str) -> None:
    """Choose an operator from the App's list of them, as a person does: its form opens, or it runs."""
    page.keyboard.press("Backquote")
    page.get_by_placeholder("Search operations by name...").fill(label)
    page.get_by_text(label, exact=True).first.click()
