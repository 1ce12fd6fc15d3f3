"""What an explain task needs to know, and the fingerprints that say whether its work is already done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from stages.explain.donors import Donor
from stages.explain.methods.methods import optimizes, require, store_shape
from stages.explain.network.device import Device
from stages.explain.network.model import Classifier, ModelSettings, load_classifier
from stages.explain.network.view import ViewSettings
from stages.explain.opticam.layer import TargetLayer
from stages.explain.opticam.opticam import OUTSIDE, OptiCam
from stages.explain.probes.probes import OTHERS_VERSION, PROBES_VERSION
from stages.explain.settings import ExplainSettings, rank_of
from storage import Run
from storage.errors import UserError
from storage.maps import MapAttributes, combined_checksum, outside_maps_of
from storage.run import MAPS_CHECKSUM, OUTSIDE_CHECKSUM, Part
from storage.samples import bytes_digest, other_boxes, truth_of

EXPLAIN_VERSION = 1
"""Raised by hand when the code changes what a map is; a golden-output test guards it."""

DONORS_LACKING = "donors_lacking"
"""Entry of the metadata of a part that was made without some of the plan's donors, whose files could not be read: how
many. The file of a part that was made with all of them has no such entry."""

_OF_MAPS = ["row", "digest", "status", "class_index"]
_OF_BOXES = ["label", "boxes"]
"""Columns of the samples on which maps, and the probes of boxes, depend."""


@dataclass(frozen=True)
class ExplainPlan:
    """Everything a task needs beside its samples; picklable."""

    run_url: str
    model: ModelSettings
    view: ViewSettings
    explain: ExplainSettings
    layer: TargetLayer
    weights_digest: str
    class_names: tuple[str, ...]
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    rows: int
    device: Device = "auto"
    donors: tuple[Donor, ...] = ()
    """Samples whose objects are set into other samples' surroundings."""
    sigmoid: bool = False
    """Whether classes do not exclude each other; then p of every class is stored beside the probes."""

    def shard(self, index: int) -> range:
        """Rows of shard ``index``."""
        size = self.explain.shard_size
        return range(index * size, min((index + 1) * size, self.rows))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.explain.shard_size)

    def part(self, index: int) -> Part:
        """The commit of shard ``index``."""
        return Part("explain", self.explain.method, index)

    @property
    def store_shape(self) -> tuple[int, int]:
        """(h, w) of the maps as they are stored."""
        return store_shape(self.explain.method, self.layer, self.view.size)

    def basis(self, samples: pa.Table) -> str:
        """Digest of what the maps of every method are made from: network, layer, view, images, classes."""
        return self._basis(
            [
                # Boxes decide between `ok` and `no_box`, and never touch a map.
                [row["row"], row["digest"], row["class_index"], row["status"].replace("no_box", "ok")]
                for row in samples.select(_OF_MAPS).to_pylist()
            ]
        )

    def _basis(self, samples: Any) -> str:
        return _digest(
            {
                "version": EXPLAIN_VERSION,
                "source": self.model.source,
                "weights": self.weights_digest,
                "layer": asdict(self.layer),
                "view": asdict(self.view),
                "normalization": self.normalization,
                "samples": samples,
            }
        )

    def boxes(self, samples: pa.Table) -> str:
        """Digest of what the probes depend on beside the maps and the settings."""
        boxes = truth_of(samples, _OF_BOXES)
        return self._boxes(boxes, others=any(other_boxes(row) for row in boxes))

    def _boxes(self, boxes: Any, *, others: bool) -> str:
        made_from = {
            "version": PROBES_VERSION,
            "boxes": boxes,
            "donors": [donor.identity() for donor in self.donors],
        }
        return _digest(made_from | ({"others": OTHERS_VERSION} if others else {}))

    def fingerprints(self, samples: pa.Table) -> Fingerprints:
        """What the maps and the probes of these samples depend on."""
        found = self._fingerprints(self.basis(samples), self.boxes(samples))
        return replace(found, seen=self.seen(samples, found.probes))

    def _fingerprints(self, basis: str, boxes: str) -> Fingerprints:
        maps = _digest({"basis": basis, **self.explain.made_by()})
        asked = {name: getattr(self.explain, name) for name in ("outside", "scan", "curves")}
        if self.sigmoid:
            asked["sigmoid"] = True  # p of every class is stored beside the probes
        return Fingerprints(basis, boxes, maps, _digest({"maps": maps, "boxes": boxes, **asked}))

    def seen(self, samples: pa.Table, probes: str) -> str:
        """Digest that a part has whose fingerprint ``probes`` is of these samples, without a look at each of them.

        Where the part has another one, its fingerprint has to be compared.
        """
        basis = self._basis(bytes_digest(samples, _OF_MAPS))
        boxes = self._boxes(bytes_digest(samples, [*_OF_BOXES, "mask"]), others=True)
        return _digest([self._fingerprints(basis, boxes).probes, probes])


