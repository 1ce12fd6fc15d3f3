"""A stand-in for Hugging Face's hub on loopback: folders of models, served as its clients ask for them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40


@contextmanager
def hub_of(root: Path) -> Iterator[str]:
    """The address of a hub whose models are the folders ``OWNER/NAME`` of ``root``; it ends with the context."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"root": root}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hub(BaseHTTPRequestHandler):
    root: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing: what is asked is no output of a test."""

    def do_GET(self) -> None:
        match self.path.partition("?")[0].strip("/").split("/"):
            case [owner, name, "resolve", _, *rest]:
                self._answer(self.root / owner / name, "/".join(rest))
            case ["api", "models", owner, name, *_] if (self.root / owner / name).is_dir():
                self._send(json.dumps({"id": f"{owner}/{name}", "sha": COMMIT, "siblings": []}).encode())
            case _:
                self._refuse("RepoNotFound")

    do_HEAD = do_GET

    def _answer(self, model: Path, file: str) -> None:
        if not model.is_dir():
            self._refuse("RepoNotFound")
        elif not (model / file).is_file():
            self._refuse("EntryNotFound")
        else:
            self._send((model / file).read_bytes())

    def _refuse(self, code: str) -> None:
        self._send(b"", 404, {"X-Error-Code": code})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        tag = hashlib.sha256(body).hexdigest()
        always = {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'}
        for name, value in {**always, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
