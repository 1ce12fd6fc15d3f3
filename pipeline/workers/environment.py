"""What a process computes with: versions of the packages that matter, Sightline's own code and the commit it is of."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "zarr", "pyarrow", "distributed")
"""Whose versions can change a map, or whether a worker and its driver understand each other."""

_OURS = ("pipeline", "stages", "storage")

_GIT_WITHIN_S = 10
"""Seconds after which git is taken for absent: a checkout on a file system that hangs does not stop a run."""

_OF_ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
"""Variables by which a hook of git names its own repository."""


@dataclass(frozen=True)
class Checkout:
    """The git checkout that Sightline's code comes from."""

    commit: str
    """Full hash of the commit that is checked out."""
    changed: bool
    """Whether files of Sightline's packages differ from that commit, or are not in it."""


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


def checkout() -> Checkout | None:
    """The checkout that Sightline's code comes from; None where it comes from none, or git is missing or refuses."""
    return checkout_of(_root("pipeline").parent)


def checkout_of(folder: Path) -> Checkout | None:
    """The checkout that tracks Sightline's packages in ``folder``; None for a folder of which git knows no commit.

    A repository around an environment with an installed Sightline does not track it, and is not its checkout.
    """
    if _git(folder, "ls-files", "--error-unmatch", *(f"{name}/__init__.py" for name in _OURS)) is None:
        return None
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", *_OURS)
    if commit is None or changes is None:
        return None
    return Checkout(commit.strip(), bool(changes.strip()))


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints that reads the repository around ``folder``; None where it fails."""
    own = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_GIT_WITHIN_S, env=own, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _root(name: str) -> Path:
    """The folder of one of Sightline's packages."""
    package = importlib.import_module(name)
    if package.__file__ is None:
        raise ImportError(f"{name} is the folder {next(iter(package.__path__))}, not Sightline's package")
    return Path(package.__file__).parent


def _code() -> str:
    digest = hashlib.sha256()
    for name in _OURS:
        root = _root(name)
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