@dataclass(frozen=True)
class Fingerprints:
    """Digests of everything the maps, and the probes on top of them, were made from."""

    basis: str
    boxes: str
    maps: str
    probes: str
    seen: str = ""
    """Of the same as ``probes``, and of that: see :meth:`ExplainPlan.seen`."""

    def metadata(
        self, rows: range, maps: Mapping[str, NDArray[np.float32]], outside: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, str]:
        """What the part of these rows vouches for; ``maps`` and ``outside`` (may be empty) are by target."""
        vouched = {
            "rows": f"{rows.start}:{rows.stop}",
            "targets": ",".join(maps),
            "basis": self.basis,
            "boxes": self.boxes,
            "maps_fingerprint": self.maps,
            "probes_fingerprint": self.probes,
            "probes_seen": self.seen,
            MAPS_CHECKSUM: combined_checksum(maps.values()),
        }
        return vouched | ({OUTSIDE_CHECKSUM: combined_checksum(outside.values())} if outside else {})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def make_plan(
    run: Run,
    classifier: Classifier,
    model: ModelSettings,
    view: ViewSettings,
    explain: ExplainSettings,
    rows: int,
    device: Device = "auto",
    donors: tuple[Donor, ...] = (),
) -> ExplainPlan:
    """The plan of a run, with the layer found; raises UserError if it cannot be found, or the method's package,
    or if a target names more classes than there are."""
    require(explain.method)
    classes = len(classifier.class_names)
    for target in explain.targets:
        if rank_of(target) > classes:
            raise UserError(f"explain.targets: {target}, but the network has {classes} classes")
    try:
        layer = make_opticam(classifier, model.target_layer, view).layer
    except ValueError as error:
        raise UserError(f"model.target_layer: {error}") from None
    plan = ExplainPlan(
        run_url=run.url,
        model=model,
        view=view,
        explain=explain,
        layer=layer,
        weights_digest=classifier.digest(),
        class_names=classifier.class_names,
        normalization=(tuple(classifier.mean.flatten().tolist()), tuple(classifier.std.flatten().tolist())),
        rows=rows,
        device=device,
        donors=donors,
        sigmoid=classifier.outputs.sigmoid,
    )
    return plan


def create_map_arrays(run: Run, plan: ExplainPlan) -> None:
    """Make the arrays of the plan's targets, or grow them; attributes say what they are once this is done.

    Parts go before an array is made anew whose maps they vouch for, since it does not have them. The network's classes
    get the plan's names in the arrays of all methods.
    """
    method, iterates = plan.explain.method, optimizes(plan.explain.method)
    for target in plan.explain.targets:
        attributes = MapAttributes(
            method=method,
            target=target,
            model=plan.model.source,
            weights_digest=plan.weights_digest,
            layer=str(plan.layer),
            geometry=plan.view.known_geometry,
            size=plan.view.size,
            resize=plan.view.resize,
            interpolation=plan.view.interpolation,
            normalization=plan.explain.map_normalization,
            objective=plan.explain.objective if iterates else None,
            fill=plan.explain.fill if iterates else None,
            class_names=plan.class_names,
        )
        _create_array(run, plan, attributes, plan.store_shape, MAPS_CHECKSUM)
        if plan.explain.outside:
            asked = replace(
                attributes,
                method=outside_maps_of(method),
                normalization=OUTSIDE.normalization,
                objective="margin lost",
                fill="blur",
            )
            _create_array(run, plan, asked, plan.layer.grid, OUTSIDE_CHECKSUM)
    run.name_classes(plan.class_names)


