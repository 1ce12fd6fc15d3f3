from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stages.review.app.serve import open_app, serve
from stages.review.settings import ReviewSettings
from storage.errors import UserError
from tests.stages.review.synthetic import Planted, make_run


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path):
    run = make_run(tmp_path, [Planted("a.png")])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use; take another with --port"):
            serve(run, ReviewSettings(database=str(tmp_path / "mongo")), port=port, tell=lambda _line: None)
    assert not (tmp_path / "mongo").exists()


@pytest.mark.parametrize("port", [0, -1, 70_000])
def test_a_port_that_does_not_exist_is_refused(port: int, tmp_path: Path):
    run = make_run(tmp_path, [Planted("a.png")])
    with pytest.raises(UserError, match=f"port {port} does not exist"), open_app(run, port=port):
        pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heatmap_side": 4}, "heatmap_side is 4; give a side from 16 to 4096 px"),
        ({"heatmap_opacity": 1.5}, "heatmap_opacity is 1.5"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        ReviewSettings(**settings)
