"""The user's own code: a factory, by module or by file. It may do anything, and must not end a run by it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from storage.errors import UserError

SHOWN = 200
"""Characters of a foreign message that are quoted, at most."""

OWN_PACKAGES = ("pipeline", "stages", "storage")
"""Names of Sightline's packages, which a user's package of the same name cannot have in this process."""


class Exited(Exception):
    """Foreign code called ``sys.exit``; the text says with what, and what it printed last."""


def call_factory(path: str) -> Any:
    """What the factory ``package.module:factory`` or ``path/to/file.py:factory`` returns.

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
            return factory()
    except Exception as error:  # the user's own code may raise anything
        hint = f"; {shadowed}" if (shadowed := _shadowed(place, error)) else ""
        raise UserError(f"model.source python:{path}: the factory raised {said(error)}{hint}") from error


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
