"""The scores of one part of ``explain``: the work of one task."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.geometry import Boxes, Geometry, ViewTransform
from stages.score.boxacc import NOTHING_FOUND, FoundCounts, count_found, threshold_ious
from stages.score.localization import pad_boxes, pixel_runs
from stages.score.measures import measure_maps, measure_probes, zero
from stages.score.metrics import BOX_COUNTS, BOX_METRICS, encode_counts
from stages.score.ratio import Maps, Values, mass
from stages.score.settings import ScoreSettings
from storage import MapStore, Run, SightlineError
from storage.columns import columns_of
from storage.maps import combined_checksum
from storage.run import MADE_FROM, ROWS_DIGEST, Part, seal
from storage.samples import bytes_digest, is_correct, other_boxes, own_boxes, own_mask, truth_of
from storage.tables import EXPLAIN, SCORES, without_vectors

SCORE_VERSION = 7
"""Raised by hand when a score changes its meaning; scores of another version are made again."""

UNINFORMATIVE_AREA = 0.8
"""Boxes that cover more than this share of the view say nothing: ``box_uninformative``."""

BATCH = 32
"""Rows scored at a time: few enough for their maps at the view's resolution to stay in a core's reach."""

_SAMPLE_COLUMNS = ["row", "label", "class_index", "other_classes", "width", "height", "boxes"]
_WITH_MAP = ("ok", "degenerate_map")
"""Statuses of rows of ``explain`` that have a map."""

_Counts = defaultdict[str, dict[str, FoundCounts]]
Stores = Mapping[str, MapStore]
"""The maps of a method, by target."""


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
    """The boxes and masks of some samples, each its label's, laid into the view."""

    boxes: Boxes
    places: Boxes
    """Where a maximum lies on the object: see :func:`stages.score.localization.pointing_distance`."""
    coverage: NDArray[np.float32]
    others: NDArray[np.float32]
    """Share of each pixel that is another class's object."""
    kept: Values
    given: NDArray[np.int32]
    visible: NDArray[np.int32]


@dataclass(frozen=True)
class _Grids:
    """The maps of a part as they are stored: (rows, h, w) of each target, from row ``first`` on."""

    first: int
    raw: dict[str, NDArray[np.float32]]
    stores: Stores


def score_part(run: Run, explained: Part, samples: pa.Table, settings: ScoreSettings) -> Counter[str]:
    """Score the rows of a part of ``explain`` and commit them; returns how many have which status.

    ``samples`` are those of the part's rows (:func:`samples_of`).

    Raises SightlineError, and removes the part of ``explain``, where the maps are not those that it vouches for.
    """
    vouched = run.part_metadata(explained) or {}
    rows = run.read_part(explained, without_vectors(EXPLAIN))
    rows = rows.sort_by([("row", "ascending"), ("target", "ascending")])
    stores = map_stores(run, explained.method)
    counts: _Counts = defaultdict(lambda: dict.fromkeys(BOX_METRICS, NOTHING_FOUND))
    batches = [SCORES.empty_table()]  # all that there is where every sample of the shard has left the dataset
    if rows.num_rows:
        grids = _read_grids(run, explained, vouched, rows, stores)
        view = _view_of(grids.stores, explained)
        batches += [
            _score_rows(rows.slice(start, BATCH), samples, grids, view, settings, counts)
            for start in range(0, rows.num_rows, BATCH)
        ]
    table = pa.concat_tables(batches)
    origin = Origin(run, explained, vouched, samples, stores, settings)
    fingerprint = origin.fingerprint()
    sources = {"fingerprint": fingerprint, "seen": origin.seen(fingerprint), MADE_FROM: seal(vouched)}
    run.write_part(scores_of(explained), table, {**sources, BOX_COUNTS: encode_counts(counts)})
    return Counter(table["status"].to_pylist())


def scores_of(explained: Part) -> Part:
    """The part of ``scores`` that is made from a part of ``explain``."""
    return Part("scores", explained.method, explained.index)


def samples_of(run: Run, explained: Part, vouched: Mapping[str, str], samples: pa.Table) -> pa.Table:
    """The samples of a part of ``explain`` with this metadata, of the run's table, whose row k is the k-th."""
    if "rows" in vouched:
        start, stop = map(int, vouched["rows"].split(":"))
        return samples.slice(start, stop - start)
    rows = run.read_part(explained, ["row"])["row"].unique()  # a part of an earlier version
    places = pc.index_in(rows, value_set=samples["row"])
    if places.null_count:
        missing = rows.filter(pc.is_null(places))[0].as_py()
        raise SightlineError(f"{explained.path}: row {missing} is not in samples.parquet; run the pipeline again")
    return samples.take(places)


def map_stores(run: Run, method: str) -> Stores:
    """The maps of a method by target, opened."""
    return {target: run.maps(target, method) for target in run.targets(method)}


