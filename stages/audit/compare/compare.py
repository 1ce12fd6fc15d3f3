"""Two runs, or two methods of one run, on the samples that they share: what changed, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from stages.audit.audit import apply, samples_of_cues
from stages.audit.compare.paired import (
    AccuracyChange,
    Agreement,
    MapAgreement,
    RuleChange,
    ScoreChange,
    accuracy_change,
    map_agreement,
    score_change,
)
from stages.audit.rules import rules_of
from stages.audit.settings import AuditSettings, audit_settings
from stages.statistics import rank_correlation
from storage.columns import Column, columns_of
from storage.errors import UserError
from storage.sql import connect

if TYPE_CHECKING:
    from storage import MapStore, Run
    from storage.info import RunInfo

MUST_AGREE = {
    "geometry": "view",
    "size": "view",
    "resize": "view",
    "interpolation": "view",
    "fill": "explain",
}
"""What the maps must have in common, with the section of the config that says it: the view they lie in, and what is put
in place of what is masked. Null stands for a method that masks nothing to make its maps."""

_SECTIONS = ("model", "view", "explain", "score", "audit")
_WITHOUT_EFFECT = {"explain.method", "explain.methods", "explain.batch_size", "explain.shard_size"}
_BATCH = 32

_Pair = tuple[dict[str, Any], dict[str, Any]]
"""Rows of one sample in A and in B."""


@dataclass(frozen=True)
class Difference:
    """A setting in which the two runs differ."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found. ``only_a`` and ``only_b`` count samples that the other run lacks.

    ``changed`` counts samples of one name whose files differ or cannot be read; ``relabelled`` and ``reboxed`` count
    shared samples with another label or other boxes: their files are the same, and they are compared. ``notes`` say in
    words what the reader of the numbers must know.
    """

    run_a: str
    run_b: str
    method_a: str
    method_b: str
    target: str
    shared: int
    only_a: int
    only_b: int
    changed: int
    relabelled: int
    reboxed: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    accuracy: AccuracyChange
    scores: tuple[ScoreChange, ...]
    rules: tuple[RuleChange, ...]
    maps: MapAgreement


@dataclass(frozen=True)
class FindingsChange:
    """What :func:`compare_findings` found: the number of samples that both runs have, and the change of each rule."""

    shared: int
    rules: tuple[RuleChange, ...]


@dataclass(frozen=True)
class _Source:
    """One of the two: maps of a method and target of a run, and the config the run was made with."""

    run: Run
    method: str
    target: str
    maps: MapStore
    info: RunInfo

    def settings(self) -> dict[str, Any]:
        """Settings with an effect on maps, scores or findings by dotted key, and where the maps come from."""
        attributes = self.maps.attributes
        origin = {"layer": attributes.layer, "weights_digest": attributes.weights_digest}
        stored = {f"{name}.{key}": value for name in _SECTIONS for key, value in self.info.section(name).items()}
        return {key: value for key, value in stored.items() if key not in _WITHOUT_EFFECT} | origin


@dataclass(frozen=True)
class _Side:
    """Samples and rows of the view ``audit`` of one of the two by name, and what each rule, (id, kind), finds."""

    samples: dict[str, dict[str, Any]]
    rows: dict[str, dict[str, Any]]
    found: dict[tuple[str, str], set[str]]


def compare(
    run_a: Run,
    run_b: Run,
    method: str = "",
    method_b: str = "",
    target: str = "label",
    *,
    top: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare run A and run B on the samples that both have.

    ``method`` is by default the one that was audited in A, ``method_b`` the same.

    A sample is shared if both runs have it under the same name with the same file content. The rules are applied to
    both with the audit settings of run A. ``top`` samples of least agreement are listed; ``progress`` is called with
    the maps compared and their number. Writes nothing.

    Raises UserError where a run lacks the method, the target or its scores, where the views or the masking differ, or
    where no sample is shared.
    """
    method = method or run_a.audited_method()
    source_a, source_b = _open(run_a, method, target), _open(run_b, method_b or method, target)
    a, b, shared = _sides(source_a, source_b)
    common = a.samples.keys() & b.samples.keys()
    paired = [name for name in shared if name in a.rows and name in b.rows]
    pairs = [(a.rows[name], b.rows[name]) for name in paired]
    return Comparison(
        run_a=run_a.url,
        run_b=run_b.url,
        method_a=source_a.method,
        method_b=source_b.method,
        target=target,
        shared=len(shared),
        only_a=len(a.samples.keys() - common),
        only_b=len(b.samples.keys() - common),
        changed=len(common) - len(shared),
        relabelled=sum(a.samples[name]["label"] != b.samples[name]["label"] for name in shared),
        reboxed=sum(
            any(a.samples[name][truth] != b.samples[name][truth] for truth in ("boxes", "mask")) for name in shared
        ),
        differences=_differences(source_a, source_b),
        notes=_notes(source_a, source_b),
        accuracy=accuracy_change(
            [(a["correct"], b["correct"]) for a, b in pairs if None not in (a["correct"], b["correct"])]
        ),
        scores=tuple(
            score_change(name, values, len(shared) - len(values))
            for name, column in compared_scores().items()
            for values in [_defined(column, pairs)]
        ),
        rules=_rules(a, b, shared),
        maps=_agreement(source_a.maps, source_b.maps, pairs, len(shared), top, progress),
    )


