"""run.json: what a run was made with, and on what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from storage.errors import UserError, first_problem

S = TypeVar("S")


@dataclass(frozen=True)
class Explained:
    """The last explain stage of a run that computed something; the summary takes images a second from it."""

    images: int = 0
    seconds: float = 0.0
    device: str = ""
    workers: int | None = None
    """Worker processes on this machine; None where they run elsewhere."""
    made_with: Mapping[str, str] = field(default_factory=dict)
    """What the bytes of maps can depend on beside settings and images: versions, a digest of the code, the device and
    the threads, by name."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds of all tasks together, by what they did: ``ShardTimes`` of stages/explain."""
    commit: str | None = None
    """The commit of the git checkout that the code came from; None where it came from none."""
    commit_changed: bool | None = None
    """Whether files of the code differed from that commit, or were not in it; None without a commit."""


@dataclass(frozen=True)
class RunInfo:
    """Content of run.json: what the run was made with, and on what.

    ``misfed`` and ``tried`` are written before the first map, and so is all but ``timings`` and ``finished`` once it is
    known what makes the maps; these two are empty until a run has ended.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    """The whole ``pipeline.yaml``, defaults filled in, by section."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """Version by package; None for one that is not installed."""
    weights_digest: str = ""
    layer: str = ""
    optimizer: str | None = None
    """How the method's maps are optimised, in words; None for a method that does not."""
    dataset_digest: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage, of the last run."""
    explained: Explained = Explained()
    misfed: str = ""
    """What passes on a few images, before the first map, found wrong with how the classifier is fed, in a sentence."""
    tried: str = ""
    """Digest of the network, how it is fed, and the images on which ``misfed`` was found; empty if none were tried."""
    finished: str = ""
    """When the last run ended, ISO 8601, UTC."""

    def section(self, name: str) -> dict[str, Any]:
        """Settings of a section of the config; empty where the config has none."""
        found = self.config.get(name)
        return dict(found) if isinstance(found, Mapping) else {}

    def settings(self, name: str, kind: type[S]) -> S:
        """A section of the config as settings of a stage; its defaults where the config does not say.

        Raises UserError for keys and values that this version does not take.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(kind).validate_python(self.config.get(name) or {})
        except ValidationError as error:
            what = first_problem(error.errors())
            raise UserError(
                f"run.json: config.{name}: {what}; it is of another version, run the pipeline again"
            ) from None

    @classmethod
    def of_json(cls, text: str | bytes) -> RunInfo:
        """The inverse of :meth:`to_json`; keys of another version are left out.

        Raises ValueError for what is no JSON, or holds a value of another kind than a field has.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ValueError(first_problem(error.errors())) from None

    def to_json(self) -> str:
        """As run.json has it."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
