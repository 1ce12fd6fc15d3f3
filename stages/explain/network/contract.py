"""What a classifier must do to be explained, checked by value on two images when it is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.explain.network.factory import said
from stages.explain.network.outputs import Outputs, find_outputs, place_of, taken, without_last_activation
from stages.explain.network.settings import OutputForm
from stages.explain.network.trace import first_call, first_difference, near, recorded
from storage.errors import UserError

SAME = 1e-3
"""Difference of two results, as a share of the largest logit, up to which they are the same: rounding makes less."""

CONSTANT = 1e-6
"""Difference of two images' results, as such a share, below which the network does not tell them apart."""

NO_TORCHSCRIPT = (
    "is TorchScript, whose layers cannot be watched as it runs, so there are no feature maps; give the network's "
    "Python code (model.source python:...) and its weights as model.checkpoint: "
    "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
)

_SIZES = (28, 32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 260, 288, 299, 300, 320, 331, 336, 380, 384, 448, 512)
"""Sides, px, that are tried where a network does not take the view's."""


@dataclass(frozen=True)
class Contract:
    """What was found of a network that can be explained."""

    outputs: Outputs
    """What it returns."""
    columns: int
    """Numbers that it returns for an image."""
    wraps: bool
    """Whether they are inside a dict, a tuple or more dimensions than (N, C)."""
    notes: tuple[str, ...]
    """Sentences about what was found."""


@dataclass(frozen=True)
class _Trial:
    """A network in eval mode and its input: two normalised images (2, 3, H, W). ``where`` names it in messages."""

    network: nn.Module
    inputs: Tensor
    where: str

    def values(self, inputs: Tensor) -> Tensor:
        """What the network returns for ``inputs``, (N, C); raises UserError for what is no such thing."""
        returned = self.network(inputs.clone())  # it may work in place
        try:
            values = taken(returned)
        except TypeError as error:
            self._refuse_form(str(error))
        if len(values) != len(inputs):
            self._refuse_form(f"{tuple(values.shape)} for {len(inputs)} image{'s' if len(inputs) > 1 else ''}")
        return values

    def _refuse_form(self, returned: str) -> NoReturn:
        side = self.inputs.shape[2]
        raise UserError(
            f"{self.where} does not return logits (N, C) for images (N, 3, {side}, {side}) but {returned}; "
            "wrap it in a module that does"
        )


def two_images(size: int, channels: int = 3) -> Tensor:
    """Two different pictures of coarse random colours, (2, channels, size, size) in [0, 1]; always the same."""
    coarse = torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


def check_contract(
    network: nn.Module, prepare: Callable[[Tensor], Tensor], wanted: OutputForm, size: int, where: str
) -> Contract:
    """See on two images of ``size`` px that a network in eval mode can be explained.

    Gradients must reach the input, the batch must not change a result, the same input must give the same output, and
    outputs must be finite and differ from image to image. A softmax or sigmoid module at the end is taken out of the
    network.

    Args:
        network: from normalised images to what :func:`stages.explain.network.outputs.taken` understands.
        prepare: normalises images (N, 3, H, W) in [0, 1].
        wanted: ``model.outputs``.
        size: side of the view, px.
        where: the network's name in messages.

    Raises:
        UserError: for what does not hold, with the module that is the cause, where one is, and the remedy.
    """
    trial = _Trial(network, prepare(two_images(size)), where)
    returned = _check_forward(trial, prepare)
    values, watched = _check_graph(trial)
    _check_repeatable(trial, values.detach())
    outputs, recognised = find_outputs(wanted, values, where)
    logits = outputs.logits(values)
    _check_sight(trial, logits.detach())
    _check_slope(trial, logits, watched)
    if outputs.form != "logits" and (module := without_last_activation(network, trial.inputs, sigmoid=outputs.sigmoid)):
        outputs = Outputs(sigmoid=outputs.sigmoid)
        recognised = f"{module} at the end is left out: the logits before it are maximised, and p is the same"
    notes = tuple(note for note in (place_of(returned), recognised) if note)
    wraps = not isinstance(returned, Tensor) or returned.ndim != 2
    return Contract(outputs, values.shape[1], wraps, notes)


@torch.no_grad()
def _check_forward(trial: _Trial, prepare: Callable[[Tensor], Tensor]) -> Any:
    """Check that the network takes one image, and two; returns its output for one."""
    _check_signature(trial)
    size = int(trial.inputs.shape[2])
    try:
        returned = trial.network(trial.inputs[:1].clone())
    except Exception as error:  # the user's own code may raise anything
        fitting = _fitting_size(trial.network, prepare)
        remedy = f"set view.size to {fitting}, which it takes" if fitting else "it takes no other usual size either"
        raise UserError(f"{trial.where} fails on an image of {size} x {size} px ({said(error)}); {remedy}") from error
    trial.values(trial.inputs[:1])
    try:
        trial.network(trial.inputs.clone())
    except Exception as error:  # the user's own code may raise anything
        raise UserError(
            f"{trial.where} takes one image but not two at a time ({said(error)}): its batch size is fixed; write "
            "x.flatten(1) in place of a view or reshape to one row"
        ) from error
    return returned


def _check_signature(trial: _Trial) -> None:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(trial.network.forward).parameters.values()
    required = [it.name for it in parameters if it.kind in kinds and it.default is it.empty]
    required += [it.name for it in parameters if it.kind is inspect.Parameter.KEYWORD_ONLY and it.default is it.empty]
    if len(required) > 1:
        raise UserError(
            f"{trial.where} takes {len(required)} inputs ({', '.join(required)}); only the image is given to it: wrap "
            "it in a module that fills in the others"
        )


