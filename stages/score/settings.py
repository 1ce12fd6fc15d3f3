"""Settings of the score stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class ScoreSettings:
    """What to score beyond the columns of the table ``scores``, whose definitions are fixed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    box_accuracy: bool = False
    """Also take BoxAcc and MaxBoxAccV2 of the dataset; every map is searched at 100 thresholds, about 30 ms a map."""
