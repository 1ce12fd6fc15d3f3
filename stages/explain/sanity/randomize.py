"""Random weights in place of trained ones, from the output down, for the sanity check of a saliency method.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity checks for saliency maps", NeurIPS 2018: cascading
randomisation. A map that says something about the network must change when the network's weights do.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Block:
    """Neighbouring modules of a network that are randomised together."""

    name: str
    modules: tuple[str, ...]
    """Paths of the modules that own the parameters, in module order."""


def blocks_of(network: nn.Module, levels: int = 6) -> tuple[Block, ...]:
    """At most ``levels`` blocks that together hold every parameter, the one nearest to the output first.

    They are the network's own stages (``layer1`` to ``layer4`` of a ResNet, say), in the order in which its modules are
    registered. The largest stage is split into its children while there are fewer stages than ``levels``, or while it
    has more than half of the modules; where there are then too many, neighbours are taken together. The last stage, the
    head, stays by itself.

    Raises ValueError for fewer than 2 levels, or a network without parameters.
    """
    if levels < 2:
        raise ValueError(f"levels is {levels}; take at least 2: the head, and the rest")
    owners = [path for path, module in network.named_modules() if _owns_parameters(module)]
    if not owners:
        raise ValueError("the network has no parameters to randomise")
    stages = {"": owners}
    while True:
        largest, inside = max(stages.items(), key=lambda stage: len(stage[1]))
        if len(inside) == 1 or (len(stages) >= levels and len(inside) <= len(owners) / 2):
            break
        stages = {
            name: paths
            for stage in stages
            for name, paths in (_children(stage, inside) if stage == largest else {stage: stages[stage]}).items()
        }
    *rest, head = stages
    shares = np.array_split(np.arange(len(rest)), levels - 1)
    runs = [[head], *([rest[place] for place in share] for share in reversed(shares) if len(share))]
    return tuple(Block(_name(run), tuple(path for stage in run for path in stages[stage])) for run in runs)


@torch.no_grad()
def randomize(network: nn.Module, block: Block, seed: int) -> None:
    """Give the modules of a block new random weights, in place; equal seeds give equal weights.

    A module with ``reset_parameters`` is initialised as when it was made, a batch norm's running statistics included.
    Other parameters (class tokens, position embeddings, layer scales) become normal noise of their own standard
    deviation, or of their root mean square where they are constant. The network must be on the CPU; torch's global
    generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the devices' own generators stay as they are
        for path in block.modules:
            module = network.get_submodule(path)
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(torch.randn(parameter.shape, dtype=parameter.dtype) * _scale(parameter))


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _children(stage: str, owners: list[str]) -> dict[str, list[str]]:
    """The owners of a stage by its child that they are in; its own parameters stand for themselves."""
    depth = len(stage.split(".")) if stage else 0
    children: dict[str, list[str]] = {}
    for path in owners:
        prefix = path if path == stage else ".".join(path.split(".")[: depth + 1])
        children.setdefault(prefix, []).append(path)
    return children


def _name(stages: list[str]) -> str:
    named = [stage or "the network's own" for stage in stages]
    return named[0] if len(named) == 1 else f"{named[0]} to {named[-1]}"


def _scale(parameter: Tensor) -> Tensor:
    spread = parameter.std(correction=0)
    return spread if float(spread) > 0 else parameter.square().mean().sqrt()


def cascade(network: nn.Module, levels: int = 6, seed: int = 0) -> Iterator[tuple[Block, nn.Module]]:
    """Each of the network's blocks, the head first, with a copy in which it and all blocks before it are random.

    The copies are on the network's device; the network itself is not changed.
    """
    device = next(network.parameters()).device
    scrambled = copy.deepcopy(network).cpu()
    for level, block in enumerate(blocks_of(network, levels)):
        randomize(scrambled, block, seed + level)
        yield block, copy.deepcopy(scrambled).to(device)
