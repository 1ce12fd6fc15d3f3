"""Canned queries: the questions that an auditor asks, one SQL file each in ``queries/``.

A query that is about a rule reads its findings; ``{name}`` in a query is a threshold of the run's audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources

from stages.audit.settings import audit_settings, fill_thresholds
from storage.errors import UserError
from storage.run import Run
from storage.sql import LIST_HINT


@dataclass(frozen=True)
class CannedQuery:
    """A question an auditor asks, and its SQL."""

    name: str
    title: str
    answers: str
    sql: str
    """With thresholds by name, ``{drop_outside}``."""

    def of(self, run: Run) -> str:
        """The SQL with the thresholds that the run was audited with."""
        return fill_thresholds(self.sql, audit_settings(run.info).thresholds(), f"canned query {self.name}")


def list_queries() -> list[CannedQuery]:
    """The canned queries, by name."""
    folder = resources.files("stages.audit") / "queries"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda file: file.name)
    queries = []
    for file in files:
        sql = file.read_text(encoding="utf-8")
        title, answers = (line.removeprefix("--").strip() for line in sql.splitlines()[:2])
        queries.append(CannedQuery(file.name.removesuffix(".sql"), title, answers, sql))
    return queries


def load_query(name: str) -> CannedQuery:
    """The canned query of that name; raises UserError with the nearest names if there is none."""
    queries = {query.name: query for query in list_queries()}
    if name not in queries:
        near = get_close_matches(name, queries, n=3, cutoff=0.4) or list(queries)
        raise UserError(f"no canned query {name!r}; did you mean {', '.join(near)}? {LIST_HINT}")
    return queries[name]
