"""Settings of the audit: thresholds of the rules, and a user's own rules."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import ClassVar, Literal

from storage.errors import UserError
from storage.info import RunInfo

THRESHOLD = re.compile(r"\{(\w+)\}")
"""A threshold in the SQL of a rule or of a canned query."""


@dataclass(frozen=True)
class CustomRule:
    """A user's own rule, a few lines of YAML.

    ``when`` and ``severity`` are SQL over the columns of the view ``audit``, in which ``{name}`` stands for a
    threshold; ``reason`` is a sentence in which ``{column}`` stands for a value of the row. ``target`` says which
    rows the rule looks at.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    id: str
    title: str
    when: str
    severity: str = "0.5"
    reason: str = ""
    target: Literal["label", "predicted"] = "label"


@dataclass(frozen=True)
class AuditSettings:
    """Thresholds of the rules, and what the class table needs before it claims anything.

    Probabilities, drops and shares are fractions in [0, 1]; a lift of 1 is a map that looks everywhere.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    method: str = ""
    """Saliency method that is audited; empty: ``opti_cam`` if the run has it, else its first method."""
    outside_effect: float = 0.5
    """Flag a sample from this worth of its surroundings on. A sample in which they cannot be worth as much is not
    tested."""
    outside_review: float = 0.3
    """From this worth on, a sample that is not flagged is described as worth a look."""
    drop_outside: float = 0.3
    """A locator finds something outside the boxes where hiding it costs this much of p."""
    needs_context: float = 0.5
    """The class needs what surrounds the boxes from this drop of p on, when all of that is hidden."""
    missing_box: float = 0.8
    """The part outside the boxes looks like the class from this probability, shown alone: as a share of what an empty
    view leaves to gain."""
    box_suspect: float = 0.4
    """A box is suspect where the class has this much more of p beside the box than in it."""
    confident: float = 0.8
    """A prediction is confident from this probability."""
    suspect_label: float = 0.1
    """A label is suspect up to this probability of its class."""
    suspect_other: float = 0.7
    """... where another class has at least this probability."""
    on_box_lift: float = 1.0
    """A map sits on the box from this energy lift, and elsewhere below it."""
    border_energy: float = 0.5
    """The map lights up the border from this share of its mass."""
    collapsed_entropy: float = 0.75
    """A map has collapsed to a point up to this entropy, as a share of a uniform map's. One lit cell of a 7x7
    grid has .73, upsampled to 224 px; four cells have .81."""
    min_class_size: int = 10
    """Evaluable samples below which nothing is claimed about a class."""
    cue_drop: float = 0.1
    """Samples with this drop or more are grouped into cues by what was hidden."""
    cue_min_size: int | None = None
    """Samples that make a cue; by default one in a hundred of those with such a drop, at least 5 and at most 25."""
    rules: tuple[CustomRule, ...] = ()
    """A user's own rules."""

    def __post_init__(self) -> None:
        for name, value in self.thresholds().items():
            most = math.inf if name == "on_box_lift" else 1.0
            if not 0 <= value <= most or math.isinf(value):
                what = "a number from 0 on" if math.isinf(most) else "a fraction from 0 to 1"
                percent = f", {value / 100:g} for {value:g}%" if 1 < value <= 100 and most == 1 else ""
                raise ValueError(f"{name} is {value:g}; give {what}{percent}")
        if self.min_class_size < 1:
            raise ValueError(f"min_class_size is {self.min_class_size}; take at least 1")
        if self.cue_min_size is not None and self.cue_min_size < 2:
            raise ValueError(f"cue_min_size is {self.cue_min_size}; take at least 2, or leave it out")

    def thresholds(self) -> dict[str, float]:
        """The numbers that rules refer to by name, ``{drop_outside}`` and the like."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self) if field.type == "float"}


def audit_settings(info: RunInfo) -> AuditSettings:
    """The audit settings that a run was made with; the defaults where it does not say.

    Raises UserError for keys and values that this version does not take.
    """
    return info.settings("audit", AuditSettings)


def fill_thresholds(expression: str, thresholds: Mapping[str, float], where: str) -> str:
    """SQL in which each ``{name}`` is replaced by the threshold of that name.

    Raises UserError that begins with ``where`` for a threshold that does not exist.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in thresholds:
            near = get_close_matches(name, thresholds, n=1) or sorted(thresholds)
            raise UserError(
                f"{where}: no threshold {{{name}}}; did you mean {', '.join(near)}? A column of `audit` is written "
                "without braces"
            )
        return repr(thresholds[name])

    return THRESHOLD.sub(value, expression)
