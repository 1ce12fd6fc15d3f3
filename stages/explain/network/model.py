"""Load the classifier that is audited: its network, what it wants as input, and what its outputs mean."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.explain.network.checkpoint import load_checkpoint
from stages.explain.network.contract import Contract, check_contract, two_images
from stages.explain.network.inputs import input_channels, own_normalization, to_gray
from stages.explain.network.outputs import Outputs
from stages.explain.network.settings import ModelSettings
from stages.explain.network.sources.built import IMAGENET_MEAN, IMAGENET_STD, Built
from stages.explain.network.sources.sources import build
from stages.explain.network.view import ViewSettings
from storage.errors import UserError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Classifier", "ModelSettings", "load_classifier", "read_class_names"]

Numbers = tuple[float, ...]


class Classifier(nn.Module):
    """A network with the normalisation of its input: images (N, 3, H, W) in [0, 1] to logits (N, C)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        class_names: tuple[str, ...],
        mean: Numbers,
        std: Numbers,
        *,
        outputs: Outputs | None = None,
        gray: bool = False,
        view: ViewSettings | None = None,
        notes: Sequence[str] = (),
        code: str = "",
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.class_names = class_names
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.outputs = outputs or Outputs()
        """What the network was written to return; a hook makes logits of it."""
        self.gray = gray
        """Whether it was written for one channel; a hook makes that of three."""
        self.view = view
        """What the weights were evaluated with; None where nobody says."""
        self.notes = tuple(notes)
        """What was recognised when it was loaded, in sentences."""
        self.code = code
        """What tells it from a network of the same weights that computes otherwise; see :class:`Built`."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def digest(self) -> str:
        """SHA-256 of the network's structure as it prints itself, of every parameter and buffer, of what its inputs and
        outputs were taken for, and of its code where that is the user's own.

        Another version of a package that holds its code is not seen.
        """
        state = hashlib.sha256(repr(self.network).encode())
        for name, tensor in sorted(self.state_dict().items()):
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        if self.gray or self.outputs != Outputs():
            state.update(f"{self.outputs} {self.gray}".encode())
        state.update(self.code.encode())
        return state.hexdigest()


def load_classifier(settings: ModelSettings, size: int | None = 224) -> Classifier:
    """The classifier of ``settings`` in eval mode, on the CPU, float32.

    ``size`` is the side of its input, px; None takes that of the weights. The network is run on two images, and hooks
    at its entrance and exit make it take three channels and return logits. The classifier's ``notes`` say what was
    found.

    Raises UserError, naming the key and the remedy, for an unknown source or name, missing weights, a checkpoint or
    class list that does not fit, or a network that cannot be explained (:mod:`stages.explain.network.contract`).
    """
    names = read_class_names(settings.classes) if settings.classes else None
    built = build(settings, len(names) if names else None)
    where = f"model.source: {settings.source}"
    if size is None:
        if built.view is None:
            raise UserError(
                f"view.geometry is auto, but {settings.source} {built.no_view}; set view.geometry and view.size"
            )
        size = built.view.size
    notes = [*built.notes, *_to_float32(built.network)]
    if settings.checkpoint:
        notes += load_checkpoint(built.network, settings.checkpoint, settings.checkpoint_key)
    network = built.network.eval().requires_grad_(False)
    gray = _takes_gray(network, size, where)
    mean, std, told = _normalization(settings, built, size, gray)
    if gray:
        network.register_forward_pre_hook(to_gray)
        notes.append("takes one channel: the view is shown to it in gray (.299 R + .587 G + .114 B)")
    centre, spread = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (mean, std))
    wanted = "sigmoid" if built.sigmoid and settings.outputs == "auto" else settings.outputs
    contract = check_contract(network, lambda images: (images - centre) / spread, wanted, size, where)
    if contract.wraps or contract.outputs != Outputs():
        network.register_forward_hook(contract.outputs)
    found = _name_outputs(names, built, contract, settings.source)
    notes += [*told, *contract.notes, *_shared_names(found)]
    return Classifier(
        network,
        found,
        mean,
        std,
        outputs=contract.outputs,
        gray=gray,
        view=built.view,
        notes=notes,
        code=built.code,
    )


def read_class_names(path: str) -> tuple[str, ...]:
    """Class names of a text file, one a line; raises UserError if it is missing, empty or no text.

    Two classes may have one name, as ImageNet's two cranes do.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.classes: cannot read {path}: {error}; give a text file with one class a line") from None
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise UserError(f"model.classes: {path} is empty; give one class a line")
    return names


