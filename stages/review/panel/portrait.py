"""All that a run says of one sample: numbers, words and pictures, as the review panel shows them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from stages.geometry import Interpolation, ViewTransform, fitted
from stages.review.dataset.contents import Finding, findings_in
from stages.review.panel.meaning import Meaning, meaning
from stages.review.panel.picture import (
    LEVELS,
    contours,
    data_uri,
    far_outside,
    heat,
    hide,
    masked_views,
    shares_above,
    tenth_outside,
    window_outside,
)
from stages.words import p
from storage.columns import columns_of
from storage.errors import UserError
from storage.maps import MapStore
from storage.media.images import ImageError
from storage.media.object_masks import ObjectMask
from storage.run import Run, class_name
from storage.samples import Edges, edges, is_correct, other_boxes, own_boxes, own_mask, read_unchanged
from storage.tables import SCHEMAS, without_vectors

LONG_SIDE = 640
"""Long side of the picture, px."""


@dataclass(frozen=True)
class Portrait:
    """A sample through one method and target."""

    run: str
    """Where the run is."""
    sample_id: str
    digest: str | None
    method: str
    target: str
    label: str | None
    explained: str
    """The class that the map and the probes are about."""
    predicted: str | None
    confidence: float | None
    correct: bool | None
    status: str
    """``ok`` if there is a map."""
    reason: str | None
    probes: Mapping[str, float | None]
    """p of the explained class by column of ``explain``, those with a caption; None where undefined."""
    words: Meaning
    """The probes in words."""
    width: int
    height: int
    boxes: tuple[Edges, ...]
    """Ground-truth boxes of the label, image px."""
    others: tuple[Edges, ...]
    """Those of other classes' objects."""
    mask: ObjectMask | None
    """The pixels of the image that are its objects; None where the boxes say it."""
    hidden_box: Edges | None
    """Largest part that was hidden for p_hide_outside, image px."""
    hide_locator: str | None
    """Who proposed that part: the method, outside_map, grad_cam or scan."""
    scan_box: Edges | None
    """Window of the scan that lowers p most, image px."""
    view: ViewTransform
    saliency: NDArray[np.float32] | None
    """The map in [0, 1] at the network's input, (H, W); None if there is none."""
    outside: NDArray[np.float32] | None
    """The map of what outside the boxes carries the class, likewise; None unless that proposed what was hidden."""
    uri: str
    interpolation: Interpolation


def captions() -> dict[str, str]:
    """The probes that are shown, and what the network saw for each."""
    return {column.name: column.caption for column in columns_of("explain") if column.caption}


def portray(run: Run, sample_id: str, *, method: str, target: str) -> Portrait:
    """What the run says of a sample, in words that follow the findings of its audit.

    Raises UserError for a sample, method or target that it lacks.
    """
    sample = _sample(run, sample_id)
    if target not in run.targets(method):
        raise UserError(f"{run.url} has no maps {method}/{target}; it has {', '.join(_choices(run)) or 'none'}")
    maps = run.maps(target, method)
    explained = _explained(run, sample, method, target)
    width, height = sample["width"] or 1, sample["height"] or 1
    attributes = maps.attributes
    names = attributes.class_names
    predicted, own = explained.get("pred_index"), explained.get("class_index")
    locator = explained.get("hide_locator")
    probes = {name: _number(explained.get(name)) for name in captions()}
    name = (None if own is None else class_name(names, own)) or sample["label"] or "the class"
    seen_as = None if predicted is None else class_name(names, predicted)
    return Portrait(
        run=run.url,
        sample_id=sample_id,
        digest=sample["digest"],
        method=method,
        target=target,
        label=sample["label"],
        explained=name,
        predicted=seen_as,
        confidence=_number(explained.get("pred_prob")),
        correct=is_correct(sample, predicted),
        status=explained.get("status") or sample["status"],
        reason=explained.get("reason") or sample["reason"],
        probes=probes,
        words=meaning(probes, name, _rules_that_found(run, sample, method, target, predicted), predicted=seen_as),
        width=width,
        height=height,
        boxes=tuple(own_boxes(sample)),
        others=tuple(other_boxes(sample)),
        mask=own_mask(sample),
        hidden_box=_edges(explained.get("hidden_box")),
        hide_locator=locator,
        scan_box=_edges(explained.get("scan_box")),
        view=ViewTransform.of_maps(attributes, width, height),
        saliency=_saliency(maps, sample["row"]),
        outside=_saliency(run.outside_maps(target, method), sample["row"]) if locator == "outside_map" else None,
        uri=sample["uri"],
        interpolation=attributes.interpolation,
    )


