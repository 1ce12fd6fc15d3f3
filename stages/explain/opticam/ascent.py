"""Ways to climb the objective: each proposes convex combinations S of feature maps, and moves up dF/dS.

Both keep the state of each image to itself. The constructor takes feature maps A (N, K, P), P = h * w places.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Optimizer = Literal["adam", "projected"]

PROJECTION_STEPS = 50
"""Multiplicative updates of one projection: a few percent of the cost of a small network's pass."""

_LINE = 16
"""Numbers in a cache line: 16 of float32."""

_DECAYED = 0.1
"""Share of the learning rate that is left at the last step of ``projected``."""

_MOMENTUM = 0.6
"""beta_1 of ``projected``: a few steps leave no time for a longer memory."""


class Ascent(Protocol):
    """The climber of a batch."""

    def combination(self) -> Tensor:
        """The maps S (N, P) to evaluate: for each image a convex combination of its feature maps."""

    def ascend(self, slope: Tensor, running: Tensor) -> None:
        """Move the images that are ``running`` (N,), bool, up ``slope`` dF/dS (N, P)."""


class WeightAscent:
    """The paper's: S = sum_k softmax(u)_k A_k, and Adam on u from u = 0 (section 3.2).

    ``scale_invariant`` says that F does not change when S is multiplied by a positive number.
    """

    def __init__(self, maps: Tensor, learning_rate: float, *, scale_invariant: bool) -> None:
        self.maps, self.scale_invariant = FeatureMaps(maps), scale_invariant
        self.u = maps.new_zeros(maps.shape[:2])
        self.adam = Adam(self.u, learning_rate)

    def combination(self) -> Tensor:
        """softmax(u) A, (N, P)."""
        self.weights = torch.softmax(self.u, 1)
        return self.maps.combine(self.weights)

    def gradient(self, slope: Tensor) -> Tensor:
        """dF/du (N, K): w_k (dF/dw_k - sum_j w_j dF/dw_j), with w = softmax(u) and dF/dw_k = <A_k, slope>.

        Where F does not change with the scale of S the sum is zero, and leaving it out leaves out its round-off.
        """
        by_weight = self.maps.correlate(slope)
        if not self.scale_invariant:
            by_weight = by_weight - (self.weights * by_weight).sum(1, keepdim=True)
        return self.weights * by_weight

    def ascend(self, slope: Tensor, running: Tensor) -> None:
        """One step of Adam up dF/du."""
        self.u = torch.where(running[:, None], self.u + self.adam.step(self.gradient(slope)), self.u)


class ProjectedAscent:
    """Adam on S itself, and after each step the nearest combination of the feature maps to where it went.

    The paper's u has as many coordinates as the layer has channels, a thousand and more; the map has 49 at a grid of
    7 x 7, and that is all the objective sees. So Adam moves the map, in units of its range, and non-negative least
    squares brings it back to the cone of the feature maps: the same objective over the same set of maps, in far fewer
    passes. The learning rate decays to a tenth by a half cosine over ``steps``.

    For objectives that change with neither scale nor offset of S (normalisation ``range``): each map is shifted to a
    minimum of zero, so layers with negative values (transformers, SiLU) are served as well.
    """

    def __init__(self, maps: Tensor, learning_rate: float, steps: int) -> None:
        self.tiny = torch.finfo(maps.dtype).tiny
        shifted = maps - maps.amin(2, keepdim=True)
        self.height = shifted.amax((1, 2)).clamp(min=self.tiny)[:, None]
        self.maps = FeatureMaps(maps)
        self.shifted = FeatureMaps(shifted / self.height[:, :, None])
        self.weights = maps.new_full(maps.shape[:2], 1 / maps.shape[1])
        self.learning_rate, self.steps, self.step = learning_rate, steps, 0
        self.adam = Adam(maps[:, 0], 1.0, momentum=_MOMENTUM)

    def combination(self) -> Tensor:
        """w A, (N, P), with w >= 0 that sum to 1."""
        self.current = self.maps.combine(self.weights)
        return self.current

    def ascend(self, slope: Tensor, running: Tensor) -> None:
        """One step of Adam on the map in units of its range, and the projection of where it leads."""
        span = (self.current.amax(1, keepdim=True) - self.current.amin(1, keepdim=True)).clamp(min=self.tiny)
        in_ranges = self.weights * (self.height / span)
        rate = self.learning_rate * (_DECAYED + (1 - _DECAYED) * 0.5 * (1 + math.cos(math.pi * self.step / self.steps)))
        self.step += 1
        goal = (self.shifted.combine(in_ranges) + rate * self.adam.step(slope * span)).clamp(min=0)
        projected = project_on_cone(self.shifted, goal, in_ranges)
        total = projected.sum(1, keepdim=True)
        usable = running[:, None] & torch.isfinite(total) & (total > 0)
        self.weights = torch.where(usable, projected / torch.where(usable, total, torch.ones_like(total)), self.weights)


