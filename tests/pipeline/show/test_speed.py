import pytest

from pipeline.show.run import where_time_went
from storage.info import Explained


def spent(**seconds: float) -> Explained:
    return Explained(images=100, seconds=60.0, spent={"turn": 500.0, "decoding": 0.0} | seconds)


def test_shares_are_of_the_time_that_workers_did_something():
    (line,) = where_time_went(spent(network=90.0, images=2.0, storing=3.0, scoring=5.0))
    assert line == ("of the workers' time: network and probes 90%, waiting for images 2%, storing 3%, scoring 5%")


@pytest.mark.parametrize(
    ("images", "storing", "told"),
    [(50.0, 0.0, "images came too slowly (400 ms of a core to read and decode one)"), (0.0, 50.0, "the store is slow")],
)
def test_what_keeps_the_device_waiting_is_told_with_a_remedy(images, storing, told):
    _, line = where_time_went(spent(network=50.0, images=images, storing=storing, scoring=0.0, decoding=40.0))
    assert line.startswith(told)


def test_a_run_of_an_earlier_version_tells_nothing():
    assert where_time_went(Explained(images=100, seconds=60.0)) == []