def compare_findings(run_a: Run, run_b: Run, target: str = "label") -> FindingsChange:
    """What :func:`compare` says of the findings, without a look at the maps. Raises as that does."""
    method = run_a.audited_method()
    a, b, shared = _sides(_open(run_a, method, target), _open(run_b, method, target))
    return FindingsChange(len(shared), _rules(a, b, shared))


def _sides(source_a: _Source, source_b: _Source) -> tuple[_Side, _Side, list[str]]:
    """Both sides by the audit settings of A, and the samples that they share; UserError as :func:`compare` says."""
    _refuse_different_views(source_a, source_b)
    settings = audit_settings(source_a.info)
    a, b = _read(source_a, settings), _read(source_b, settings)
    shared = [name for name, sample in a.samples.items() if _same_file(sample, b.samples.get(name))]
    if not shared:
        common = len(a.samples.keys() & b.samples.keys())
        raise UserError(f"{source_a.run.url} and {source_b.run.url} share no sample {_why_none(a, b, common)}")
    return a, b, shared


def compared_scores() -> dict[str, Column]:
    """The numbers of ``explain`` and ``scores`` that are compared, by name."""
    return {column.name: column for column in columns_of("explain", "scores") if column.compared}


def _open(run: Run, method: str, target: str) -> _Source:
    if not run.has_table("scores"):
        raise UserError(f"{run.url} has no scores to compare yet; `sightline run CONFIG` makes them")
    methods = run.methods()
    if method not in methods:
        raise UserError(
            f"{run.url} has no maps by {method!r}; choose with --method or --method-b: {', '.join(methods)}"
        )
    targets = run.targets(method)
    if target not in targets:
        raise UserError(f"{run.url} has no {method} maps of {target!r}; choose with --target: {', '.join(targets)}")
    return _Source(run, method, target, run.maps(target, method), run.info)


def _read(source: _Source, settings: AuditSettings) -> _Side:
    run, method, target = source.run, source.method, source.target
    samples = run.table("samples", ["sample_id", "digest", "status", "label", "boxes", "mask"]).to_pylist()
    with connect(run) as connection:
        columns = tuple(name for name, *_ in connection.sql("DESCRIBE audit_targets").fetchall())
        wanted = ["sample_id", "row", "explain_status", "target_label", "correct", "evaluable", *compared_scores()]
        sql = f"SELECT {', '.join(wanted)} FROM audit_targets WHERE method = ? AND target = ?"
        rows = _rows(connection, sql, method, target)
        found = _findings(source, connection, columns, settings)
    return _Side(
        samples={sample["sample_id"]: sample for sample in samples if sample["status"] != "removed"},
        rows={row["sample_id"]: row for row in rows},
        found=found,
    )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: str) -> list[dict[str, Any]]:
    return list(connection.sql(f"{sql} ORDER BY row", params=list(parameters)).to_arrow_table().to_pylist())


def _same_file(a: Mapping[str, Any], b: Mapping[str, Any] | None) -> bool:
    return b is not None and a["digest"] is not None and a["digest"] == b["digest"]


def _refuse_different_views(a: _Source, b: _Source) -> None:
    for name, section in MUST_AGREE.items():
        if name == "resize" and a.maps.attributes.geometry == "squash":
            continue  # not used
        in_a, in_b = (getattr(side.maps.attributes, name) for side in (a, b))
        if in_a is not None and in_b is not None and in_a != in_b:
            raise UserError(
                f"cannot compare: {section}.{name} is {in_a} in {a.run.url} ({a.method}) and "
                f"{in_b} in {b.run.url} ({b.method}), so their maps and scores mean different things; "
                f"run one of them again with the other's {section}.{name}, in a run of its own"
            )


def _why_none(a: _Side, b: _Side, common: int) -> str:
    if common:
        return f"({common} have one name, but none of them the same file); make both runs from the same images"
    first_a, first_b = (next(iter(side.samples), "none") for side in (a, b))
    return (
        f"({first_a} ..., {first_b} ...); make both runs from the same images, with the same dataset.path or "
        "dataset.images so that the names agree"
    )


def _differences(a: _Source, b: _Source) -> tuple[Difference, ...]:
    in_a, in_b = a.settings(), b.settings()
    values = [(key, in_a.get(key), in_b.get(key)) for key in sorted(in_a.keys() | in_b.keys())]
    return tuple(Difference(key, of_a, of_b) for key, of_a, of_b in values if of_a != of_b)


