"""Charts as SVG inside the page: text in the page's own colours and font, ids of its own, a title and a summary."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.audit.report.contents import Point
from stages.audit.summary.summary import STANDS_OUT
from stages.words import q, visible

# Legible on white and on the dark page alike.
BLUE, RED = "#3d85c6", "#d9480f"
# Placeholders for the page's colours, which differ between its light, dark and printed forms.
INK, MUTED, LINE = "#010101", "#020202", "#030303"
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)"}

MOST_CLASSES = 30
"""Classes in the chart."""
MOST_VECTORS = 2000
"""Points drawn one by one; more become one image."""
_LONGEST_NAME = 26

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sightline",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


def is_tested(row: Mapping[str, Any]) -> bool:
    """Whether a row of ``classes`` claims something of its class; in earlier versions it may have a q and no rate."""
    return row["reliance_q"] is not None and row["reliance_rate"] is not None


def class_chart(classes: Sequence[Mapping[str, Any]], overall: float | None) -> Markup:
    """Reliance rate of the tested classes with 95% Wilson intervals, in the order given; empty where there is none."""
    shown = [row for row in classes if is_tested(row)][:MOST_CLASSES]
    if not shown:
        return Markup("")
    with rc_context(_STYLE):
        rows, below, above = 0.24 * len(shown), 0.5, 0.3  # inches
        height = rows + below + above
        figure = Figure(figsize=(7.6, height))
        axes = figure.add_axes((0.23, below / height, 0.59, rows / height))
        places = [float(place) for place in range(len(shown))]
        rates, low, high = (
            np.array([100 * row[name] for row in shown]) for name in ("reliance_rate", "reliance_low", "reliance_high")
        )
        stands_out = np.array([row["reliance_q"] <= STANDS_OUT for row in shown])
        for chosen, marker, colour in ((~stands_out, "o", BLUE), (stands_out, "^", RED)):
            axes.hlines(np.array(places)[chosen], low[chosen], high[chosen], color=colour, linewidth=2)
            axes.plot(rates[chosen], np.array(places)[chosen], marker, color=colour, markersize=5, clip_on=False)
        if overall is not None:
            axes.axvline(100 * overall, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.text(100 * overall, -0.6, "all classes", color=MUTED, ha="center", va="bottom", fontsize=7.5)
        for place, row in zip(places, shown, strict=True):
            axes.text(
                1.02,
                place,
                f"n {row['n_evaluable']}, q {q(row['reliance_q'])}",
                transform=axes.get_yaxis_transform(),
                va="center",
            )
        axes.set_yticks(places, [_shortened(row["label"]) for row in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("images that rely on something outside their boxes, % (95% Wilson interval)")
        axes.grid(axis="x", color=LINE, linewidth=0.5)
        axes.set_axisbelow(True)
        said = "; ".join(f"{row['label']} {100 * row['reliance_rate']:.0f}%" for row in shown[:10])
        return _svg(figure, "classes", "Reliance by class", f"{said}. The table below has every number.")


def energy_chart(points: Sequence[Point]) -> Markup:
    """``energy_in`` against ``box_area_frac``, with the null line; empty without points."""
    known = [point for point in points if point.energy_in is not None and point.box_area_frac is not None]
    if not known:
        return Markup("")
    x = np.array([point.box_area_frac for point in known], float)
    y = np.array([point.energy_in for point in known], float)
    with rc_context(_STYLE):
        figure, axes = _square()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(0.86, 0.87, "a map that looks everywhere", color=MUTED, ha="right", va="bottom", fontsize=7.5)
        _scatter(axes, x, y, known)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of the view that the boxes cover", ylabel="map in the boxes")
        above = int((y > x).sum())
        said = f"{above} of {len(known)} maps lie more in the boxes than a map that looks everywhere."
        return _svg(figure, "energy", "Share of the map in the boxes against the boxes' area", said)


def effect_chart(points: Sequence[Point], threshold: float) -> Markup:
    """``outside_effect`` against the probability of the label, with the flag's threshold; empty without points."""
    known = [point for point in points if point.outside_effect is not None and point.p_full is not None]
    if not known:
        return Markup("")
    x = np.array([point.p_full for point in known], float)
    y = np.array([point.outside_effect for point in known], float)
    with rc_context(_STYLE):
        figure, axes = _square()
        lowest = min(-0.05, float(y.min()) - 0.05)
        axes.axhline(threshold, color=RED, linewidth=1)
        axes.text(0.01, threshold + 0.01, f"flag from {threshold:g}", color=MUTED, va="bottom", fontsize=7.5)
        _scatter(axes, x, y, known)
        axes.set(
            xlim=(0, 1),
            ylim=(lowest, 1),
            xlabel="p of the label on the whole view",
            ylabel="worth of what lies outside",
        )
        said = f"{sum(point.flagged for point in known)} of {len(known)} samples are flagged."
        return _svg(figure, "effect", "What lies outside the boxes is worth, against the probability", said)


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.9))
    return figure, figure.add_axes((0.12, 0.12, 0.85, 0.78))


def _scatter(axes: Axes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], points: Sequence[Point]) -> None:
    flagged = np.array([point.flagged for point in points])
    as_image = len(points) > MOST_VECTORS
    series = ((~flagged, "o", BLUE, "not flagged"), (flagged, "^", RED, "flagged"))
    for chosen, marker, colour, name in series:
        if chosen.any():
            label = f"{name} ({int(chosen.sum())})"
            style: Any = {"marker": marker, "color": colour, "markersize": 4, "alpha": 0.65, "markeredgewidth": 0}
            axes.plot(x[chosen], y[chosen], linestyle="", label=label, rasterized=as_image, clip_on=False, **style)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, handletextpad=0.2, columnspacing=1, borderpad=0)
    axes.grid(color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)


def _svg(figure: Figure, name: str, title: str, summary: str) -> Markup:
    """The figure as an element of the page; every id in it begins with ``name``."""
    buffer = io.StringIO()
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    with warnings.catch_warnings():
        # The browser draws the text, in a font that has the glyph; only its width is measured here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(
            buffer, format="svg", dpi=160, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    # A style sheet in one chart would hold for the whole page; ours says the same of charts alone.
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", body)
    for stand_in, colour in _PAGE_COLOURS.items():
        body = body.replace(stand_in, colour)
    head = (
        f'<svg class="chart" role="img" viewBox="0 0 {width} {height}" style="--natural: {float(width):.0f}pt" '
        f'aria-labelledby="{name}-title {name}-summary">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-summary">{escape(visible(summary))}</desc>'
    )
    return Markup(f"{head}{body}</svg>")


def _shortened(name: str) -> str:
    name = visible(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
