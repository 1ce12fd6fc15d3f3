"""Commands on a run in a bucket whose server ends while they read: a server that speaks S3 on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from storage.tables import SCHEMAS
from tests.s3 import forget_stores, log_in
from tests.stages.review.synthetic import Planted, make_run

pytest.importorskip("s3fs", reason="needs the extra `s3`")
moto_app = pytest.importorskip("moto.moto_server.werkzeug_app", reason="needs moto")

RUN = "s3://ending-bucket/runs/synthetic"
OTHER = "s3://ending-bucket/runs/other"
REFUSED = "EndpointConnectionError: Could not connect to the endpoint URL"

COMMANDS: dict[str, tuple[object, ...]] = {
    "query": ("query", RUN, "SELECT sum(p_full), sum(drop_outside) FROM audit", "--format", "csv"),
    "report": ("report", RUN, "--out", "OUT/report.html"),
    "compare": ("compare", RUN, OTHER),
    "export": ("export", RUN, "OUT/coco", "--format", "coco", "--copy-images"),
}


class Server:
    """Serves one memory of buckets; :meth:`start` with a number ends it after as many requests."""

    def __init__(self, environment: pytest.MonkeyPatch) -> None:
        self._app = moto_app.DomainDispatcherApplication(moto_app.create_backend_app)
        self._environment = environment
        self._server: Any = None
        self.served = 0
        self._left: int | None = None

    def start(self, left: int | None = None) -> None:
        from werkzeug.serving import make_server

        self.served, self._left = 0, left
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self._environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{self._server.port}")
        forget_stores()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _serve(self, environ: Any, start_response: Any) -> Any:
        self.served += 1
        if self._left is not None and self.served >= self._left:
            self.stop()  # before the answer, after which the client asks again
        return self._app(environ, start_response)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two runs of six images in a bucket."""
    folder = tmp_path_factory.mktemp("runs")
    planted = [Planted(f"{n}.jpg", rules=(("relies_on_outside", "flag", 0.9),)) for n in range(6)]
    for name, method in (("synthetic", "opti_cam"), ("other", "opti_cam")):
        run = make_run(folder, planted, name=name, method=method)
        samples = run.table("samples")
        place = samples.schema.get_field_index("uri")
        uris = [f"s3://ending-bucket/images/{name}" for name in samples["sample_id"].to_pylist()]
        run.write_table("samples", samples.set_column(place, "uri", [uris]))
        for table in ("metrics", "classes", "cues"):
            run.write_table(table, SCHEMAS[table].empty_table())
    with pytest.MonkeyPatch.context() as environment:
        log_in(environment, AWS_MAX_ATTEMPTS="1")
        server = Server(environment)
        server.start()
        store = fsspec.filesystem("s3", use_listings_cache=False)
        store.mkdir("ending-bucket")
        store.put(f"{folder}/", "ending-bucket/", recursive=True)
        server.stop()
        yield server
        server.stop()
        forget_stores()


@pytest.fixture
def said(
    server: Server, command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, int | None], tuple[int, str, str]]:
    """Runs one of the commands against a server that ends after some requests."""
    monkeypatch.chdir(tmp_path)

    def said(name: str, left: int | None) -> tuple[int, str, str]:
        server.start(left)
        try:
            return command(*(str(argument).replace("OUT", str(tmp_path)) for argument in COMMANDS[name]))
        finally:
            server.stop()

    return said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_store_that_ends_during_a_command_is_told_in_a_line_and_nothing_is_half_written(
    server: Server, said: Callable[..., tuple[int, str, str]], name: str, tmp_path: Path
) -> None:
    def written() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    status, _, err = said(name, None)
    assert status == 0, err
    whole, complete = server.served, written()
    assert whole > 20
    for left in (2, whole // 2, whole * 3 // 4, whole - 1):
        status, out, err = said(name, left)
        lines = [line for line in err.splitlines() if not line.startswith("FiftyOne was not asked")]
        if name == "report" and status == 0:  # all tables were read, and images were not given
            assert "pictures could not be shown: the image was not given by its store" in out
            complete = written()
            continue
        assert (status, len(lines)) == (1, 1), (left, err)
        assert lines[0].startswith(("fault: s3://ending-bucket/runs/", "fault: s3://ending-bucket/images/"))
        assert f" was not given: {REFUSED}" in lines[0]
        assert lines[0].endswith("then give the same command again: nothing is damaged by this")
        assert written() == complete
