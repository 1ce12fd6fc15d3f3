"""Views of the grid that a reviewer asks for: the samples of one cue, the samples that a query returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.review.dataset.fields import KEY
from stages.review.dataset.views import of_cue
from storage.errors import UserError

MOST = 5000
"""Samples of a query's result that are shown: a view names each of them, in every message to the browser."""


def same_cue(dataset: Any, sample: Any) -> Any:
    """All samples that rely on the same cue as this one, worst first. Raises UserError if it relies on none."""
    cue = sample["cue"]
    if not cue:
        raise UserError(
            f"{sample[KEY]} belongs to no cue: nothing that costs it probability looks like what other samples have"
        )
    return of_cue(dataset, cue)


def of_keys(dataset: Any, keys: Sequence[str]) -> tuple[Any, int]:
    """The samples of these sample_ids in that order, at most :data:`MOST`; and how many of the keys it shows.

    Raises UserError if the dataset has none of them.
    """
    wanted = list(dict.fromkeys(keys))[:MOST]
    view = dataset.select_by(KEY, wanted, ordered=True)
    count = len(view)
    if not count:
        raise UserError("the query returns no sample that is loaded")
    return view, count
