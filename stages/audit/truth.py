"""How often the audit is right, where the truth is known: rules against planted cues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from stages.audit.rules import RULES
from stages.statistics import wilson
from storage.errors import UserError, said
from storage.tables import NO_TABLE

if TYPE_CHECKING:
    from storage import Run


@dataclass(frozen=True)
class RuleTruth:
    """One rule against the truth; intervals are 95% Wilson, and None where nothing was counted."""

    rule: str
    flagged: int
    true_positives: int
    positives: int
    precision: float | None
    precision_interval: tuple[float, float] | None
    recall: float | None
    recall_interval: tuple[float, float] | None


@dataclass(frozen=True)
class TruthReport:
    """The flags against the truth, over ``n`` samples of which ``positives`` rely on a planted cue.

    ``missing`` names the samples of the run that the truth table lacks; they count nowhere.
    """

    rules: tuple[RuleTruth, ...]
    n: int
    positives: int
    missing: tuple[str, ...]


def read_truth(path: str) -> pa.Table:
    """The table of planted truth; raises UserError if it cannot be read."""
    try:
        with fsspec.open(path, "rb") as file:
            return pq.read_table(file)
    except NO_TABLE as error:
        raise UserError(
            f"dataset.truth: cannot read {path}: {said(error)}; `sightline demo` writes such a table, or leave the key "
            "out"
        ) from None


def against_truth(run: Run, truth: pa.Table) -> TruthReport:
    """Precision and recall of every flag, on the target ``label``, against a truth table.

    ``truth`` has the columns sample_id and positive: the probability of the label falls by .3 or more when
    the cue is taken away. A positive that could not be evaluated counts as missed. Truth rows of samples that
    the run does not have count nowhere. Raises UserError if the tables share no sample, or a column is
    missing.
    """
    absent = {"sample_id", "positive"} - set(truth.column_names)
    if absent:
        raise UserError(f"the truth table lacks the columns {', '.join(sorted(absent))}; `sightline demo` writes one")
    planted = dict(zip(truth["sample_id"].to_pylist(), truth["positive"].to_pylist(), strict=True))
    samples = run.table("samples", ["sample_id", "status"]).to_pylist()
    present = [sample["sample_id"] for sample in samples if sample["status"] != "removed"]
    known = {sample_id for sample_id in present if planted.get(sample_id) is not None}
    if not known:
        raise UserError(
            f"the truth table and {run.url} share no sample: the truth has {_some(planted)}, the run {_some(present)}"
        )
    positive = {sample_id for sample_id in known if planted[sample_id]}
    findings = run.table("findings", ["sample_id", "target", "rule"]).to_pylist()
    flagged: dict[str, set[str]] = {rule.id: set() for rule in RULES if rule.kind == "flag"}
    for finding in findings:
        if finding["rule"] in flagged and finding["target"] == "label" and finding["sample_id"] in known:
            flagged[finding["rule"]].add(finding["sample_id"])
    return TruthReport(
        rules=tuple(_compare(rule, found, positive) for rule, found in flagged.items()),
        n=len(known),
        positives=len(positive),
        missing=tuple(sorted(set(present) - known)),
    )


def _compare(rule: str, flagged: set[str], positive: set[str]) -> RuleTruth:
    hits = len(flagged & positive)
    return RuleTruth(
        rule=rule,
        flagged=len(flagged),
        true_positives=hits,
        positives=len(positive),
        precision=hits / len(flagged) if flagged else None,
        precision_interval=wilson(hits, len(flagged)),
        recall=hits / len(positive) if positive else None,
        recall_interval=wilson(hits, len(positive)),
    )


def _some(names: list[str] | dict[str, bool]) -> str:
    return ", ".join(list(names)[:2]) or "none"
