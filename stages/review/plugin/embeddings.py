"""The panel of the FiftyOne App that shows a run's vectors as a scatter, coloured by cue."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from stages.review.dataset.embeddings import CUE_SPACE, IMAGE_SPACE, Cloud, clouds_of
from stages.review.dataset.listing import LISTED, MOST_POINTS
from stages.review.dataset.views import EMBEDDINGS_PANEL

SPACES = {CUE_SPACE: "what lights up outside the boxes", IMAGE_SPACE: "the whole view"}

COLOURS = ("#ff0a8a", "#00b4d8", "#e0a100", "#12b83a", "#7a3cff", "#ff6d04", "#b5261e", "#5b8def")
"""Of the largest cues; they repeat."""

NO_CUE = "#6b7076"


class Embeddings(foo.Panel):
    """A scatter of what the network sees, coloured by cue; a lasso filters the grid."""

    @property
    def config(self) -> Any:
        """Beside the grid."""
        return foo.PanelConfig(
            name=EMBEDDINGS_PANEL,
            label="Embeddings",
            icon="bubble_chart",
            help_markdown="Near each other means alike to the network. Draw round points to see their samples in the "
            "grid; double-click to see all again; a click on a cue in the legend hides it.",
        )

    def on_load(self, ctx: Any) -> None:
        """Draw the samples of the view."""
        spaces = [name for name in SPACES if ctx.dataset.has_brain_run(name)]
        chosen = ctx.panel.state.space if ctx.panel.state.space in spaces else next(iter(spaces), None)
        ctx.panel.state.spaces, ctx.panel.state.space = spaces, chosen
        clouds = clouds_of(ctx.view, chosen, MOST_POINTS) if chosen else []
        titles = {row["cue"]: row["title"] for row in ctx.dataset.info.get(LISTED, [])}
        ctx.panel.set_data("plot", [_trace(number, cloud, titles) for number, cloud in enumerate(clouds)])

    on_change_view = on_load
    on_change_dataset = on_load

    def choose(self, ctx: Any) -> None:
        """Show the other vectors."""
        ctx.panel.state.space = ctx.params["value"]
        self.on_load(ctx)

    def select(self, ctx: Any) -> None:
        """Show the samples within the lasso in the grid."""
        ids = [point["id"] for point in ctx.params.get("data") or () if point.get("id")]
        if ids:
            ctx.ops.set_extended_selection(selection=ids, scope=EMBEDDINGS_PANEL)

    def clear(self, ctx: Any) -> None:
        """Show all samples again."""
        ctx.ops.set_extended_selection(reset=True)

    def render(self, ctx: Any) -> Any:
        """The choice of vectors over the plot."""
        panel = types.Object()
        spaces = ctx.panel.state.spaces or ()
        if len(spaces) > 1:
            offered = types.DropdownView()
            for name in spaces:
                offered.add_choice(name, label=f"{name}: {SPACES[name]}")
            panel.enum("space", offered.values(), default=ctx.panel.state.space, view=offered, on_change=self.choose)
        axis = {"visible": False, "zeroline": False}
        panel.plot(
            "plot",
            layout={
                "dragmode": "lasso",
                "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
                "showlegend": True,
                "xaxis": axis,
                "yaxis": axis,
                "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
            },
            config={"displaylogo": False, "scrollZoom": True, "doubleClickDelay": 800},
            on_selected=self.select,
            on_deselect=self.clear,
        )
        return types.Property(panel, view=types.GridView(orientation="vertical", align_x="stretch"))


def _trace(number: int, cloud: Cloud, titles: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "scattergl",
        "mode": "markers",
        "name": titles.get(cloud.cue, cloud.cue) if cloud.cue else "no cue",
        "ids": cloud.ids,
        "x": cloud.points[:, 0].tolist(),
        "y": cloud.points[:, 1].tolist(),
        "text": cloud.keys,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": COLOURS[number % len(COLOURS)] if cloud.cue else NO_CUE, "size": 7, "opacity": 0.8},
    }
