"""Read a network's weights from a checkpoint, as training writes it: wrapped, prefixed, beside other things."""

from __future__ import annotations

import argparse
import itertools
import pathlib
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.explain.network.factory import said
from storage.errors import UserError

StateDict = Mapping[str, Tensor]

DEPTH = 3
"""Dicts inside dicts in which weights are looked for."""

_AVERAGED = ("ema", "swa", "averag", "teacher")
"""What the keys and prefixes of averaged weights contain; weights of other names come first."""

_INERT: list[Any] = [
    argparse.Namespace,  # torchvision's training scripts keep their command line beside the weights
    pathlib.PosixPath,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]  # an accuracy, say
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]  # as numpy 1 calls it
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool")),
]
"""Types beside tensors that a checkpoint may hold: records, paths and numbers, none of which runs code."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")

_USUAL_KEYS = ("state_dict", "model_state_dict", "net", "model")
"""Where training keeps weights."""

_MOST_OPCODES = 1_000_000
"""Of a pickle that are looked at."""


@dataclass(frozen=True)
class _Place:
    """Weights of a network in a file."""

    label: str
    """What it is called: the name of its dict, and the prefix where several fit there."""
    name: str
    """Keys that lead to the dict of tensors, with dots; empty for the file itself."""
    prefix: str
    """What precedes the network's own names in it."""

    def __str__(self) -> str:
        return f"`{self.label}`" if self.label else "the file's top"


def load_checkpoint(network: nn.Module, path: str, key: str | None = None) -> list[str]:
    """Load the weights in the file ``path`` into ``network``; sentences about what was unwrapped.

    The weights are a dict of tensors, or inside dicts such as ``state_dict``, ``model`` or ``ema``: the first whose
    keys are the network's, perhaps after one prefix (``module.``); averages come last. ``key`` names another, with dots
    from dict to dict and to a prefix.
    The file is read with ``weights_only=True`` or as safetensors; nothing in it is executed.

    Raises UserError for a file that is missing, is something else or holds no weights that fit.
    """
    if not Path(path).is_file():
        raise UserError(f"model.checkpoint: no file {path}; give the path of a state dict saved with torch.save")
    content = _read(path)
    found, wanted = dict(_state_dicts(content)), network.state_dict()
    places = list(_places(found, wanted))
    if key is not None:
        found, places = _at(key, found, places, path)
    if not places:
        raise UserError(_does_not_fit(path, content, found, wanted))
    chosen = min(places, key=lambda place: any(word in place.label.lower() for word in _AVERAGED))
    state, prefix = found[chosen.name], chosen.prefix
    weights = {name: state[prefix + name] for name in wanted if prefix + name in state}
    if differing := [name for name, value in weights.items() if value.shape != wanted[name].shape]:
        raise UserError(f"model.checkpoint: {path} does not fit the network: {_misfit(differing, weights, wanted)}")
    network.load_state_dict(weights, strict=False)
    return list(_told(chosen, places, state, weights))


def _at(
    key: str, found: Mapping[str, StateDict], places: list[_Place], path: str
) -> tuple[dict[str, StateDict], list[_Place]]:
    """The dicts and places that ``model.checkpoint_key`` names; raises UserError if there are none."""
    key = key.rstrip(".")
    chosen = [place for place in places if key in (place.label, place.name)]
    chosen = chosen or [place for place in places if key == place.prefix.rstrip(".") and key not in found]
    names = {place.name for place in chosen} or {key} & found.keys()
    if not names:
        labels = {name: [place.label for place in places if place.name == name] or [name] for name in found}
        there = _some([label or "(the file itself)" for several in labels.values() for label in several]) or "none"
        raise UserError(f"model.checkpoint_key: {path} has no weights at {key!r}; it has these: {there}")
    return {name: found[name] for name in names}, chosen


def _told(chosen: _Place, places: list[_Place], state: StateDict, weights: StateDict) -> Iterator[str]:
    others = [place for place in places if place != chosen]
    if others:
        named = " or ".join(map(str, others))
        yield f"checkpoint: weights at {chosen}, not at {named}; model.checkpoint_key takes another"
    elif chosen.label:
        yield f"checkpoint: weights at {chosen}"
    if chosen.prefix:
        yield f"checkpoint: the prefix `{chosen.prefix}` of its keys is left out"
    beside = tuple(place.prefix for place in others if place.name == chosen.name)
    rest = [name for name in state if name.removeprefix(chosen.prefix) not in weights and not name.startswith(beside)]
    if rest:
        yield f"checkpoint: {len(rest)} more tensors are not the network's: {_some(rest)}"
    if half := {value.dtype for value in weights.values() if value.dtype in (torch.float16, torch.bfloat16)}:
        yield f"checkpoint: {str(half.pop()).removeprefix('torch.')} weights are computed with in float32"


