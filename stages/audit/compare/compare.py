"""Two runs, or two methods of one run, on the samples that they share: what changed, and by how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
from stages.audit.compare.shared import Shared, Side, differ, shared_by
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
MOST_MAPS = 10_000
"""Samples whose maps are compared, at most: here some minutes."""


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


def compare(
    run_a: Run,
    run_b: Run,
    method: str = "",
    method_b: str = "",
    target: str = "label",
    *,
    top: int = 10,
    most_maps: int = MOST_MAPS,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare run A and run B on the samples that both have.

    ``method`` is by default the one that was audited in A, ``method_b`` the same.

    A sample is shared if both runs have it under the same name with the same file content. The rules are applied to
    both with the audit settings of run A. The maps of at most ``most_maps`` samples, a seeded choice, are compared, and
    the ``top`` of least agreement are listed; ``progress`` is called with the maps compared and their number. Writes
    nothing.

    Raises UserError where a run lacks the method, the target or its scores, where the views or the masking differ, or
    where no sample is shared.
    """
    method = method or run_a.audited_method()
    source_a, source_b = _open(run_a, method, target), _open(run_b, method_b or method, target)
    a, b, shared = _sides(source_a, source_b)
    return Comparison(
        run_a=run_a.url,
        run_b=run_b.url,
        method_a=source_a.method,
        method_b=source_b.method,
        target=target,
        shared=len(shared),
        only_a=a.samples.num_rows - shared.common,
        only_b=b.samples.num_rows - shared.common,
        changed=shared.common - len(shared),
        relabelled=shared.relabelled(),
        reboxed=shared.reboxed(),
        differences=_differences(source_a, source_b),
        notes=_notes(source_a, source_b),
        accuracy=accuracy_change(shared.right()),
        scores=tuple(
            score_change(name, values, len(shared) - len(values))
            for name, column in compared_scores().items()
            for values in [shared.values(name, against_boxes="boxes" in column.needs)]
        ),
        rules=_rules(a, b, shared),
        maps=_agreement(source_a.maps, source_b.maps, shared, top, most_maps, progress),
    )


def compare_findings(run_a: Run, run_b: Run, target: str = "label") -> FindingsChange:
    """What :func:`compare` says of the findings, without a look at the maps. Raises as that does."""
    method = run_a.audited_method()
    a, b, shared = _sides(_open(run_a, method, target), _open(run_b, method, target))
    return FindingsChange(len(shared), _rules(a, b, shared))


def _sides(source_a: _Source, source_b: _Source) -> tuple[Side, Side, Shared]:
    """Both sides by the audit settings of A, and the samples that they share; UserError as :func:`compare` says."""
    _refuse_different_views(source_a, source_b)
    settings = audit_settings(source_a.info)
    a, b = _read(source_a, settings), _read(source_b, settings)
    shared = shared_by(a, b)
    if not len(shared):
        raise UserError(f"{source_a.run.url} and {source_b.run.url} share no sample {_why_none(a, b, shared.common)}")
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


def _read(source: _Source, settings: AuditSettings) -> Side:
    run, method, target = source.run, source.method, source.target
    samples = run.table("samples", ["sample_id", "digest", "status", "label", "boxes", "mask"])
    # Arrow takes rows of no more than 2 GiB of text, which the masks of some millions are.
    samples = samples.set_column(5, "mask", samples["mask"].cast(pa.large_string()))
    with connect(run) as connection:
        columns = tuple(name for name, *_ in connection.sql("DESCRIBE audit_targets").fetchall())
        wanted = ["sample_id", "row", "explain_status", "target_label", "correct", "evaluable", *compared_scores()]
        sql = f"SELECT {', '.join(wanted)} FROM audit_targets WHERE method = ? AND target = ?"
        rows = _rows(connection, sql, method, target)
        found = _findings(source, connection, columns, settings)
    return Side(samples.filter(pc.not_equal(samples["status"], "removed")), rows, found)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: str) -> pa.Table:
    return connection.sql(f"{sql} ORDER BY row", params=list(parameters)).to_arrow_table()


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


def _why_none(a: Side, b: Side, common: int) -> str:
    if common:
        return f"({common} have one name, but none of them the same file); make both runs from the same images"
    first_a, first_b = (side.samples["sample_id"][0].as_py() if side.samples.num_rows else "none" for side in (a, b))
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
    notes = [
        f"explain.{name} is on in {'A' if of_a else 'B'} alone: its drop_outside is the largest of more proposals, "
        "and higher for that reason"
        for name in ("outside", "scan")
        for of_a, of_b in [[bool(settings.get(name)) for settings in asked]]
        if of_a != of_b
    ]
    if _donors(a.run) != _donors(b.run):
        notes.append(
            "the runs have other donors, which a run chooses once from its own samples: a small change of "
            "outside_effect and of the numbers with transplant in their name may come from them alone"
        )
    changed = {difference.key for difference in _differences(a, b)}
    if "weights_digest" in changed and changed & {"model.mean", "model.std"}:
        # The digest is of all buffers, which mean and std are.
        notes.append(
            "model.mean or std changed, and weights_digest covers both: it alone does not say that the weights changed"
        )
    return tuple(notes)


