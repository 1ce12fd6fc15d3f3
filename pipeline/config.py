"""The one file a user edits, ``pipeline.yaml``: read, checked against the stages' settings, frozen."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.workers.cluster import ClusterSettings
from stages.audit.settings import AuditSettings
from stages.explain.network.settings import ModelSettings
from stages.explain.network.view import ViewSettings
from stages.explain.settings import ExplainSettings
from stages.ingest.settings import DatasetSettings
from stages.review.settings import ReviewSettings
from stages.score.settings import ScoreSettings
from storage import Run
from storage.errors import UserError, dotted, first_problem, quoted
from storage.files import is_url, parse_yaml


class Config(BaseModel):
    """A whole ``pipeline.yaml``. Each section is the settings of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    run: str
    """Directory of the run: a path or an fsspec URL."""
    dataset: DatasetSettings
    model: ModelSettings = Field(default_factory=ModelSettings)
    view: ViewSettings = Field(default_factory=ViewSettings)
    explain: ExplainSettings = Field(default_factory=ExplainSettings)
    score: ScoreSettings = Field(default_factory=ScoreSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    review: ReviewSettings = Field(default_factory=ReviewSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)


_TOLD = 20
"""Problems of a config that are told, a line each."""

_PATHS = {
    "dataset": ("path", "images", "mapping", "synsets", "truth"),
    "model": ("checkpoint", "classes"),
    "review": ("database",),
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config at ``path`` with ``a.b=c`` overrides; relative paths are taken from the config's own folder.

    Raises UserError naming the file, the key and the nearest key for anything that does not fit.
    """
    path = Path(path)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}; copy pipeline.yaml and edit it") from None
    except ValueError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys; copy pipeline.yaml and edit it")
    for override in overrides:
        _override(content, override)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        told = [_explain(path, content, dict(problem)) for problem in problems[:_TOLD]]
        more = [f"{path}: ... and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        raise UserError(*told, *more) from None
    if taken := list(_truths_taken_for_numbers(content, config)):
        raise UserError(*(f"{path}: {key}: true and false are no numbers (it is {value})" for key, value in taken))
    return _resolve_paths(config, path.resolve().parent)


def _truths_taken_for_numbers(content: Any, settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Keys whose ``true``, ``yes`` or ``on`` pydantic has taken for 1, and ``false``, ``no`` or ``off`` for 0."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _truths_taken_for_numbers(value, getattr(settings, name, None), f"{key}.{name}".lstrip("."))
    elif isinstance(content, list) and isinstance(settings, tuple):
        for number, (value, setting) in enumerate(zip(content, settings, strict=True)):
            yield from _truths_taken_for_numbers(value, setting, f"{key}[{number}]")
    elif isinstance(content, bool) and isinstance(settings, int | float) and not isinstance(settings, bool):
        yield key, str(content).lower()


def stored_config(run: Run) -> Config:
    """The config that a run was made with, from its run.json; raises UserError for none, or another version's."""
    if not run.info.config:
        raise UserError(f"{run.url} was not finished: its run.json has no config; `sightline run CONFIG` makes it")
    try:
        return Config.model_validate(run.info.config)
    except ValidationError as error:
        what = first_problem([dict(problem) for problem in error.errors()])
        raise UserError(f"{run.url}/run.json: {what}; run the pipeline again with this version") from None


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {quoted(override)} is not understood; write --set explain.steps=40")
    section = content
    *parents, last = key.split(".")
    for parent in parents:
        child = section.get(parent)
        if not isinstance(child, dict):
            child = section[parent] = {}
        section = child
    try:
        section[last] = parse_yaml(value)
    except ValueError:
        raise UserError(f"--set {quoted(override)}: the value is not YAML; quote it") from None


def _explain(path: Path, content: dict[str, Any], problem: dict[str, Any]) -> str:
    """One line for one of pydantic's problems."""
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = dotted(location)
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument", "dataclass_extra", "invalid_key"):
        known = _known_keys(str(location[0]) if len(location) > 1 else None)
        name = str(location[-1])
        near = difflib.get_close_matches(name, known, n=1)
        near = near or [f"{section}.{name}" for section in _sections() if name in _known_keys(section)]
        hint = f"did you mean {near[0]}?" if near else f"keys here are {', '.join(known)}"
        return f"{path}: unknown key {key}; {hint}"
    if problem["type"] == "missing":
        return f"{path}: the key {key} is missing"
    if problem["type"] == "value_error":  # raised by the stage's own settings, which name the key and its value
        return f"{path}: {key}: {' '.join(str(problem['msg']).split()).removeprefix('Value error, ')}"
    return f"{path}: {key}: {problem['msg']} (it is {quoted(problem.get('input'))})"


def _sections() -> list[str]:
    return [name for name, field in Config.model_fields.items() if dataclasses.is_dataclass(field.annotation)]


def _known_keys(section: str | None) -> list[str]:
    if section is None:
        return list(Config.model_fields)
    settings = Config.model_fields[section].annotation
    return [field.name for field in dataclasses.fields(settings)]  # type: ignore[arg-type]


def resolve_source(source: str, folder: Path) -> str:
    """A model's source with the path in it, if it has one, taken from ``folder``."""
    kind, _, name = source.partition(":")
    file, colon, factory = name.rpartition(":")
    if kind == "python" and file.endswith(".py"):
        return f"python:{_resolve(file, folder)}{colon}{factory}"
    if kind in ("timm", "huggingface") and name.startswith((".", "/", "~")):
        return f"{kind}:{_resolve(name, folder)}"
    return source


def _resolve(value: str, folder: Path) -> str:
    if is_url(value):
        return value
    try:
        return str(folder / Path(value).expanduser())
    except RuntimeError as error:
        raise UserError(f"{quoted(value)}: {error}; write the whole path") from None


def _resolve_paths(config: Config, folder: Path) -> Config:
    changes: dict[str, Any] = {"run": _resolve(config.run, folder)}
    for section, names in _PATHS.items():
        settings = getattr(config, section)
        given = {name: _resolve(value, folder) for name in names if (value := getattr(settings, name))}
        changes[section] = replace(settings, **given)
    changes["model"] = replace(changes["model"], source=resolve_source(config.model.source, folder))
    return config.model_copy(update=changes)
