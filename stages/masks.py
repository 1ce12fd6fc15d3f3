"""What each probe leaves of a view: said once, for the network's tensors and for the panel's arrays."""

from __future__ import annotations

from typing import Any

NEAR = 16
"""px around the boxes that stay when the rest is blurred: shadows, and the edges that a box cuts off."""

Mask = Any
"""An array or a tensor in [0, 1] that multiplies the pixels of a view."""

HIDDEN_FRACTION = 0.1
"""Share of the view's pixels that the hiding probes replace."""


def kept_parts(saliency: Mask, inside: Mask, others: Mask = 0) -> dict[str, tuple[Mask, ...]]:
    """The masks, one after the other, under which the network sees the view for each probe that keeps a part of it.

    ``saliency`` is the map in [0, 1], ``inside`` the share of each pixel inside the boxes; None for
    one of them leaves its probes out. ``others`` is the share of each pixel that is another class's object, which is of
    neither part. What is masked out is black.
    """
    parts: dict[str, tuple[Mask, ...]] = {}
    if saliency is not None:
        parts["p_saliency"] = (saliency,)
    if inside is not None:
        outside = 1 - inside - others
        parts |= {"p_box": (inside,), "p_context": (outside,)}
    if saliency is not None and inside is not None:
        parts |= {"p_saliency_in_box": (saliency, inside), "p_saliency_in_context": (saliency, outside)}
    return parts


def hidden_pixels(height: int, width: int) -> int:
    """How many pixels the hiding probes replace: exactly 10% of the view, rounded."""
    return round(HIDDEN_FRACTION * height * width)
