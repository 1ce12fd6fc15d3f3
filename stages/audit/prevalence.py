"""How many images rest on the outside, with the flag's own errors counted."""

from __future__ import annotations

from dataclasses import dataclass

from stages.audit.settings import AuditSettings
from stages.statistics import corrected_share


@dataclass(frozen=True)
class FlagErrors:
    """How the flag did where the truth is known: it flagged ``found`` of the ``shortcuts``, and ``wrong`` of the
    ``others``."""

    found: int
    shortcuts: int
    wrong: int
    others: int

    @property
    def missed(self) -> float:
        """Share of the shortcuts that are not flagged."""
        return 1 - self.found / self.shortcuts

    @property
    def false(self) -> float:
        """Share of the other images that are flagged."""
        return self.wrong / self.others


MEASURED = FlagErrors(found=280, shortcuts=368, wrong=66, others=3376)
"""The experiments with 8 classes of report seeds 70003 to 70006, the controls among them, at the flag's default
threshold (benchmarks/results/audit_truth.md)."""


@dataclass(frozen=True)
class Prevalence:
    """Share of images that rest on the outside, [0, 1], and the ends of its 95% interval."""

    rate: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval."""
        return self.low, self.high


def prevalence(flagged: int, n: int, settings: AuditSettings) -> Prevalence | None:
    """Share of images like these ``n`` that rest on the outside, where the flag fired on ``flagged``.

    None without images, and for another threshold than the default, whose errors were not measured.
    """
    if settings.outside_effect != AuditSettings().outside_effect:
        return None
    share = corrected_share(flagged, n, MEASURED.found, MEASURED.shortcuts, MEASURED.wrong, MEASURED.others)
    return Prevalence(*share) if share else None
