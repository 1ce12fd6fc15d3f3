"""What a run has to show: its tables in the order of the samples, worst findings first, and its maps as heatmaps."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.geometry import ViewTransform
from stages.review.dataset.heatmaps import write_heatmaps
from stages.review.dataset.pictures import needs_picture, write_pictures
from stages.review.settings import ReviewSettings, shown_method
from storage.cues import read_cues
from storage.errors import UserError
from storage.maps import MapStore, outside_maps_of
from storage.run import Run
from storage.tables import SCHEMAS, without_vectors

TARGETS = ("label", "predicted")
NOT_SHOWN = ("unreadable", "removed")

ROUNDING = 0.01
"""A view that leaves out less than this, px, shows the whole image but for rounding."""

OUTSIDE_MAP = "outside"
"""Where heatmaps are told by target, those of what outside the boxes carries the label's class."""

_KEYS = ("sample_id", "row", "target", "method")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found of a sample."""

    rule: str
    target: str
    kind: str
    """flag or description."""
    severity: float
    reason: str

    @property
    def is_flag(self) -> bool:
        """Whether it counts as a flag."""
        return self.kind == "flag"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that can be shown, and where its image lies."""

    key: str
    row: int
    path: str
    """Absolute."""
    width: int
    height: int
    size_bytes: int | None


@dataclass(frozen=True)
class Cue:
    """A cue that the audit found, and the samples that rely on it."""

    cue_id: str
    classes: tuple[str, ...]
    """Classes that it is more frequent in; there may be none."""
    mean_drop: float
    samples: tuple[str, ...]
    weak: str | None = None
    """Why it may be no cue at all; None for one that is strong."""
    name: str | None = None
    """What people call it."""


