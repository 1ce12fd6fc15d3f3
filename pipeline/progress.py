"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_LINE_EVERY_S = 10.0


class Progress:
    """Progress of one stage, as a context; :meth:`update` takes (done, total)."""

    def __init__(self, console: Console, stage: str, unit: str, total: int | None = None) -> None:
        self._console, self._stage, self._unit, self._total = console, stage, unit, total
        self._began = self._said = time.monotonic()
        self._bar = RichProgress(
            TextColumn(f"{stage:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, rate="")

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
        rate = done / max(now - self._began, 1e-9)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:.1f} {self._unit}/s")
        # The stage itself says when all is done.
        if not self._console.is_terminal and now - self._said > _LINE_EVERY_S and done < total:
            self._said = now
            left = (total - done) / rate if rate else float("inf")
            self._console.print(f"         {done} of {total} {self._unit}, {rate:.1f}/s, {left:.0f} s left")
