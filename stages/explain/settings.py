"""Settings of the explain stage."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from stages.explain.methods.methods import Method, map_normalization, optimizes
from stages.explain.opticam.objective import Normalization, Objective
from stages.explain.opticam.opticam import FAST, Fill, OptiCamSettings, Precision

PROFILES = {
    "paper": OptiCamSettings(steps=100, learning_rate=0.1),
    "fast": FAST,
}

_TARGET = re.compile(r"label|predicted|top[1-9][0-9]*")


def rank_of(target: str) -> int:
    """Which of the classes, the most probable first, ``predicted`` (1) or ``topK`` (K) names; 0 for ``label``."""
    return {"label": 0, "predicted": 1}[target] if not target.startswith("top") else int(target.removeprefix("top"))


@dataclass(frozen=True)
class ExplainSettings:
    """Which maps to make, and how the work is cut."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    method: Method = "opti_cam"
    """Saliency method. A run keeps the maps of every method it was run with, side by side. ``grad_cam`` to
    ``ablation_cam`` need the extra ``baselines``; ``uniform``, ``fake_cam`` and ``center`` are null maps."""
    targets: tuple[str, ...] = ("label", "predicted")
    """Classes to explain: ``label``, ``predicted``, ``top2`` (the second most probable), ``top3`` ... A class that
    several of them name is computed once."""
    profile: Literal["fast", "paper"] = "fast"
    """``fast``: Adam on the map itself, projected onto the combinations of the channels, 16 steps; needs the
    normalization ``range``. ``paper``: Adam on the weights of the channels, learning rate 0.1, 100 steps."""
    steps: int | None = None
    """Overrides the profile's number of steps."""
    learning_rate: float | None = None
    """Overrides the profile's learning rate."""
    objective: Objective = "mask"
    """What is maximised: ``mask`` (the paper's default), ``diff``, ``iomask``, ``iodiff`` or ``margin``."""
    normalization: Normalization = "range"
    """How the map becomes a mask: ``range`` (the paper's default), ``max`` or ``sigmoid``."""
    fill: Fill = "black"
    """What masked-out pixels become while optimising: ``black``, the image's ``mean`` colour, its ``blur``, or
    ``training_mean``, the mean colour of the training set, which is what a mask on the normalised input leaves."""
    outside: bool = True
    """Also ask Opti-CAM what outside the boxes costs the class most when it is hidden: 8 more forward passes and 6
    backward. Its map is a third proposal of what to hide."""
    scan: bool = False
    """Also hide windows of 10% of the view on a 5 x 5 lattice, outside the boxes, and count the costliest: 25 more
    forward passes, for what no map points at."""
    curves: bool = False
    """Also take insertion and deletion curves: 450 more forward passes at 224 px."""
    precision: Precision = "float32"
    """Arithmetic of the network while optimising: ``float32`` or ``bfloat16`` (autocast). Probes are in float32."""
    compile: bool = False
    """Run the network through torch.compile while optimising; needs a C++ compiler, and a minute at the start."""
    batch_size: int = 16
    """Images on the device at a time. 0: 16 on a CPU, on a GPU what its free memory holds. Out of memory, a worker
    goes on with half of it."""
    shard_size: int = 64
    """Samples a task; a multiple of 32, the rows of a Zarr chunk."""

    def __post_init__(self) -> None:
        if self.batch_size < 0:
            raise ValueError(f"batch_size is {self.batch_size}; take at least 1, or 0 for what the device holds")
        if self.shard_size < 1 or self.shard_size % 32:
            raise ValueError(f"shard_size is {self.shard_size}; take a multiple of 32 (the rows of a Zarr chunk)")
        unknown = [target for target in self.targets if not _TARGET.fullmatch(target)]
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets are {list(self.targets)}; name label, predicted, top2, top3 ..., each once")
        self.opticam  # noqa: B018  settings that do not go together are refused here, not hours later

    def made_by(self) -> dict[str, Any]:
        """What of these settings the method's maps and masks depend on, beside batch and shard sizes."""
        settings = asdict(self.opticam) if optimizes(self.method) else {"normalization": self.map_normalization}
        return {"method": self.method, "targets": self.targets, **settings}

    @property
    def map_normalization(self) -> Normalization:
        """How a stored map becomes a mask."""
        return map_normalization(self.method, self.normalization)

    @property
    def opticam(self) -> OptiCamSettings:
        """The optimiser's settings: the profile with its overrides. Raises ValueError if they do not go together."""
        profile = PROFILES[self.profile]
        return replace(
            profile,
            steps=profile.steps if self.steps is None else self.steps,
            learning_rate=profile.learning_rate if self.learning_rate is None else self.learning_rate,
            objective=self.objective,
            normalization=self.normalization,
            fill=self.fill,
            precision=self.precision,
            compile=self.compile,
        )
