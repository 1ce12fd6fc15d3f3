"""The audit itself: rules over the view ``audit`` become findings, classes and cues."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa

from stages.audit.classes import COLUMNS, class_table, count_flags
from stages.audit.cues import Cue, cue_table, find_cues, sampling
from stages.audit.ranking import rank_classes
from stages.audit.rules import Rule, flag_condition, rules_of
from stages.audit.settings import AuditSettings
from stages.sorting import sorted_by
from storage.errors import SightlineError, UserError
from storage.run import MADE_FROM, ROWS_DIGEST, Part, Run, default_method, seal
from storage.sql import connect, execute
from storage.tables import FINDINGS, SCHEMAS

_AT_ONCE = 10_000
"""Rows that are Python objects at a time; tables are Arrow's, so that memory hardly grows with the dataset."""

_ORDER = (
    ("kind", "descending"),
    ("severity", "descending"),
    ("rule", "ascending"),
    ("sample_id", "ascending"),
    ("target", "ascending"),
)
"""Of findings: flags first, the most severe first."""

_TABLES = ("cues", "findings", "classes")
"""What an audit writes, in this order."""

_SAMPLED = "sampled"
"""Key of the metadata of ``cues``: :attr:`AuditReport.sampled`."""


@dataclass(frozen=True)
class AuditReport:
    """What an audit wrote, or found written."""

    method: str
    findings: pa.Table
    classes: pa.Table
    cues: pa.Table
    sampled: str | None
    """In which samples cues were looked for, in words; None for all that lose probability."""
    was_done: bool = False
    """Whether the tables were there, made from the same."""


def audit(run: Run, settings: AuditSettings, versions: Mapping[str, str | None] | None = None) -> AuditReport:
    """Apply the rules to a scored run and write its tables ``findings``, ``classes`` and ``cues``.

    Findings are sorted: flags before descriptions, then by severity, then by rule and sample. The same
    scores give the same tables. Given the ``versions`` of the code and the packages that make them, by name, the tables
    stay that the run has of the same scores, settings and versions.

    Raises UserError for a run without scores, or a mistake in a user's rule, and SightlineError if the parts of
    ``explain`` are not those that the scores were made from.
    """
    method = _audited_method(run, settings.method)
    _check_sources(run, method)
    made_from = _fingerprint(run, method, settings, versions) if versions else None
    if made_from and (done := _done(run, method, made_from)):
        return done
    with connect(run) as connection:
        rules, thresholds = rules_of(settings, _columns(connection)), settings.thresholds()
        cues = find_cues(run, connection, method, settings)
        sampled = sampling(connection, method, settings.cue_drop)
        grouped = cue_table(cues, method, settings)
        in_cues = _members_of_strong(cues, grouped)
        found = (
            finding
            for rule in rules
            for finding in apply(rule, connection, method, thresholds)
            if not (rule.unless_cue and finding["sample_id"] in in_cues)
        )
        findings = _findings(found, cues)
        flags = count_flags(connection, findings)
        wanted = f"{', '.join(COLUMNS)}, {flag_condition(settings)} AS relies"
        sql = f"SELECT {wanted} FROM audit_targets WHERE method = ? ORDER BY label, row, target"
        rankings = rank_classes(run, method)
        classes = class_table(_records(connection.execute(sql, [method])), flags, settings, rankings)
    report = AuditReport(method, findings, classes, grouped, sampled)
    vouched = {MADE_FROM: made_from} if made_from else {}
    told = {_SAMPLED: sampled} if sampled else {}
    for name in _TABLES:
        run.write_table(name, getattr(report, name), {**vouched, **(told if name == "cues" else {})})
    return report


