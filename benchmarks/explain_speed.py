"""What an Opti-CAM iteration costs, step by step from the authors' loop to ours; variants interleaved in one run.

    python -m benchmarks.explain_speed --model resnet50 --batch 4 --device cpu

Random weights: the cost of a convolution does not depend on them. Ends in a table of ratios of medians; process CPU
time on a CPU, device time on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stages.explain.ascent import Adam
from stages.explain.fold import fold_batch_norms
from stages.explain.layer import TargetLayer, capture, find_target_layer
from stages.explain.opticam import to_masks

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Loop:
    """One way to run the iteration; each flag is a step of the ladder, and includes those before it."""

    masked_only: bool = False  # the objective is the masked logit: no graph through f(x), no second backward
    frozen: bool = False  # no gradients of the parameters
    low_resolution: bool = False  # features once, no hooks; softmax(u) A as one product on the grid
    folded: bool = False
    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False


LADDER = {
    "authors' loop": Loop(),
    "+ masked logit alone": Loop(True),
    "+ frozen parameters": Loop(True, True),
    "+ features once, low resolution": Loop(True, True, True),
    "+ folded batch norms": Loop(True, True, True, True),
    "+ channels last (ours)": Loop(True, True, True, True, True),
    "  and bf16 autocast": Loop(True, True, True, True, True, True),
    "  and torch.compile": Loop(True, True, True, True, True, False, True),
}


class Iteration:
    """The state of one variant, and one step of it."""

    def __init__(self, loop: Loop, network: nn.Module, layer: TargetLayer, images: Tensor, targets: Tensor) -> None:
        self.loop, self.layer, self.targets = loop, layer, targets
        self.mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
        self.images = images
        self.network = copy.deepcopy(network)
        with torch.no_grad():
            features, _ = capture(network, layer, (images - self.mean) / self.std)
        if loop.folded:
            self.network = fold_batch_norms(network, (images[:1] - self.mean) / self.std)
        self.network.requires_grad_(not loop.frozen)
        if loop.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
            self.images = images.contiguous(memory_format=torch.channels_last)
        if loop.compiled:
            self.network = torch.compile(self.network)
        self.features = features
        self.u = torch.full((len(images), features.shape[1]), 0.5, device=images.device)
        self.adam = Adam(self.u, 0.1)
        self.leaf = self.u.clone()[:, :, None, None].requires_grad_()
        self.optimizer = torch.optim.Adam([self.leaf], lr=0.1)

    def step(self) -> None:
        """One iteration."""
        with torch.autocast(self.images.device.type, dtype=torch.bfloat16, enabled=self.loop.bf16):
            if self.loop.low_resolution:
                self._ours()
            else:
                self._plain()

    def _ours(self) -> None:
        weights = torch.softmax(self.u, 1)
        grid = torch.bmm(weights[:, None], self.features.flatten(2)).view(len(self.u), *self.layer.grid)
        grid = grid.float().requires_grad_()
        mask = to_masks(grid, self.images.shape[2:])[:, None]
        inputs = torch.addcmul(-self.mean / self.std, self.images / self.std, mask)
        logit = self.network(inputs).gather(1, self.targets[:, None])
        (slope,) = torch.autograd.grad(logit.float().sum(), grid)
        gradient = weights * torch.bmm(self.features.flatten(2), slope.flatten(1)[:, :, None])[:, :, 0]
        self.u = self.u + self.adam.step(gradient)

    def _plain(self) -> None:
        """As the authors' code does it: full-resolution features weighted, f(x) kept in the graph, two backwards."""
        saliency = (torch.softmax(self.leaf, 1) * self.features).sum(1, keepdim=True)
        mask = F.interpolate(saliency, size=self.images.shape[2:], mode="bilinear", align_corners=False)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        mask = (mask - low) / (high - low)
        masked = self.network((self.images * mask - self.mean) / self.std).gather(1, self.targets[:, None])
        loss = -masked.sum()
        self.optimizer.zero_grad()
        if not self.loop.masked_only:
            full = self.network((self.images - self.mean) / self.std).gather(1, self.targets[:, None])
            (full.sum() - masked.sum()).backward(retain_graph=True)
            self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Process CPU seconds on a CPU, device seconds on a GPU."""
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


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of a large matrix product in this run, FLOP/s."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return 2 * side**3 / statistics.median(seconds_of(lambda: a @ b, device) for _ in range(5))


def flops_of(network: nn.Module, images: Tensor) -> float:
    """FLOP of one forward and the gradient to the input, for one image: twice the forward's."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images[:1])
    return 2.0 * counter.get_total_flops()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2", help="a torchvision classifier")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; each runs every variant once")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also torch.compile (needs a C++ compiler)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, console = torch.device(options.device), Console(width=110)

    torch.manual_seed(0)
    network = torchvision.models.get_model(options.model, weights=None).eval().to(device)
    images = torch.rand(options.batch, 3, 224, 224, device=device)
    targets = torch.arange(options.batch, device=device)
    layer = find_target_layer(network, images[:1])
    flops = flops_of(network, images)

    ladder = {name: loop for name, loop in LADDER.items() if options.compile or not loop.compiled}
    variants = {name: Iteration(loop, network, layer, images, targets) for name, loop in ladder.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for variant in variants.values():
        variant.step()
    for _ in range(options.repeats):
        for name, variant in variants.items():
            times[name].append(seconds_of(variant.step, device))

    peak = {dtype: peak_flops(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{options.threads} CPU thread(s)"
    title = f"{options.model}, batch {options.batch}, {where}, torch {torch.__version__}, {platform.machine()}"
    table = Table(title=title, title_justify="left")
    for column in ("iteration", "ms / image", "times faster", "images/s at 100 steps", "share of peak"):
        table.add_column(column, justify="left" if column == "iteration" else "right")
    first = statistics.median(times["authors' loop"])
    for name, variant in variants.items():
        median = statistics.median(times[name])
        image = median / options.batch
        rate = peak[torch.bfloat16 if variant.loop.bf16 else torch.float32]
        table.add_row(
            name,
            f"{1000 * image:.1f}",
            f"{first / median:.2f}",
            f"{1 / (100 * image):.2f}",
            f"{flops / image / rate:.0%}",
        )
    console.print(table)
    console.print(
        f"peak of a large product: float32 {peak[torch.float32] / 1e9:.0f}, bfloat16 {peak[torch.bfloat16] / 1e9:.0f} "
        f"GFLOP/s; {flops / 1e9:.2f} GFLOP an image and iteration; medians of {options.repeats} interleaved rounds"
    )


if __name__ == "__main__":
    main()