def as_shown(portrait: Portrait) -> dict[str, Any]:
    """The portrait as plain JSON with its pictures as data URIs; without the image's where it cannot be read."""
    shown = {
        name: getattr(portrait, name)
        for name in (
            *("run", "sample_id", "digest", "method", "target", "label", "explained", "predicted"),
            *("correct", "status", "reason", "width", "height", "hidden_box", "hide_locator"),
        )
    }
    shown["words"] = portrait.words._asdict()
    shown["confidence"] = p(portrait.confidence)
    shown["boxes"] = [list(box) for box in portrait.boxes]
    shown["view_box"] = list(portrait.view.view_box)
    shown["outline"] = None
    if portrait.mask is not None:
        (shown["outline"],) = contours(portrait.view.coverage(portrait.boxes, portrait.mask), portrait.view, [0.5])
    shown["levels"] = list(LEVELS)
    shown["problem"], image = None, None
    try:
        image = read_unchanged({"uri": portrait.uri, "digest": portrait.digest})
    except ImageError as error:
        shown["problem"] = f"the image cannot be shown: {error}"
    saliency, view = portrait.saliency, portrait.view
    pictures: dict[str, str] = {}
    if image is not None:
        shown["image"] = data_uri(np.asarray(image.resize(fitted(*image.size, LONG_SIDE)[::-1])), "JPEG")
        pictures = {name: data_uri(seen, "JPEG") for name, seen in _seen(portrait, image).items()}
    if saliency is not None:
        shown["heat"] = data_uri(heat(saliency, view, fitted(portrait.width, portrait.height, LONG_SIDE)))
        shown["contours"] = contours(saliency, view)
        shown["shares"] = shares_above(saliency)
        shown["map"] = {
            "float32": base64.b64encode(saliency.astype("<f4").tobytes()).decode(),
            "width": view.view_width,
            "height": view.view_height,
            "scale": [view.scale_x, view.scale_y],
            "offset": [view.offset_x, view.offset_y],
        }
    shown["probes"] = [
        {
            "name": name,
            "label": label,
            "value": portrait.probes[name],
            "text": p(portrait.probes[name]),
            "picture": pictures.get(name),
        }
        for name, label in captions().items()
    ]
    return shown


def findings_of(run: Run, sample_id: str, method: str) -> list[Finding]:
    """What rules found in a sample by a method, by all targets: evidence first, then by severity."""
    if not run.has_table("findings"):
        return []
    table = _table(run, "findings")
    mask = pc.and_(pc.equal(table["sample_id"], sample_id), pc.equal(table["method"], method))
    return [finding for _, finding in findings_in(table.filter(mask))]


def _rules_that_found(
    run: Run, sample: Mapping[str, Any], method: str, target: str, predicted: int | None
) -> set[str] | None:
    """The rules with a finding on a map; None where the run was not audited.

    Where two targets explain one class, their maps are one, and its findings are told of the first target.
    """
    if not run.has_table("findings"):
        return None
    both = predicted is not None and predicted == sample["class_index"]
    targets = {target, "label", "predicted"} if both and target in ("label", "predicted") else {target}
    return {found.rule for found in findings_of(run, sample["sample_id"], method) if found.target in targets}


def _seen(portrait: Portrait, image: Image.Image) -> dict[str, NDArray[np.uint8]]:
    """What the network was shown, by probe. What a Grad-CAM had hidden is not known: its map is not stored."""
    saliency, view = portrait.saliency, portrait.view
    whole = view.render(image, portrait.interpolation)
    coverage = view.coverage(portrait.boxes, portrait.mask) if portrait.boxes else None
    if coverage is None:
        return masked_views(whole, saliency, None)
    # Other classes' objects are neither kept nor hidden.
    others = view.coverage_of_others(portrait.others, portrait.boxes, portrait.mask)
    covered = coverage + others
    seen = masked_views(whole, saliency, coverage, others)
    seen["p_hide_context"] = hide(whole, 1 - covered)
    seen["p_hide_far"] = hide(whole, far_outside(coverage) * (1 - others))
    chosen = {portrait.method: saliency, "outside_map": portrait.outside}.get(portrait.hide_locator or "")
    if chosen is not None:
        seen["p_hide_outside"] = hide(whole, tenth_outside(chosen, covered))
    elif portrait.scan_box is not None and portrait.hide_locator == "scan":
        seen["p_hide_outside"] = hide(whole, window_outside(portrait.scan_box, view, covered))
    return seen


def choices(run: Run) -> list[dict[str, str]]:
    """Methods and targets that the run has maps of."""
    return [{"method": method, "target": target} for method in run.methods() for target in run.targets(method)]


def _choices(run: Run) -> list[str]:
    return [f"{choice['method']}/{choice['target']}" for choice in choices(run)]


def _sample(run: Run, sample_id: str) -> dict[str, Any]:
    table = _table(run, "samples")
    found: list[dict[str, Any]] = table.filter(pc.equal(table["sample_id"], sample_id)).to_pylist()
    if not found:
        raise UserError(f"{run.url} has no sample {sample_id!r}")
    return found[0]


def _explained(run: Run, sample: Mapping[str, Any], method: str, target: str) -> dict[str, Any]:
    """The sample's row of ``explain``; empty if it was not explained."""
    where = (pc.field("row") == sample["row"]) & (pc.field("target") == target)
    # A part holds a fixed range of rows: the sample's own is asked first, which spares a large run.
    own = sample["row"] // run.info.section("explain").get("shard_size", 1)
    for part in sorted(run.parts("explain", method), key=lambda part: part.index != own):
        rows: list[dict[str, Any]] = run.read_part(part, without_vectors(SCHEMAS["explain"]), where).to_pylist()
        if rows:
            return rows[0]
    return {}


def _saliency(maps: MapStore, row: int) -> NDArray[np.float32] | None:
    if row >= maps.shape[0]:
        return None
    saliency: NDArray[np.float32] = maps.read([row], size=maps.view_size)[0]
    return saliency if np.isfinite(saliency).all() else None


def _table(run: Run, name: str) -> pa.Table:
    """A whole table of a local run, kept in memory until its file changes: a reviewer asks for sample after sample."""
    path = run.local_path(f"{name}.parquet")
    if not path.exists():
        return run.table(name)
    stamp = path.stat()
    return _kept(run.url, name, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=6)
def _kept(url: str, name: str, modified: int, size: int) -> pa.Table:
    return Run.open(url).table(name)


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _edges(region: Mapping[str, float] | None) -> Edges | None:
    return None if region is None else edges(region)
