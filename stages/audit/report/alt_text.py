"""Alternative texts: what the pictures of the page show, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.words import in_words, percent
from storage.samples import own_boxes


def image_in_words(row: Mapping[str, Any], region: Sequence[float] | None) -> str:
    """What the image of a row of ``audit`` shows, with the boxes and the ``region`` (image px) drawn on it."""
    boxes, size = own_boxes(row), (row["width"], row["height"])
    drawn = f"{len(boxes) or 'no'} boxes" if len(boxes) != 1 else f"its box {_place(boxes[0], *size)}"
    parts = [f"{row['sample_id']}, labelled {row['label'] or 'unknown'}, predicted {row['pred_label'] or 'unknown'}"]
    dashed = [f"a dashed rectangle outside {_place(region, *size)}"] if region else []
    return "; ".join([*parts, drawn, *dashed])


def map_in_words(row: Mapping[str, Any]) -> str:
    """What the map of a row of ``audit`` shows."""
    strongest = {True: ", strongest inside the boxes", False: ", strongest outside the boxes"}
    share = "" if row["energy_in"] is None else f", {percent(row['energy_in'], 0)} of it in the boxes"
    return f"The map of {row['target_label']} on {row['sample_id']}{strongest.get(row['pointing_hit'], '')}{share}"


def outside_in_words(row: Mapping[str, Any]) -> str:
    """What the map of what outside the boxes carries the class of a row of ``audit`` shows."""
    before, after = in_words(row["p_full"]), in_words(row["p_hide_outside_map"])
    return (
        f"The map of what outside the boxes carries {row['target_label']} on {row['sample_id']}: hiding its strongest "
        f"tenth takes p from {before} to {after}"
    )


def _place(box: Sequence[float] | None, width: float | None, height: float | None) -> str:
    """Where the middle of a box lies, in thirds of the image."""
    if box is None or not width or not height:
        return ""
    across = min(2, int(3 * (box[0] + box[2]) / 2 / width))
    down = min(2, int(3 * (box[1] + box[3]) / 2 / height))
    if across == down == 1:
        return "in the middle"
    return f"at the {' '.join(filter(None, (('top', '', 'bottom')[down], ('left', '', 'right')[across])))}"
