"""The kernels run on a bare machine: torch, torchvision, numpy, scipy and what these need, nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = ("torch", "torchvision", "numpy", "scipy", "pillow")

HIDE = """
import json, sys
from importlib.machinery import PathFinder

hidden = set(json.loads(sys.argv[1]))

class BareFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

sys.meta_path[:] = [BareFinder if finder is PathFinder else finder for finder in sys.meta_path]
"""

SCORE = """
import stages.geometry, stages.score
from stages.score import boxacc, faithfulness, localization, measures, nulls, ratio, spread
import numpy as np

view = stages.geometry.ViewTransform.make("squash", 500, 375, size=32)
maps, boxes = np.random.default_rng(0).random((2, 32, 32), dtype=np.float32), [[50.0, 50, 300, 200]]
coverage = np.stack([view.coverage(boxes)] * 2)
padded = localization.pad_boxes([view.visible_boxes(boxes)] * 2)
scores = measures.measure_maps(maps, coverage, padded, np.ones(2), np.ones(2))
assert all(np.isfinite(values).all() for values in scores.values()), scores
"""

EXPLAIN = """
from stages.explain import ModelSettings, OptiCam, ViewSettings, load_classifier
from stages.explain.probes import curves, evidence, scan
"""

SPEED = """
import benchmarks.explain_speed, benchmarks.gpu
"""


def distribution(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def with_dependencies(names: tuple[str, ...]) -> set[str]:
    """Distributions that these need to be installed, themselves included; optional extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [distribution(line) for line in needed if "extra ==" not in line]
    return found


@pytest.fixture(scope="module")
def hidden_modules() -> str:
    wanted = with_dependencies(ALLOWED)
    own = {"stages", "storage", "pipeline"}
    return json.dumps(
        sorted(
            module
            for module, owners in packages_distributions().items()
            if module not in own and not any(distribution(owner) in wanted for owner in owners)
        )
    )


def run_bare(code: str, hidden_modules: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDE + code, hidden_modules]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("code", [SCORE, EXPLAIN, SPEED], ids=["score", "explain", "explain_speed"])
def test_kernels_import_with_torch_torchvision_numpy_and_scipy_alone(code: str, hidden_modules: str) -> None:
    done = run_bare(code, hidden_modules)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["pyarrow", "zarr", "fiftyone", "dask", "pydantic", "duckdb"])
def test_other_packages_are_out_of_reach(module: str, hidden_modules: str) -> None:
    done = run_bare(f"import {module}", hidden_modules)
    assert f"No module named '{module}'" in done.stderr
