"""Attacks on a running App, by a browser that has it open and by a program."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from stages.review.app.serve import App, open_app
from stages.review.settings import ReviewSettings
from stages.review.verdicts.table import read_reviews
from storage.run import Run
from tests.e2e.browser import browser_page, find_chromium, wait_until_painted
from tests.stages.review.synthetic import Planted, make_run

EVIL = "evil.example"
"""A site whose name the attacked browser finds at 127.0.0.1, as after DNS rebinding."""

SEND = """
async ([url, kind, body]) => {
    const mode = url.startsWith(location.origin) ? "same-origin" : "no-cors";
    const headers = {"Content-Type": kind};
    const answer = await fetch(url, {method: "POST", mode, credentials: "include", headers, body});
    return answer.status;
}
"""

READ = """
async (url) => {
    const answer = await fetch(url);
    return [answer.status, await answer.text()];
}
"""


@contextmanager
def _site() -> Iterator[int]:
    """Port of a server of the attacker's, whose pages are empty."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>evil</title>")

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _verdict(app: App) -> str:
    """The body of a request that judges the sample, as FiftyOne's page sends it."""
    (sample,) = app.dataset
    params = f'{{"sample": "{sample.id}", "verdict": "false_alarm", "rule": "relies_on_outside"}}'
    return f'{{"operator_uri": "@sightline/review/judge", "dataset_name": "{app.dataset.name}", "params": {params}}}'


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def _verdicts(run: Run) -> list[str]:
    return [review.verdict for review in read_reviews(run)]


def test_pages_of_other_sites_and_programs_without_the_link_get_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_chromium()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    run = make_run(tmp_path, [Planted("a.png", rules=(("relies_on_outside", "flag", 0.9),))], name="attacked")
    resolved = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    with (
        open_app(run, ReviewSettings(database=str(tmp_path / "mongo"))) as app,
        _site() as evil,
        browser_page(app.url, tmp_path / "profile", arguments=[resolved]) as page,
    ):
        wait_until_painted(page, 1)
        at = urlsplit(app.url)
        here, execute = f"http://{at.netloc}", f"http://{at.netloc}/operators/execute"

        # A program of another user of this machine.
        image = app.dataset.first().filepath
        for path in ("/", "/fiftyone", f"/media?filepath={quote(image)}", "/media?filepath=/etc/passwd"):
            assert _status(here + path) == 403

        # A tab of the same browser, which has the cookie: on another site, on another port, under the App's own name.
        tab = page.context.new_page()
        for site in (f"http://{EVIL}:{evil}", f"http://127.0.0.1:{evil}"):
            tab.goto(site)
            for kind in ("text/plain", "application/x-www-form-urlencoded"):
                tab.evaluate(SEND, [execute, kind, _verdict(app)])
        rebound = f"http://{EVIL}:{at.port}"
        for path in ("/media?filepath=/etc/passwd", f"/media?filepath={quote(image)}", "/"):
            assert tab.goto(rebound + path).status == 403
        assert tab.evaluate(SEND, [f"{rebound}/operators/execute", "application/json", _verdict(app)]) == 403
        assert _verdicts(run) == []

        # The App's page itself reads its images alone, and its verdict counts: the requests above were well-formed.
        status, text = page.evaluate(READ, f"{here}/media?filepath=/etc/passwd")
        assert (status, "root:" in text) == (403, False)
        assert page.evaluate(READ, f"{here}/media?filepath={quote(image)}")[0] == 200
        assert page.evaluate(SEND, [execute, "application/json", _verdict(app)]) == 200
        assert _verdicts(run) == ["false_alarm"]

        loaded = page.evaluate(
            "performance.getEntriesByType('resource').filter(r => r.responseStatus).map(r => r.name)"
        )
        assert loaded
        assert all(url.startswith((here, "blob:", "data:")) for url in loaded)
