"""Which samples of a run are loaded, where a person does not want all of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

import fiftyone as fo
from fiftyone import ViewField

from stages.review.dataset.fields import KEY
from stages.review.dataset.verdict_fields import CORRECTED, VERDICTS
from stages.review.settings import Selection
from storage.errors import UserError

_FIFTYONES = ("id", "filepath", "tags", "metadata", "created_at", "last_modified_at")


def selected(dataset: Any | None, selection: Selection, rules: Iterable[str], ours: Iterable[str]) -> frozenset[str]:
    """sample_ids of a selection, and of the samples of the dataset so far that people have worked on.

    ``rules`` are for the message; ``ours`` are the fields that loading writes. Verdicts are kept in the run, so a
    sample that only has verdicts may go. Raises UserError for a saved view that the dataset has not.
    """
    keys = selection.keys
    if keys is None:
        keys = _of_view(dataset, selection.text, rules)
    return keys if dataset is None else keys | worked_on(dataset, ours)


def worked_on(dataset: Any, ours: Iterable[str]) -> frozenset[str]:
    """Samples that people tagged, drew boxes on, or gave a value in a field of their own."""
    known = {*(path.partition(".")[0] for path in ours), *_FIFTYONES, VERDICTS, CORRECTED}
    signs = [ViewField("tags").length() > 0]
    if dataset.has_sample_field(CORRECTED):
        signs.append(ViewField(f"{CORRECTED}.detections").length() > 0)
    for path, field in dataset.get_field_schema().items():
        if path not in known:
            is_list = isinstance(field, fo.ListField)
            signs.append(ViewField(path).length() > 0 if is_list else ViewField(path).exists())
    return frozenset(dataset.match(reduce(or_, signs)).values(KEY))


def _of_view(dataset: Any | None, name: str, rules: Iterable[str]) -> frozenset[str]:
    views = dataset.list_saved_views() if dataset is not None else []
    if dataset is None or name not in views:
        raise UserError(
            f"review.select: {name!r} is no rule ({', '.join(sorted(rules))}), no SQL and no saved view "
            f"({', '.join(map(repr, views)) or 'the dataset has none yet'}); take one of these"
        )
    return frozenset(dataset.load_saved_view(name).values(KEY))
