"""The samples of a shard as views, decoded by threads ahead of the device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from stages.explain.network.view import ViewSettings, render_view
from stages.geometry import Boxes, ViewTransform
from storage.media.images import ImageError
from storage.samples import other_boxes, own_boxes, own_mask, read_unchanged

_FEWEST_THREADS, _MOST_THREADS = 2, 8


@dataclass(frozen=True)
class View:
    """A decoded sample."""

    sample: dict[str, Any]
    pixels: NDArray[np.uint8]
    transform: ViewTransform
    coverage: NDArray[np.float32]
    others: NDArray[np.float32]
    """Share of each pixel that is another class's object."""
    boxes: Boxes
    """The sample's own boxes in view, (n, 4) view px."""
    has_box: bool


class Decoder:
    """Decodes samples in their order, ``ahead`` of the one that is taken; as a context, which ends its threads.

    The first ``ahead`` samples are decoded from the start, before anyone takes one, and kept, so that a second
    :meth:`views` begins at once. ``waited`` is the time that whoever took the views stood still for them, ``worked``
    the time that the threads decoded, s.
    """

    def __init__(self, samples: Sequence[dict[str, Any]], view: ViewSettings, ahead: int, device: torch.device) -> None:
        self._samples, self._view, self._ahead = samples, view, ahead
        self._pool = ThreadPoolExecutor(decode_threads(device), thread_name_prefix="decode")
        self._first = [self._submit(sample) for sample in samples[:ahead]]
        self.waited = self.worked = 0.0

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def views(self, refuse: Callable[[dict[str, Any], ImageError], object]) -> Iterator[View]:
        """The views; ``refuse`` takes each sample whose image cannot be used, with the reason."""
        waiting = deque(self._first)
        for place, sample in enumerate(self._samples):
            if place + self._ahead < len(self._samples):
                waiting.append(self._submit(self._samples[place + self._ahead]))
            began = time.perf_counter()
            view, seconds = waiting.popleft().result()
            self.waited += time.perf_counter() - began
            self.worked += seconds
            if isinstance(view, ImageError):
                refuse(sample, view)
            else:
                yield view

    def _submit(self, sample: dict[str, Any]) -> Future[tuple[View | ImageError, float]]:
        return self._pool.submit(_timed, sample, self._view)


def decode_threads(device: torch.device) -> int:
    """Threads that decode for one worker: two beside a CPU that computes, a GPU's share of the cores beside a GPU."""
    if device.type != "cuda":
        return _FEWEST_THREADS
    share = int(CPU_COUNT) // max(torch.cuda.device_count(), 1)
    return max(_FEWEST_THREADS, min(share, _MOST_THREADS))


def _timed(sample: dict[str, Any], view: ViewSettings) -> tuple[View | ImageError, float]:
    began = time.perf_counter()
    try:
        decoded: View | ImageError = decode(sample, view)
    except ImageError as error:
        decoded = error
    return decoded, time.perf_counter() - began


def decode(sample: dict[str, Any], view: ViewSettings) -> View:
    """A sample as the network sees it; raises ImageError for an image that cannot be used."""
    image, boxes, mask = read_unchanged(sample), own_boxes(sample), own_mask(sample)
    transform = view.transform(*image.size)
    coverage = transform.coverage(boxes, mask)
    others = transform.coverage_of_others(other_boxes(sample), boxes, mask)
    try:
        pixels = render_view(image, view)
    except ValueError as error:
        raise ImageError("unreadable", str(error)) from None
    return View(sample, pixels, transform, coverage, others, transform.visible_boxes(boxes), bool(coverage.any()))
