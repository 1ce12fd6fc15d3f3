"""What `review.select` and `app --select` mean: a rule, SQL, or else a saved view."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow.compute as pc

from stages.review.settings import Selection
from storage.errors import UserError
from storage.run import Run
from storage.sql import run_query

_SQL = re.compile(r"\s*(select|with|from)\s", re.IGNORECASE)


def select_samples(run: Run, text: str, rules: Iterable[str]) -> Selection | None:
    """The samples that ``text`` names: those that a rule of ``rules`` found, or that SQL returns; None for no text.

    Text that is neither is taken for a saved view, which FiftyOne knows. Raises UserError for a mistake in the SQL, SQL
    without a column sample_id, and for no samples.
    """
    if not text.strip():
        return None
    if _SQL.match(text):
        table = run_query(run, text)
        if "sample_id" not in table.column_names:
            raise UserError(
                f"review.select: the SQL returns {', '.join(table.column_names)} and no sample_id; select that column"
            )
        keys = table["sample_id"].to_pylist()
    elif text in rules:
        findings = run.table("findings", ["sample_id", "rule"])
        keys = findings.filter(pc.field("rule") == text)["sample_id"].to_pylist()
    else:
        return Selection(text, None)
    if not keys:
        raise UserError(f"review.select: {text!r} selects no sample of {run.url}; leave it out to load all")
    return Selection(text, frozenset(keys))
