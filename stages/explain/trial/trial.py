"""Accuracy on a sample as configured, beside the likely alternatives: a paired test tells which is clearly better."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from scipy import stats

from stages.explain.network.model import Classifier
from stages.explain.network.view import ViewSettings, render_view
from stages.explain.trial.readings import Reading, alternatives, configured
from stages.statistics import mcnemar, wilson
from stages.words import interval, percent
from storage.media.images import ImageError
from storage.samples import read_unchanged

BATCH = 16
SURE = 0.01
"""Two-sided McNemar p below which an alternative is better by more than chance."""
MUCH = 0.05
"""Gain of accuracy above which it is worth a word."""
FEWEST = 8
"""Images that the configured reading must have wrong before others are tried: with 7 pairs, all for the alternative, p
is 2 * .5^7 = .016, which is not below .01."""


@dataclass(frozen=True)
class Shown:
    """An image of the dataset, and the classes of the model that it is labelled with."""

    sample: Mapping[str, Any]
    """A row of the samples table."""
    classes: frozenset[int]
    """Of all its rows, where each class is a sample."""


@dataclass(frozen=True)
class Outcome:
    """How often a reading is right on ``n`` images, beside the configured one."""

    reading: Reading
    right: int
    n: int
    gained: int = 0
    """Images that it alone has right."""
    lost: int = 0
    """Images that the configured reading alone has right."""
    chance: float | None = None
    """Share that would be right if its predictions were dealt to the images at random; None where the images have one
    class."""

    @property
    def p(self) -> float | None:
        """McNemar's exact two-sided p; None where the two are right on the same images."""
        return mcnemar(self.lost, self.gained)

    @property
    def by_chance(self) -> bool:
        """Whether it is right no more often than chance: one-sided binomial p above .05."""
        if self.chance is None or not self.n:
            return False
        return bool(stats.binomtest(self.right, self.n, self.chance, alternative="greater").pvalue > 0.05)

    @property
    def clearly_better(self) -> bool:
        """Whether it is better than the configured reading by more than 5 points, with p < .01, and better than chance.

        A network that gives every image one class is right more often if that output is named after a frequent class.
        """
        much = self.gained - self.lost > MUCH * self.n
        return self.p is not None and self.p < SURE and much and not self.by_chance

    def __str__(self) -> str:
        ends = interval(wilson(self.right, self.n), 100, 1)
        return f"{percent(self.right / self.n if self.n else None)} {ends} ({self.right} of {self.n})"


@dataclass(frozen=True)
class Trial:
    """What the forward passes on a sample showed. An image is right if the predicted class is one of its labels'."""

    configured: Outcome
    predicted: Mapping[int, int]
    """Predicted class, as configured, by the image's place; of images that can be shown."""
    others: tuple[Outcome, ...] = ()
    """The alternatives; none where the configured reading has too few wrong for one to be clearly better."""
    logits: NDArray[np.float32] | None = None
    """(N, C), of the images in ``predicted``; of a classifier whose classes do not exclude each other."""
    truth: NDArray[np.bool_] | None = None
    """Which of these images has which class, (N, C)."""
    untold: int = 0
    """Images of several classes, where nobody has said that a network of logits gives one class an image."""

    @property
    def hint(self) -> str | None:
        """A sentence on what may be missing in the config; None where nothing is."""
        if not self.untold:
            return None
        return (
            f"{self.untold} of {self.configured.n} images have several classes: if the network was trained class by "
            "class (multi-label, sigmoid), set model.outputs: sigmoid; if it gives one class an image, set "
            "model.outputs: logits"
        )

    @property
    def better(self) -> Outcome | None:
        """The best of the clearly better alternatives."""
        found = [outcome for outcome in self.others if outcome.clearly_better]
        return max(found, key=lambda outcome: outcome.right, default=None)

    @property
    def cannot_be_right(self) -> bool:
        """Whether the classifier is right by chance alone as configured, and not so under an alternative."""
        return self.configured.by_chance and self.better is not None

    @property
    def warning(self) -> str | None:
        """A sentence on what is likely wrong, and what to set; None where nothing was found."""
        said = f"accuracy is {self.configured} as configured"
        if (better := self.better) is not None:
            how = f"with {better.reading.name} (McNemar p {better.p:.1g})"
            return f"{said}, and {better} {how}: set {better.reading.remedy}"
        if self.configured.by_chance and self.others:
            return (
                f"{said}, and chance gives {percent(self.configured.chance)}; no usual normalisation, view or order of "
                "classes is better: are these the weights, and these the labels?"
            )
        return None


def choose_images(samples: pa.Table, count: int, seed: int = 0) -> list[Shown]:
    """At most ``count`` images with a class of the model, a seeded choice; several samples of one are one."""
    usable = pc.and_(pc.is_in(samples["status"], pa.array(["ok", "no_box"])), samples["class_index"].is_valid())
    uris = pc.unique(samples["uri"].filter(usable))
    lots = heapq.nsmallest(count, ((hashlib.sha256(f"{seed}:{uri}".encode()).digest(), str(uri)) for uri in uris))
    by_image: dict[str, list[dict[str, Any]]] = {uri: [] for _, uri in lots}
    for sample in samples.filter(
        pc.and_(usable, pc.is_in(samples["uri"], pa.array(by_image, pa.string())))
    ).to_pylist():
        by_image[sample["uri"]].append(sample)
    return [Shown(its[0], frozenset(sample["class_index"] for sample in its)) for its in by_image.values()]


