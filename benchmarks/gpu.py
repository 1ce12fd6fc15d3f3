"""All tables of a GPU in one command, under 10 minutes; needs torch, torchvision, numpy and scipy alone.

    python -m benchmarks.gpu [--model resnet50] [--out gpu.md]
    python -m benchmarks.gpu --quick --device cpu          # whether it runs, in about a minute; no numbers to keep

First the tables of ``benchmarks.explain_speed``: an iteration step by step, ``paper`` and ``fast`` in float32 and
bfloat16, plain and compiled, batch sizes, memory. Then what an audited image costs beside its map, and what it takes to
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
from benchmarks.speed_clock import Variant, measure
from benchmarks.speed_methods import Task, explained, profiles
from stages.explain.network.view import ViewSettings, render_view
from stages.explain.opticam.opticam import OptiCam, to_masks, upsample
from stages.explain.probes.evidence import Explained, evidence
from stages.explain.probes.surroundings import TRANSPLANTS, Donors
from stages.explain.settings import ExplainSettings
from stages.geometry import ViewTransform

BOX = (100.0, 80.0, 350.0, 300.0)
PHOTO = (500, 375)
"""Width and height of the pictures, px: ImageNet's median."""
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
    page += (
        "\n## One audited image\n\n" + audit_table(task, speed) + "\n## Feeding the device\n\n" + feeding(task, speed)
    )
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def probing(task: Task, opticam: OptiCam, settings: ExplainSettings) -> Callable[[], object]:
    """The probes of the task's images, as explain takes them, once their maps are there."""
    count, side = len(task.images), task.images.shape[2]
    transform = ViewTransform.make("squash", *PHOTO, size=side)
    coverage = torch.from_numpy(np.stack([transform.coverage([BOX])] * count)).to(task.images)
    result = opticam(task.images, task.targets)
    maps = to_masks(result.grid, (side, side), "range")
    batch = Explained(
        images=task.images,
        features=opticam.features(task.images).maps,
        targets=task.targets,
        maps=maps,
        second=upsample(opticam.grad_cam(task.images, task.targets), (side, side)),
        coverage=coverage,
        has_box=torch.ones(count, dtype=torch.bool, device=maps.device),
        boxes=[transform.boxes_to_view([BOX])] * count,
        neutral=opticam.mean[0],
        seeds=list(range(count)),
        status=["ok"] * count,
        transforms=[transform] * count,
    )
    donors = stand_ins(task, opticam)
    return lambda: evidence(opticam.probabilities, batch, donors, task.layer.grid, settings)


def stand_ins(task: Task, opticam: OptiCam) -> Donors:
    """Donors of as many transplants as an image of a run gets: corners of the task's first image, as another class."""
    side, classes = task.images.shape[2] // 2, opticam.probabilities(task.images[:1])
    other = int((task.targets[0] + 1) % classes.shape[1])
    return Donors(
        objects=[task.images[0, :, :side, :side]] * TRANSPLANTS,
        classes=[other] * TRANSPLANTS,
        images=[-1] * TRANSPLANTS,
        alone=classes.expand(TRANSPLANTS, -1).cpu(),
        blank=classes[0],
    )


def audit_table(task: Task, options: argparse.Namespace) -> str:
    """Milliseconds an image of a map, a Grad-CAM as second opinion, the probes, and all of it."""
    settings, device = ExplainSettings(), torch.device(options.device)
    profile = profiles(options.steps, False)["paper"]
    opticam = task.opticam(profile)
    steps: dict[str, Callable[[], object]] = {
        "Grad-CAM, the second opinion": lambda: opticam.grad_cam(task.images, task.targets),
        "probes": probing(task, opticam, settings),
        "probes with explain.scan": probing(task, opticam, ExplainSettings(scan=True)),
        "class probabilities": lambda: opticam.probabilities(task.images),
    }
    parts = [Variant(name, work, len(task.images), (opticam.network,), short=work) for name, work in steps.items()]
    maps = [explained(name, task, own) for name, own in profiles(options.steps, options.compile).items()]
    measure([*parts, *maps], options.repeats, device, explain_speed.ONCE)
    milliseconds = {variant.name: 1000 * explain_speed.median_per_image(variant) for variant in (*parts, *maps)}
    beside = sum(milliseconds[name] for name in steps if "scan" not in name)
    rows = [[name, f"{milliseconds[name]:.1f}", "-"] for name in steps]
    rows += [
        [
            f"whole: {variant.name}",
            f"{milliseconds[variant.name] + beside:.1f}",
            f"{beside / (milliseconds[variant.name] + beside):.0%}",
        ]
        for variant in maps
    ]
    return markdown(["one map and what is measured with it", "ms/image", "beside the map"], rows)


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
