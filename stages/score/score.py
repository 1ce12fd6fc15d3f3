"""The score stage: maps, boxes and probes of a run to its table ``scores``, a part beside each part of ``explain``."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.geometry import Boxes, Geometry, ViewTransform
from stages.score.boxacc import NOTHING_FOUND, FoundCounts, count_found, threshold_ious
from stages.score.localization import pad_boxes
from stages.score.measures import measure_maps, measure_probes, zero
from stages.score.metrics import BOX_COUNTS, BOX_METRICS, encode_counts, metrics_table
from stages.score.ratio import Maps, Values
from stages.score.settings import ScoreSettings
from storage import MapStore, Run, SightlineError
from storage.columns import columns_of
from storage.run import MADE_FROM, ROWS_DIGEST, Part, seal
from storage.samples import is_correct, own_boxes
from storage.tables import SCORES, decode

SCORE_VERSION = 6
"""Raised by hand when a score changes its meaning; scores of another version are made again."""

UNINFORMATIVE_AREA = 0.8
"""Boxes that cover more than this share of the view say nothing: ``box_uninformative``."""

BATCH = 32
"""Rows scored at a time: few enough for their maps at the view's resolution to stay in a core's reach."""

_Counts = defaultdict[str, dict[str, FoundCounts]]

_SAMPLE_COLUMNS = ["row", "label", "class_index", "other_classes", "width", "height", "boxes"]


@dataclass(frozen=True)
class ScoreReport:
    """What the stage did."""

    parts: int
    """Parts that were scored."""
    skipped: int
    """Parts that were up to date."""
    rows: int
    """Rows in the parts that were scored."""
    statuses: dict[str, int]
    """Rows in the parts that were scored, by status."""
    seconds: float


@dataclass(frozen=True)
class _View:
    """What the maps of a method say about the network's view."""

    geometry: Geometry
    size: int
    resize: int

    def transform(self, width: int, height: int) -> ViewTransform:
        return ViewTransform.make(self.geometry, width, height, self.size, self.resize)


@dataclass(frozen=True)
class _Placed:
    """The boxes of some samples, each its label's, laid into the view."""

    boxes: Boxes
    coverage: NDArray[np.float32]
    kept: Values
    given: NDArray[np.int32]
    visible: NDArray[np.int32]

    def take(self, index: NDArray[np.intp]) -> _Placed:
        return _Placed(
            self.boxes[index], self.coverage[index], self.kept[index], self.given[index], self.visible[index]
        )


