"""A tiny dataset and config on disk, as a user would write them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml
from PIL import Image

from tests.stages.explain.shards import picture

ROOT = Path(__file__).parents[2]
MODEL = "python:tests.stages.explain.networks:tiny"
BOX = [[5, 5, 25, 20]]


def write_images(folder: Path, seeds: Iterable[int]) -> list[str]:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"images/{seed:03}.png" for seed in seeds]
    for seed, name in zip(seeds, names, strict=True):
        picture(seed).save(folder / name)
    return names


def write_manifest(folder: Path, names: Iterable[str], labels: Iterable[str] | None = None) -> Path:
    names = list(names)
    path = folder / "audit.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "boxes"])
        for place, (name, label) in enumerate(zip(names, labels or [""] * len(names), strict=True)):
            writer.writerow([name, label or str(place % 5), json.dumps(BOX)])
    return path


def write_config(folder: Path, manifest: Path, run: str = "run", **sections: dict[str, object]) -> Path:
    content: dict[str, object] = {
        "run": str(folder / run),
        "dataset": {"reader": "manifest", "path": str(manifest)},
        "model": {"source": MODEL},
        "view": {"size": 32},
        "explain": {"profile": "paper", "steps": 3, "batch_size": 8, "shard_size": 32},
        "cluster": {"kind": "local", "workers": 2, "threads": 1},
    }
    for name, keys in sections.items():
        content[name] = {**content.get(name, {}), **keys}  # type: ignore[dict-item]
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def sightline(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process group of its own, begun and not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but run.json, which holds times."""
    found = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "run.json")
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def write_bad_images(folder: Path) -> dict[str, str]:
    """One file of each kind of bad or unusual image; name -> the status it gets."""
    images = folder / "images"
    good = picture(1)
    good.save(images / "whole.jpg")
    whole = (images / "whole.jpg").read_bytes()
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("this is no image")
    good.convert("CMYK").save(images / "cmyk.jpg")
    good.convert("L").save(images / "gray.png")
    Image.new("I;16", (40, 30), 40000).save(images / "deep.png")
    # 20,000 x 20,000 black pixels in a few kilobytes.
    Image.new("1", (20_000, 20_000)).save(images / "bomb.png")
    return {
        "images/whole.jpg": "ok",
        "images/truncated.jpg": "unreadable",
        "images/empty.jpg": "unreadable",
        "images/text.jpg": "unreadable",
        "images/cmyk.jpg": "ok",
        "images/gray.png": "ok",
        "images/deep.png": "ok",
        "images/bomb.png": "unreadable",
        "images/missing.jpg": "unreadable",
    }
