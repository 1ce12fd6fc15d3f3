"""Where the pretrained weights of a torchvision architecture come from, also on a machine without a network."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision

from storage.errors import UserError

_DIGITS = re.compile(r"-([0-9a-f]{8,64})\.pth?$")
_TIMEOUT_S = 10.0


class _Unavailable(Exception):
    """One place does not have the weights; the text says why."""


def resolve_weights(architecture: str, weights: str = "DEFAULT") -> Path:
    """Find the weight file of a torchvision architecture, in the first of three places that has it.

    The places: torch's own cache (`torch.hub.get_dir()`), an installed package that carries a file of torchvision's
    file name, torchvision's download. torchvision ends a file name with the first
    digits of the file's sha256; a cached, packaged or downloaded file whose digest differs is not used.

    Args:
        architecture: a name of `torchvision.models.list_models()`, e.g. "mobilenet_v2".
        weights: a member of the architecture's weights enum, e.g. "IMAGENET1K_V1".

    Raises:
        UserError: unknown names, or no place that has the file.
    """
    url = _weights_url(architecture, weights)
    name = url.rsplit("/", 1)[-1]
    reasons = []
    places: tuple[tuple[str, Callable[[], Path]], ...] = (
        ("1. torch's cache", lambda: _from_cache(name)),
        ("2. an installed package", lambda: _from_package(name)),
        ("3. torchvision's download", lambda: _from_download(url, name)),
    )
    for place, find in places:
        try:
            return find()
        except _Unavailable as reason:
            reasons.append(f"{place}: {reason}")
    raise UserError(
        f"no weights for {architecture} ({weights}, file {name}). Three places were tried:",
        *(f"  {reason}" for reason in reasons),
        f"Put {name} into {_cache_folder()}, or give your own file as model.checkpoint (the demo: `sightline demo "
        f"--weights FILE`). Other weights (model.weights): {', '.join(_others(architecture, weights)) or 'none'}.",
    )


def _others(architecture: str, weights: str) -> list[str]:
    """Names of the architecture's other weights; one of these may be at hand."""
    choices = torchvision.models.get_model_weights(architecture)
    return [name for name, member in choices.__members__.items() if member is not choices[weights]]


def _weights_url(architecture: str, weights: str) -> str:
    try:
        choices = torchvision.models.get_model_weights(architecture)
    except ValueError:
        near = difflib.get_close_matches(architecture, torchvision.models.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; see torchvision.models.list_models()"
        raise UserError(f"torchvision has no architecture {architecture!r}{hint}") from None
    if weights not in choices.__members__:
        known = ", ".join(choices.__members__) or "none"
        raise UserError(f"{architecture} has no weights {weights!r}; torchvision knows: {known}")
    return str(choices[weights].url)


def _from_cache(name: str) -> Path:
    file = _cache_folder() / name
    if not file.is_file():
        raise _Unavailable(f"{file} does not exist")
    _check_digest(file, name)
    return file


def _from_package(name: str) -> Path:
    if _DIGITS.search(name) is None:
        raise _Unavailable(f"the name {name} carries no digits of a digest to check a file against")
    refused = []
    for package, file in _packaged_files(name):
        try:
            _check_digest(file, name)
        except _Unavailable as reason:
            refused.append(f"{package}: {reason}")
        else:
            return file
    raise _Unavailable("; ".join(refused) or f"no installed distribution carries a file named {name}")


def _packaged_files(name: str) -> Iterator[tuple[str, Path]]:
    for distribution in importlib.metadata.distributions():
        record = distribution.read_text("RECORD")
        if record is None or name not in record:  # cheaper than parsing each record
            continue
        for packaged in distribution.files or ():
            if packaged.name == name:
                yield str(distribution.metadata["Name"]), Path(str(distribution.locate_file(packaged)))


def _from_download(url: str, name: str) -> Path:
    digits = _DIGITS.search(name)
    file = _cache_folder() / name
    try:
        # torch's download has no timeout and would hang behind a firewall that drops packets.
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_S).close()
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digits.group(1) if digits else None, progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch found another digest
        raise _Unavailable(f"{url}: {error}") from error
    return file


def _check_digest(file: Path, name: str) -> None:
    expected = _DIGITS.search(name)
    if expected is None:
        return
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _Unavailable(f"{file} cannot be read: {error}") from error
    if not digest.startswith(expected.group(1)):
        raise _Unavailable(f"{file} has a sha256 that begins with {digest[:8]}, not with {expected.group(1)}")


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