def _donors(run: Run) -> list[str]:
    """The digests of the images that lend objects to others."""
    return sorted(run.table("donors", ["digest"])["digest"].to_pylist()) if run.has_table("donors") else []


def _findings(
    source: _Source, connection: duckdb.DuckDBPyConnection, columns: tuple[str, ...], settings: AuditSettings
) -> dict[tuple[str, str], set[str]]:
    """Samples that each rule, (id, kind), finds on the target, as an audit with these settings would.

    Where two targets explain one class, the audit lets the first speak for both; so it does here.
    """
    method, target = source.method, source.target
    classes = _Classes(
        _rows(connection, "SELECT sample_id, target, explain_class_index FROM audit_targets WHERE method = ?", method)
    )
    rules = rules_of(settings, columns)
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        by_target: dict[str, list[str]] = {}
        for finding in apply(rule, connection, method, settings.thresholds()):
            by_target.setdefault(finding["target"], []).append(finding["sample_id"])
        found[rule.id, rule.kind] = {
            name for other, names in by_target.items() for name in classes.same(names, other, target)
        }
    spared = [(rule.id, rule.kind) for rule in rules if rule.unless_cue]
    if any(found[key] for key in spared):
        in_cues = samples_of_cues(source.run, connection, method, settings)
        found |= {key: found[key] - in_cues for key in spared}
    return found


class _Classes:
    """Which class each target of a sample explains."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def same(self, names: list[str], target: str, other: str) -> list[str]:
        """Those of some samples whose two targets explain one class."""
        if target == other:
            return names
        asked = pa.array(names, pa.string())
        alike = ~differ(self._of(asked, target), self._of(asked, other))
        return list(asked.filter(pa.array(alike)).to_pylist())

    def _of(self, names: pa.Array, target: str) -> pa.ChunkedArray:
        rows = self._rows.filter(pc.equal(self._rows["target"], target))
        return rows["explain_class_index"].take(pc.index_in(names, value_set=rows["sample_id"]))


def _rules(a: Side, b: Side, shared: Shared) -> tuple[RuleChange, ...]:
    paired = set(shared.rows_a["sample_id"].to_pylist())
    unfit = shared.not_evaluable()
    return tuple(rule for key in a.found if (rule := _rule(key, a.found[key] & paired, b.found[key] & paired, unfit)))


def _rule(key: tuple[str, str], in_a: set[str], in_b: set[str], unfit: tuple[set[str], set[str]]) -> RuleChange | None:
    """What became of a rule's findings, where ``unfit`` cannot be evaluated in A and in B; None if there are none."""
    gone, new = in_a - in_b, in_b - in_a
    unjudged = (gone & unfit[1]) | (new & unfit[0])
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
    shared: Shared,
    top: int,
    most: int,
    progress: Callable[[int, int], None] | None,
) -> MapAgreement:
    mapped_a, mapped_b = shared.with_maps()
    alike = np.flatnonzero(~differ(mapped_a["target_label"], mapped_b["target_label"]))
    looked_at = np.sort(np.random.default_rng(0).choice(alike, most, replace=False)) if len(alike) > most else alike
    names, rows_a = (mapped_a[name].take(looked_at) for name in ("sample_id", "row"))
    rows_b = mapped_b["row"].take(looked_at)
    found: list[Agreement] = []
    by_chance: list[float] = []
    before = None
    for start in range(0, len(looked_at), _BATCH):
        batch = names.slice(start, _BATCH).to_pylist()
        read_a = maps_a.read(rows_a.slice(start, _BATCH).to_pylist(), maps_a.view_size)
        read_b = maps_b.read(rows_b.slice(start, _BATCH).to_pylist(), maps_b.view_size)
        for name, map_a, map_b in zip(batch, read_a, read_b, strict=True):
            correlation = rank_correlation(map_a, map_b)
            if np.isnan(correlation):
                continue
            found.append(Agreement(name, correlation))
            # A's map of the sample before this one beside B's of this one; neither of them is constant.
            if before is not None:
                by_chance.append(rank_correlation(before, map_b))
            before = map_a
        if progress is not None:
            progress(start + len(batch), len(looked_at))
    other_class, left_out = mapped_a.num_rows - len(alike), len(alike) - len(looked_at)
    undefined = len(shared) - other_class - left_out - len(found)
    return map_agreement(found, by_chance, other_class, undefined, left_out, top)
