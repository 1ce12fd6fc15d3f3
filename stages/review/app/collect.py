"""Verdicts out of FiftyOne into a run's table ``reviews``, where there is a database to ask."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from stages.review.app.database import database
from stages.review.settings import ReviewSettings
from stages.review.verdicts.table import append_reviews
from stages.words import counted
from storage.errors import UserError
from storage.run import Run


@dataclass(frozen=True)
class Collected:
    """What was new in FiftyOne."""

    appended: int = 0
    without_verdict: int = 0
    """Samples on which boxes were drawn while no verdict fix_box stands."""
    not_asked: str | None = None
    """Why there was no dataset to read, if there was none."""

    def __str__(self) -> str:
        if self.not_asked:
            return f"FiftyOne was not asked: {self.not_asked}"
        text = f"{self.appended} new from FiftyOne"
        if self.without_verdict:
            samples = counted(self.without_verdict, "sample")
            text += f"; boxes drawn on {samples} do not count yet: give the verdict fix_box there"
        return text


def collect(run: Run, settings: ReviewSettings) -> Collected:
    """Append what people said in FiftyOne to the run's table ``reviews``.

    Where no database can be had, or the run was never loaded, that is said and nothing is changed.
    """
    if not os.environ.get("FIFTYONE_DATABASE_URI") and not settings.database_directory.exists():
        return Collected(not_asked=f"there is no database in {settings.database_directory} yet")
    with ExitStack() as stack:
        try:
            stack.enter_context(database(settings.database_directory))
        except UserError as error:
            return Collected(not_asked=str(error))
        # Imported here, when the database is known: FiftyOne takes seconds to import and reads its environment then.
        from stages.review.review import existing_dataset

        dataset = existing_dataset(run, settings)
        if dataset is None:
            return Collected(not_asked=f"{run.url} was not loaded into it yet; `sightline app` does that")
        return collect_from(dataset, run)


def collect_from(dataset: Any, run: Run) -> Collected:
    """The same from a dataset at hand, within :func:`stages.review.app.database.database`."""
    from stages.review.dataset.verdict_fields import find_reviews

    found = find_reviews(dataset)
    return Collected(append_reviews(run, found.reviews), found.without_verdict)
