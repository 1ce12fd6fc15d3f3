"""One iteration of Opti-CAM, step by step from the authors' loop to ours: the same function, ever cheaper."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.clock import Variant
from stages.explain.opticam.ascent import Adam
from stages.explain.opticam.fold import fold_batch_norms
from stages.explain.opticam.layer import TargetLayer, capture
from stages.explain.opticam.opticam import to_masks

TIMED = 5
"""Steps that are timed together."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Loop:
    """One way to run the iteration; up to ``channels_last`` each flag includes those before it."""

    masked_only: bool = False
    """The objective is the masked logit: no second backward through the kept graph of f(x)."""
    frozen: bool = False
    """No gradients of the parameters."""
    on_grid: bool = False
    """softmax(u) A as one product, its gradient in closed form, and no hooks."""
    folded: bool = False
    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False

    @property
    def backward_cost(self) -> float:
        """A backward pass in forward passes."""
        return 1.0 if self.frozen else 2.0


OURS = {"masked_only": True, "frozen": True, "on_grid": True, "folded": True, "channels_last": True}

LADDER = {
    "authors' loop": Loop(),
    "+ masked logit alone": Loop(masked_only=True),
    "+ frozen parameters": Loop(masked_only=True, frozen=True),
    "+ one product on the grid, no hooks": Loop(masked_only=True, frozen=True, on_grid=True),
    "+ folded batch norms": Loop(masked_only=True, frozen=True, on_grid=True, folded=True),
    "+ channels last (ours)": Loop(**OURS),
    "ours, bf16": Loop(**OURS, bf16=True),
    "ours, compiled": Loop(**OURS, compiled=True),
    "ours, bf16, compiled": Loop(**OURS, bf16=True, compiled=True),
}


class Iteration:
    """The state of one variant, and one step of it. ``images`` are (N, 3, H, W) in [0, 1], ``targets`` (N,)."""

    def __init__(self, loop: Loop, network: nn.Module, layer: TargetLayer, images: Tensor, targets: Tensor) -> None:
        self.loop, self.layer, self.targets, self.images = loop, layer, targets, images
        self.mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
        self.std = images.new_tensor(STD).view(1, 3, 1, 1)
        self.network = copy.deepcopy(network)
        self.features, _ = capture(network, layer, (images - self.mean) / self.std)
        if loop.folded:
            self.network = fold_batch_norms(network, (images[:1] - self.mean) / self.std)
        self.network.requires_grad_(not loop.frozen)
        if loop.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
            self.images = images.contiguous(memory_format=torch.channels_last)
        if loop.compiled:
            self.network = torch.compile(self.network, dynamic=False)
        self.u = images.new_full(self.features.shape[:2], 0.5)
        self.adam = Adam(self.u, 0.1)
        self.leaf = self.u.clone()[:, :, None, None].requires_grad_()
        self.optimizer = torch.optim.Adam([self.leaf], lr=0.1)
        self.kept: list[Tensor] = []
        if not loop.on_grid:
            self.network.get_submodule(layer.path).register_forward_hook(self._keep)
        self.full: Tensor | None = None

    def begin(self) -> None:
        """What the authors do once before the loop: f(x), with its graph."""
        self.kept.clear()
        self.full = None  # before its memory is asked for again
        if not self.loop.masked_only:
            self.full = self.network((self.images - self.mean) / self.std).gather(1, self.targets[:, None])

    def step(self, count: int = 1) -> None:
        """``count`` iterations."""
        for _ in range(count):
            if self.loop.on_grid:
                self._ours()
            else:
                self._plain()

    def variant(self, name: str, steps: int) -> Variant:
        """To be timed: ``TIMED`` steps, reported as ``steps`` of them; the memory is that of the whole loop."""

        def short() -> None:
            self.network.zero_grad()  # what the gradients of the parameters hold counts
            self.begin()
            self.step()

        return Variant(
            name,
            lambda: self.step(TIMED),
            len(self.images),
            (self.network,),
            begin=self.begin,
            short=short,
            times=steps / TIMED,
            bf16=self.loop.bf16,
            backward_cost=self.loop.backward_cost,
        )

    @property
    def weights(self) -> Tensor:
        """softmax(u), (N, K)."""
        u = self.u if self.loop.on_grid else self.leaf.detach()[:, :, 0, 0]
        return torch.softmax(u, 1)

    def _ours(self) -> None:
        weights = torch.softmax(self.u, 1)
        flat = self.features.flatten(2)
        grid = torch.bmm(weights[:, None], flat).view(len(flat), *self.layer.grid).requires_grad_()
        mask = to_masks(grid, (self.images.shape[2], self.images.shape[3]))[:, None]
        inputs = torch.addcmul(-self.mean / self.std, self.images / self.std, mask)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.loop.bf16):
            logits = self.network(inputs)
        (slope,) = torch.autograd.grad(logits.gather(1, self.targets[:, None]).to(inputs.dtype).sum(), grid)
        gradient = weights * torch.bmm(flat, slope.flatten(1)[:, :, None])[:, :, 0]
        self.u = self.u + self.adam.step(gradient)

    def _plain(self) -> None:
        """As the authors' published code: one forward a step, and one backward each through f(masked x) and f(x)."""
        saliency = (torch.softmax(self.leaf, 1) * self.features).sum(1, keepdim=True)
        mask = F.interpolate(saliency, size=self.images.shape[2:], mode="bilinear", align_corners=False)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        mask = (mask - low) / (high - low)
        masked = self.network((self.images * mask - self.mean) / self.std).gather(1, self.targets[:, None])
        self.optimizer.zero_grad()
        if self.loop.masked_only:
            (-masked.sum()).backward()
        else:
            assert self.full is not None, "begin() comes first"
            (self.full - masked).sum().backward(retain_graph=True)
        self.optimizer.step()

    def _keep(self, _: nn.Module, __: object, output: Tensor) -> None:
        """The hooks of the package grad-cam, which the authors leave in place."""
        self.kept.append(output.detach().cpu())
        if output.requires_grad:
            output.register_hook(lambda slope: self.kept.append(slope.detach().cpu()))
