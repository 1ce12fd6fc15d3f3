"""Image files looked at by the workers: the part of ingest that reads every file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa

from pipeline.workers.bounded_map import bounded_map
from stages.ingest.facts import HANDED, look_at
from storage.errors import SightlineError


def look_on_workers(
    client: Any, asked: Iterator[pa.Table], *, retries: int, say: Callable[[str], None]
) -> Iterator[tuple[int, pa.Table]]:
    """The facts of the images of each table, with the table's place among them, as the workers find them.

    What is wrong with an image is one of its facts. Raises SightlineError where a task fails for another reason.
    """
    tasks = ((place, (table,)) for place, table in enumerate(asked))
    with closing(bounded_map(client, look_at, tasks, retries=retries, say=say)) as ended:
        for place, outcome in ended:
            if isinstance(outcome, SightlineError):
                raise outcome
            if isinstance(outcome, BaseException):
                first = place * HANDED
                raise SightlineError(
                    f"ingest: looking at images {first} to {first + HANDED - 1} failed: "
                    f"{type(outcome).__name__}: {outcome}"
                ) from outcome
            yield place, outcome
