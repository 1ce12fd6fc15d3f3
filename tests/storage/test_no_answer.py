"""An object store that stops answering: a server that speaks S3 on loopback, which is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import numpy as np
import pytest

from storage.errors import DamagedFile, NoAnswer
from storage.integrity.damage import find_damage
from storage.maps import MapAttributes
from storage.run import Part, Run
from storage.tables import SAMPLES, SCORES
from tests.s3 import forget_stores, log_in

pytest.importorskip("s3fs", reason="needs the extra `s3`")
moto_server = pytest.importorskip("moto.server", reason="needs moto")

PART = Part("scores", "opti_cam", 0)


@pytest.fixture(scope="module")
def lost() -> Iterator[tuple[Run, Any]]:
    """A run in a bucket, opened, and an array of its maps; then its server ended. First a part of it was cut off."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        host, port = server.get_host_and_port()
        log_in(environment, AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_MAX_ATTEMPTS="1")
        fsspec.filesystem("s3").mkdir("lost-bucket")
        run = Run.create("s3://lost-bucket/run")
        run.write_table("samples", SAMPLES.empty_table())
        run.write_part(PART, SCORES.empty_table(), {"rows": "0:0"})
        maps = run.create_maps(MapAttributes("opti_cam", "label", 224), rows=32, grid=(7, 7))
        maps.write(0, np.zeros((32, 7, 7), np.float32))
        assert run.part_metadata(PART) is not None
        assert run.part_metadata(Part("scores", "opti_cam", 1)) is None  # missing is not lost
        run.directory.write("explain/opti_cam/part-00000.parquet", b"PAR1 cut off")
        with pytest.raises(DamagedFile):
            run.part_metadata(Part("explain", "opti_cam", 0))  # nor is damaged
        server.stop()
        yield run, maps
        forget_stores()


READS: dict[str, Callable[[Run, Any], object]] = {
    "run.json": lambda run, maps: run.info,
    "samples.parquet": lambda run, maps: run.table("samples"),
    "scores": lambda run, maps: list(run.parts("scores")),
    "scores/opti_cam/part-00000.parquet": lambda run, maps: run.part_metadata(PART),
    "maps.zarr/opti_cam/label": lambda run, maps: run.maps("label", "opti_cam"),
}


@pytest.mark.parametrize("path", READS)
def test_what_is_not_given_is_named_with_the_cause_and_the_remedy(lost: tuple[Run, Any], path: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        READS[path](*lost)
    told = str(caught.value)
    assert told.startswith(f"s3://lost-bucket/run/{path} was not given: EndpointConnectionError: ")
    assert told.endswith("give the same command again: nothing is damaged by this")


def test_maps_of_an_array_that_is_open_are_named_too(lost: tuple[Run, Any]) -> None:
    with pytest.raises(NoAnswer, match=r"maps\.zarr/opti_cam/label was not given: EndpointConnectionError"):
        lost[1].read(slice(0, 3))


def test_a_part_that_is_not_given_is_read_as_neither_missing_nor_damaged(lost: tuple[Run, Any]) -> None:
    with pytest.raises(NoAnswer):
        lost[0].read_part(PART)
    with pytest.raises(NoAnswer):
        list(find_damage(lost[0]))
