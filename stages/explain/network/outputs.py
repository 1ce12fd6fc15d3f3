"""What a network returns, and the logits and probabilities that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stages.explain.network.settings import OutputForm
from storage.errors import UserError

Form = Literal["logits", "probabilities", "log_probabilities"]

TOLERANCE = 1e-4
"""How far the sum of probabilities may be from 1."""

_ONE = "one output: p is its sigmoid, and 1 - p is that of the complement"

_SHAPING = ("View", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "Alias", "ToCopy", "Unsafe")
"""Beginnings of the names of autograd's nodes that change no value."""

_POOLING = ("Mean", "Sum", "AdaptiveAvgPool")
"""... of those that keep values in [0, 1] there, if they were."""

_UNBOUNDED = ("Addmm", "Mm", "Bmm", "Convolution", "MkldnnConvolution", "Relu")
"""Nodes after which values in [0, 1] are logits that happen to be small."""


@dataclass(frozen=True)
class Outputs:
    """How what a network returns becomes logits (N, C), and these become p.

    With ``sigmoid`` each class is a question of its own: p is the sigmoid of its logit, and a single output z stands
    for two classes with the logits -z and z. Otherwise p is the softmax over the classes.
    """

    form: Form = "logits"
    sigmoid: bool = False

    def __call__(self, network: nn.Module, inputs: Any, returned: Any) -> Tensor:
        """A forward hook: the logits (N, C) in place of what the network returned."""
        return self.logits(taken(returned))

    def logits(self, values: Tensor) -> Tensor:
        """Logits (N, C) of values (N, C). The softmax of log p is p, so log p serves as a logit."""
        if self.form == "probabilities":
            info = torch.finfo(values.dtype)
            values = values.logit(info.eps) if self.sigmoid else values.clamp(min=info.tiny).log()
        return torch.cat([-values, values], 1) if self.sigmoid and values.shape[1] == 1 else values


def taken(returned: Any) -> Tensor:
    """The values (N, C) in what a network returned: a tensor, a dict's or dataclass's ``logits``, a tuple's first.

    (N,) counts as (N, 1), and (N, C, 1, 1) as (N, C). Raises TypeError, saying what was returned, for anything else.
    """
    values = _tensor_in(returned)
    if values is not None and values.ndim == 1:
        return values[:, None]
    if values is not None and values.ndim == 4 and values.shape[2:] == (1, 1):
        return values.flatten(1)
    if values is None or values.ndim != 2:
        raise TypeError(_described(returned))
    return values


def _tensor_in(returned: Any) -> Tensor | None:
    values = returned
    if isinstance(returned, Mapping):
        values = returned.get("logits")
    elif hasattr(returned, "logits"):
        values = returned.logits
    elif isinstance(returned, tuple | list) and returned:
        values = returned[0]
    return values if isinstance(values, Tensor) else None


def place_of(returned: Any) -> str | None:
    """Where :func:`taken` finds the values, in words; None for a tensor."""
    if isinstance(returned, Tensor):
        return None
    named = isinstance(returned, Mapping) or hasattr(returned, "logits")
    return f"returns {_described(returned)}: {'`logits`' if named else 'the first'} is taken"


def _described(returned: Any) -> str:
    """What a network returned, in words: types, shapes, keys."""
    if isinstance(returned, Tensor):
        return f"a tensor {tuple(returned.shape)}"
    if isinstance(returned, Mapping):
        return f"a dict of {', '.join(str(key)[:40] for key in list(returned)[:5])}"
    if isinstance(returned, tuple | list):
        return f"a {type(returned).__name__} of {', '.join(type(part).__name__ for part in returned[:3]) or 'nothing'}"
    return f"a {type(returned).__name__}"


