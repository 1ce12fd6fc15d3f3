"""Does a map depend on the network at all? Cascading randomisation of the weights, and noise on the input.

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, and appendix G of the Opti-CAM paper. A method whose
maps stay the same when the weights become random shows the image, not the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from stages.explain.methods.methods import NULLS, Method, maps_of, null_map, require
from stages.explain.network.device import Device, pick_device
from stages.explain.network.model import Classifier, ModelSettings, load_classifier
from stages.explain.network.view import ViewSettings, render_view
from stages.explain.opticam.opticam import OptiCam, to_masks
from stages.explain.plan import make_opticam
from stages.explain.sanity.randomize import Block, blocks_of, cascade
from stages.explain.sanity.similarity import METRICS
from stages.explain.settings import ExplainSettings
from stages.statistics import bootstrap
from stages.words import interval, number
from storage import MapStore, Run
from storage.errors import UserError
from storage.maps import checksum
from storage.media.images import ImageError
from storage.samples import read_unchanged
from storage.tables import SANITY

Maps = NDArray[np.float32]
Classes = NDArray[np.int64]


SAME = 0.9
"""Rank correlation from which maps are the same map made again: rounding on another device costs less."""


@dataclass(frozen=True)
class SanitySettings:
    """How the check is made, and what fails it."""

    samples: int = 16
    """Images: a seeded choice among those with a map."""
    levels: int = 6
    """Blocks, at most, in which the weights are randomised, from the output down."""
    noise: float = 4 / 255
    """Standard deviation of the noise on the input, whose pixels are in [0, 1]."""
    survives: float = 0.5
    """Maps survive the loss of all weights if their median rank correlation with the stored ones is at least this, the
    lower end of its interval included: nothing that the network learnt is left."""
    survives_head: float = 0.9
    """The same for the loss of the weights after the target layer. It is higher, because the layer's features are left,
    and may rightly find the one object of an image without the head."""
    seed: int = 0
    """Seed of the choice of images, of the weights and of the noise."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"samples is {self.samples}; take at least 1")
        if self.levels < 2:
            raise UserError(f"levels is {self.levels}; take at least 2: the head, and the rest")
        if self.noise < 0:
            raise UserError(f"noise is {self.noise}; take 0 or more, where the pixels' range is [0, 1]")
        for name in ("survives", "survives_head"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; take a correlation in (0, 1]")


@dataclass(frozen=True)
class Similarity:
    """Median of a metric over the ``n`` images on which it is defined, with its 95% bootstrap interval."""

    median: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.median is None:
            return "undefined"
        return f"{number(self.median)} {interval((self.low, self.high))}".rstrip()

    def reaches(self, threshold: float) -> bool:
        """Whether the whole interval lies at the threshold or above; the median alone where there is no interval."""
        least = self.median if self.low is None else self.low
        return least is not None and least >= threshold


@dataclass(frozen=True)
class Check:
    """The stored maps against other maps of the same images, by metric."""

    check: str
    level: int | None
    layer: str
    metrics: dict[str, Similarity]


@dataclass(frozen=True)
class SanityReport:
    """What was found; ``fault`` says in words what is wrong with the maps, None if they pass.

    ``after_layer`` is the level at which the weights after the target layer, and they alone, are random; 0 for none.
    """

    method: str
    target: str
    layer: str
    samples: int
    unreadable: int
    after_layer: int
    settings: SanitySettings
    checks: tuple[Check, ...]
    fault: str | None


@dataclass(frozen=True)
class _Subset:
    """Views (N, 3, H, W) in uint8, the classes that are explained (N,), and the stored maps (N, H, W) in [0, 1].

    ``rows`` are those of the maps, ``maps_checksum`` is of their grids as stored.
    """

    pixels: NDArray[np.uint8]
    classes: Classes
    stored: Maps
    unreadable: int
    rows: list[int]
    maps_checksum: str


def check_sanity(
    run: Run,
    model: ModelSettings,
    view: ViewSettings,
    explain: ExplainSettings,
    settings: SanitySettings,
    *,
    target: str = "label",
    device: Device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> SanityReport:
    """Check the maps that a run has of a method and target, and write the table ``sanity``.

    ``model``, ``view`` and ``explain`` are those that the run was made with. Each image is explained for the class of
    its stored map again: by the same network, by copies with ever more random weights, and with noise on the input;
    and once for another class, chosen by chance. Rows that the table has of other methods and targets stay.
    ``progress`` is called with the maps made and their number.

    Raises UserError where the run has no such maps, where model or view are not those of the maps, or where no image
    can be read.
    """
    store = run.maps(target, explain.method)
    require(explain.method)
    classifier = load_classifier(model, view.size)
    _refuse_another_model(run, store, classifier, view)
    subset = _choose(run, store, view, explain.method, target, settings)
    opticam = make_opticam(classifier.to(pick_device(device)), model.target_layer, view, explain)
    blocks = blocks_of(opticam.network, settings.levels)
    generator = np.random.default_rng(settings.seed)
    images = np.asarray(subset.pixels / 255, dtype=np.float32)
    noise = generator.normal(0, settings.noise, images.shape)
    noisy = np.asarray(np.clip(images + noise, 0, 1), dtype=np.float32)
    others = (subset.classes + generator.integers(1, max(opticam.classes, 2), len(images))) % opticam.classes
    made, total = 0, len(images) * (len(blocks) + 3)

    def check(name: str, level: int | None, layer: str, explainer: OptiCam, pixels: Maps, classes: Classes) -> Check:
        nonlocal made
        maps = saliency_maps(explainer, explain, pixels, classes)
        made += len(maps)
        if progress is not None:
            progress(made, total)
        return Check(name, level, layer, similarities(subset.stored, maps, settings.seed))

    checks = [check("again", None, "", opticam, images, subset.classes)]
    for level, (block, network) in enumerate(cascade(opticam.network, settings.levels, settings.seed), start=1):
        checks.append(check("weights", level, block.name, _on(network, opticam, view), images, subset.classes))
    checks.append(check("noise", None, f"sigma {settings.noise:.4f}", opticam, noisy, subset.classes))
    checks.append(check("class", None, "another class", opticam, images, others))
    checks += references(subset.stored, settings.seed)
    after_layer = levels_after_layer(opticam, blocks)
    report = SanityReport(
        method=explain.method,
        target=target,
        layer=str(opticam.layer),
        samples=len(subset.classes),
        unreadable=subset.unreadable,
        after_layer=after_layer,
        settings=settings,
        checks=tuple(checks),
        fault=find_fault(checks, after_layer, settings),
    )
    _write(run, report, subset)
    return report


def saliency_maps(opticam: OptiCam, explain: ExplainSettings, images: Maps, classes: Classes) -> Maps:
    """Maps (N, H, W) in [0, 1] of images (N, 3, H, W) in [0, 1] for their classes (N,); NaN where there is none."""
    batches = []
    for start in range(0, len(images), explain.batch_size):
        here = slice(start, start + explain.batch_size)
        batch = opticam.prepare(torch.from_numpy(images[here]))
        targets = torch.from_numpy(classes[here]).to(opticam.device)
        features = opticam.features(batch).maps
        result = maps_of(explain.method, opticam, batch, features, targets, len(batch))
        maps = to_masks(result.grid, (images.shape[2], images.shape[3]), explain.map_normalization)
        maps[[word == "non_finite" for word in result.status]] = torch.nan
        batches.append(maps.float().cpu().numpy())
    return np.concatenate(batches)


def similarities(a: Maps, b: Maps, seed: int = 0) -> dict[str, Similarity]:
    """Every metric over pairs of maps (N, H, W) in [0, 1]: the median, with a bootstrap seeded by ``seed``."""
    found = {}
    for name, metric in METRICS.items():
        values = np.array([metric(one, other) for one, other in zip(a, b, strict=True)])
        values = values[np.isfinite(values)]
        low, high = bootstrap(values, seed=seed) or (None, None)
        found[name] = Similarity(float(np.median(values)) if len(values) else None, low, high, len(values))
    return found


def references(stored: Maps, seed: int = 0) -> list[Check]:
    """What the similarities mean: the stored maps (N, H, W) against maps that know nothing of image or network.

    ``another image`` is the stored map of the next image; the others are the null maps. A method that ignores the
    network, such as ``center``, makes the same map with any weights: ``center, any weights``, the reference of a method
    that fails.
    """

    def null(method: Method) -> Maps:
        return np.broadcast_to(null_map(method, (stored.shape[1], stored.shape[2])).numpy(), stored.shape)

    pairs = [("another image", stored, np.roll(stored, -1, axis=0))] if len(stored) > 1 else []
    pairs += [(method, stored, null(method)) for method in NULLS]
    pairs.append(("center, any weights", null("center"), null("center")))
    return [Check("reference", None, name, similarities(a, b, seed)) for name, a, b in pairs]


def levels_after_layer(opticam: OptiCam, blocks: Sequence[Block]) -> int:
    """How many of the first blocks lie wholly after the target layer: they decide the class from its feature maps."""
    order = {path: place for place, (path, _) in enumerate(opticam.network.named_modules())}
    layer = opticam.layer.path
    count = 0
    for block in blocks:
        if not all(order[path] > order[layer] and not path.startswith(f"{layer}.") for path in block.modules):
            break
        count += 1
    return count


def find_fault(checks: Sequence[Check], after_layer: int, settings: SanitySettings) -> str | None:
    """What is wrong with the maps, in words: they survive random weights, or nothing can be said of them, since the
    same network no longer makes them; None if they pass.

    Two levels count: all weights random, and, with the layer's own features intact, the weights after the layer (the
    first ``after_layer`` blocks). Maps that became constant or not finite do not survive; stored maps that are constant
    have nothing to lose.
    """
    again = checks[0].metrics["spearman"]
    if not again.n:
        return "the maps are constant: they show neither the images nor the network"
    if not again.reaches(SAME):
        return (
            f"the same network makes other maps: their median rank correlation with the stored ones is {again}, not "
            "about 1; run.json no longer says how they were made, so run the pipeline again first"
        )
    levels = [check for check in checks if check.check == "weights"]
    for level, survives, where, meaning in (
        (len(levels), settings.survives, "with all weights random", "they show the images, not the network"),
        (
            after_layer,
            settings.survives_head,
            "with random weights after the target layer",
            "they show where its features are strong, not what the class needs of them",
        ),
    ):
        found = levels[level - 1].metrics["spearman"] if level else None
        if found is not None and found.reaches(survives):
            return (
                f"{where} (level {level}) the maps survive: their median rank correlation with the stored ones is "
                f"{found}, {survives:g} or more; {meaning}"
            )
    return None


def _on(network: nn.Module, opticam: OptiCam, view: ViewSettings) -> OptiCam:
    """Opti-CAM as it was set up, on another network of the same structure, whose batch norms it folds anew."""
    return OptiCam(
        network,
        opticam.layer,
        mean=opticam.mean.flatten().tolist(),
        std=opticam.std.flatten().tolist(),
        settings=opticam.settings,
        input_size=(view.size, view.size),
    )


def _refuse_another_model(run: Run, store: MapStore, classifier: Classifier, view: ViewSettings) -> None:
    attributes = store.attributes
    now = {"weights_digest": classifier.digest(), "geometry": view.geometry, "size": view.size}
    for name, what in (("weights_digest", "weights"), ("geometry", "view.geometry"), ("size", "view.size")):
        if getattr(attributes, name) != now[name]:
            raise UserError(
                f"{run.url}: the maps were made with other {what} than run.json leads to now; run the pipeline again, "
                "or put the checkpoint of the run back"
            )


def _choose(
    run: Run, store: MapStore, view: ViewSettings, method: str, target: str, settings: SanitySettings
) -> _Subset:
    """The first ``settings.samples`` readable images, in a seeded order, of those that have a map."""
    files = {sample["row"]: sample for sample in run.table("samples", ["row", "uri", "digest", "status"]).to_pylist()}
    rows = [
        row
        for row in run.table("explain", ["row", "method", "target", "status", "class_index"]).to_pylist()
        if (row["method"], row["target"], row["status"]) == (method, target, "ok")
        and files[row["row"]]["status"] not in ("removed", "unreadable")
    ]
    chosen: list[dict[str, Any]] = []
    pixels: list[NDArray[np.uint8]] = []
    reason = f"no {method} map of {target} has the status ok"
    unreadable = 0
    for place in np.random.default_rng(settings.seed).permutation(len(rows)):
        if len(chosen) == settings.samples:
            break
        row = rows[place]
        try:
            pixels.append(_read_view(files[row["row"]], view))
            chosen.append(row)
        except ImageError as error:
            unreadable += 1
            reason = f"{unreadable} images cannot be read, the last one {files[row['row']]['uri']}: {error.reason}"
    if not chosen:
        raise UserError(f"{run.url} has no image to check: {reason}")
    chosen_rows = [row["row"] for row in chosen]
    return _Subset(
        pixels=np.stack(pixels),
        classes=np.array([row["class_index"] for row in chosen]),
        stored=store.read(chosen_rows, (view.size, view.size)),
        unreadable=unreadable,
        rows=chosen_rows,
        maps_checksum=checksum(store.read(chosen_rows)),
    )


def _read_view(sample: dict[str, Any], view: ViewSettings) -> NDArray[np.uint8]:
    """The view of a sample, uint8 (3, H, W); raises ImageError if its file is not the one that the run saw, or the
    image is too thin for the view."""
    image = read_unchanged(sample)
    try:
        return render_view(image, view)
    except ValueError as error:
        raise ImageError("unreadable", str(error)) from None


def _write(run: Run, report: SanityReport, subset: _Subset) -> None:
    """Put the report's rows in place of those that the table has of the method and target."""
    own = (report.method, report.target)
    kept = run.table("sanity").to_pylist() if run.has_table("sanity") else []
    rows = [row for row in kept if (row["method"], row["target"]) != own]
    for check in report.checks:
        for metric, found in check.metrics.items():
            rows.append(
                {
                    "method": report.method,
                    "target": report.target,
                    "check": check.check,
                    "level": check.level,
                    "layer": check.layer,
                    "metric": metric,
                    "median": found.median,
                    "low": found.low,
                    "high": found.high,
                    "n": found.n,
                    "seed": report.settings.seed,
                    "fault": report.fault,
                    "rows": subset.rows,
                    "maps_checksum": subset.maps_checksum,
                }
            )
    run.write_table("sanity", pa.Table.from_pylist(rows, schema=SANITY))
