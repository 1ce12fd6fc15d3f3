"""The cues of a run with the names that people gave them."""

from __future__ import annotations

from typing import Any

from storage.run import Run
from storage.tables import CUES, without_vectors


def cue_names(run: Run) -> dict[str, str]:
    """The names of cues by id: of each cue the last one that was given."""
    rows = run.table("cue_names").to_pylist() if run.has_table("cue_names") else []
    return {row["cue_id"]: row["name"] for row in rows}


def read_cues(run: Run, method: str) -> list[dict[str, Any]]:
    """The rows of the table ``cues`` of a method without vectors, each with its ``name``, or None."""
    names = cue_names(run)
    rows = run.table("cues", without_vectors(CUES)).to_pylist()
    return [{**row, "name": names.get(row["cue_id"])} for row in rows if row["method"] == method]