def make_ascent(
    optimizer: Optimizer, maps: Tensor, learning_rate: float, steps: int, *, scale_invariant: bool
) -> Ascent:
    """The climber of that name for feature maps (N, K, P)."""
    if optimizer == "projected":
        return ProjectedAscent(maps, learning_rate, steps)
    return WeightAscent(maps, learning_rate, scale_invariant=scale_invariant)


def project_on_cone(maps: FeatureMaps, goal: Tensor, weights: Tensor, updates: int = PROJECTION_STEPS) -> Tensor:
    """Weights w >= 0 (N, K) that bring sum_k w_k A_k near ``goal`` (N, P) in least squares, starting from ``weights``.

    The maps A (N, K, P) and ``goal`` must not be negative. Multiplicative updates (Lee and Seung, "Algorithms for
    non-negative matrix factorization", NIPS 2000): w_k <- w_k <A_k, goal> / <A_k, w A>. They never increase the
    distance, and a weight of zero stays zero.
    """
    tiny = torch.finfo(goal.dtype).tiny
    wide, wanted = maps.widen(weights), maps.widen(maps.correlate(goal))
    for _ in range(updates):
        wide = wide * wanted / maps.correlate_combined(wide).clamp(min=tiny)
    return maps.narrow(wide)


class FeatureMaps:
    """Feature maps A (N, K, P) of a batch, laid out for the two products that an ascent needs.

    Both sides are padded with zeros to whole cache lines: in a batched product of matrices whose rows begin elsewhere,
    how an entry is rounded depends on its place in the batch, and a map must not depend on that.
    """

    def __init__(self, maps: Tensor) -> None:
        self.count, self.channels, self.places = maps.shape
        self._maps = F.pad(maps, (0, -self.places % _LINE, 0, -self.channels % _LINE))
        # The same maps the other way round: with the short side last, the product is ten times slower.
        self._transposed = self._maps.transpose(1, 2).contiguous()

    def combine(self, weights: Tensor) -> Tensor:
        """sum_k w_k A_k for weights (N, K): (N, P)."""
        return torch.bmm(self.widen(weights), self._maps)[:, 0, : self.places]

    def correlate(self, pattern: Tensor) -> Tensor:
        """<A_k, pattern> for patterns (N, P): (N, K)."""
        padded = F.pad(pattern, (0, self._maps.shape[2] - self.places))
        return self.narrow(torch.bmm(padded[:, None], self._transposed))

    def widen(self, values: Tensor) -> Tensor:
        """Values of the maps (N, K) in the layout of the products, (N, 1, K and zeros)."""
        return F.pad(values, (0, self._maps.shape[1] - self.channels))[:, None]

    def narrow(self, wide: Tensor) -> Tensor:
        """The inverse of :meth:`widen`."""
        return wide[:, 0, : self.channels]

    def correlate_combined(self, wide: Tensor) -> Tensor:
        """<A_k, w A> for weights w that are widened, as is the result; of a map of zeros that pads it is zero."""
        return torch.bmm(torch.bmm(wide, self._maps), self._transposed)


class Adam:
    """Adam (Kingma and Ba, 2015) for maximisation, with the state of each row its own."""

    def __init__(self, like: Tensor, learning_rate: float, momentum: float = 0.9) -> None:
        self.learning_rate, self.momentum = learning_rate, momentum
        self.steps = 0
        self.first = torch.zeros_like(like)
        self.second = torch.zeros_like(like)

    def step(self, gradient: Tensor) -> Tensor:
        """What to add for a step up the gradient; beta = (``momentum``, .999), epsilon = 1e-8."""
        self.steps += 1
        self.first.lerp_(gradient, 1 - self.momentum)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        denominator = self.second.sqrt() / (1 - 0.999**self.steps) ** 0.5 + 1e-8
        move: Tensor = self.learning_rate / (1 - self.momentum**self.steps) * self.first / denominator
        return move
