"""Settings of the score stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class ScoreSettings:
    """What a score leaves open. The defaults are the definitions in the reference of the table ``scores``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    pointing_tolerance: float = 15.0
    """Distance from a box at which ``pointing_hit_tol`` still counts the map's maximum as inside, view px."""
    uninformative_area: float = 0.8
    """Boxes that cover more than this share of the view say nothing: ``box_uninformative``."""
    border_width: float = 0.05
    """Width of the frame of ``border_energy``, as a share of the view's side."""
    null_grid: int = 56
    """Moves of the boxes behind ``energy_null_pct`` are multiples of a side over this number."""
    box_accuracy: bool = False
    """Also take BoxAcc and MaxBoxAccV2 of the dataset; every map is searched at 100 thresholds, about 30 ms a map."""

    def __post_init__(self) -> None:
        if self.pointing_tolerance < 0:
            raise ValueError(f"pointing_tolerance is {self.pointing_tolerance} px; take 0 or more")
        if not 0 < self.uninformative_area <= 1:
            raise ValueError(f"uninformative_area is {self.uninformative_area}; take a share in (0, 1]")
        if not 0 < self.border_width < 0.5:
            raise ValueError(f"border_width is {self.border_width}; take a share in (0, .5)")
        if self.null_grid < 2:
            raise ValueError(f"null_grid is {self.null_grid}; take at least 2")
