"""Sightline's plugin of the FiftyOne App. FiftyOne's server runs this file by its path, beside `fiftyone.yml`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def register(plugin: Any) -> None:
    """What FiftyOne calls: register operators and panels."""
    # The server is a script, so its own folder stands first on the path, and that has a module `stages` too.
    root = str(Path(__file__).resolve().parents[3])
    sys.path.insert(0, root)
    try:
        from stages.review.plugin.embeddings import Embeddings
        from stages.review.plugin.operators import OPERATORS
        from stages.review.plugin.panels import PANELS
        from stages.review.plugin.runs import OPERATORS as OF_RUNS
    finally:
        sys.path.remove(root)
    for part in (*OPERATORS, *OF_RUNS, *PANELS, Embeddings):
        plugin.register(part)