def _fitting_size(network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> int | None:
    for size in _SIZES:
        try:
            network(prepare(two_images(size))[:1])
        except Exception:  # the user's own code may raise anything; this size does not fit
            continue
        return size
    return None


def _check_graph(trial: _Trial) -> tuple[Tensor, Tensor]:
    """Check that outputs are finite and have a gradient; returns the outputs and their input."""
    watched = trial.inputs.clone().requires_grad_()
    try:
        with torch.enable_grad():
            values = trial.values(watched)
    except UserError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise UserError(f"{trial.where} fails where a gradient is wanted ({said(error)})") from error
    if not bool(values.isfinite().all()):
        cause = first_call(
            recorded(trial.network, trial.inputs),
            lambda call: bool(call.input.isfinite().all()) and not bool(call.output.isfinite().all()),
        )
        raise UserError(
            f"{trial.where} gives NaN or infinity on an ordinary image, first in {cause}; check its weights, "
            "model.mean and model.std"
        )
    if not values.requires_grad:
        with torch.enable_grad():
            calls = recorded(trial.network, watched)
        cause = first_call(calls, lambda call: call.output.is_floating_point() and not call.output.requires_grad)
        raise UserError(
            f"{trial.where}: no gradient gets from its output to its input; the first module without one is {cause}; "
            "look for torch.no_grad, inference_mode, .detach(), .data or numpy in a forward"
        )
    return values, watched


@torch.no_grad()
def _check_repeatable(trial: _Trial, values: Tensor) -> None:
    """Check that an output depends on its own image and on nothing else."""
    if not near(values, trial.values(trial.inputs), SAME):
        a, b = (recorded(trial.network, trial.inputs) for _ in range(2))
        cause = first_difference(a, b, lambda x, y: near(x, y))
        raise UserError(
            f"{trial.where} gives the same image another output each time, first in {cause}; what is for training must "
            "be off in eval mode (F.dropout needs training=self.training)"
        )
    if not near(values[:1], trial.values(trial.inputs[:1]), SAME):
        alone, pair = recorded(trial.network, trial.inputs[:1]), recorded(trial.network, trial.inputs)
        cause = first_difference(alone, pair, lambda x, y: near(x, y[: len(x)]))
        raise UserError(
            f"{trial.where} gives an image another output in a batch than alone, first in {cause}; a batch norm left "
            "in training mode does that, or a softmax, mean or norm over the batch"
        )


@torch.no_grad()
def _check_sight(trial: _Trial, logits: Tensor) -> None:
    """Check that the logits of two images differ."""
    if _halves_alike(logits):
        cause = first_call(
            recorded(trial.network, trial.inputs),
            lambda call: not _halves_alike(call.input) and _halves_alike(call.output),
        )
        raise UserError(
            f"{trial.where} gives two different images the same output; {cause} no longer tells them apart: check its "
            "weights (is model.checkpoint set?), model.mean and model.std"
        )


def _halves_alike(batch: Tensor) -> bool:
    half = len(batch) // 2
    return near(batch[:half], batch[half:], CONSTANT)


def _check_slope(trial: _Trial, logits: Tensor, watched: Tensor) -> None:
    """Check that the gradient at the input is finite and not 0."""
    # In a random direction of the outputs: the sum over all classes may be constant.
    direction = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(0))
    try:
        (slope,) = torch.autograd.grad((logits * direction).sum(), watched, allow_unused=True)
    except Exception as error:  # a function of the user's own may lack a backward, or raise anything in it
        raise UserError(f"{trial.where}: its gradient cannot be computed ({said(error)})") from error
    if slope is not None and bool(slope.isfinite().all()) and bool(slope.any()):
        return
    kind = "not finite" if slope is not None and not bool(slope.isfinite().all()) else "0"
    raise UserError(
        f"{trial.where}: the gradient of its output with respect to the image is {kind}; an argmax, a rounding or a "
        "comparison in a forward has none"
    )


def refuse_unreachable(network: object, where: str) -> nn.Module:
    """The network, where its layers can be watched and have gradients; what torch.compile wraps is unwrapped.

    Raises UserError, with the remedy, for TorchScript, an exported program, a quantised network, weights that were
    never made, or what is no module at all. ``where`` names the network in the message.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(f"{where} {NO_TORCHSCRIPT}")
    if isinstance(network, torch.export.ExportedProgram | torch.export.UnflattenedModule) or _is_exported(network):
        raise UserError(
            f"{where} is an exported program, which has no layers to watch; give the network's Python code "
            "(model.source python:...) and its weights as model.checkpoint: "
            "torch.save(torch.export.load(FILE).state_dict, 'weights.pt')"
        )
    if not isinstance(network, nn.Module):
        raise UserError(f"{where} returned {type(network).__name__}; return a torch.nn.Module")
    if hasattr(network, "_orig_mod"):
        return refuse_unreachable(network._orig_mod, where)
    for path, module in network.named_modules():
        name = f"{path or 'the network'} ({type(module).__name__})"
        own = list(module.parameters(recurse=False))
        if ".quantized." in type(module).__module__ or not all(weight.is_floating_point() for weight in own):
            raise UserError(
                f"{where} is quantised, first in {name}, and no gradient passes through whole numbers; give the "
                "float32 network that it was made from"
            )
        if any(nn.parameter.is_lazy(weight) for weight in own):
            raise UserError(
                f"{where}: {name} has no weights before its first input; pass an image through it in the factory, and "
                "load its weights then"
            )
        if any(weight.is_meta for weight in own):
            raise UserError(f"{where}: {name} is on the device meta, without data; build it on the CPU")
    return network


def _is_exported(network: Any) -> bool:
    """Whether it is a graph of plain operations, as the module of an exported program is."""
    return isinstance(network, torch.fx.GraphModule) and not any(
        node.op == "call_module" and not str(node.target).startswith("_guards") for node in network.graph.nodes
    )
