"""Panels of the FiftyOne App beside the grid: the list of findings, and evidence against confidence."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from stages.review.dataset.listing import Evidence, evidence_of, reviewed_findings
from stages.review.dataset.views import DISAGREE, EVIDENCE_PANEL, FINDINGS_PANEL, NOT_REVIEWED
from stages.review.plugin.showing import show_saved

MARKS = {"flag": "\u2691 ", "described": "", "cue": "Cue: ", "weak cue": "Weak cue: "}
"""What stands before a line, by kind: a flag before what counts as one."""

GROUPS = (("nothing found", "#8c929c"), ("described", "#e0a100"), ("flagged", "#ff0a8a"))
"""Name and colour of the points, by group."""


class Findings(foo.Panel):
    """Rules and cues that found something, with what is reviewed; a click shows the samples."""

    @property
    def config(self) -> Any:
        """Beside the grid."""
        return foo.PanelConfig(
            name=FINDINGS_PANEL,
            label="Findings",
            icon="checklist",
            help_markdown="What the audit found. A click on a line shows its samples, worst first; a flag stands "
            "before what an experiment showed.",
        )

    def on_load(self, ctx: Any) -> None:
        """Count the findings and what of them is reviewed."""
        found = reviewed_findings(ctx.dataset)
        ctx.panel.state.views = [NOT_REVIEWED, DISAGREE, *(one.listed.view for one in found)]
        rows = [{"finding": name, "reviewed": ""} for name in (NOT_REVIEWED, DISAGREE)]
        rows += [
            {
                "finding": f"{MARKS[one.listed.kind]}{one.listed.title}",
                "reviewed": f"{one.reviewed} of {one.listed.samples}",
            }
            for one in found
        ]
        ctx.panel.state.rows = rows

    # A sample that is opened or closed may have got a verdict.
    on_change_current_sample = on_load
    on_change_view = on_load
    on_change_dataset = on_load

    def show(self, ctx: Any) -> None:
        """Show the samples of a line."""
        show_saved(ctx, ctx.panel.state.views[ctx.params["row"]])

    def render(self, ctx: Any) -> Any:
        """A table."""
        panel = types.Object()
        table = types.TableView(
            on_click_row=self.show,
            variant="plain",
            # Narrower than FiftyOne's tables may be, and a hand over what can be clicked.
            componentsProps={"table": {"sx": {"minWidth": "unset", "cursor": "pointer"}}},
        )
        table.add_column("finding", label="Finding: click to see its samples")
        table.add_column("reviewed", label="Reviewed")
        panel.list("rows", types.Object(), view=table)
        return types.Property(panel, view=types.GridView(orientation="vertical", align_x="stretch"))


class EvidenceAgainstConfidence(foo.Panel):
    """A scatter with the distribution of evidence beside it; a lasso filters the grid."""

    @property
    def config(self) -> Any:
        """Beside the grid."""
        return foo.PanelConfig(
            name=EVIDENCE_PANEL,
            label="Evidence",
            icon="scatter_plot",
            help_markdown="drop_outside, what hiding the salient part outside the boxes costs the label or the "
            "prediction, whichever loses more; against the confidence of the prediction. Draw round points to see "
            "their samples in the grid; double-click to see all again.",
        )

    def on_load(self, ctx: Any) -> None:
        """Draw the samples of the view."""
        evidence = evidence_of(ctx.view)
        ctx.panel.state.shown = [evidence.total, len(evidence.ids)]
        ctx.panel.set_data("plot", _traces(evidence))

    on_change_view = on_load
    on_change_dataset = on_load

    def select(self, ctx: Any) -> None:
        """Show the samples within the lasso in the grid."""
        ids = [point["id"] for point in ctx.params.get("data") or () if point.get("id")]
        if ids:
            ctx.ops.set_extended_selection(selection=ids, scope=EVIDENCE_PANEL)

    def clear(self, ctx: Any) -> None:
        """Show all samples again."""
        ctx.ops.set_extended_selection(reset=True)

    def render(self, ctx: Any) -> Any:
        """The plot."""
        panel = types.Object()
        total, drawn = ctx.panel.state.shown or (0, 0)
        title = f"points: the {drawn:,} most severe of {total:,} samples; bars: all" if drawn < total else ""
        axis = {"zeroline": False}
        panel.plot(
            "plot",
            layout={
                "dragmode": "lasso",
                "title": {"text": title, "font": {"size": 12}, "y": 0.99, "yanchor": "top"},
                "margin": {"l": 48, "r": 8, "t": 48, "b": 56},
                "showlegend": True,
                "barmode": "stack",
                "bargap": 0,
                "xaxis": {**axis, "title": {"text": "confidence of the prediction"}, "domain": [0, 0.76]},
                "yaxis": {**axis, "title": {"text": "drop_outside"}},
                "xaxis2": {**axis, "domain": [0.8, 1], "title": {"text": "samples", "font": {"size": 14}}, "nticks": 3},
                "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
            },
            config={"displaylogo": False, "scrollZoom": True, "doubleClickDelay": 800},
            on_selected=self.select,
            on_deselect=self.clear,
        )
        return types.Property(panel, view=types.GridView(orientation="vertical", align_x="stretch"))


def _traces(evidence: Evidence) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    middles = ((evidence.edges[1:] + evidence.edges[:-1]) / 2).tolist()
    for group, (name, colour) in enumerate(GROUPS):
        of = [index for index, number in enumerate(evidence.group) if number == group]
        traces.append(
            {
                "type": "scattergl",
                "mode": "markers",
                "name": name,
                "ids": [evidence.ids[index] for index in of],
                "x": [evidence.confidence[index] for index in of],
                "y": [evidence.drop[index] for index in of],
                "text": [evidence.keys[index] for index in of],
                "hovertemplate": "%{text}<br>confidence %{x:.2f}, drop %{y:.2f}<extra></extra>",
                "marker": {"color": colour, "size": 6, "opacity": 0.75},
            }
        )
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "x": evidence.counts[group].tolist(),
                "y": middles,
                "xaxis": "x2",
                "marker": {"color": colour},
                "hovertemplate": "drop near %{y:.2f}: %{x} samples<extra></extra>",
                "showlegend": False,
            }
        )
    return traces


PANELS = (Findings, EvidenceAgainstConfidence)
