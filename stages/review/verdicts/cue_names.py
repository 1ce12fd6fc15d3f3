"""Names that people give cues, in the run's table ``cue_names``."""

from __future__ import annotations

import pyarrow as pa

from stages.review.verdicts.table import alone, now
from storage.cues import cue_names
from storage.errors import UserError
from storage.run import Run
from storage.tables import CUE_NAMES


def name_cue(run: Run, cue_id: str, name: str, reviewer: str) -> None:
    """Name a cue; the name before stays in the table, and an audit leaves the table alone.

    Raises UserError for a cue that the run lacks, no name, or one that another cue has.
    """
    name = " ".join(name.split())
    known = run.table("cues", ["cue_id"])["cue_id"].to_pylist() if run.has_table("cues") else []
    if cue_id not in known:
        raise UserError(f"{run.url} has no cue {cue_id!r}; it has {', '.join(known) or 'none'}")
    if not name:
        raise UserError(f"{cue_id} needs a name of at least a letter")
    with alone(run):
        others = {named: other for other, named in cue_names(run).items() if other != cue_id}
        if name in others:
            raise UserError(f"{others[name]} is called {name!r} already; take another name for {cue_id}")
        table = run.table("cue_names") if run.has_table("cue_names") else CUE_NAMES.empty_table()
        row = {"cue_id": cue_id, "name": name, "reviewer": reviewer, "time": now()}
        run.write_table("cue_names", pa.concat_tables([table, pa.Table.from_pylist([row], CUE_NAMES)]))
