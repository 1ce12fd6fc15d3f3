"""Opti-CAM: the saliency map that maximises the logit of a class on the masked image.

Zhang, Torres, Sicre, Avrithis, Ayache, "Opti-CAM: Optimizing saliency maps for interpretability", CVIU 248 (2024).
A map is a convex combination of one layer's feature maps, S(u) = sum_k softmax(u)_k A_k; u is found per image by Adam
on F(u) = g(f(x * n(up(S(u))))), where up is bilinear upsampling to the input and n a normalisation to [0, 1].

Pure torch. Nothing here mixes the images of a batch: a map does not depend on its batch mates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.explain.opticam.ascent import Optimizer, make_ascent
from stages.explain.opticam.blur import blur
from stages.explain.opticam.fold import fold_batch_norms
from stages.explain.opticam.gradcam import grad_cam
from stages.explain.opticam.layer import TargetLayer, capture, find_target_layer
from stages.explain.opticam.objective import (
    DEGENERATE_RANGE,
    NEEDS_COMPLEMENT,
    SCALE_INVARIANT,
    Normalization,
    Objective,
    normalize,
    objective_value,
)

Fill = Literal["black", "mean", "blur", "training_mean"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class OptiCamSettings:
    """What is maximised and how; the defaults are the paper's (section 3 and its experimental setup)."""

    steps: int = 100
    learning_rate: float = 0.1
    optimizer: Optimizer = "adam"
    """``adam``: on u, as in the paper. ``projected``: Adam on the map itself, projected back onto the combinations of
    the feature maps; the learning rate is in units of the map's range and decays over the steps."""
    tolerance: float = 1e-10
    """An image stops when its objective changes by less than this between two steps; never in bfloat16."""
    objective: Objective = "mask"
    normalization: Normalization = "range"
    fill: Fill = "black"
    """What masked-out pixels become: black, the image's mean colour, its blur, or the mean colour of the training set,
    which is what a mask on the normalised input leaves."""
    precision: Precision = "float32"
    """``bfloat16`` runs the network's passes of the optimisation under autocast; everything else stays as it is."""
    compile: bool = False
    """Run those passes through torch.compile."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; take at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; take a positive number (the paper's is 0.1)")
        if self.optimizer == "projected" and self.normalization != "range":
            raise ValueError(
                f"the optimizer projected needs the normalization range, not {self.normalization}; "
                "take the optimizer adam (profile paper)"
            )


FAST = OptiCamSettings(steps=16, learning_rate=0.3, optimizer="projected")
"""As good an optimum as the paper's in a sixth of its passes: the profile ``fast``, which :class:`OptiCam` takes."""

OUTSIDE = OptiCamSettings(steps=6, learning_rate=0.3, optimizer="projected")
"""How the map of what lies outside the boxes is made: 7 forward and 6 backward passes."""


@dataclass(frozen=True)
class Saliency:
    """Maps of a batch of N images and how they came about."""

    grid: Tensor
    """Raw S of the best iterate at the layer's own resolution, (N, h, w)."""
    trace: Tensor
    """Objective at every iterate, (steps + 1, N), logits; constant once an image has stopped."""
    iterations: Tensor
    """Steps taken, (N,)."""
    status: tuple[str, ...]
    """Per image: ``ok``, ``degenerate_map`` (constant: nothing stands out) or ``non_finite``."""
    view_size: tuple[int, int]
    """(height, width) of the network's input."""
    normalization: Normalization = "range"

    def maps(self, size: tuple[int, int] | None = None) -> Tensor:
        """Maps in [0, 1], (N, H, W): upsampled to the input, normalised there, then resized to ``size``."""
        full = to_masks(self.grid, self.view_size, self.normalization)
        return full if size is None or size == self.view_size else upsample(full, size)

    @property
    def objective_start(self) -> Tensor:
        """Objective at the uniform weights, (N,)."""
        return self.trace[0]

    @property
    def objective_best(self) -> Tensor:
        """Objective of the stored map, (N,)."""
        return self.trace.nan_to_num(nan=-torch.inf).amax(0)


@dataclass(frozen=True)
class Features:
    """What one pass over the unmasked images gives: shared by every target of an image."""

    maps: Tensor
    """Feature maps A, (N, K, h, w)."""
    logits: Tensor
    """Logits of the unmasked images, (N, C)."""


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear upsampling (half-pixel centres) of maps (N, h, w) to (N, *size)."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def to_masks(grid: Tensor, size: tuple[int, int], normalization: Normalization = "range") -> Tensor:
    """Masks n(up(S)) of maps S (N, h, w), section 3.3: (N, *size), zero where S is constant under ``range``."""
    masks = normalize(upsample(grid, size), normalization)
    if normalization != "range":
        return masks
    # Interpolation rounds: a constant grid comes out constant but for its last bits, which would fill [0, 1].
    flat = grid.amax((1, 2)) - grid.amin((1, 2)) <= DEGENERATE_RANGE
    return torch.where(flat[:, None, None], torch.zeros_like(masks), masks)


