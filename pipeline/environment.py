"""What a process computes with: versions of the packages that matter, and a digest of Sightline's own code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import platform
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "zarr", "pyarrow", "distributed")
"""Whose versions can change a result, or whether a worker understands its driver."""

_OURS = ("pipeline", "stages", "storage")


def environment() -> dict[str, str]:
    """Name -> version, of Python and the packages that matter; ``sightline`` is a digest of its code.

    Raises ImportError if another thing of the same name hides one of Sightline's packages.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    versions = {name: _version(name) for name in PACKAGES}
    return {"sightline": _code(), "python": python, **versions}


def _version(package: str) -> str:
    """The public version: ``+cpu`` and ``+cu132`` are builds of the same code."""
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _code() -> str:
    digest = hashlib.sha256()
    for name in _OURS:
        package = importlib.import_module(name)
        if package.__file__ is None:
            raise ImportError(f"{name} is the folder {next(iter(package.__path__))}, not Sightline's package")
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
