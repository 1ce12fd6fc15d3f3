"""The maps of a run that are shown, and what the network saw of each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.geometry import ViewTransform, clip_boxes
from stages.review.settings import ReviewSettings
from storage.errors import UserError
from storage.maps import MapStore
from storage.run import Run


def shown_method(run: Run, settings: ReviewSettings) -> str:
    """The method that is shown. Raises UserError for a run without maps, or without those of ``review.method``."""
    methods, wanted = run.methods(), settings.method
    if not methods:
        raise UserError(f"{run.url} has no maps to review yet; `sightline run CONFIG` makes them")
    if wanted and wanted not in methods:
        raise UserError(f"review.method: {run.url} has no maps by {wanted!r}; it has {', '.join(methods)}")
    return wanted or ("opti_cam" if "opti_cam" in methods else methods[0])


def class_name(names: Sequence[str], index: int) -> str:
    """Name of a class of the network, by its number where ``names`` ends before it."""
    return names[index] if index < len(names) else f"class {index}"


def view_transforms(maps: MapStore, sizes: Iterable[tuple[int, int]]) -> list[ViewTransform]:
    """What the network saw of images of ``sizes`` = (width, height) px whose maps are among ``maps``."""
    attributes = maps.attributes
    return [ViewTransform.of_maps(attributes, width, height) for width, height in sizes]


def image_box(view: ViewTransform, box: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    """A box (4,) of the view in image px, cut to the image; None for NaN, or where nothing is left."""
    if np.isnan(box).any():
        return None
    x0, y0, x1, y1 = clip_boxes(view.boxes_to_image(box[None]), view.width, view.height)[0].tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
