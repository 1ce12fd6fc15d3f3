from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError, Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.explain import decoding
from stages.explain import explain as explain_module
from stages.explain.decoding import Decoder, decode, decode_threads
from stages.explain.explain import explain_shard
from stages.explain.plan import shard_samples
from storage.media.images import ImageError
from tests.stages.explain.networks import TinyNet
from tests.stages.explain.shards import COUNT, VIEW, maps_by_key, planned, rows_by_key, samples_of

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
    monkeypatch.setattr(decoding, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    with Decoder(samples[:4], VIEW, 4, CPU) as decoder:
        assert list(decoder.views(lambda sample, error: None)) == []
    assert (decoder.waited, decoder.worked) == (4.0, 1.0)  # two looks at the clock a sample, a tick apart


@pytest.mark.parametrize(("cores", "gpus", "threads"), [(16, 1, 8), (16, 4, 4), (4, 4, 2), (2, 0, 2)])
def test_a_gpu_is_fed_by_its_share_of_the_cores(monkeypatch, cores, gpus, threads):
    monkeypatch.setattr(decoding, "CPU_COUNT", cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert decode_threads(torch.device("cuda")) == threads
    assert decode_threads(CPU) == 2


def test_shards_in_threads_of_one_worker_get_the_bytes_that_they_get_alone(images, tmp_path, monkeypatch, whole):
    samples = samples_of(images, range(COUNT))
    run, plan = planned(str(tmp_path), samples)
    shards = [(plan, index, shard_samples(plan, samples, index)) for index in range(3)]
    loaded = []
    load = explain_module.load_plan_classifier
    monkeypatch.setattr(explain_module, "load_plan_classifier", lambda *plan: loaded.append(1) or load(*plan))
    explain_module._load_worker.cache_clear()
    meeting = Barrier(2)

    def forward(self, x):
        """Wait for the other thread after the layer that is hooked, unless it does not come."""
        features = self.features(x)
        with suppress(BrokenBarrierError):
            meeting.wait(1)
        return self.head(self.pool(features).flatten(1))

    monkeypatch.setattr(TinyNet, "forward", forward)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(explain_shard, *zip(*shards[:2], strict=True)))
    assert loaded == [1]
    explain_shard(*shards[2])
    assert maps_by_key(run) == maps_by_key(whole)
    assert rows_by_key(run) == rows_by_key(whole)


def test_a_task_decodes_its_images_while_another_has_the_device(images, tmp_path, whole):
    samples = samples_of(images, range(COUNT))
    run, plan = planned(str(tmp_path), samples)
    worker = explain_module._worker(plan, torch.device("cpu"))
    decoded, read = Barrier(2, timeout=60), explain_module.Decoder._submit

    def submit(self, sample):
        future = read(self, sample)
        if sample["row"] == plan.shard(1).start:
            future.add_done_callback(lambda _: decoded.wait())
        return future

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(explain_module.Decoder, "_submit", submit)
        with worker.lock:  # as another task holds it
            ended = pool.submit(explain_shard, plan, 1, shard_samples(plan, samples, 1))
            decoded.wait()
            assert not ended.done()
        report = ended.result(timeout=60)
    assert report.times.turn > 0
    own = set(shard_samples(plan, samples, 1)["sample_id"].to_pylist())
    assert rows_by_key(run) == {key: row for key, row in rows_by_key(whole).items() if key[0] in own}