def statuses(grid: Tensor, finite: Tensor) -> tuple[str, ...]:
    """Status of each map S (N, h, w), as in :class:`Saliency`; ``finite`` (N,) says which can be believed."""
    flat = grid.amax((1, 2)) - grid.amin((1, 2)) <= DEGENERATE_RANGE
    pairs = zip(finite.tolist(), flat.tolist(), strict=True)
    return tuple("non_finite" if not sound else "degenerate_map" if is_flat else "ok" for sound, is_flat in pairs)


class OptiCam:
    """Opti-CAM for any image classifier.

    ``network`` maps normalised images (N, 3, H, W) to logits (N, C). Images are given in [0, 1]; the mask is applied
    there, so what is masked becomes black, and ``(x - mean) / std`` follows. ``layer`` is a module path or ``auto``:
    the last activation before the final pooling. With ``sigmoid`` p of a class is the sigmoid of its own logit, not the
    softmax over all. The network is put into eval mode and is not changed otherwise.

    Raises ValueError if no layer fits.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str | TargetLayer = "auto",
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        settings: OptiCamSettings | None = None,
        input_size: tuple[int, int] = (224, 224),
        sigmoid: bool = False,
    ) -> None:
        self.settings = settings or FAST
        self.sigmoid = sigmoid
        self.network = network.eval()
        parameter = next(network.parameters(), torch.empty(0))
        self.device, self.dtype = parameter.device, parameter.dtype
        self.mean = torch.tensor(mean, device=self.device, dtype=self.dtype).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=self.device, dtype=self.dtype).view(1, 3, 1, 1)
        example = torch.full((1, 3, *input_size), 0.5, device=self.device, dtype=self.dtype)
        example = example + 0.1 * torch.linspace(-1, 1, input_size[1], device=self.device, dtype=self.dtype)
        self.layer = layer if isinstance(layer, TargetLayer) else find_target_layer(network, example, layer)
        # The iterations run a copy of their own: frozen, batch norms folded, channels last.
        self.folded = fold_batch_norms(network, example).requires_grad_(False)
        self.folded = self.folded.to(memory_format=torch.channels_last)
        self.iterated = torch.compile(self.folded, dynamic=False) if self.settings.compile else self.folded
        with torch.no_grad():
            self.classes = int(self.folded(example).shape[1])

    def prepare(self, images: Tensor) -> Tensor:
        """Images on the network's device, in its dtype, channels last."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}; give (N, 3, H, W) in [0, 1]")
        return images.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.folded((images - self.mean) / self.std)
        return logits

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities (N, C), float32, of images (N, 3, H, W) in [0, 1]."""
        logits = self.logits(self.prepare(images)).float()
        return logits.sigmoid() if self.sigmoid else logits.softmax(1)

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Feature maps and logits of the unmasked images (N, 3, H, W) in [0, 1]."""
        images = self.prepare(images)
        maps, logits = capture(self.network, self.layer, (images - self.mean) / self.std)
        return Features(maps, logits)

    def grad_cam(self, images: Tensor, targets: Tensor) -> Tensor:
        """Grad-CAM maps (N, h, w) of the same layer, for images (N, 3, H, W) in [0, 1] and ``targets`` (N,)."""
        images = self.prepare(images)
        return grad_cam(self.network, self.layer, (images - self.mean) / self.std, targets)

    def __call__(self, images: Tensor, targets: Tensor | Sequence[int] | None = None) -> Saliency:
        """Maps of images (N, 3, H, W) in [0, 1] for class indices ``targets`` (N,), by default the predicted ones."""
        features = self.features(images)
        if targets is None:
            targets = features.logits.argmax(1)
        return self.maximize(images, features.maps, torch.as_tensor(targets, device=self.device))

    def maximize(self, images: Tensor, features: Tensor, targets: Tensor) -> Saliency:
        """Maximise the objective of ``targets`` (N,), keeping the best iterate of each image.

        ``features`` (N, K, h, w) are the images' feature maps A, from :meth:`features`: one pass serves every target.
        Raises ValueError if the targets do not fit the batch or the network's classes.
        """
        images = self.prepare(images)
        self._check_targets(targets, len(images), self.classes)
        masking = self._masking(images)
        full = self.logits(images).detach() if self.settings.objective in ("diff", "iodiff") else images.new_empty(0)
        view_size = (int(images.shape[2]), int(images.shape[3]))

        def objective(mask: Tensor) -> Tensor:
            return self._objective(masking, mask, targets, full)

        return self._climb(objective, features, view_size, self.settings)

    def maximize_outside(self, images: Tensor, features: Tensor, targets: Tensor, outside: Tensor) -> Saliency:
        """Maps of what carries the class among the pixels ``outside`` (N, H, W), bool: what costs most when blurred.

        Opti-CAM with another question, ours: the maps are the same convex combinations of the feature maps, but a mask
        m hides instead of keeping, outside alone, z = x (1 - m) + blur(x) m, and what is maximised is the margin that
        the class loses, log sum exp f_c'(z) over the other classes c' less f_c(z); for sigmoid outputs -f_c(z). The
        ascent is that of :data:`OUTSIDE`, the arithmetic that of the settings. Where nothing is outside, a map says
        nothing.

        The other arguments, and what is raised, are as in :meth:`maximize`.
        """
        images = self.prepare(images)
        self._check_targets(targets, len(images), self.classes)
        inputs, removed = (images - self.mean) / self.std, (blur(images) - images) / self.std
        removed = removed * outside[:, None].to(removed)

        def lost_margin(mask: Tensor) -> Tensor:
            logits = self._iterate(torch.addcmul(inputs, removed, mask))
            own = logits.gather(1, targets[:, None])[:, 0]
            return -own if self.sigmoid else logits.scatter(1, targets[:, None], -torch.inf).logsumexp(1) - own

        view_size = (int(images.shape[2]), int(images.shape[3]))
        return self._climb(lost_margin, features, view_size, OUTSIDE)

    def _climb(
        self, ask: Callable[[Tensor], Tensor], features: Tensor, view_size: tuple[int, int], settings: OptiCamSettings
    ) -> Saliency:
        """Maximise ``ask``, the objective (N,) of masks (N, 1, H, W), over the combinations of ``features``."""
        maps = features.flatten(2)
        count = len(maps)
        grid_size = features.shape[2:]
        ascent = make_ascent(
            settings.optimizer,
            maps,
            settings.learning_rate,
            settings.steps,
            scale_invariant=settings.normalization in SCALE_INVARIANT,
        )
        alive = torch.isfinite(maps).all(2).all(1)
        running = alive.clone()
        iterations = torch.zeros(count, device=self.device, dtype=torch.int64)
        best = torch.full((count,), -torch.inf, device=self.device, dtype=self.dtype)
        best_grid = torch.full((count, *grid_size), torch.nan, device=self.device, dtype=self.dtype)
        trace: list[Tensor] = []
        # Two logits in a row are often the same number in bfloat16, and say nothing about having arrived.
        tolerance = settings.tolerance if self.settings.precision == "float32" else 0.0

        for step in range(settings.steps + 1):
            last = step == settings.steps
            grid = ascent.combination().view(count, *grid_size)
            with torch.set_grad_enabled(not last):
                if not last:
                    grid.requires_grad_()
                mask = to_masks(grid, view_size, settings.normalization)[:, None]
                objective = ask(mask)
            value = objective.detach()
            if trace:
                value = torch.where(running, value, trace[-1])
                running = running & ~((value - trace[-1]).abs() < tolerance)
            trace.append(value)
            alive = alive & torch.isfinite(value)
            running = running & alive
            improved = alive & (value > best)
            best = torch.where(improved, value, best)
            best_grid = torch.where(improved[:, None, None], grid.detach(), best_grid)
            if last or not bool(running.any()):
                break
            (slope,) = torch.autograd.grad(objective.sum(), grid)
            ascent.ascend(slope.flatten(1), running)
            iterations += running

        trace += [trace[-1]] * (settings.steps + 1 - len(trace))
        status = statuses(best_grid, alive)
        return Saliency(best_grid, torch.stack(trace), iterations, status, view_size, settings.normalization)

    def _masking(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, offset) such that the network's input for a mask m is m * scale + offset.

        (fill + m (x - fill) - mean) / std: one fused multiply-add a step.
        """
        if self.settings.fill == "training_mean":
            fill = self.mean
        elif self.settings.fill == "mean":
            fill = images.mean((2, 3), keepdim=True)
        elif self.settings.fill == "blur":
            fill = blur(images)
        else:
            fill = torch.zeros_like(self.mean)
        return (images - fill) / self.std, (fill - self.mean) / self.std

    def _objective(self, masking: tuple[Tensor, Tensor], mask: Tensor, targets: Tensor, full: Tensor) -> Tensor:
        scale, offset = masking
        masked = self._iterate(torch.addcmul(offset, scale, mask))
        complement = None
        if self.settings.objective in NEEDS_COMPLEMENT:
            complement = self._iterate(torch.addcmul(offset, scale, 1 - mask))
        return objective_value(self.settings.objective, targets, full, masked, complement)

    def _iterate(self, inputs: Tensor) -> Tensor:
        """Logits (N, C) of a pass of the optimisation, in the network's dtype."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            logits: Tensor = self.iterated(inputs)
        return logits.to(self.dtype)

    @staticmethod
    def _check_targets(targets: Tensor, count: int, classes: int) -> None:
        if targets.shape != (count,):
            raise ValueError(f"{targets.numel()} targets for a batch of {count}: give one class index per image")
        if bool(((targets < 0) | (targets >= classes)).any()):
            raise ValueError(f"targets {targets.tolist()} are not all among the network's {classes} classes")
