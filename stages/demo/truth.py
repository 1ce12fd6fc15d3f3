"""The truth of a demo: what each cue does to the trained model, from pictures with it and the same without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stages.demo.plan import DECOY, DECOY_CLASS, PLANTED
from stages.demo.render import Box
from storage.errors import UserError

POSITIVE = 0.3  # an effect from here on makes a picture a shortcut
NEGLIGIBLE = 0.05  # a decoy's mean absolute effect stays below this

TRUTH = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("cue", pa.string()),
        pa.field("cue_kind", pa.string()),
        pa.field("is_planted", pa.bool_()),
        pa.field("cue_box", pa.struct([pa.field(edge, pa.float32()) for edge in ("x0", "y0", "x1", "y1")])),
        pa.field("p_with", pa.float32()),
        pa.field("p_without", pa.float32()),
        pa.field("effect", pa.float32()),
        pa.field("positive", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class PairedPicture:
    """One audit picture: its cue, if any, and p of its label with the cue (the file on disk) and without."""

    sample_id: str
    label: str
    cue: str | None
    cue_box: Box | None
    p_with: float
    p_without: float

    @property
    def effect(self) -> float:
        """What the cue adds to the probability of the label, [-1, 1]."""
        return self.p_with - self.p_without

    @property
    def positive(self) -> bool:
        """Whether the picture is a shortcut."""
        return self.effect >= POSITIVE


@dataclass(frozen=True)
class CueEffect:
    """The effect of one cue on the audit pictures of its own class, and how often it has one elsewhere."""

    cue: str
    kind: str  # planted | decoy
    label: str
    n: int
    mean_effect: float
    mean_abs_effect: float
    share_positive: float
    n_elsewhere: int
    n_positive_elsewhere: int


def cue_effects(pairs: Sequence[PairedPicture]) -> tuple[CueEffect, ...]:
    """Sum up the paired pictures of each cue."""
    homes = [(cue, "planted", label) for label, cue in PLANTED.items()] + [(DECOY, "decoy", DECOY_CLASS)]
    summaries = []
    for cue, kind, label in homes:
        home = np.array([pair.effect for pair in pairs if pair.cue == cue and pair.label == label])
        elsewhere = np.array([pair.effect for pair in pairs if pair.cue == cue and pair.label != label])
        summaries.append(
            CueEffect(
                cue=cue,
                kind=kind,
                label=label,
                n=len(home),
                mean_effect=float(home.mean()),
                mean_abs_effect=float(np.abs(home).mean()),
                share_positive=float((home >= POSITIVE).mean()),
                n_elsewhere=len(elsewhere),
                n_positive_elsewhere=int((elsewhere >= POSITIVE).sum()),
            )
        )
    return tuple(summaries)


def check_effects(effects: Sequence[CueEffect]) -> None:
    """Refuse a demo whose truth does not hold: raises UserError with the figures of the cues that fail."""
    faults = []
    for effect in effects:
        if effect.kind == "planted" and not effect.mean_effect >= POSITIVE:
            faults.append(
                f"the planted cue {effect.cue!r} changes p({effect.label}) by {effect.mean_effect:+.3f} "
                f"on average over {effect.n} pictures, less than {POSITIVE}: the model does not rely on it"
            )
        if effect.kind == "decoy" and not effect.mean_abs_effect < NEGLIGIBLE:
            faults.append(
                f"the decoy {effect.cue!r} changes p({effect.label}) by {effect.mean_abs_effect:.3f} "
                f"(mean absolute) over {effect.n} pictures, not less than {NEGLIGIBLE}: it is not without effect"
            )
    if faults:
        raise UserError(
            "the generated demo is refused: " + "; ".join(faults) + ". Use another seed, more pictures or more epochs."
        )


def truth_table(pairs: Sequence[PairedPicture]) -> pa.Table:
    """One row an audit picture, in the columns of TRUTH."""
    rows = [
        {
            "sample_id": pair.sample_id,
            "label": pair.label,
            "cue": pair.cue,
            "cue_kind": None if pair.cue is None else ("decoy" if pair.cue == DECOY else "planted"),
            "is_planted": pair.cue is not None and PLANTED.get(pair.label) == pair.cue,
            "cue_box": None if pair.cue_box is None else dict(zip(("x0", "y0", "x1", "y1"), pair.cue_box, strict=True)),
            "p_with": pair.p_with,
            "p_without": pair.p_without,
            "effect": pair.effect,
            "positive": pair.positive,
        }
        for pair in pairs
    ]
    return pa.Table.from_pylist(rows, schema=TRUTH)
