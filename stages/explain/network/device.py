"""Where the work is done, and how many images at a time fit there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeVar

import torch

from stages.explain.opticam.opticam import OptiCam
from storage.errors import SightlineError

Device = Literal["auto", "cpu", "cuda"]

CPU_BATCH = 16
"""Images at a time on a CPU: their activations stay near the caches, and more gained nothing."""
MAX_BATCH = 256
_TRIAL = 8
_SHARE = 0.8
"""Share of a GPU's free memory that a batch may take."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


def pick_device(device: Device) -> torch.device:
    """The device to work on; ``auto`` takes a GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def batch_for(opticam: OptiCam, side: int) -> int:
    """Images of ``side`` x ``side`` px to explain at a time: on a GPU what its free memory holds, else 16."""
    if opticam.device.type != "cuda":
        return CPU_BATCH
    images = torch.full((_TRIAL, 3, side, side), 0.5, device=opticam.device)
    before = torch.cuda.memory_allocated(opticam.device)
    torch.cuda.reset_peak_memory_stats(opticam.device)
    opticam(images, [0] * _TRIAL)
    taken = torch.cuda.max_memory_allocated(opticam.device) - before
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(opticam.device)
    return largest_batch(free, taken / _TRIAL)


def largest_batch(free: int, per_image: float) -> int:
    """The largest power of two of images of ``per_image`` bytes in 80% of ``free`` bytes; between 1 and 256."""
    fitting = int(_SHARE * free / max(per_image, 1.0))
    return min(1 << max(fitting, 1).bit_length() - 1, MAX_BATCH)


def halving(work: Callable[[int], T], batch: int) -> tuple[T, int]:
    """``work(batch)``, again with half the batch each time the device runs out of memory; and the batch that fitted.

    Raises SightlineError if a single image does not fit.
    """
    while True:
        try:
            return work(batch), batch
        except torch.OutOfMemoryError as error:
            if batch == 1:
                raise SightlineError(
                    f"explain: one image does not fit the device's memory ({str(error).splitlines()[0]}); "
                    "use a smaller view.size or another device"
                ) from error
            _log.warning("out of memory with %d images at a time; going on with %d", batch, batch // 2)
        # Outside of the handler: the exception no longer holds the tensors that filled the memory.
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
