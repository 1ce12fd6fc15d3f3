"""All tables of a GPU in one command, under 10 minutes; needs torch, torchvision, numpy and scipy alone.

    python -m benchmarks.gpu [--model resnet50] [--out gpu.md]
    python -m benchmarks.gpu --quick --device cpu          # whether it runs, in about a minute; no numbers to keep

First the tables of ``benchmarks.explain_speed``: an iteration step by step, ``paper`` and ``fast`` in float32 and
bfloat16, plain and compiled, batch sizes, memory, and what an audited image costs beside its map. Then what it takes to
feed the device with decoded images.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from benchmarks import explain_speed
from benchmarks.explain_speed import markdown
from benchmarks.speed.audit import PHOTO
from benchmarks.speed.methods import Task, profiles
from stages.explain.network.view import ViewSettings, render_view

DECODERS = 2
"""Threads that decode, as in a worker."""
BATCHES_FED = 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="a torchvision classifier")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="few steps, small batches, nothing compiled")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    options = parser.parse_args(arguments)
    words = ["--model", options.model, "--device", options.device, "--skip-slow"]
    words += ["--batch", "2", "--steps", "2", "--repeats", "1"] if options.quick else ["--batch", "auto", "16", "64"]
    speed = explain_speed.options_of([*words, "--no-compile"] if options.quick else words)
    speed.command = " ".join(["python -m benchmarks.gpu", *(sys.argv[1:] if arguments is None else arguments)])
    torch.manual_seed(0)
    network = torchvision.models.get_model(options.model, weights=None)
    page = explain_speed.report(network, speed)
    task_of = explain_speed.tasks(network, speed)
    task = task_of(explain_speed.batches(speed, task_of(1))[0])
    page += "\n## Feeding the device\n\n" + feeding(task, speed)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def feeding(task: Task, options: argparse.Namespace) -> str:
    """What a core decodes, what the copy costs, and how long the device waits for a worker's decoding threads."""
    batch, side = len(task.images), task.images.shape[2]
    content, view = photo(), ViewSettings(size=side)
    device = task.images.device

    def decode(_: int) -> torch.Tensor:
        return torch.from_numpy(render_view(Image.open(io.BytesIO(content)).convert("RGB"), view))

    decoding = statistics.median(seconds(lambda: decode(0)) for _ in range(5 if options.steps else 50))
    stacked = torch.stack([decode(0)] * batch)
    stacked = stacked.pin_memory() if device.type == "cuda" else stacked

    def copied() -> None:
        stacked.to(device, non_blocking=True).to(task.images.dtype).div(255)
        wait(device)

    copying = statistics.median(seconds(copied) for _ in range(5)) / batch
    opticam = task.opticam(profiles(options.steps, False)["fast"])
    waited = 0.0
    with ThreadPoolExecutor(DECODERS) as pool:
        ahead = [pool.submit(decode, number) for number in range(batch)]
        began = time.perf_counter()
        for number in range(2 if options.steps else BATCHES_FED):
            now, ahead = ahead, [pool.submit(decode, number) for number in range(batch)]
            before = time.perf_counter()
            for future in now:
                future.result()
            waited += time.perf_counter() - before
            opticam(task.images, task.targets)
            wait(device)
        total = time.perf_counter() - began
        for future in ahead:
            future.cancel()
    rows = [
        ["decode and resize a JPEG of 500 x 375 px", f"{1000 * decoding:.2f} ms a core"],
        ["copy a view to the device", f"{1000 * copying:.3f} ms an image"],
        [
            f"fast, {DECODERS} threads decode the next batch of {batch}",
            f"{waited / total:.0%} of the time the device waits",
        ],
    ]
    return markdown(["feeding", "measured"], rows)


def photo() -> bytes:
    """A JPEG with the detail of a photo."""
    coarse = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(coarse).resize(PHOTO, Image.Resampling.BICUBIC).save(sink, "JPEG", quality=85)
    return sink.getvalue()


def seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