def _state_dicts(content: Any, path: str = "", depth: int = DEPTH) -> Iterator[tuple[str, StateDict]]:
    """Dicts from names to tensors in a checkpoint, with the keys that lead there, outermost first."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield path, content
        return
    if depth:
        for name, value in content.items():
            yield from _state_dicts(value, f"{path}.{name}" if path else name, depth - 1)


def _places(found: Mapping[str, StateDict], wanted: StateDict) -> Iterator[_Place]:
    """Where in the dicts ``found`` all names of ``wanted`` are, in their order."""
    for name, state in found.items():
        prefixes = _prefixes(state, wanted)
        for prefix in prefixes:
            parts = (name, prefix.rstrip(".")) if len(prefixes) > 1 else (name,)
            yield _Place(".".join(filter(None, parts)), name, prefix)


def _prefixes(state: StateDict, wanted: StateDict) -> list[str]:
    """What precedes the names of ``wanted`` in those of ``state``, which must have them all; none if it has not.

    Beside a prefix may be what belongs to training (a loss, a counter), or other weights of the network. Without one
    nothing else may be there but such weights.
    """
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]  # eval mode does not read it
    ends = [name.removesuffix(needed[0]) for name in state if name.endswith(needed[0]) and name != needed[0]]
    found = [prefix for prefix in ends if all(prefix + inner in state for inner in needed)]
    bare = all(name in state for name in needed) and (state.keys() <= wanted.keys() or bool(found))
    return ["", *found] if bare else found


def _does_not_fit(path: str, content: Any, found: Mapping[str, StateDict], wanted: StateDict) -> str:
    if not found:
        what = (
            f"a dict of {_some(list(map(str, content)))}"
            if isinstance(content, Mapping)
            else f"a {type(content).__name__}"
        )
        return (
            f"model.checkpoint: {path} holds no weights but {what}; save the state dict: "
            "torch.save(model.state_dict(), path)"
        )
    name, state = max(found.items(), key=lambda item: len(item[1].keys() & wanted.keys()))
    missing, unknown = (
        [key for key in wanted if key not in state],
        [key for key in state if key not in wanted],
    )
    inside = f" (at `{name}`)" if name else ""
    return (
        f"model.checkpoint: {path}{inside} does not fit the network: {len(missing)} keys missing ({_some(missing)}), "
        f"{len(unknown)} unknown ({_some(unknown)}); check model.source"
    )


def _misfit(differing: list[str], weights: StateDict, wanted: StateDict) -> str:
    """What differs between tensors of one name, and the remedy: mostly it is the number of classes alone, which the
    last layer has, and a distilled or an auxiliary head beside it."""
    outputs = {(weights[name].shape[:1], wanted[name].shape[:1]) for name in differing}
    same_inside = all(weights[name].shape[1:] == wanted[name].shape[1:] for name in differing)
    name = differing[-1]
    if len(outputs) == 1 and same_inside and name in list(wanted)[-2:]:
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in differing))
        few = f"its last layer, {layers[0]}, has" if len(layers) == 1 else f"its heads ({', '.join(layers)}) have"
        return (
            f"{few} {len(weights[name])} outputs, and the network's {len(wanted[name])}; list the checkpoint's classes "
            "in model.classes, one a line, in the order of its outputs"
        )
    shapes = f"{tuple(weights[name].shape)} in the checkpoint and {tuple(wanted[name].shape)} in the network"
    return f"{len(differing)} tensors have another shape, such as {name}, {shapes}; check model.source"


def _some(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:3]) + (" ..." if len(names) > 3 else "")


def _read(path: str) -> Any:
    """The content of a file of weights; raises UserError in our words for what is none."""
    with open(path, "rb") as stream:
        head = stream.read(512)
    known = _other_format(path, head)
    if known:
        raise UserError(f"model.checkpoint: {path} {known}")
    if path.endswith(".safetensors") or _is_safetensors(head):
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_INERT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is not a plain state dict
        named = _GLOBAL.search(str(error))
        inside = f"it holds a {named.group(1)}" if named else "torch.save did not write it, or it is damaged"
        raise UserError(
            f"model.checkpoint: {path} does not load with weights_only=True ({inside}), and without that it could run "
            f"code of its own; where you trust it, save its weights alone: {_saved_alone(path, head)}"
        ) from error


def _saved_alone(path: str, head: bytes) -> str:
    """A line of Python that writes the weights of a file that only pickle reads. Nothing in the file is executed."""
    name = Path(path).name
    plain = head.startswith(b"\x80") and torch.serialization.MAGIC_NUMBER.to_bytes(10, "little") not in head[:16]
    load = (
        f"pickle.loads(pathlib.Path({name!r}).read_bytes())" if plain else f"torch.load({name!r}, weights_only=False)"
    )
    is_dict, texts = _pickled(path, head)
    if not is_dict:
        return f"model = {load}; torch.save(model.state_dict(), path)"
    if key := next((key for key in _USUAL_KEYS if key in texts), None):
        return f"content = {load}; torch.save(content[{key!r}], path)"
    numbers = "{name: torch.as_tensor(value) for name, value in content.items() if hasattr(value, 'shape')}"
    return f"content = {load}; torch.save({numbers}, path)"


def _pickled(path: str, head: bytes) -> tuple[bool, set[str]]:
    """Whether a pickle makes a dict, and the texts in it, by its opcodes; of what is no pickle, False and none."""
    try:
        with ExitStack() as stack:
            stream: IO[bytes] = stack.enter_context(open(path, "rb"))
            if head.startswith(b"PK"):
                archive = stack.enter_context(zipfile.ZipFile(stream))
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                stream = stack.enter_context(archive.open(name))
            steps = _opcodes(stream)
            if steps and steps[0][1] == torch.serialization.MAGIC_NUMBER:  # before torch 1.6: two more come before it
                steps = [_opcodes(stream) for _ in range(3)][-1]
    except Exception:  # of damaged archives and pickles zipfile and pickletools raise many types
        return False, set()
    is_dict = bool(steps) and (steps[0][0] == "EMPTY_DICT" or str(steps[0][1]).startswith("collections"))
    return is_dict, {value for _, value in steps if isinstance(value, str)}


def _opcodes(stream: IO[bytes]) -> list[tuple[str, Any]]:
    """Names and arguments of a pickle's opcodes, without those that say nothing of what it makes."""
    steps = itertools.islice(pickletools.genops(stream), _MOST_OPCODES)
    return [(step.name, value) for step, value, _ in steps if step.name not in ("PROTO", "FRAME")]


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins as safetensors: the length of a header, at most 100 MB, and the header, which is JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def _read_safetensors(path: str) -> StateDict:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  it is no dict
    except SafetensorError as error:
        raise UserError(
            f"model.checkpoint: {path} is no whole safetensors file ({said(error)}); copy or download it again"
        ) from None


