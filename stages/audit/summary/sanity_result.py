"""What the sanity check of a run's maps found, for the summary and the report; `sightline sanity` makes it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.words import interval, number
from storage.errors import UserError
from storage.maps import checksum

if TYPE_CHECKING:
    from storage import Run


@dataclass(frozen=True)
class SanityResult:
    """Whether the maps of a method and target depend on the network.

    ``fault`` says in words why they fail; None if they pass. ``left`` is the median rank correlation with the stored
    maps that all weights random leave, with its interval; None where it is not defined. ``outdated``: the run's maps
    are no longer those that were checked.
    """

    method: str
    target: str
    images: int
    fault: str | None
    left: float | None
    interval: tuple[float, float] | None
    outdated: bool

    @property
    def word(self) -> str:
        """The result in a word."""
        return "outdated" if self.outdated else "FAULT" if self.fault else "passes"

    def __str__(self) -> str:
        which = f"{self.method}, {self.target}"
        if self.outdated:
            return f"{which}: checked on maps that the run no longer has; `sightline sanity` checks today's"
        if self.fault:
            return f"{which}: {self.fault} ({self.images} images)"
        if self.left is None:
            return f"{which}: with all weights random no map is left ({self.images} images)"
        return (
            f"{which}: the maps depend on the network; with all weights random a rank correlation of "
            f"{number(self.left)} {interval(self.interval)} with them is left ({self.images} images)"
        )


def sanity_results(run: Run) -> tuple[SanityResult, ...]:
    """The results that a run has, by method and target; none without the table ``sanity``."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in run.table("sanity").to_pylist() if run.has_table("sanity") else ():
        groups[row["method"], row["target"]].append(row)
    return tuple(_result(run, *key, rows) for key, rows in sorted(groups.items()))


def _result(run: Run, method: str, target: str, rows: list[dict[str, Any]]) -> SanityResult:
    random = [row for row in rows if row["check"] == "weights" and row["metric"] == "spearman"]
    last = max(random, key=lambda row: row["level"], default={})
    low, high = last.get("low"), last.get("high")
    checked = rows[0].get("rows") or []
    return SanityResult(
        method=method,
        target=target,
        images=len(checked),
        fault=rows[0].get("fault"),
        left=last.get("median"),
        interval=None if low is None or high is None else (low, high),
        outdated=not checked or rows[0].get("maps_checksum") != _checksum_now(run, method, target, checked),
    )


def _checksum_now(run: Run, method: str, target: str, rows: list[int]) -> str | None:
    """Checksum of the run's maps of some rows; None where it lacks them."""
    try:
        return checksum(run.maps(target, method).read(rows))
    except (UserError, IndexError):
        return None
