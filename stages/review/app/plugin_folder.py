"""Where FiftyOne looks for plugins: Sightline's own beside those that the user has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

OURS = Path(__file__).parents[1] / "plugin"


@contextmanager
def plugins(users: str | Path | None) -> Iterator[Path]:
    """A folder of links to Sightline's plugin and to the user's plugin folder, named to FiftyOne's server that starts
    within the context.

    FiftyOne knows one folder of plugins. Links keep the user's where it is, so what is installed there appears at once.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-plugins-") as name:
        folder = Path(name)
        (folder / "sightline").symlink_to(OURS, target_is_directory=True)
        if users is not None and Path(users).is_dir():
            (folder / "own").symlink_to(Path(users).resolve(), target_is_directory=True)
        # Plugins are loaded again for every call otherwise, which takes longer than most calls.
        cached = os.environ.get("FIFTYONE_PLUGINS_CACHE_ENABLED", "true")
        with _environment({"FIFTYONE_PLUGINS_DIR": str(folder), "FIFTYONE_PLUGINS_CACHE_ENABLED": cached}):
            yield folder


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