def _other_format(path: str, head: bytes) -> str | None:
    """What a file is that begins with ``head`` and is no checkpoint, with the remedy; None if it may be one."""
    if not head:
        return "is empty (0 bytes); copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights themselves; fetch them: git lfs pull"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is a web page, not the file behind it; download it again (a login or a quota may have been in the way)"
    if head.startswith(b"\x89HDF"):
        return "is HDF5, as Keras writes it; Sightline audits PyTorch networks"
    if path.endswith(".onnx") or b"onnx" in head or head[4:8] == b"TFL3":
        return (
            "is ONNX or TFLite, which have no gradients; give the state dict of the PyTorch network that it came from"
        )
    if head.startswith(b"PK"):
        return _other_archive(path)
    return None


def _other_archive(path: str) -> str | None:
    if not zipfile.is_zipfile(path):
        return "is cut short: its end is missing; copy or download it again"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises many types for a damaged one
        return f"is a damaged archive ({said(error)}); copy or download it again"
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "is TorchScript, a program; save its weights: "
            f"torch.save(torch.jit.load({Path(path).name!r}).state_dict(), 'weights.pt')"
        )
    if any(name.endswith("serialized_exported_program.json") or "models/model.json" in name for name in names):
        return (
            "is an exported program; save its weights: "
            f"torch.save(torch.export.load({Path(path).name!r}).state_dict, 'weights.pt')"
        )
    if not any(name.endswith("data.pkl") for name in names):
        return f"is an archive of {_some(names)}, not a checkpoint; give a state dict saved with torch.save"
    return None