def _columns(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    return tuple(name for name, *_ in connection.sql("DESCRIBE audit_targets").fetchall())


def check_rules(settings: AuditSettings) -> None:
    """Raise UserError for a mistake in a rule of the user's own, which is applied to no samples at all."""
    if not settings.rules:
        return
    with tempfile.TemporaryDirectory(prefix="sightline-rules-") as folder:
        run = Run.create(f"{folder}/run")
        run.write_table("samples", SCHEMAS["samples"].empty_table())
        for table in ("explain", "scores"):
            run.write_part(Part(table, "none", 0), SCHEMAS[table].empty_table(), {})
        with connect(run) as connection:
            for rule in rules_of(settings, _columns(connection)):
                for _ in apply(rule, connection, "none", settings.thresholds()):
                    pass


def _fingerprint(run: Run, method: str, settings: AuditSettings, versions: Mapping[str, str | None]) -> str | None:
    """Digest of all that an audit reads; None where parts of an earlier version do not say what they hold."""
    footers = {table: run.footers(table, method) for table in ("explain", "scores")}
    rows = {part.path: vouched.get(ROWS_DIGEST) for own in footers.values() for part, vouched in own.items()}
    if None in rows.values():
        return None
    made_from = {
        "versions": dict(versions),
        "settings": asdict(settings),
        "method": method,
        "classes": run.class_names(),
        "samples": hashlib.sha256(run.directory.read("samples.parquet")).hexdigest(),
        "rows": rows,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _done(run: Run, method: str, made_from: str) -> AuditReport | None:
    """The tables that the run has, if all of them were made from the same."""
    vouched = {name: run.table_metadata(name) for name in _TABLES if run.has_table(name)}
    if len(vouched) < len(_TABLES) or any(own.get(MADE_FROM) != made_from for own in vouched.values()):
        return None
    tables = {name: run.table(name) for name in _TABLES}
    return AuditReport(method, **tables, sampled=vouched["cues"].get(_SAMPLED), was_done=True)


def _audited_method(run: Run, wanted: str) -> str:
    """The method to audit; raises UserError where the run lacks it, or has no scores."""
    if not run.has_table("scores"):
        raise UserError(f"{run.url} has no scores to audit yet; `sightline run CONFIG` makes them")
    methods = run.methods()
    if wanted and wanted not in methods:
        raise UserError(f"audit.method: {run.url} has no maps by {wanted!r}; it has {', '.join(methods)}")
    return wanted or default_method(methods)


def _check_sources(run: Run, method: str) -> None:
    """Raise SightlineError if a part of ``explain`` was committed after the scores of its rows."""
    explained = run.footers("explain", method)
    for part, vouched in run.footers("scores", method).items():
        source = explained.get(Part("explain", method, part.index), {})
        if vouched.get(MADE_FROM) not in (None, seal(source)):
            raise SightlineError(
                f"{part.path} was not made from the part of explain that is there now; does another process write into "
                f"{run.url}? Run again"
            )


def apply(
    rule: Rule, connection: duckdb.DuckDBPyConnection, method: str, thresholds: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Findings of one rule among the evaluable rows of a method, as records of the table ``findings``.

    Where two targets are the same class, their maps are the same and the first speaks for both.
    """
    names = rule.columns()
    targets = ", ".join(f"'{target}'" for target in rule.targets)
    literal = method.replace("'", "''")
    sql = f"""
        SELECT sample_id, row, target, method,
            {rule.severity_sql(thresholds)} AS severity,
            {{{", ".join(f"'{name}': {name}" for name in names) or "'none': NULL"}}} AS found
        FROM audit_targets
        WHERE method = '{literal}' AND evaluable AND target IN ({targets}) AND ({rule.condition(thresholds)}
        )
        QUALIFY row_number() OVER (PARTITION BY sample_id, explain_class_index ORDER BY target) = 1
    """
    table = execute(connection, sql, f"audit.rules, rule {rule.id!r}")
    for batch in table.to_batches(max_chunksize=_AT_ONCE):
        for record in batch.to_pylist():
            yield {
                **{key: record[key] for key in ("sample_id", "row", "target", "method", "severity")},
                "rule": rule.id,
                "kind": rule.kind,
                "reason": rule.sentence(record["found"]),
                "evidence": json.dumps({name: _number(record["found"][name]) for name in rule.evidence}),
                "cue_id": None,
            }


def samples_of_cues(run: Run, connection: duckdb.DuckDBPyConnection, method: str, settings: AuditSettings) -> set[str]:
    """Samples in those cues of a method that are not weak: rules with ``unless_cue`` leave them out."""
    cues = find_cues(run, connection, method, settings)
    return _members_of_strong(cues, cue_table(cues, method, settings))


def _members_of_strong(cues: Iterable[Cue], table: pa.Table) -> set[str]:
    """Samples in the cues that ``table``, of the same cues, does not call weak."""
    strong = {row["cue_id"] for row in table.select(["cue_id", "weak"]).to_pylist() if row["weak"] is None}
    return {member.sample_id for cue in cues if cue.cue_id in strong for member in cue.members}


def _findings(found: Iterator[dict[str, Any]], cues: Iterable[Cue]) -> pa.Table:
    """The table ``findings``, sorted; a flag names the cue that its sample and target are in."""
    cue_of = {(member.sample_id, member.target): cue.cue_id for cue in cues for member in cue.members}
    tables = [FINDINGS.empty_table()]
    while records := list(islice(found, _AT_ONCE)):
        for finding in records:
            if finding["kind"] == "flag":
                finding["cue_id"] = cue_of.get((finding["sample_id"], finding["target"]))
        tables.append(pa.Table.from_pylist(records, schema=FINDINGS))
    return sorted_by(pa.concat_tables(tables), _ORDER)


def _records(answer: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    """The rows of an answer as the class table takes them, a few thousand at a time."""
    while rows := answer.fetchmany(_AT_ONCE):
        for row in rows:
            yield dict(zip((*COLUMNS, "relies"), row, strict=True))


def _number(value: Any) -> Any:
    """A value as JSON has it; float32 has seven digits, so more would be noise."""
    if isinstance(value, dict):
        return {name: _number(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
