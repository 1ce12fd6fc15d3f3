from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stages.review.app.serve import _server_is_waited_for, open_app, serve
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


class Starting:
    """FiftyOne's service, whose process ends or whose port answers at the n-th look."""

    def __init__(self, answers_at: int, ends_at: int) -> None:
        self.looks, self.answers_at, self.ends_at = 0, answers_at, ends_at
        self.child = self

    def poll(self) -> int | None:
        return 1 if self.looks >= self.ends_at else None


def test_a_server_is_waited_for_while_its_process_lives(monkeypatch: pytest.MonkeyPatch):
    from fiftyone.core.service import ServerService, ServiceListenTimeout

    def look(service: Starting, port: int, timeout: float) -> int:
        service.looks += 1
        if service.looks < service.answers_at:
            raise ServiceListenTimeout("server", port)
        return port

    monkeypatch.setattr(ServerService, "_wait_for_child_port", look)
    with _server_is_waited_for():
        wait = ServerService._wait_for_child_port
        assert wait(Starting(answers_at=1000, ends_at=2000), port=5151) == 5151
        with pytest.raises(ServiceListenTimeout):
            wait(Starting(answers_at=1000, ends_at=3), port=5151)
    assert ServerService._wait_for_child_port is look
