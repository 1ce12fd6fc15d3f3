"""The user's own code: a factory, by module or by file. It may do anything, and must not end a run by it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from storage.errors import UserError

SHOWN = 200
"""Characters of a foreign message that are quoted, at most."""

OWN_PACKAGES = ("pipeline", "stages", "storage")
"""Names of Sightline's packages, which a user's package of the same name cannot have in this process."""

_SOURCE = "__sightline_source__"
"""Attribute of a module: SHA-256 of its file."""


class Exited(Exception):
    """Foreign code called ``sys.exit``; the text says with what, and what it printed last."""


def call_factory(path: str) -> tuple[Any, ModuleType]:
    """What the factory ``package.module:factory`` or ``path/to/file.py:factory`` returns, and the factory's module.

    Modules are looked for in the working directory too; a file's own folder is searched while it is imported, as when
    Python runs it. Raises UserError with the reason for a factory that cannot be imported, or raises anything.
    """
    place, _, name = path.rpartition(":")
    if not place or not name:
        raise UserError(
            f"model.source python:{path} names no factory; write python:package.module:factory or "
            "python:path/to/file.py:factory"
        )
    try:
        with guarded():
            module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
            factory = getattr(module, name)
    except Exception as error:  # importing runs the user's own code, which may raise anything
        raise UserError(
            f"model.source python:{path}: {said(error)}; {_shadowed(place, error) or _remedy(place, error)}"
        ) from error
    try:
        with guarded():
            return factory(), module
    except Exception as error:  # the user's own code may raise anything
        hint = f"; {shadowed}" if (shadowed := _shadowed(place, error)) else ""
        raise UserError(f"model.source python:{path}: the factory raised {said(error)}{hint}") from error


def code_of(network: nn.Module, factory: ModuleType) -> str:
    """SHA-256 of the user's code that a network runs: the file of the factory, and the files that the classes of its
    modules are from. Files of installed packages are left out; empty where no other is left.

    A file that these import functions from is not seen.
    """
    classes = {one for module in network.modules() for one in type(module).__mro__}
    modules = {factory, *(sys.modules[one.__module__] for one in classes if one.__module__ in sys.modules)}
    digests = sorted({digest for module in modules if (digest := _source_of(module))})
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


def _source_of(module: ModuleType) -> str:
    """SHA-256 of a module's file; empty for an installed package, and a module without a file.

    It is taken once a module: what a long-lived worker runs is the file as it was then.
    """
    file = Path(getattr(module, "__file__", None) or "").resolve()  # without a name: the working directory
    if not file.is_file() or _is_installed(file):
        return ""
    if _SOURCE not in vars(module):
        setattr(module, _SOURCE, hashlib.sha256(file.read_bytes()).hexdigest())
    return str(vars(module)[_SOURCE])


def _is_installed(file: Path) -> bool:
    standard = Path(sysconfig.get_paths()["stdlib"]).resolve()
    return file.is_relative_to(standard) or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:  # the console script does not put the working directory there; `python -m` does
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _import_file(file: Path) -> ModuleType:
    file = file.resolve()
    name = f"_factory_{file.stem}"  # a name of its own: the file may be called model.py, or storage.py
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


def _remedy(place: str, error: BaseException) -> str:
    if isinstance(error, Exited):
        return 'what a script does belongs below if __name__ == "__main__"'
    if place.endswith(".py") and "relative import" in str(error):
        return "a file is imported by itself: write python:package.module:factory"
    if place.endswith(".py"):
        return "write python:path/to/file.py:factory, a file that can be imported and a function in it"
    return f"write python:package.module:factory, importable from {os.getcwd()}, or python:path/to/file.py:factory"


def _shadowed(place: str, error: BaseException) -> str | None:
    """What to do where a package of the user's has the name of one of ours; None where that is not the reason."""
    if not isinstance(error, ImportError | AttributeError):
        return None
    wanted = str(error.name or "") if isinstance(error, ImportError) else place
    name = wanted.split(".")[0]
    folder = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
    theirs = next((path for path in (folder / name, folder / f"{name}.py") if path.exists()), None)
    ours = sys.modules.get(name)
    if name not in OWN_PACKAGES or theirs is None or ours is None or ours.__file__ is None:
        return None
    own = Path(ours.__file__).parent
    if theirs.resolve() == own.resolve():
        return None
    return (
        f"{theirs} has the name of Sightline's own package {own}, which is imported in its place: rename yours, or "
        "name a file that does not import it (python:path/to/file.py:factory)"
    )


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Run foreign code: it sees an empty command line, and ``sys.exit`` in it raises :class:`Exited`.

    What it prints on standard error is shown at the end, but not where it exits: argparse prints a usage then, which is
    not ours.
    """
    argv, printed = sys.argv, io.StringIO()
    sys.argv = argv[:1]
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as error:
        last = next((line.strip() for line in reversed(printed.getvalue().splitlines()) if line.strip()), "")
        printed = io.StringIO()
        raise Exited(f"it ends the program with sys.exit({error.code!r})" + (f": {last}" if last else "")) from None
    finally:
        sys.argv = argv
        sys.stderr.write(printed.getvalue())


def said(error: BaseException) -> str:
    """An exception in one line: its type and the first line of its message, bounded."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
    if isinstance(error, Exited):
        return shown
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
