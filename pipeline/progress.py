"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

_LINE_EVERY_S = 30.0


class Progress:
    """Progress of one stage, as a context; :meth:`update` takes (done, total).

    Rate and time left are those of all that is done since the beginning, so that there is a time left from the first
    word on, however far apart words are.
    """

    def __init__(self, console: Console, stage: str, unit: str, total: int | None = None) -> None:
        self._console, self._unit = console, unit
        self._began = self._said = time.monotonic()
        self._bar = RichProgress(
            TextColumn(f"{stage:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, pace="")

    def __enter__(self) -> Progress:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def update(self, done: int, total: int) -> None:
        """Say how far the stage is."""
        now = time.monotonic()
        pace = self._pace(done, total, now - self._began)
        self._bar.update(self._task, completed=done, total=total, pace=pace)
        # The stage itself says when all is done.
        if not self._console.is_terminal and now - self._said > _LINE_EVERY_S and done < total:
            self._said = now
            self._console.print(f"         {done} of {total} {self._unit}, {pace}")

    def _pace(self, done: int, total: int, seconds: float) -> str:
        if not done:
            return ""
        rate = done / max(seconds, 1e-9)
        pace = f"{rate:.1f}/s" if rate >= 0.1 else f"{60 * rate:.1f}/min"
        return f"{pace}, {duration((total - done) / rate)} left"


def duration(seconds: float) -> str:
    """As a person says it: 42 s, 7 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