def _notes(a: _Source, b: _Source) -> tuple[str, ...]:
    asked = [source.info.section("explain") for source in (a, b)]
    more_proposals = tuple(
        f"explain.{name} is on in {'A' if of_a else 'B'} alone: its drop_outside is the largest of more proposals, "
        "and higher for that reason"
        for name in ("outside", "scan")
        for of_a, of_b in [[bool(settings.get(name)) for settings in asked]]
        if of_a != of_b
    )
    changed = {difference.key for difference in _differences(a, b)}
    if "weights_digest" not in changed or not changed & {"model.mean", "model.std"}:
        return more_proposals
    # The digest is of all buffers, which mean and std are.
    return (
        *more_proposals,
        "model.mean or std changed, and weights_digest covers both: it alone does not say that the weights changed",
    )


def _defined(column: Column, pairs: list[_Pair]) -> list[tuple[float, float]]:
    """The pairs of values of a score, on samples that are evaluable in both runs where the score needs boxes."""
    name, boxless = column.name, "boxes" not in column.needs
    return [
        (float(a[name]), float(b[name]))
        for a, b in pairs
        if a[name] is not None and b[name] is not None and (boxless or (a["evaluable"] and b["evaluable"]))
    ]


def _findings(
    source: _Source, connection: duckdb.DuckDBPyConnection, columns: tuple[str, ...], settings: AuditSettings
) -> dict[tuple[str, str], set[str]]:
    """Samples that each rule, (id, kind), finds on the target, as an audit with these settings would.

    Where two targets explain one class, the audit lets the first speak for both; so it does here.
    """
    method, target = source.method, source.target
    rows = _rows(
        connection, "SELECT sample_id, target, explain_class_index FROM audit_targets WHERE method = ?", method
    )
    classes = {(row["sample_id"], row["target"]): row["explain_class_index"] for row in rows}
    rules = rules_of(settings, columns)
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        found[rule.id, rule.kind] = {
            finding["sample_id"]
            for finding in apply(rule, connection, method, settings.thresholds())
            if classes[finding["sample_id"], finding["target"]] == classes.get((finding["sample_id"], target))
        }
    spared = [(rule.id, rule.kind) for rule in rules if rule.unless_cue]
    if any(found[key] for key in spared):
        in_cues = samples_of_cues(source.run, connection, method, settings)
        found |= {key: found[key] - in_cues for key in spared}
    return found


def _rules(a: _Side, b: _Side, shared: list[str]) -> tuple[RuleChange, ...]:
    paired = {name for name in shared if name in a.rows and name in b.rows}
    return tuple(rule for key in a.found if (rule := _rule(key, a, b, paired)) is not None)


def _rule(key: tuple[str, str], a: _Side, b: _Side, names: set[str]) -> RuleChange | None:
    """What became of a rule's findings among the samples ``names``; None if there are none."""
    in_a, in_b = a.found[key] & names, b.found[key] & names
    gone, new = in_a - in_b, in_b - in_a
    unjudged = {name for name in gone if not b.rows[name]["evaluable"]}
    unjudged |= {name for name in new if not a.rows[name]["evaluable"]}
    if not in_a and not in_b:
        return None
    return RuleChange(
        rule=key[0],
        kind=key[1],
        fixed=tuple(sorted(gone - unjudged)),
        broken=tuple(sorted(new - unjudged)),
        unchanged=tuple(sorted(in_a & in_b)),
        unjudged=tuple(sorted(unjudged)),
    )


def _agreement(
    maps_a: MapStore,
    maps_b: MapStore,
    pairs: list[_Pair],
    shared: int,
    top: int,
    progress: Callable[[int, int], None] | None,
) -> MapAgreement:
    mapped = [(a, b) for a, b in pairs if a["explain_status"] == b["explain_status"] == "ok"]
    alike = [(a, b) for a, b in mapped if a["target_label"] == b["target_label"]]
    found: list[Agreement] = []
    by_chance: list[float] = []
    before = None
    for start in range(0, len(alike), _BATCH):
        batch = alike[start : start + _BATCH]
        read_a = maps_a.read([a["row"] for a, _ in batch], maps_a.view_size)
        read_b = maps_b.read([b["row"] for _, b in batch], maps_b.view_size)
        for (row, _), map_a, map_b in zip(batch, read_a, read_b, strict=True):
            correlation = rank_correlation(map_a, map_b)
            if np.isnan(correlation):
                continue
            found.append(Agreement(row["sample_id"], correlation))
            # A's map of the sample before this one beside B's of this one; neither of them is constant.
            if before is not None:
                by_chance.append(rank_correlation(before, map_b))
            before = map_a
        if progress is not None:
            progress(start + len(batch), len(alike))
    other_class = len(mapped) - len(alike)
    return map_agreement(found, by_chance, other_class, shared - other_class - len(found), top)
