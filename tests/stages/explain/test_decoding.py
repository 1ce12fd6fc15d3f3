from threading import Event

import numpy as np
import pytest
import torch

from stages.explain import decoding
from stages.explain.decoding import Decoder, decode, decode_threads
from storage.media.images import ImageError
from tests.stages.explain.shards import VIEW, samples_of

CPU = torch.device("cpu")


@pytest.fixture
def samples(tmp_path):
    """Nine samples; the file of the fourth is no image, and that of the last is not the one that ingest saw."""
    rows = samples_of(tmp_path, range(9)).to_pylist()
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "8.png").write_bytes((tmp_path / "0.png").read_bytes())
    return rows


def test_views_come_in_order_and_what_cannot_be_used_is_refused(samples):
    refused = []
    with Decoder(samples, VIEW, 2, CPU) as decoder:
        first = list(decoder.views(lambda sample, error: refused.append((sample["row"], str(error)))))
        again = list(decoder.views(lambda sample, error: None))
    assert [view.sample["row"] for view in first] == [0, 1, 2, 4, 5, 6, 7]
    assert [row for row, _ in refused] == [3, 8]
    assert "not an image" in refused[0][1]
    assert "not the one that ingest saw" in refused[1][1]
    for view, second in zip(first, again, strict=True):
        alone = decode(view.sample, VIEW)
        assert np.array_equal(view.pixels, alone.pixels)
        assert np.array_equal(view.pixels, second.pixels)


def test_no_more_than_was_asked_for_is_decoded_ahead(samples, monkeypatch):
    begun, third = [], Event()

    def noting(sample, view):
        begun.append(sample["row"])
        if len(begun) == 3:
            third.set()
        return decode(sample, view)

    monkeypatch.setattr(decoding, "decode", noting)
    with Decoder(samples[4:8], VIEW, 3, CPU) as decoder:
        assert third.wait(60)  # before anyone takes a view
        views = decoder.views(lambda sample, error: None)
        assert sorted(begun) == [4, 5, 6]
        next(views)
        assert [view.sample["row"] for view in views] == [5, 6, 7]
    assert sorted(begun) == [4, 5, 6, 7]


def test_the_error_of_a_thread_is_raised_where_the_view_is_taken(samples, monkeypatch):
    def broken(sample, view):
        raise MemoryError("no room")

    monkeypatch.setattr(decoding, "decode", broken)
    with Decoder(samples[:2], VIEW, 1, CPU) as decoder, pytest.raises(MemoryError, match="no room"):
        next(decoder.views(lambda sample, error: None))


def test_the_time_that_was_waited_is_that_of_the_clock(samples, monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(decoding, "_timed", lambda sample, view: (ImageError("unreadable", "no"), 0.25))
    monkeypatch.setattr(decoding.time, "perf_counter", lambda: float(next(ticks)))
    with Decoder(samples[:4], VIEW, 4, CPU) as decoder:
        assert list(decoder.views(lambda sample, error: None)) == []
    assert (decoder.waited, decoder.worked) == (4.0, 1.0)  # two looks at the clock a sample, a tick apart


@pytest.mark.parametrize(("cores", "gpus", "threads"), [(16, 1, 8), (16, 4, 4), (4, 4, 2), (2, 0, 2)])
def test_a_gpu_is_fed_by_its_share_of_the_cores(monkeypatch, cores, gpus, threads):
    monkeypatch.setattr(decoding, "CPU_COUNT", cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert decode_threads(torch.device("cuda")) == threads
    assert decode_threads(CPU) == 2
