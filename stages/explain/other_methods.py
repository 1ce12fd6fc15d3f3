"""What a run still keeps of the other methods, when one of them is run on changed images, boxes or weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from stages.explain.plan import ExplainPlan
from storage import Run
from storage.columns import needing
from storage.run import Part
from storage.tables import EXPLAIN


@dataclass
class OtherMethods:
    """Parts of other methods that were changed, by method."""

    removed: Counter[str] = field(default_factory=Counter)
    """Made from another network, layer, view, image or class: these maps belong to no row of today."""
    cleared: Counter[str] = field(default_factory=Counter)
    """Made with other boxes: the probes of the boxes are null until the method is run again."""

    @property
    def methods(self) -> set[str]:
        """Methods with a changed part."""
        return {*self.removed, *self.cleared}


def settle_other_methods(run: Run, plan: ExplainPlan, samples: pa.Table) -> OtherMethods:
    """Leave of the other methods' parts only what may stand beside the plan's own.

    ``samples`` is the run's table, row k the k-th. A part says in its metadata which rows it holds and what they were
    made from; it is removed, with its scores, if that is not today's. Where only the boxes differ, its rows lose the
    probes of the boxes and keep the rest; the maps are not made again when the method is next run.
    """
    settled = OtherMethods()
    for part, metadata in run.footers("explain").items():
        if part.method == plan.explain.method:
            continue
        start, _, stop = metadata.get("rows", "0:0").partition(":")
        own = samples.slice(int(start), int(stop) - int(start))
        if metadata.get("basis") != plan.basis(own):
            run.discard_part(part)
            run.discard_part(Part("scores", part.method, part.index))
            settled.removed[part.method] += 1
        elif metadata.get("boxes") != plan.boxes(own):
            _clear_box_probes(run, part, {**metadata, "boxes": plan.boxes(own)})
            settled.cleared[part.method] += 1
    return settled


def _clear_box_probes(run: Run, part: Part, metadata: dict[str, str]) -> None:
    table = run.read_part(part)
    for name in needing("boxes"):
        place = EXPLAIN.get_field_index(name)
        table = table.set_column(place, EXPLAIN.field(name), pa.nulls(table.num_rows, EXPLAIN.field(name).type))
    run.write_part(part, table, {**metadata, "probes_fingerprint": ""})
