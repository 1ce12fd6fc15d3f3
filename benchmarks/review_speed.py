"""What the App costs of a review: from the key of a verdict to the next sample's pictures, in a headless Chromium.

    python -m benchmarks.review_speed RUN [--rule misses_box] [--verdicts 50]

A copy of the run is loaded, so no verdict enters it, with the samples that the rule found alone. The first sample is
opened, and the key of a verdict pressed again and again, a second after the pictures are there. A time ends when the
panel stands on another sample and has decoded all of its pictures; it is read in the page, at its frames.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from stages.review.app.serve import open_app
from stages.review.settings import ReviewSettings, Selection
from storage import Run

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

LISTEN = """
window.__mounted = 0;
document.addEventListener("grid-mount", () => { window.__mounted += 1; });
document.addEventListener("keydown", () => { window.__pressed = performance.now(); }, true);
"""
SHOWN = """(before) => {
    const panel = document.querySelector('[data-cy=sightline-panel]');
    if (!panel || panel.dataset.sample === before) return null;
    const own = panel.querySelector(`img[alt="${panel.dataset.sample}"]`);
    const pictures = Array.from(panel.querySelectorAll('img'));
    const drawn = own && pictures.every(picture => picture.complete && picture.naturalWidth);
    return drawn ? performance.now() - window.__pressed : null;
}"""


def measure(page: Any, verdicts: int) -> list[float]:
    """Milliseconds from the key of each verdict to the pictures of the next sample."""
    page.locator("[data-cy=looker]").first.click()
    panel = page.locator("[data-cy=sightline-panel]")
    page.locator("[data-cy=sightline-picture] img").first.wait_for()
    times = []
    for _ in range(verdicts):
        page.wait_for_timeout(1000)  # a reviewer looks; what the App does meanwhile is not waited for
        before = panel.get_attribute("data-sample")
        page.keyboard.press("1")
        times.append(page.wait_for_function(SHOWN, arg=before, polling="raf").json_value())
    return times


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rule", default="misses_box", help="whose findings are judged")
    parser.add_argument("--verdicts", type=int, default=50)
    options = parser.parse_args(arguments)
    chromium = os.environ.get("SIGHTLINE_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    findings = Run.open(str(options.run)).table("findings", ["sample_id", "rule"]).to_pylist()
    found = frozenset(finding["sample_id"] for finding in findings if finding["rule"] == options.rule)
    if len(found) <= options.verdicts:
        parser.error(f"{options.rule} found {len(found)} samples; take fewer --verdicts than that")
    with tempfile.TemporaryDirectory(prefix="sightline-review-") as folder:
        copy = Path(shutil.copytree(options.run, Path(folder) / options.run.name))
        settings = ReviewSettings(database=str(Path(folder) / "mongo"))
        selection = Selection(options.rule, found)
        with (
            open_app(Run.open(str(copy)), settings, selection=selection) as app,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.set_default_timeout(120_000)
            page.add_init_script(LISTEN)
            page.goto(app.url)
            page.wait_for_function("window.__mounted > 0")
            times = measure(page, options.verdicts)
            browser.close()
    median, slow = statistics.median(times), statistics.quantiles(times, n=10)[-1]
    print("| verdicts | median, ms | 90th percentile, ms |\n|---|---|---|")
    print(f"| {len(times)} | {median:.0f} | {slow:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
