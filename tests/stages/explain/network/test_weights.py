from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from stages.explain.network import weights
from stages.explain.network.weights import resolve_weights
from storage.errors import UserError

CONTENT = b"the weights of a network"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"network-{DIGITS}.pth"
NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's, and a torchvision whose weights are a file that exists nowhere yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(weights, "_weights_url", lambda architecture, name: f"{NOWHERE}/{NAME}")
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    return cache


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a distribution that carries a file of the given name."""

    def _install(content: bytes) -> Path:
        site = tmp_path / "site"
        file = site / "carrier" / "weights" / NAME
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        info = site / "carrier-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"carrier/__init__.py,,\ncarrier/weights/{NAME},,\n")
        monkeypatch.syspath_prepend(str(site))
        return file

    return _install


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of one folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_the_cache_comes_before_a_package(empty_cache: Path, install) -> None:
    install(CONTENT)
    (empty_cache / NAME).write_bytes(CONTENT)
    assert resolve_weights("mobilenet_v2") == empty_cache / NAME


def test_a_package_that_carries_the_file_is_found(install) -> None:
    file = install(CONTENT)
    assert resolve_weights("mobilenet_v2") == file


def test_a_truncated_file_in_the_cache_is_passed_over(empty_cache: Path, install) -> None:
    (empty_cache / NAME).write_bytes(CONTENT[:5])
    file = install(CONTENT)
    assert resolve_weights("mobilenet_v2") == file


def test_a_download_goes_into_the_cache(
    tmp_path: Path, empty_cache: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_weights_url", lambda architecture, name: f"{server}/{NAME}")
    (tmp_path / "served" / NAME).write_bytes(CONTENT)
    assert resolve_weights("mobilenet_v2") == empty_cache / NAME
    assert (empty_cache / NAME).read_bytes() == CONTENT


def test_a_download_of_other_content_is_refused(
    tmp_path: Path, empty_cache: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_weights_url", lambda architecture, name: f"{server}/{NAME}")
    (tmp_path / "served" / NAME).write_bytes(b"something else")
    with pytest.raises(UserError, match="hash"):
        resolve_weights("mobilenet_v2")
    assert list(empty_cache.iterdir()) == []


def test_the_error_names_the_three_places_and_why_each_failed(empty_cache: Path, install) -> None:
    (empty_cache / NAME).write_bytes(b"half a file")
    install(b"tampered with")
    with pytest.raises(UserError) as caught:
        resolve_weights("mobilenet_v2")
    lines = str(caught.value).splitlines()
    half, tampered = (hashlib.sha256(content).hexdigest()[:8] for content in (b"half a file", b"tampered with"))
    assert NAME in lines[0]
    assert "torch's cache" in lines[1]
    assert f"begins with {half}, not with {DIGITS}" in lines[1]
    assert "installed package: carrier" in lines[2]
    assert f"begins with {tampered}, not with {DIGITS}" in lines[2]
    assert f"download: {NOWHERE}/{NAME}" in lines[3]
    assert "refused" in lines[3]


class TestNames:
    @pytest.fixture(autouse=True)
    def real_torchvision(self, monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
        monkeypatch.undo()

    def test_an_unknown_architecture_suggests_the_nearest(self) -> None:
        with pytest.raises(UserError, match=r"no architecture 'mobilnet_v2'; did you mean mobilenet_v2"):
            resolve_weights("mobilnet_v2")

    def test_unknown_weights_list_the_known_ones(self) -> None:
        with pytest.raises(UserError, match="IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"):
            resolve_weights("mobilenet_v2", "IMAGENET22K")

    def test_default_is_torchvisions_default(self) -> None:
        assert weights._weights_url("mobilenet_v2", "DEFAULT").endswith("/mobilenet_v2-7ebf99e0.pth")
        assert weights._weights_url("mobilenet_v2", "IMAGENET1K_V1").endswith("/mobilenet_v2-b0353104.pth")