def try_readings(
    classifier: Classifier,
    view: ViewSettings,
    images: Sequence[Shown],
    progress: Callable[[int, int], object] | None = None,
    *,
    outputs_are_set: bool = False,
) -> Trial | None:
    """Run ``classifier`` on ``images`` as configured and, where that has enough wrong, under the alternatives.

    ``progress`` takes the forward passes done and their number, ``outputs_are_set`` says that ``model.outputs`` is not
    ``auto``. None without images.
    """
    usual = configured(classifier, view)
    made = _Passes(classifier, images, progress)
    predicted = made.predict(usual)
    if not predicted:
        return None
    right = _right(images, predicted)
    whole = Outcome(usual, sum(right.values()), len(right), chance=_chance(images, predicted))
    others = []
    if whole.n - whole.right >= FEWEST:
        # Images of one class say nothing of the order of the classes.
        readings = [it for it in alternatives(classifier, view) if it.order is None or whole.chance is not None]
        made.total += len({reading.inputs for reading in readings} - {usual.inputs}) * len(images)
        for reading in readings:
            guessed = made.predict(reading)
            its = _right(images, guessed)
            pairs = Counter((right[place], its[place]) for place in right.keys() & its.keys())
            gained, lost = pairs[False, True], pairs[True, False]
            both = pairs[True, True]
            others.append(Outcome(reading, both + gained, pairs.total(), gained, lost, _chance(images, guessed)))
    sigmoid, plain = classifier.outputs.sigmoid, classifier.outputs.form == "logits" and not outputs_are_set
    logits = np.stack([made.logits[place] for place in predicted]) if sigmoid else None
    truth = None
    if logits is not None:
        truth = np.zeros(logits.shape, dtype=bool)
        for row, place in enumerate(predicted):
            truth[row, list(images[place].classes)] = True
    several = sum(len(images[place].classes) > 1 for place in predicted)
    return Trial(whole, predicted, tuple(others), logits, truth, 0 if sigmoid or not plain else several)


class _Passes:
    """The forward passes, each made once."""

    def __init__(
        self, classifier: Classifier, images: Sequence[Shown], progress: Callable[[int, int], object] | None
    ) -> None:
        self._classifier, self._images, self._progress = classifier, images, progress
        self._device = classifier.mean.device
        self._views: dict[ViewSettings, dict[int, NDArray[np.uint8]]] = {}
        self._made: dict[object, dict[int, int]] = {}
        self.done, self.total = 0, len(images)
        self.logits: dict[int, NDArray[np.float32]] = {}
        """By place, those of the first reading."""

    def predict(self, reading: Reading) -> dict[int, int]:
        """The class that a reading gives to each image that its view can show, by place."""
        views = self._views.get(reading.view)
        if views is None:
            views = self._views[reading.view] = _render(self._images, reading.view)
        places = list(views)
        if reading.inputs not in self._made:
            highest: dict[int, int] = {}
            for start in range(0, len(places), BATCH):
                some = places[start : start + BATCH]
                pixels = torch.from_numpy(np.stack([views[place] for place in some])).to(self._device)
                logits = reading.outputs(self._classifier, pixels.float() / 255)
                highest.update(zip(some, logits.argmax(1).tolist(), strict=True))
                if not self._made:
                    self.logits.update(zip(some, logits.float().cpu().numpy(), strict=True))
                self.done += len(some)
                if self._progress is not None:
                    self._progress(self.done, max(self.total, self.done))
            self._made[reading.inputs] = highest
        outputs = self._made[reading.inputs]
        order = reading.order
        return outputs if order is None else {place: order[output] for place, output in outputs.items()}


def _render(images: Sequence[Shown], view: ViewSettings) -> dict[int, NDArray[np.uint8]]:
    """The view of each image that has one, by place; the images themselves are not kept."""
    views = {}
    for place, shown in enumerate(images):
        try:
            views[place] = render_view(read_unchanged(shown.sample), view)
        except (ImageError, ValueError):
            continue  # ingest or explain gives it a status
    return views


def _right(images: Sequence[Shown], predicted: Mapping[int, int]) -> dict[int, bool]:
    return {place: index in images[place].classes for place, index in predicted.items()}


def _chance(images: Sequence[Shown], predicted: Mapping[int, int]) -> float | None:
    """Expected share of right ones if predictions were dealt to the images at random, as in Cohen's kappa."""
    labelled = Counter(index for place in predicted for index in images[place].classes)
    if len(labelled) < 2:
        return None
    guessed = Counter(predicted.values())
    return min(1.0, sum(count * labelled[index] for index, count in guessed.items()) / len(predicted) ** 2)
