"""Which view the App shows."""

from __future__ import annotations

from typing import Any

_LATER: set[tuple[str, str]] = set()
"""Dataset and name of the views that were saved or named anew since this process, the App's server, began."""


def show(ctx: Any, view: Any) -> None:
    """Show a view in the grid; an open sample is closed."""
    if ctx.current_sample:
        ctx.ops.close_sample()
    ctx.ops.set_view(view=view)


def show_saved(ctx: Any, name: str) -> None:
    """Show a saved view in the grid.

    The page knows the names that there were when it was loaded, and refuses others: what was saved later is shown
    without its name.
    """
    if (ctx.dataset.name, name) in _LATER:
        ctx.ops.set_view(view=ctx.dataset.load_saved_view(name))
    else:
        ctx.ops.set_view(name=name)


def saved_now(dataset: Any, *names: str) -> None:
    """Remember that these views were saved, or got these names, while pages may be open."""
    _LATER.update((dataset.name, name) for name in names)