def score(
    run: Run,
    settings: ScoreSettings,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> ScoreReport:
    """Score every committed part of ``explain``, then write ``metrics``; what is up to date is left alone.

    A part is up to date if nothing it was made from has changed: the part of ``explain`` (which vouches for its
    maps), the samples' boxes and labels, the settings, ``SCORE_VERSION``. Scores whose part of ``explain`` is gone are
    removed. ``metrics`` is removed before any part changes, and made where it is missing. ``progress`` is called with
    the parts done and their number. ``workers`` threads share the work, by default one a core.
    """
    began = time.perf_counter()
    samples = run.table("samples", _SAMPLE_COLUMNS)
    explained = list(run.parts("explain"))
    current = {(part.method, part.index) for part in explained}
    for part in list(run.parts("scores")):
        if (part.method, part.index) not in current:
            run.discard_table("metrics")
            run.discard_part(part)
    statuses: Counter[str] = Counter()
    scored = 0
    stores = {
        method: {target: run.maps(target, method) for target in run.targets(method)}
        for method in {part.method for part in explained}
    }
    pool = ThreadPoolExecutor(workers or _cores(), thread_name_prefix="score")
    try:
        waiting = [pool.submit(_score_part, run, part, samples, settings, stores[part.method]) for part in explained]
        for done, future in enumerate(as_completed(waiting), start=1):
            counted = future.result()
            if counted is not None:
                scored += 1
                statuses.update(counted)
            if progress is not None:
                progress(done, len(waiting))
    finally:
        pool.shutdown(cancel_futures=True)
    if not run.has_table("metrics"):
        run.write_table("metrics", metrics_table(run))
    return ScoreReport(
        parts=scored,
        skipped=len(explained) - scored,
        rows=statuses.total(),
        statuses=dict(statuses),
        seconds=time.perf_counter() - began,
    )


def _score_part(
    run: Run, explained: Part, samples: pa.Table, settings: ScoreSettings, all_stores: dict[str, MapStore]
) -> Counter[str] | None:
    """Score one part of ``explain`` and commit it; None if its scores are up to date, as the footers of both say.

    ``samples`` is the run's table, row k the k-th; ``all_stores`` are the method's maps by target. Returns the number
    of rows by status.
    """
    part = Part("scores", explained.method, explained.index)
    stored, vouched = run.part_metadata(part), run.part_metadata(explained) or {}
    known = {"rows", ROWS_DIGEST} <= vouched.keys()  # a part of an earlier version has to be read
    if known:
        start, stop = map(int, vouched["rows"].split(":"))
        views = {target: asdict(_view(store)) for target, store in all_stores.items()}
        fingerprint = _fingerprint(vouched[ROWS_DIGEST], samples.slice(start, stop - start), views, settings)
        if stored is not None and stored.get("fingerprint") == fingerprint:
            return None
    content = run.directory.read(explained.path)
    rows = decode(content).sort_by([("row", "ascending"), ("target", "ascending")])
    if not rows.num_rows:  # every sample of the shard has left the dataset
        if stored is not None:
            run.discard_table("metrics")
            run.discard_part(part)
        return None
    own = _samples_of(samples, rows["row"].unique(), explained)
    stores = {
        target: all_stores.get(target) or run.maps(target, explained.method)
        for target in rows["target"].unique().to_pylist()
    }
    view = _view_of(stores, explained)
    if not known:
        fingerprint = _fingerprint(hashlib.sha256(content).hexdigest(), own, asdict(view), settings)
    if stored is not None and stored.get("fingerprint") == fingerprint:
        return None
    if not run.has_maps(explained.method, vouched):
        run.discard_part(explained)  # the start of a run reads no maps, and would take the shard for done
        raise SightlineError(
            f"{explained.path}: the maps of its rows in maps.zarr/{explained.method} were not those it vouched for; it "
            f"is removed, and a run with explain.method: {explained.method} makes both again"
        )
    counts: _Counts = defaultdict(lambda: dict.fromkeys(BOX_METRICS, NOTHING_FOUND))
    batches = [
        _score_rows(rows.slice(start, BATCH), own, stores, view, settings, counts)
        for start in range(0, rows.num_rows, BATCH)
    ]
    table = pa.concat_tables([SCORES.empty_table(), *batches])
    run.discard_table("metrics")
    sources = {"fingerprint": fingerprint, MADE_FROM: seal(vouched)}
    run.write_part(part, table, {**sources, BOX_COUNTS: encode_counts(counts)})
    return Counter(table["status"].to_pylist())


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _samples_of(samples: pa.Table, rows: pa.Array, part: Part) -> pa.Table:
    """The samples of some rows, in their order."""
    places = pc.index_in(rows, value_set=samples["row"])
    if places.null_count:
        missing = rows.filter(pc.is_null(places))[0].as_py()
        raise SightlineError(f"{part.path}: row {missing} is not in samples.parquet; run the pipeline again")
    return samples.take(places)


def _view(store: MapStore) -> _View:
    view = store.attributes
    return _View(view.geometry, view.size, view.resize or view.size)


def _view_of(stores: dict[str, MapStore], part: Part) -> _View:
    views = {_view(store) for store in stores.values()}
    if len(views) != 1:
        raise SightlineError(f"{part.path}: its targets' maps differ in geometry: {sorted(map(str, views))}")
    return views.pop()


def _fingerprint(explain: str, samples: pa.Table, view: dict[str, Any], settings: ScoreSettings) -> str:
    """Digest of everything the scores of a part are made from; ``explain`` is that of the part of explain."""
    made_from = {
        "version": SCORE_VERSION,
        "explain": explain,
        "samples": samples.to_pylist(),
        "view": view,
        "settings": asdict(settings),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _score_rows(
    rows: pa.Table,
    samples: pa.Table,
    stores: dict[str, MapStore],
    view: _View,
    settings: ScoreSettings,
    counts: _Counts,
) -> pa.Table:
    """The scores of some rows of ``explain``, as a table of the schema ``scores``; ``counts`` is added to."""
    distinct, own = np.unique(rows["row"].to_numpy(), return_inverse=True)
    own_samples = samples.take(pc.index_in(pa.array(distinct), value_set=samples["row"]))
    listed = own_samples.to_pylist()
    placed = _place(listed, view).take(own)
    maps = _read_maps(rows, stores)
    probes = {
        column.name: rows[column.name].to_numpy().astype(np.float64)
        for column in columns_of("explain")
        if column.kind == "real"
    }
    its = [listed[place] for place in own.tolist()]
    correct = _correct(its, rows["pred_index"].to_pylist())
    elsewhere = [
        index in (sample["other_classes"] or ())
        for sample, index in zip(its, rows["class_index"].to_pylist(), strict=True)
    ]
    values = measure_maps(maps, placed.coverage, placed.boxes, correct, probes["p_crop"])
    values |= measure_probes(probes)
    values["box_kept_frac"] = placed.kept
    if settings.box_accuracy:
        _count_boxes(maps, placed.boxes, rows["target"].to_numpy(), counts)
    verdicts = [
        _status(status, reason, empty, other, given, visible, area)
        for status, reason, empty, other, given, visible, area in zip(
            rows["status"].to_pylist(),
            rows["reason"].to_pylist(),
            zero(maps).tolist(),
            elsewhere,
            placed.given.tolist(),
            placed.visible.tolist(),
            values["box_area_frac"].tolist(),
            strict=True,
        )
    ]
    columns: dict[str, Any] = {name: rows[name] for name in ("sample_id", "row", "target", "method")}
    columns["status"] = [status for status, _ in verdicts]
    columns["reason"] = [reason for _, reason in verdicts]
    columns["n_boxes"] = placed.visible
    columns["evaluable"] = [status == "ok" for status, _ in verdicts]
    columns |= {name: _nullable(column, SCORES.field(name).type) for name, column in values.items()}
    return pa.table([columns[name] for name in SCORES.names], names=SCORES.names).cast(SCORES)


def _count_boxes(maps: Maps, boxes: Boxes, targets: NDArray[Any], counts: _Counts) -> None:
    ious = threshold_ious(maps, boxes)
    for target in sorted(set(targets)):
        own = targets == target
        for metric, found in zip(BOX_METRICS, (ious.largest, ious.every), strict=True):
            counts[target][metric] += count_found(found[own])


def _place(samples: list[dict[str, Any]], view: _View) -> _Placed:
    count = len(samples)
    coverage = np.zeros((count, view.size, view.size), dtype=np.float32)
    kept = np.full(count, np.nan)
    given = np.zeros(count, dtype=np.int32)
    visible: list[Boxes] = [np.empty((0, 4))] * count
    for place, sample in enumerate(samples):
        boxes = own_boxes(sample)
        if boxes and sample["width"] and sample["height"]:
            transform = view.transform(sample["width"], sample["height"])
            given[place] = len(boxes)
            visible[place] = transform.visible_boxes(boxes)
            coverage[place] = transform.coverage(boxes)
            kept[place] = transform.kept_fraction(boxes)
    counts = np.array([len(boxes) for boxes in visible], dtype=np.int32)
    return _Placed(pad_boxes(visible), coverage, kept, given, counts)


def _read_maps(rows: pa.Table, stores: dict[str, MapStore]) -> NDArray[np.float32]:
    """Maps of the rows at the view's resolution; NaN where ``explain`` vouches for none."""
    row, target = rows["row"].to_numpy(), rows["target"].to_numpy()
    size = next(iter(stores.values())).view_size
    maps = np.full((len(row), *size), np.nan, dtype=np.float32)
    vouched = np.isin(rows["status"].to_numpy(), ["ok", "degenerate_map"])
    for name, store in stores.items():
        wanted = np.flatnonzero((target == name) & vouched)
        if len(wanted):
            maps[wanted] = store.read(row[wanted].tolist(), size)
    return maps


def _correct(samples: list[dict[str, Any]], predicted: list[int | None]) -> Values:
    """1, 0, or NaN where nobody can say whether the prediction is right."""
    return np.array([is_correct(*pair) for pair in zip(samples, predicted, strict=True)], dtype=np.float64)


def _status(
    explained: str,
    reason: str | None,
    is_zero: bool,
    is_another_sample: bool,
    given: int,
    visible: int,
    area: float,
) -> tuple[str, str | None]:
    """Why the scores of a row say less than they could, in a word and in words."""
    if explained != "ok":
        return explained, reason
    if is_zero:
        return "degenerate_map", "the map is zero everywhere"
    if is_another_sample:
        return "other_sample", "another sample of the image has this class, and is measured against its boxes"
    if not given:
        return "no_box", "no box bears the sample's label"
    if not visible:
        return "box_outside_view", f"the view shows none of {given} boxes"
    if area > UNINFORMATIVE_AREA:
        return "box_uninformative", f"the boxes cover {area:.0%} of the view"
    return "ok", None


def _nullable(values: Values, kind: pa.DataType) -> pa.Array:
    """NaN to null, in the column's type."""
    undefined = np.isnan(values)
    if pa.types.is_boolean(kind):
        return pa.array(values > 0, mask=undefined)
    return pa.array(values, mask=undefined).cast(kind)
