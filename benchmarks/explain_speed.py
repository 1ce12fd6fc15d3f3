"""What Opti-CAM costs, measured in one run: an iteration step by step from the authors' loop to ours, and whole images.

    python -m benchmarks.explain_speed --model resnet50 --batch 4 --device cpu --out speed.md

Random weights: the cost of a convolution does not depend on them. Variants take turns, and medians are compared:
process CPU time on a CPU, device time on a GPU. Needs torch, torchvision, numpy and scipy alone; the methods of the
packages grad-cam and captum are left out where these are missing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import nn

from benchmarks.speed.audit import SCAN, audited
from benchmarks.speed.clock import Variant, forward_flops, measure, peak_flops
from benchmarks.speed.ladder import LADDER, TIMED, Iteration
from benchmarks.speed.methods import AUTHORS, GRAD_CAM, MISSING, Task, explained, profiles, signal_carrying, variants
from stages.explain.network.device import batch_for
from stages.explain.opticam.layer import find_target_layer

ONCE = 20.0
"""Seconds; what takes longer is run once."""

Peak = dict[bool, float]
"""FLOP/s of a large product; True for bfloat16."""


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2", help="a torchvision classifier")
    parser.add_argument("--side", type=int, default=224, help="of the images, px")
    parser.add_argument(
        "--batch", nargs="+", default=["8"], help="the tables' batch; more of them are compared; auto: what a GPU holds"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds; each runs every variant once")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of both profiles, to try the script out")
    parser.add_argument("--skip-slow", action="store_true", help="leave out Score-CAM and Ablation-CAM")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="also torch.compile (needs a C++ compiler); as on CUDA"
    )
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    options = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    options.command = "python -m benchmarks.explain_speed " + shlex.join(words)
    options.compile = options.device == "cuda" if options.compile is None else options.compile
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them."""
    options = options_of(arguments)
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    page = report(torchvision.models.get_model(options.model, weights=None), options)
    print(page)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(page, encoding="utf-8")


def report(network: nn.Module, options: argparse.Namespace) -> str:
    """All tables as Markdown."""
    device = torch.device(options.device)
    load = [os.getloadavg()[0]] if hasattr(os, "getloadavg") else []
    task_of = tasks(network, options)
    task = task_of(batches(options, task_of(1))[0])
    flops = forward_flops(task.network, task.images)
    peak = {bf16: peak_flops(device, torch.bfloat16 if bf16 else torch.float32) for bf16 in (False, True)}
    parts = [
        "## One iteration\n",
        iteration_table(task, options, flops, peak),
        "\n## One image\n",
        image_table(task, options, flops, peak),
        "\n## One audited image\n",
        audit_table(task, options),
    ]
    if len(options.batch) > 1:
        parts += ["\n## Images/s by batch\n", batch_table(task_of, batches(options, task), options)]
    load += [os.getloadavg()[0]] if load else []
    return "\n".join([*heading(options, flops, peak, load), *parts])


def tasks(network: nn.Module, options: argparse.Namespace) -> Callable[[int], Task]:
    """A task on the device by its number of images; the network's statistics are set first."""
    device = torch.device(options.device)
    samples = torch.rand(8, 3, options.side, options.side, device=device)
    network = signal_carrying(network.to(device), samples)
    layer = find_target_layer(network, samples[:1])

    def task_of(batch: int) -> Task:
        images = torch.rand(batch, 3, options.side, options.side, device=device)
        with torch.no_grad():
            return Task(network, layer, images, network(images).argmax(1))

    return task_of


def batches(options: argparse.Namespace, task: Task) -> list[int]:
    """Batch sizes asked for."""
    if "auto" not in options.batch:
        return [int(batch) for batch in options.batch]
    fitting = batch_for(task.opticam(profiles(1, False)["paper"]), options.side)
    return [fitting if batch == "auto" else int(batch) for batch in options.batch]


def heading(options: argparse.Namespace, flops: float, peak: Peak, load: list[float]) -> list[str]:
    """Where, when and how the numbers came about."""
    cuda = options.device == "cuda"
    where = torch.cuda.get_device_name() if cuda else f"{options.threads} thread(s) of {processor()}"
    lines = [
        f"# Speed of Opti-CAM: {options.model}, batch {options.batch[0]}, {options.side} px\n",
        f"{datetime.date.today()}, {where}, torch {torch.__version__}, Python {platform.python_version()}.\n",
        f"    {options.command}\n",
        f"- Times are {'device time' if cuda else 'CPU time of the process, so images/s are of one core'}; medians of "
        f"up to {options.repeats} interleaved rounds (what takes over {ONCE:.0f} s runs once). Untrained weights.",
        f"- Peak of a large product in this run: float32{' (TF32)' * cuda} {peak[False] / 1e9:.0f}, bfloat16 "
        f"{peak[True] / 1e9:.0f} GFLOP/s. A forward pass of one image is {flops / 1e9:.2f} GFLOP; a backward pass "
        "counts as one forward for the gradient to the input, and one more for that to the parameters.",
        "- The authors' loop is rewritten here from their published code: f(x) and the features once; then a forward "
        "pass of the masked image a step, and a backward pass through it and through the kept graph of f(x), "
        "parameters included.",
    ]
    if load:
        ends = " and ".join(f"{value:.1f}" for value in load)
        lines.append(f"- Load average at the start and the end: {ends}, on {os.cpu_count()} cores.")
    return [*lines, ""]


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def iteration_table(task: Task, options: argparse.Namespace, flops: float, peak: Peak) -> str:
    """What each step of the ladder saves."""
    rungs = [
        Iteration(loop, task.network, task.layer, task.images, task.targets).variant(name, steps=1)
        for name, loop in LADDER.items()
        if options.compile or not loop.compiled
    ]
    measure(rungs, options.repeats, torch.device(options.device), ONCE)
    first = median_per_image(rungs[0])
    rows = []
    for rung in rungs:
        seconds = median_per_image(rung)
        rows.append(
            [
                rung.name,
                f"{1000 * seconds:.2f}",
                f"{first / seconds:.2f}",
                f"{1 / (100 * seconds):.2f}",
                share_of_peak(rung, flops, peak),
            ]
        )
    return markdown(["iteration", "ms/image", "times faster", "images/s at 100", "share of peak"], rows)


