"""What a process computes with: versions of the packages that matter, and a digest of Sightline's own code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import platform
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "zarr", "pyarrow", "distributed")
"""Whose versions can change a map, or whether a worker and its driver understand each other."""

_OURS = ("pipeline", "stages", "storage")


def version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, str | None]:
    """Versions of Python and the packages that matter by name; under ``sightline`` a digest of its code.

    Builds of a version (``+cpu``, ``+cu132``) count as the same. Raises ImportError if a folder of the same name hides
    one of Sightline's packages.
    """
    versions = {name: found.partition("+")[0] if (found := version(name)) else None for name in _PACKAGES}
    return {"sightline": _code(), "python": ".".join(platform.python_version_tuple()[:2]), **versions}


def circumstances(device: str, threads: int | None) -> dict[str, str]:
    """What the bytes of a map can depend on beside settings, images and weights, by name.

    ``device`` is ``cpu`` or torch's name of another. ``threads``: those that a worker computes with, None where workers
    elsewhere decide.
    """
    import torch

    gpu = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
    return {
        "code": _code(),
        "python": platform.python_version(),
        **{name: version(name) or "none" for name in _PACKAGES},
        "device": gpu,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": "unknown" if threads is None else str(threads),
    }


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
