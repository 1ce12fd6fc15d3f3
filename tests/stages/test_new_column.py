"""A new column is one entry of ``storage/columns.py``: everything that lists columns follows."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from stages.audit.compare.compare import compared_scores
from stages.score.metrics import metrics_table
from storage import columns, tables
from storage.columns import Column, needing
from storage.run import Part, Run
from tests.stages.review.synthetic import Planted, make_run

NEW = Column(
    "p_hide_corner",
    "p with a corner of the view hidden.",
    needs=frozenset({"boxes"}),
    better="lower",
    compared=True,
    averaged=True,
    caption="corner hidden",
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose two samples have .25 and .75 in the new column."""
    monkeypatch.setitem(columns.COLUMNS, "explain", (*columns.COLUMNS["explain"], NEW))
    monkeypatch.setitem(tables.SCHEMAS, "explain", tables.schema_of("explain"))
    run, part = make_run(tmp_path, [Planted("a.png"), Planted("b.png")]), Part("explain", "opti_cam", 0)
    rows = run.read_part(part)
    values = pc.cast(pc.if_else(pc.equal(rows["row"], 0), 0.25, 0.75), "float32")
    run.write_part(part, rows.set_column(rows.schema.get_field_index(NEW.name), NEW.name, values), {})
    return run


def test_it_is_compared_with_its_direction(run: Run) -> None:
    assert compared_scores()[NEW.name].better == "lower"


def test_its_mean_is_a_metric(run: Run) -> None:
    found = metrics_table(run).filter((pc.field("metric") == NEW.name) & (pc.field("target") == "label")).to_pylist()
    assert [(row["value"], row["n"]) for row in found] == [(0.5, 2)]


def test_it_is_a_number_of_a_sample_in_the_app(run: Run) -> None:
    from stages.review.dataset.fields import number_fields

    (field,) = [field for field in number_fields() if field.path == f"numbers.{NEW.name}"]
    assert field.kind == "real"
    assert field.description == "p with a corner of the view hidden. Range: [0, 1]."


def test_it_stands_in_the_panel_with_its_caption(run: Run) -> None:
    from stages.review.panel.portrait import as_shown, portray

    shown = as_shown(portray(run, "b.png", method="opti_cam", target="label"))
    (probe,) = [probe for probe in shown["probes"] if probe["name"] == NEW.name]
    assert (probe["label"], probe["value"]) == ("corner hidden", 0.75)


def test_a_corrected_box_clears_it(run: Run) -> None:
    assert NEW.name in needing("boxes")