@dataclass(frozen=True)
class Origin:
    """Everything that the scores of a part of ``explain`` are made from."""

    run: Run
    explained: Part
    vouched: Mapping[str, str]
    """What the part says of itself in its metadata."""
    samples: pa.Table
    stores: Stores
    settings: ScoreSettings

    def fingerprint(self) -> str:
        """Digest of all of it."""
        return self._digest(truth_of(self.samples, _SAMPLE_COLUMNS))

    def seen(self, fingerprint: str) -> str:
        """Digest that scores with this fingerprint have of the same, without a look at each of the samples.

        Where scores have another one, their fingerprint has to be compared.
        """
        own = self._digest(bytes_digest(self.samples, [*_SAMPLE_COLUMNS, "mask"]))
        return hashlib.sha256(f"{own} {fingerprint}".encode()).hexdigest()

    def _digest(self, samples: Any) -> str:
        vouched = self.vouched
        targets = vouched["targets"].split(",") if "targets" in vouched else self.stores
        made_from = {
            "version": SCORE_VERSION,
            # A part of an earlier version has no digest of its rows.
            "explain": vouched.get(ROWS_DIGEST)
            or hashlib.sha256(self.run.directory.read(self.explained.path)).hexdigest(),
            "samples": samples,
            "view": {target: asdict(_view(store)) for target, store in self.stores.items() if target in targets},
            "settings": asdict(self.settings),
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _view(store: MapStore) -> _View:
    view = store.attributes
    return _View(view.geometry, view.size, view.resize or view.size)


def _view_of(stores: Stores, part: Part) -> _View:
    views = {_view(store) for store in stores.values()}
    if len(views) != 1:
        raise SightlineError(f"{part.path}: its targets' maps differ in geometry: {sorted(map(str, views))}")
    return views.pop()


def _read_grids(run: Run, explained: Part, vouched: Mapping[str, str], rows: pa.Table, stores: Stores) -> _Grids:
    """The maps of a part's rows, read once, and compared with what the part vouches for."""
    region = pc.min_max(rows["row"]).as_py()
    first, stop = region["min"], region["max"] + 1
    targets = rows["target"].unique().to_pylist()
    if "targets" in vouched:
        first, stop = map(int, vouched["rows"].split(":"))
        targets = vouched["targets"].split(",")
    own = {target: stores.get(target) or run.maps(target, explained.method) for target in targets}
    raw = {target: store.read(slice(first, stop)) for target, store in own.items()}
    if "targets" in vouched and combined_checksum(raw.values()) != vouched["maps_checksum"]:
        run.discard_part(explained)  # the start of a run reads no maps, and would take the shard for done
        raise SightlineError(
            f"{explained.path}: the maps of its rows in maps.zarr/{explained.method} were not those it vouched for; it "
            f"is removed, and a run with explain.method: {explained.method} makes both again"
        )
    return _Grids(first, raw, own)


def _score_rows(
    rows: pa.Table, samples: pa.Table, grids: _Grids, view: _View, settings: ScoreSettings, counts: _Counts
) -> pa.Table:
    """The scores of some rows of ``explain``, as a table of the schema ``scores``; ``counts`` is added to.

    Where two targets are one class their maps are one map, which is measured once.
    """
    distinct, own = np.unique(rows["row"].to_numpy(), return_inverse=True)
    listed = samples.take(pc.index_in(pa.array(distinct), value_set=samples["row"])).to_pylist()
    placed = _place(listed, view)
    its = [listed[place] for place in own.tolist()]
    correct = _correct(its, rows["pred_index"].to_pylist())
    targets = rows["target"].to_numpy()
    probes = {
        column.name: rows[column.name].to_numpy().astype(np.float64)
        for column in columns_of("explain")
        if column.kind == "real"
    }

    raw = _raw_maps(rows, grids)
    first, like = _distinct(own, raw, correct, probes["p_crop"])
    maps = _in_view(raw[first], targets[first], grids.stores, view)
    shown = own[first]
    boxes, others = placed.boxes[shown], placed.others[shown] if placed.others.any() else None
    measured = measure_maps(
        maps, placed.coverage[shown], boxes, correct[first], probes["p_crop"][first], placed.places[shown], others
    )
    if settings.box_accuracy:
        _count_boxes(maps, boxes, like, targets, counts)

    values = {name: column[like] for name, column in measured.items()}
    values |= measure_probes(probes) | {"box_kept_frac": placed.kept[own]}
    columns: dict[str, Any] = {name: rows[name] for name in ("sample_id", "row", "target", "method")}
    columns |= _verdicts(rows, its, placed, own, values["box_area_frac"], zero(maps)[like])
    columns |= {name: _nullable(column, SCORES.field(name).type) for name, column in values.items()}
    columns["n_boxes"] = placed.visible[own]
    return pa.table([columns[name] for name in SCORES.names], names=SCORES.names).cast(SCORES)


def _verdicts(
    rows: pa.Table,
    samples: list[dict[str, Any]],
    placed: _Placed,
    own: NDArray[np.intp],
    areas: Values,
    empty: NDArray[np.bool_],
) -> dict[str, list[Any]]:
    """The columns ``status``, ``reason`` and ``evaluable`` of rows of ``explain``, each given with its sample.

    ``own`` are the places of these among the samples ``placed``. ``areas``: shares of the view that boxes cover.
    """
    of_another_sample = [
        index in (sample["other_classes"] or ())
        for sample, index in zip(samples, rows["class_index"].to_pylist(), strict=True)
    ]
    verdicts = [
        _status(*facts)
        for facts in zip(
            rows["status"].to_pylist(),
            rows["reason"].to_pylist(),
            empty.tolist(),
            of_another_sample,
            placed.given[own].tolist(),
            placed.visible[own].tolist(),
            areas.tolist(),
            (mass(placed.others) > 0)[own].tolist(),
            strict=True,
        )
    ]
    return {
        "status": [status for status, _ in verdicts],
        "reason": [reason for _, reason in verdicts],
        "evaluable": [status == "ok" for status, _ in verdicts],
    }


def _place(samples: list[dict[str, Any]], view: _View) -> _Placed:
    count = len(samples)
    coverage = np.zeros((count, view.size, view.size), dtype=np.float32)
    others = np.zeros_like(coverage)
    kept = np.full(count, np.nan)
    given = np.zeros(count, dtype=np.int32)
    visible: list[Boxes] = [np.empty((0, 4))] * count
    places = visible.copy()
    for place, sample in enumerate(samples):
        boxes = own_boxes(sample)
        if boxes and sample["width"] and sample["height"]:
            transform, mask = view.transform(sample["width"], sample["height"]), own_mask(sample)
            given[place] = len(boxes)
            visible[place] = transform.visible_boxes(boxes)
            coverage[place] = transform.coverage(boxes, mask)
            others[place] = transform.coverage_of_others(other_boxes(sample), boxes, mask)
            places[place] = visible[place] if mask is None else pixel_runs(coverage[place])
            kept[place] = transform.kept_fraction(boxes)
    counts = np.array([len(boxes) for boxes in visible], dtype=np.int32)
    return _Placed(pad_boxes(visible), pad_boxes(places), coverage, others, kept, given, counts)


def _raw_maps(rows: pa.Table, grids: _Grids) -> NDArray[np.float32]:
    """The stored maps (N, h, w) of rows of ``explain``; NaN where it vouches for none."""
    row, target = rows["row"].to_numpy() - grids.first, rows["target"].to_numpy()
    raw = np.full((len(row), *next(iter(grids.raw.values())).shape[1:]), np.nan, dtype=np.float32)
    with_map = np.isin(rows["status"].to_numpy(), _WITH_MAP)
    for name, maps in grids.raw.items():
        wanted = (target == name) & with_map
        raw[wanted] = maps[row[wanted]]
    return raw


def _in_view(raw: Maps, targets: NDArray[Any], stores: Stores, view: _View) -> NDArray[np.float32]:
    """Stored maps at the view's resolution in [0, 1], each as the array of its target says; NaN stays."""
    maps = np.full((len(raw), view.size, view.size), np.nan, dtype=np.float32)
    known = ~np.isnan(raw).all(axis=(1, 2))
    for name, store in stores.items():
        wanted = (targets == name) & known
        if wanted.any():
            maps[wanted] = store.in_view(raw[wanted])
    return maps


def _distinct(*columns: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of rows that are the same in all columns, byte by byte, the first one; and for each row its place among these."""
    places: dict[tuple[bytes, ...], int] = {}
    keys = [tuple(column[row].tobytes() for column in columns) for row in range(len(columns[0]))]
    like = np.array([places.setdefault(key, len(places)) for key in keys])
    return np.unique(like, return_index=True)[1], like


def _count_boxes(maps: Maps, boxes: Boxes, like: NDArray[np.intp], targets: NDArray[Any], counts: _Counts) -> None:
    ious = threshold_ious(maps, boxes)
    for target in sorted(set(targets)):
        own = like[targets == target]
        for metric, found in zip(BOX_METRICS, (ious.largest, ious.every), strict=True):
            counts[target][metric] += count_found(found[own])


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
    beside: bool,
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
    if not visible or np.isnan(area):
        what = f"none of {given} boxes" if not visible else "nothing of the mask"
        return "box_outside_view", f"the view shows {what}"
    if area > UNINFORMATIVE_AREA:
        what = "what of the view no other class's object covers" if beside else "the view"
        return "box_uninformative", f"the boxes cover {area:.0%} of {what}"
    return "ok", None


def _nullable(values: Values, kind: pa.DataType) -> pa.Array:
    """NaN to null, in the column's type."""
    undefined = np.isnan(values)
    if pa.types.is_boolean(kind):
        return pa.array(values > 0, mask=undefined)
    return pa.array(values, mask=undefined).cast(kind)
