"""What a piece of work costs: seconds, passes through networks, memory; and the peak of the machine to compare with."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Work = Callable[[], object]


def seconds_of(work: Work, device: torch.device) -> float:
    """Process CPU seconds on a CPU (of all threads together), device seconds on a GPU."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    began = time.process_time()
    work()
    return time.process_time() - began


@dataclass
class Passes:
    """Rows of a batch that went through the networks, forward and back from the logits."""

    forward: int = 0
    backward: int = 0

    def reset(self) -> None:
        """Count from zero."""
        self.forward = self.backward = 0


@contextmanager
def counted(networks: Sequence[nn.Module]) -> Iterator[Passes]:
    """Count the passes within the block; a backward pass of logits made within it counts each time it is made."""
    passes = Passes()

    def backward(slope: Tensor) -> None:
        passes.backward += len(slope)

    def forward(_: nn.Module, __: Any, logits: Tensor) -> None:
        passes.forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(backward)

    handles = [network.register_forward_hook(forward) for network in networks]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class Memory:
    """Peak of the memory taken beyond what was held before."""

    mebibytes: float | None = None
    """None where it cannot be measured: on a CPU elsewhere than under Linux."""


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Memory]:
    """Measure the peak of the block: of torch's allocations on a GPU, of the process's resident size on a CPU."""
    memory = Memory()
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield memory
        memory.mebibytes = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    held = _reset_high_water_mark()
    yield memory
    if held is not None:
        memory.mebibytes = (_status("VmHWM") - held) / 1024


def _reset_high_water_mark() -> int | None:
    """Set the process's peak resident size to its present one and return that, KiB; None where Linux is not."""
    try:
        # Memory that was freed but kept by the allocator would hide what the block takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return None
    return _status("VmRSS")


def _status(name: str) -> int:
    """A line of /proc/self/status, KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of five large matrix products in this run, FLOP/s; with TF32 on a GPU, as its convolutions have."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else before)
    try:
        a @ b
        return 2 * side**3 / min(seconds_of(lambda: a @ b, device) for _ in range(5))
    finally:
        torch.set_float32_matmul_precision(before)


@torch.no_grad()
def forward_flops(network: nn.Module, images: Tensor) -> float:
    """FLOP of one forward pass of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(images[:1])
    return float(counter.get_total_flops())


@dataclass
class Variant:
    """One way to explain images, and what it was measured to cost."""

    name: str
    work: Work
    """What is timed."""
    images: int
    """Images that it explains."""
    networks: tuple[nn.Module, ...]
    """Networks whose passes are counted."""
    begin: Work = lambda: None
    """Done before each run, and not timed."""
    short: Work | None = None
    """The same tensors with fewer passes: warms up, and is what memory is measured on."""
    times: float = 1
    """What is reported takes this many of ``work``."""
    bf16: bool = False
    backward_cost: float | None = 1.0
    """A backward pass in forward passes: 1 for the gradient to the input, 2 with that to the parameters, 0 where it
    ends at the last layer. None where the passes counted are partial ones."""
    seconds: list[float] = field(default_factory=list)
    passes: Passes = field(default_factory=Passes)
    memory: Memory = field(default_factory=Memory)

    def warm_up(self, device: torch.device) -> None:
        """Run ``short`` twice, the second time for its memory."""
        if self.short is not None:
            self.short()
            with peak_memory(device) as self.memory:
                self.short()

    def run(self, device: torch.device) -> None:
        """Run once, with everything measured."""
        with counted(self.networks) as self.passes:
            self.begin()
            self.passes.reset()
            if self.short is None and not self.seconds:
                with peak_memory(device) as self.memory:
                    self.seconds.append(seconds_of(self.work, device))
            else:
                self.seconds.append(seconds_of(self.work, device))

    def per_image(self, total: float) -> float:
        """A total of one run, for one image."""
        return total * self.times / self.images


def measure(variants: Sequence[Variant], rounds: int, device: torch.device, once: float) -> None:
    """Run the variants in turn, ``rounds`` times; what took longer than ``once`` seconds is not run again."""
    for variant in variants:
        variant.warm_up(device)
    for _ in range(rounds):
        for variant in variants:
            if max(variant.seconds, default=0.0) <= once:
                variant.run(device)