@dataclass(frozen=True)
class Contents:
    """All that is read of a run before its samples are shown. What is aligned has an entry for each of ``samples``."""

    method: str
    samples: list[Sample]
    """Those with the worst findings first."""
    table: pa.Table
    """Their rows of the table ``samples``, aligned."""
    measured: dict[str, pa.Table]
    """By target, their rows of ``explain`` and ``scores`` side by side, aligned; null where a sample has none. The
    columns ``status`` and ``reason`` have the table's name before theirs."""
    views: list[ViewTransform]
    """What the network saw, aligned."""
    findings: dict[str, list[Finding]]
    """By sample, worst first."""
    cues: list[Cue]
    """The costliest first."""
    maps: dict[str, MapStore]
    """By target."""
    outside: MapStore | None
    """Of what outside the boxes carries the label's class; None where the last run did not ask for it."""
    class_names: Sequence[str]
    skipped: Counter[str]
    """Samples that are not shown, by reason."""
    known: frozenset[str]
    """Keys of all samples of the run that were not removed from it."""
    only: frozenset[str] | None = None
    """Keys of the samples that were asked for; None: all."""
    other_class: NDArray[np.bool_] = field(init=False)
    """Whether the predicted class has numbers and a map of its own, since it is not the label; aligned."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "other_class", _other_class(self.measured, len(self.samples)))

    @property
    def rules(self) -> list[str]:
        """Rules with a finding among the samples that are shown."""
        return sorted({found.rule for sample in self.samples for found in self.findings.get(sample.key, ())})

    @property
    def flags(self) -> frozenset[str]:
        """Of these, the rules whose findings are flags."""
        return frozenset(
            found.rule for sample in self.samples for found in self.findings.get(sample.key, ()) if found.is_flag
        )

    @property
    def crops(self) -> bool:
        """Whether a view shows less than its image."""
        return any(not is_whole(view) for view in self.views)


def read_contents(run: Run, settings: ReviewSettings, only: frozenset[str] | None = None) -> Contents:
    """Read what a run has to show, of the samples ``only`` if given.

    Raises UserError for a run without maps, images that the App cannot serve, or ``only`` samples that cannot be shown.
    """
    method = shown_method(run, settings)
    table = run.table("samples").filter(pc.field("status") != "removed")
    known = frozenset(table["sample_id"].to_pylist())
    table, paths, skipped = _showable(run, _of(table, only), settings)
    if only is not None and not len(table):
        raise UserError(
            f"review.select: none of the {len(only)} samples that it selects can be shown; `sightline query RUN "
            '"SELECT sample_id, status FROM samples"` lists the samples of the run'
        )
    findings = _findings(run, method, only)
    columns = (table[name].to_pylist() for name in ("sample_id", "row", "width", "height", "size_bytes"))
    found = [
        Sample(key, row, path, width, height, size)
        for path, key, row, width, height, size in zip(paths, *columns, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda i: (-priority(findings.get(found[i].key, ())), found[i].row))
    samples = [found[index] for index in order]
    targets = run.targets(method)
    maps = {target: run.maps(target, method) for target in TARGETS if target in targets}
    if not maps:
        raise UserError(
            f"{run.url} has {method} maps of {', '.join(targets)} alone, and the App shows those of "
            f"{' and '.join(TARGETS)}; add one of these to explain.targets and run again, or read the report"
        )
    store = next(iter(maps.values()))
    return Contents(
        method=method,
        samples=samples,
        table=table.take(order),
        measured={target: _measured(run, method, target, samples) for target in maps},
        views=[ViewTransform.of_maps(store.attributes, sample.width, sample.height) for sample in samples],
        findings=findings,
        cues=_cues(run, method),
        maps=maps,
        outside=_outside(run, method),
        class_names=store.attributes.class_names,
        skipped=skipped,
        known=known,
        only=only,
    )


def findings_in(table: pa.Table) -> list[tuple[str, Finding]]:
    """sample_id and finding for each row of the table ``findings``: flags first, then by severity."""
    columns = (table[name].to_pylist() for name in ("sample_id", "rule", "target", "kind", "severity", "reason"))
    rows = [
        (key, Finding(rule, target, kind, _finite(severity), reason))
        for key, rule, target, kind, severity, reason in zip(*columns, strict=True)
    ]
    return sorted(rows, key=lambda row: (not row[1].is_flag, -row[1].severity))


def priority(findings: Iterable[Finding]) -> float:
    """How early a sample is shown: samples with a flag come before those with descriptions alone."""
    findings = list(findings)
    if any(found.is_flag for found in findings):
        return 1 + worst_flag(findings)
    return max((found.severity for found in findings), default=0.0)


def worst_flag(findings: Iterable[Finding]) -> float:
    """Highest severity among findings that are flags, 0 if there is none."""
    return max((found.severity for found in findings if found.is_flag), default=0.0)


def _finite(severity: float | None) -> float:
    return severity if severity is not None and math.isfinite(severity) else 0.0


def make_heatmaps(run: Run, contents: Contents, settings: ReviewSettings) -> dict[str, list[Path | None]]:
    """Write the heatmaps of the samples that are shown; by target, aligned, None where there is no map.

    The predicted class has one only where it is not the label: elsewhere it is the same map. Those of the outside are
    under ``OUTSIDE_MAP``.
    """
    made: dict[str, list[Path | None]] = {}
    stores = contents.maps | ({OUTSIDE_MAP: contents.outside} if contents.outside else {})
    for target, maps in stores.items():
        wanted = [index for index, sample in enumerate(contents.samples) if sample.row < maps.shape[0]]
        if target == "predicted" and "label" in made:
            wanted = [i for i in wanted if made["label"][i] is None or contents.other_class[i]]
        heatmaps = write_heatmaps(
            run.local_path("heatmaps"),
            maps,
            [contents.samples[index].row for index in wanted],
            [contents.views[index] for index in wanted],
            long_side=settings.heatmap_side,
            threads=settings.thread_count,
        )
        made[target] = [None] * len(contents.samples)
        for index, heatmap in zip(wanted, heatmaps, strict=True):
            made[target][index] = heatmap
    return made


def is_whole(view: ViewTransform) -> bool:
    """Whether a view shows all of its image."""
    x0, y0, x1, y1 = view.view_box
    return max(x0, y0, view.width - x1, view.height - y1) < ROUNDING


def _showable(run: Run, table: pa.Table, settings: ReviewSettings) -> tuple[pa.Table, list[str], Counter[str]]:
    """The rows of the table ``samples`` that can be shown, the paths of their images, and how many cannot, and why.

    Images that no file holds alone are written into the run.
    """
    skipped = Counter[str]()
    known = ~np.isin(table["status"].to_numpy(), NOT_SHOWN) & (table["width"].fill_null(0).to_numpy() > 0)
    skipped.update(table.filter(pa.array(~known))["status"].to_pylist())
    table = table.filter(pa.array(known))
    uris, digests = table["uri"].to_pylist(), table["digest"].to_pylist()
    inside = [row for row, uri in enumerate(uris) if needs_picture(uri)]
    paths: list[Path | None] = [None if needs_picture(uri) else _served_path(uri) for uri in uris]
    if inside:
        images = [(uris[row], digests[row]) for row in inside]
        written = write_pictures(run.local_path("pictures"), images, threads=settings.thread_count)
        for row, path in zip(inside, written, strict=True):
            paths[row] = path
    found = [row for row, path in enumerate(paths) if path is not None and path.is_file()]
    skipped["missing file"] += len(paths) - len(found)
    return table.take(found) if found else table.slice(0, 0), [str(paths[row]) for row in found], +skipped


def _served_path(uri: str) -> Path:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri).absolute()
    if scheme in ("file", "local"):
        return Path(rest).absolute()
    raise UserError(
        f"the App cannot show {uri}: it serves images from a local disk only; copy or mount them to a local folder "
        "(rclone, `aws s3 sync`), set dataset.path to it and run again"
    )


def _outside(run: Run, method: str) -> MapStore | None:
    """The maps of the outside; an array without probes of it is of an earlier run, which asked for it."""
    if "label" not in run.targets(outside_maps_of(method)):
        return None
    asked = run.dataset("explain", method).count_rows(pc.is_valid(pc.field("p_hide_outside_map")))
    return run.outside_maps("label", method) if asked else None


def _of(table: pa.Table, only: frozenset[str] | None) -> pa.Table:
    """The rows of the samples ``only``; all if that is None."""
    return table if only is None else table.filter(pc.is_in(table["sample_id"], pa.array(sorted(only), pa.string())))


def _measured(run: Run, method: str, target: str, samples: Sequence[Sample]) -> pa.Table:
    keys = pa.array([sample.key for sample in samples], pa.string())
    columns: dict[str, pa.ChunkedArray] = {}
    for name in ("explain", "scores"):
        if not run.has_table(name):
            continue
        where = (pc.field("method") == method) & (pc.field("target") == target)
        table = run.table(name, without_vectors(SCHEMAS[name]), where)
        # Rows of the samples in their order; a null index takes a row of nulls.
        table = table.take(pc.index_in(keys, table["sample_id"].combine_chunks()))
        for column in table.column_names:
            if column not in _KEYS:
                columns[f"{name}_{column}" if column in ("status", "reason") else column] = table[column]
    return pa.table(columns)


def _other_class(measured: dict[str, pa.Table], count: int) -> NDArray[np.bool_]:
    if len(measured) < len(TARGETS):
        return np.zeros(count, dtype=bool)
    label, predicted = (measured[target]["class_index"] for target in TARGETS)
    other = pc.fill_null(pc.not_equal(label, predicted), True)
    return np.asarray(pc.and_(other, pc.is_valid(predicted)).to_numpy(), dtype=bool)


def _findings(run: Run, method: str, only: frozenset[str] | None) -> dict[str, list[Finding]]:
    """Findings by sample, flags first, then by severity; the worst target speaks for a rule."""
    if not run.has_table("findings"):
        return {}
    table = _of(run.table("findings").filter(pc.field("method") == method), only)
    found: dict[str, list[Finding]] = defaultdict(list)
    for key, finding in findings_in(table):
        if all(finding.rule != earlier.rule for earlier in found[key]):
            found[key].append(finding)
    return dict(found)


def _cues(run: Run, method: str) -> list[Cue]:
    """Cues of a method, strong ones first, then by cost; without findings the table is of an earlier audit."""
    if not run.has_table("cues") or not run.has_table("findings"):
        return []
    found = [
        Cue(
            row["cue_id"],
            tuple(found["label"] for found in row["classes"]),
            row["mean_drop"],
            tuple(row["sample_ids"]),
            row["weak"],
            row["name"],
        )
        for row in read_cues(run, method)
    ]
    return sorted(found, key=lambda cue: cue.weak is not None)