def image_table(task: Task, options: argparse.Namespace, flops: float, peak: Peak) -> str:
    """What an explanation costs, method by method."""
    found, missing = variants(task, options.steps, options.compile, options.skip_slow)
    measure(found, options.repeats, torch.device(options.device), ONCE)
    by_name = {variant.name: variant for variant in found}
    slowest, cheapest = (median_per_image(by_name[name]) for name in (AUTHORS, GRAD_CAM))
    halved = replace(by_name[AUTHORS], name=AUTHORS.replace("100", "50"), times=50 / TIMED)
    rows = []
    for variant in (found[0], halved, *found[1:]):
        seconds = median_per_image(variant)
        memory = variant.memory.mebibytes
        rows.append(
            [
                variant.name + (f" ({TIMED} measured, times {variant.times:.0f})" if variant.times > 1 else ""),
                f"{variant.images} x {len(variant.seconds)}",
                f"{1000 * seconds:.1f}",
                f"{1 / seconds:.3g}",
                f"{slowest / seconds:.3g}",
                f"{seconds / cheapest:.3g}",
                f"{variant.per_image(variant.passes.forward):.0f}",
                f"{variant.per_image(variant.passes.backward):.0f}",
                share_of_peak(variant, flops, peak),
                "-" if memory is None else f"{memory:.0f}",
            ]
        )
    rows += [[name, MISSING, *["-"] * 8] for name in missing]
    columns = ["method", "images x runs", "ms/image", "images/s", "times faster", "in Grad-CAMs", "forward", "backward"]
    return markdown([*columns, "share of peak", "peak MiB"], rows) + (
        "\ntimes faster: than the authors' loop with the paper's 100 iterations; their code's default is 50. forward, "
        "backward: passes an image, counted at the logits; Ablation-CAM's skip the network up to the layer, and "
        "Grad-CAM's backward pass ends at the layer (the package's goes on to the parameters). peak MiB: beyond what "
        "was held before, for the whole batch. Score-CAM and Ablation-CAM explain one image, a batch of masks at a "
        f"time. `paper` and `fast` run {'as many steps as --steps says' if options.steps else 'all their steps'}.\n"
    )


def audit_table(task: Task, options: argparse.Namespace) -> str:
    """What is measured with a map, and a whole image of each profile: the map and all that is measured with it."""
    parts, maps = audited(task, options.steps)
    measure([*parts, *maps], options.repeats, torch.device(options.device), ONCE)
    beside = [part for part in parts if part.name != SCAN]
    rows = [_audited(part.name, part) for part in parts]
    rows += [_audited(f"whole image, {one.name}", one, *beside) for one in maps]
    return markdown(["one class of an image", "ms/image", "images/s", "forward", "backward", "beside the map"], rows)


def _audited(name: str, one: Variant, *beside: Variant) -> list[str]:
    """A row of the table of audited images: ``one``, and what is measured ``beside`` it."""
    every = (one, *beside)
    whole = sum(map(median_per_image, every))
    forward, backward = (
        sum(variant.per_image(getattr(variant.passes, way)) for variant in every) for way in ("forward", "backward")
    )
    share = f"{1 - median_per_image(one) / whole:.0%}" if beside else "-"
    return [name, f"{1000 * whole:.1f}", f"{1 / whole:.3g}", f"{forward:.0f}", f"{backward:.0f}", share]


def batch_table(task_of: Callable[[int], Task], sizes: Sequence[int], options: argparse.Namespace) -> str:
    """Images/s of the profiles at several batch sizes."""
    rows = []
    for size in sizes:
        task = task_of(size)
        found = [explained(name, task, settings) for name, settings in profiles(options.steps, options.compile).items()]
        measure(found, options.repeats, torch.device(options.device), ONCE)
        rows.append([str(size), *(f"{1 / median_per_image(variant):.3g}" for variant in found)])
    return markdown(["batch", *profiles(options.steps, options.compile)], rows)


def median_per_image(variant: Variant) -> float:
    """Seconds."""
    return variant.per_image(statistics.median(variant.seconds))


def share_of_peak(variant: Variant, flops: float, peak: Peak) -> str:
    """FLOP of the passes that were made in the time they took, over what a large product reaches."""
    if variant.backward_cost is None:
        return "-"
    units = variant.per_image(variant.passes.forward + variant.backward_cost * variant.passes.backward)
    return f"{units * flops / median_per_image(variant) / peak[variant.bf16]:.0%}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded to be read as text too; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in (header, rule, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"| {' | '.join([row[0].ljust(widths[0]), *cells])} |\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
