"""What this machine has that Sightline needs, in a few lines."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator

from pipeline.workers.environment import version
from storage.errors import UserError

_PACKAGES = ("torch", "torchvision", "zarr", "pyarrow", "distributed", "duckdb", "fiftyone")
_EXTRAS = {
    "dask-cuda": "cuda",
    "grad-cam": "baselines",
    "captum": "baselines",
    "timm": "timm",
    "transformers": "transformers",
    "s3fs": "s3",
}


def examine() -> Iterator[str]:
    """Lines about the machine: what is there, and for what is missing, how to get it."""
    import torch

    yield f"python      {platform.python_version()} on {platform.platform()}"
    yield "packages    " + ", ".join(f"{name} {version(name) or 'MISSING'}" for name in _PACKAGES)
    for name, extra in _EXTRAS.items():
        if version(name) is None:
            yield f"extra       {name} is not installed: pip install -e '.[{extra}]' where you need it"
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield f"devices     {os.cpu_count()} cores; " + (", ".join(devices) if devices else "no GPU that torch can use")
    yield f"database    {_database()}"
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    yield f"browser     {browser or 'no Chromium; only the browser test needs one'}"
    yield f"weights     {_weights()}"


def _database() -> str:
    if uri := os.environ.get("FIFTYONE_DATABASE_URI"):
        return f"FIFTYONE_DATABASE_URI is set: {uri}"
    from stages.review.app.database import find_mongod

    try:
        return f"mongod at {find_mongod()}"
    except UserError as error:
        return str(error)


def _weights() -> str:
    from stages.explain.network.weights import resolve_weights

    try:
        return f"mobilenet_v2 for the demo: {resolve_weights('mobilenet_v2', 'IMAGENET1K_V1')}"
    except UserError as error:
        return str(error)
