"""Findings of a run, as review shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found of a sample."""

    rule: str
    target: str
    kind: str
    """evidence or description."""
    severity: float
    reason: str

    @property
    def is_evidence(self) -> bool:
        """Whether it counts as a flag."""
        return self.kind == "evidence"


def findings_in(table: pa.Table) -> list[tuple[str, Finding]]:
    """sample_id and finding for each row of the table ``findings``: evidence first, then by severity."""
    columns = (table[name].to_pylist() for name in ("sample_id", "rule", "target", "kind", "severity", "reason"))
    rows = [
        (key, Finding(rule, target, kind, _finite(severity), reason))
        for key, rule, target, kind, severity, reason in zip(*columns, strict=True)
    ]
    return sorted(rows, key=lambda row: (not row[1].is_evidence, -row[1].severity))


def priority(findings: Iterable[Finding]) -> float:
    """What to look at first: any evidence comes before all that is only described."""
    findings = list(findings)
    if any(found.is_evidence for found in findings):
        return 1 + worst_evidence(findings)
    return max((found.severity for found in findings), default=0.0)


def worst_evidence(findings: Iterable[Finding]) -> float:
    """Highest severity among findings that are evidence, 0 if there is none."""
    return max((found.severity for found in findings if found.is_evidence), default=0.0)


def _finite(severity: float | None) -> float:
    return severity if severity is not None and math.isfinite(severity) else 0.0
