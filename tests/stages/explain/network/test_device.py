import logging

import pytest
import torch

from stages.explain.network.device import halving, largest_batch
from storage.errors import SightlineError


@pytest.mark.parametrize(
    ("free", "per_image", "batch"),
    [(1000, 10, 64), (1000, 100, 8), (100, 1000, 1), (10**12, 1, 256), (80, 8, 8), (79, 8, 4)],
)
def test_a_batch_is_the_largest_power_of_two_in_four_fifths_of_the_memory(free, per_image, batch):
    assert largest_batch(free, per_image) == batch


def test_out_of_memory_halves_the_batch_until_it_fits_and_says_so(caplog):
    tried = []

    def work(batch):
        tried.append(batch)
        if batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return "done"

    with caplog.at_level(logging.WARNING):
        assert halving(work, 16) == ("done", 4)
    assert tried == [16, 8, 4]
    assert "out of memory with 16 images at a time; going on with 8" in caplog.text


def test_one_image_that_does_not_fit_is_a_fault_with_a_remedy():
    def work(batch):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")

    with pytest.raises(SightlineError, match=r"one image does not fit .*\(CUDA out of memory\.\); use a smaller view"):
        halving(work, 2)


def test_other_errors_pass_through():
    def work(batch):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        halving(work, 2)