def _shared_names(names: Sequence[str]) -> list[str]:
    """A sentence for each name, of three at most, that several classes have."""
    shared = [name for name, count in Counter(names).items() if count > 1][:3]
    outputs = {name: [index for index, other in enumerate(names) if other == name] for name in shared}
    return [
        f"outputs {' and '.join(map(str, places))} are both named {name!r}: a label of that name alone is neither"
        for name, places in outputs.items()
    ]


def _to_float32(network: nn.Module) -> list[str]:
    """Bring a network to the CPU and to float32; a sentence where it was in another precision."""
    tensors = [*network.parameters(), *network.buffers()]
    other = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    network.to("cpu", torch.float32)
    return [
        f"{str(kind).removeprefix('torch.')} weights are computed with in float32" for kind in sorted(other, key=str)
    ]


def _takes_gray(network: nn.Module, size: int, where: str) -> bool:
    """Whether a network takes images of one channel, and not of three; raises UserError if it takes yet others."""
    channels = input_channels(network)
    if channels in (None, 3) or _runs(network, two_images(size)):
        return False
    if channels == 1:
        return True
    raise UserError(
        f"{where} takes images of {channels} channels; an image has three here (red, green, blue), or one (gray): wrap "
        "the network in a module that makes the others of these"
    )


@torch.no_grad()
def _runs(network: nn.Module, images: Tensor) -> bool:
    try:
        network(images[:1].clone())
    except Exception:  # the user's own code may raise anything; the contract tells it
        return False
    return True


def _normalization(settings: ModelSettings, built: Built, size: int, gray: bool) -> tuple[Numbers, Numbers, list[str]]:
    """Mean and std of the input: the config's, the source's, none for a network with its own, or ImageNet's."""
    images = two_images(size, 1 if gray else 3)
    own = own_normalization(built.network, images[:1]) if built.mean is None and _runs(built.network, images) else None
    given = bool(settings.mean or settings.std)
    notes = own.told(given) if own else []
    mean, std = built.mean or IMAGENET_MEAN, built.std or IMAGENET_STD
    if own and own.white:
        if not given:
            mean, std = (0.0,) * 3, (1 / own.white,) * 3
    elif gray and built.mean is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
        if not (settings.mean and settings.std):
            notes = ["gray is given to it in [0, 1]; model.mean and std, each thrice the same, normalise it"]
    mean, std = (numbers * (3 // len(numbers)) for numbers in (settings.mean or mean, settings.std or std))
    if gray and (len(set(mean)) > 1 or len(set(std)) > 1):
        raise UserError(
            f"model.mean and model.std are {list(mean)} and {list(std)}, but {settings.source} takes one channel; give "
            "one number three times"
        )
    return mean, std, notes


def _name_outputs(names: tuple[str, ...] | None, built: Built, contract: Contract, source: str) -> tuple[str, ...]:
    """Names of the classes: the list's, the source's or numbers; of a single output, the complement comes first."""
    found = names or built.class_names
    single = contract.columns == 1
    if found is None:
        return tuple(str(index) for index in range(2 if single else contract.columns))
    if single and len(found) == 1:
        return (f"not {found[0]}", found[0])
    if len(found) != (2 if single else contract.columns):
        remedy = (
            "for that class and its complement: list both, the complement first"
            if single
            else "give one class a line, in the order of the outputs"
        )
        raise UserError(
            f"model.classes lists {len(found)} classes but {source} has {contract.columns} "
            f"output{'' if single else 's'}; {remedy}"
        )
    return found