def find_outputs(wanted: OutputForm, values: Tensor, where: str) -> tuple[Outputs, str | None]:
    """What ``values`` (N, C), with their autograd graph, are; and a sentence where they are not simply logits.

    ``wanted`` is ``model.outputs``, ``where`` the network in an error. Values that sum to 1 are probabilities, values
    of which exp sums to 1 are log-probabilities. Values in [0, 1] are sigmoids if the last operation was one; where it
    was another that may keep them there, nobody can tell, and UserError asks. A single output is a sigmoid's.
    """
    found, why = _recognise(values)
    if wanted == "auto":
        if found is None:
            raise UserError(
                f"{where} returns {why}, which may be probabilities or not; say what they are with "
                "model.outputs: logits, probabilities, log_probabilities or sigmoid"
            )
        return found, why
    bounded = _in_unit_range(values)
    if wanted == "sigmoid":
        if values.shape[1] > 1 and bounded and _sum_to_one(values):
            raise UserError(
                f"model.outputs is sigmoid, but {where} returns numbers that sum to 1, as a softmax's do; perhaps it "
                "is probabilities"
            )
        form: Form = "probabilities" if _may_be_probabilities(values) else "logits"
        said = "are sigmoids already" if form == "probabilities" else "are logits; p is their sigmoid, class by class"
        return Outputs(form, sigmoid=True), f"outputs {said} (model.outputs: sigmoid)"
    if wanted == "probabilities" and not (bounded and _sum_to_one(values)):
        remedy = "sigmoid" if bounded else "logits"
        raise UserError(
            f"model.outputs is probabilities, but {where} returns numbers that {_span(values)} and do not sum to 1; "
            f"perhaps it is {remedy}"
        )
    if wanted == "log_probabilities" and not _sum_to_one(values.exp()):
        raise UserError(
            f"model.outputs is log_probabilities, but {where} returns numbers that {_span(values)}, and their exp does "
            "not sum to 1; perhaps it is logits"
        )
    if wanted == "logits" and values.shape[1] == 1:
        return Outputs(sigmoid=True), _ONE
    if wanted == "logits" and found != Outputs():
        return Outputs(), f"model.outputs says logits, although they look otherwise: {why}"
    return Outputs(wanted), None


def _recognise(values: Tensor) -> tuple[Outputs | None, str | None]:
    if values.shape[1] > 1 and _in_unit_range(values) and _sum_to_one(values):
        return Outputs("probabilities"), "outputs are probabilities: they sum to 1; log p serves as the logit"
    if values.shape[1] > 1 and bool((values <= 0).all()) and _sum_to_one(values.exp()):
        return Outputs("log_probabilities"), "outputs are log-probabilities: their exp sums to 1"
    if _ends_with(values, "Sigmoid"):
        return Outputs("probabilities", sigmoid=True), "outputs are sigmoids, each class by itself"
    if _may_be_probabilities(values):
        return None, f"numbers that {_span(values)}"
    for name in ("LogSigmoid", "Tanh", "Hardtanh"):
        if _ends_with(values, name):
            return None, f"the result of a {name.lower()}"
    if values.shape[1] == 1:
        return Outputs(sigmoid=True), _ONE
    return Outputs(), None


def _in_unit_range(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _may_be_probabilities(values: Tensor) -> bool:
    """Whether values are in [0, 1], and by more than chance."""
    return _in_unit_range(values) and not _ends_with(values, *_UNBOUNDED, through=_SHAPING + _POOLING)


def _sum_to_one(values: Tensor) -> bool:
    return bool(((values.double().sum(1) - 1).abs() <= TOLERANCE).all())


def _ends_with(values: Tensor, *names: str, through: tuple[str, ...] = _SHAPING) -> bool:
    """Whether the last operation on ``values`` is one of autograd's nodes of these names; ``through`` do not count."""
    node = values.grad_fn
    while node is not None and node.name().startswith(through) and node.next_functions:
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith(tuple(f"{name}Backward" for name in names))


def _span(values: Tensor) -> str:
    return f"lie in [{values.min():.3g}, {values.max():.3g}]"


def without_last_activation(network: nn.Module, inputs: Tensor, *, sigmoid: bool) -> str | None:
    """Replace a softmax or log-softmax module (a sigmoid one, if asked for) that gives the network's output by the
    identity, so that the logits before it are seen, exact where it saturates. The module's path and type; None where
    there is none.
    """
    kinds = (nn.Sigmoid,) if sigmoid else (nn.Softmax, nn.LogSoftmax)
    made: list[tuple[str, nn.Module, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda module, _, output, path=path: made.append((path, module, output)))
        for path, module in network.named_modules()
        if path and isinstance(module, kinds)
    ]
    try:
        with torch.no_grad():
            returned = network(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    last = [(path, module) for path, module, output in made if output is _tensor_in(returned)]
    if len(last) != 1 or sum(module is last[0][1] for _, module, _ in made) > 1:
        return None
    path, module = last[0]
    network.set_submodule(path, nn.Identity())
    return f"{path} ({type(module).__name__})"