def _create_array(
    run: Run, plan: ExplainPlan, attributes: MapAttributes, grid: tuple[int, int], vouched_by: str
) -> None:
    """Make or grow an array; ``vouched_by`` is the entry of a part's metadata that speaks of its maps."""
    shard = plan.explain.shard_size
    if not run.fits_maps(attributes, grid=grid, shard=shard):
        for part, vouched in run.footers("explain", plan.explain.method).items():
            if vouched_by in vouched:
                run.discard_part(part)
    run.create_maps(attributes, rows=plan.rows, grid=grid, shard=shard)


def remove_other_maps(run: Run, plan: ExplainPlan) -> None:
    """Remove the method's maps of targets that are not the plan's, once all shards are: no part vouches for them now,
    and nothing would say that they are of an earlier run."""
    method, targets = plan.explain.method, plan.explain.targets
    for name, kept in ((method, targets), (outside_maps_of(method), targets if plan.explain.outside else ())):
        for target in set(run.targets(name)) - set(kept):
            run.discard_maps(target, name)


def make_opticam(
    classifier: Classifier,
    layer: str | TargetLayer,
    view: ViewSettings,
    settings: ExplainSettings | None = None,
) -> OptiCam:
    """Opti-CAM on a classifier's network, with its normalisation and the view's size."""
    return OptiCam(
        classifier.network,
        layer,
        mean=classifier.mean.flatten().tolist(),
        std=classifier.std.flatten().tolist(),
        settings=settings.opticam if settings else None,
        input_size=(view.size, view.size),
        sigmoid=classifier.outputs.sigmoid,
    )


def pending_shards(run: Run, plan: ExplainPlan, samples: pa.Table) -> list[int]:
    """Shards whose part is missing or out of date: those that are not among :func:`done_shards`."""
    done = done_shards(run, plan, samples)
    return [index for index in range(plan.shards) if index not in done]


def done_shards(run: Run, plan: ExplainPlan, samples: pa.Table) -> dict[int, dict[str, str]]:
    """What the parts of the shards vouch for that the plan would make no other way, by shard, as their footers say.

    Parts with rows outside their shard are removed: cut to another ``shard_size``, they would repeat today's rows.
    """
    done = {}
    for part, vouched in run.footers("explain", plan.explain.method).items():
        start, _, stop = vouched.get("rows", "").partition(":")
        shard = plan.shard(part.index)
        if not (start and shard.start <= int(start) and int(stop) <= shard.stop):
            run.discard_part(part)
        elif _is_of(plan, vouched, shard_samples(plan, samples, part.index)):
            done[part.index] = vouched
    return done


def _is_of(plan: ExplainPlan, vouched: Mapping[str, str], samples: pa.Table) -> bool:
    """Whether a part was made from what the plan would make it from."""
    probes = vouched["probes_fingerprint"]
    return vouched.get("probes_seen") == plan.seen(samples, probes) or plan.fingerprints(samples).probes == probes


def shard_samples(plan: ExplainPlan, samples: pa.Table, index: int) -> pa.Table:
    """The samples of a shard, of a table sorted by row in which row k is the k-th."""
    rows = plan.shard(index)
    return samples.slice(rows.start, len(rows))


def maps_checksum(run: Run, plan: ExplainPlan, rows: range) -> str | None:
    """Digest of the region of a shard over all targets; None if an array does not reach it."""
    maps = {}
    for target in plan.explain.targets:
        try:
            store = run.maps(target, plan.explain.method)
        except UserError:
            return None
        if store.shape[0] < rows.stop or store.shape[1:] != plan.store_shape:
            return None
        maps[target] = store.read(slice(rows.start, rows.stop))
    return combined_checksum(maps.values())


def load_plan_classifier(plan: ExplainPlan, device: torch.device) -> tuple[Classifier, OptiCam]:
    """The classifier of a plan on ``device``; raises UserError if a worker finds other weights, or code."""
    classifier = load_classifier(plan.model, plan.view.size)
    if classifier.digest() != plan.weights_digest:
        raise UserError(
            f"model: this worker loads other weights or code for {plan.model.source} than the scheduler's side did; "
            "give every machine the same checkpoint and files, and start the workers again after a change"
        )
    classifier = classifier.to(device)
    return classifier, make_opticam(classifier, plan.layer, plan.view, plan.explain)
