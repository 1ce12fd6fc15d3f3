"""Settings of the explain stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from stages.explain.opticam import OptiCamSettings
from storage.errors import UserError

PROFILES = {"paper": OptiCamSettings(steps=100, learning_rate=0.1)}


@dataclass(frozen=True)
class ExplainSettings:
    """Which maps to make, and how the work is cut."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    method: Literal["opti_cam"] = "opti_cam"
    targets: tuple[Literal["label", "predicted"], ...] = ("label", "predicted")
    """Classes to explain; computed once where they agree."""
    profile: Literal["paper"] = "paper"
    """``paper``: Adam, learning rate 0.1, 100 steps."""
    steps: int | None = None
    """Overrides the profile's number of steps."""
    learning_rate: float | None = None
    """Overrides the profile's learning rate."""
    batch_size: int = 16
    """Images on the device at a time."""
    shard_size: int = 64
    """Samples a task; a multiple of 32, the rows of a Zarr chunk."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; take at least 1")
        if self.shard_size < 1 or self.shard_size % 32:
            raise ValueError(f"shard_size is {self.shard_size}; take a multiple of 32 (the rows of a Zarr chunk)")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets are {list(self.targets)}; name label, predicted or both, each once")
        if (self.steps is not None and self.steps < 1) or (self.learning_rate is not None and self.learning_rate <= 0):
            raise ValueError("steps and learning_rate must be positive")

    @property
    def opticam(self) -> OptiCamSettings:
        """The optimiser's settings: the profile with its overrides."""
        profile = PROFILES.get(self.profile)
        if profile is None:
            raise UserError(f"explain.profile {self.profile!r} is unknown; there are {', '.join(PROFILES)}")
        return OptiCamSettings(
            steps=self.steps or profile.steps,
            learning_rate=self.learning_rate or profile.learning_rate,
            tolerance=profile.tolerance,
        )
