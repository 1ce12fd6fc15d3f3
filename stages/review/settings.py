"""Settings of the review stage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from storage.errors import UserError
from storage.info import RunInfo
from storage.run import Run


@dataclass(frozen=True)
class RuleText:
    """A rule of the audit in words, for the saved view of its findings."""

    title: str
    meaning: str = ""


@dataclass(frozen=True)
class Selection:
    """The samples that are loaded."""

    text: str
    """What the user wrote: a rule, SQL or the name of a saved view."""
    keys: frozenset[str] | None
    """Their sample_ids; None: those of the dataset's saved view of that name."""


@dataclass(frozen=True)
class ReviewSettings:
    """What is loaded into FiftyOne, how it looks, and where its database lives."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    dataset: str = ""
    """Name of the FiftyOne dataset; empty: the run's name."""
    method: str = ""
    """Saliency method that is shown; empty: the one that was audited."""
    select: str = ""
    """Which samples are loaded: a rule's id (those it found), SQL that returns sample_id, or the name of a saved view
    of the dataset; empty: all. `sightline app --select` overrides it."""
    database: str = ""
    """Directory of the private MongoDB; empty: ``sightline/mongo`` in the user's data directory.

    Not used where FIFTYONE_DATABASE_URI names a server.
    """
    heatmap_side: int = 256
    """Long side of the heatmap images, px. A network sees about 224, so more shows no more."""
    heatmap_opacity: float = 0.55
    """Opacity of the overlays in the App, [0, 1]."""
    threads: int = 0
    """Threads that write heatmaps; 0: one a core."""

    def __post_init__(self) -> None:
        if not 16 <= self.heatmap_side <= 4096:
            raise ValueError(f"heatmap_side is {self.heatmap_side}; give a side from 16 to 4096 px")
        if not 0 <= self.heatmap_opacity <= 1:
            raise ValueError(f"heatmap_opacity is {self.heatmap_opacity}; give a fraction from 0 to 1")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; give a number of threads, or 0 for one a core")

    @property
    def database_directory(self) -> Path:
        """Where the private MongoDB keeps its files (about 300 MB when empty)."""
        if self.database:
            return Path(self.database).expanduser()
        data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return Path(data).expanduser() / "sightline" / "mongo"

    @property
    def thread_count(self) -> int:
        """Threads to use."""
        return self.threads or os.cpu_count() or 1


def review_settings(info: RunInfo) -> ReviewSettings:
    """The review settings that a run was made with; the defaults where it does not say.

    Raises UserError for keys and values that this version does not take.
    """
    return info.settings("review", ReviewSettings)


def shown_method(run: Run, settings: ReviewSettings) -> str:
    """The method that is shown: ``review.method``, else the one that was audited.

    Raises UserError for a run without maps, or without those of that method.
    """
    methods, wanted = run.methods(), settings.method or run.audited_method()
    if not methods:
        raise UserError(f"{run.url} has no maps to review yet; `sightline run CONFIG` makes them")
    if wanted not in methods:
        raise UserError(f"review.method: {run.url} has no maps by {wanted!r}; it has {', '.join(methods)}")
    return wanted
