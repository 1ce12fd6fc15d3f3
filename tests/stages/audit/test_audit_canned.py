from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.show.rows import render
from stages.audit.audit import audit
from stages.audit.canned import list_queries, load_query
from stages.audit.settings import AuditSettings
from storage.errors import UserError
from storage.info import RunInfo
from storage.run import Run
from storage.sql import run_query
from storage.tables import CUES
from tests.stages.audit.conftest import fill, measured

ALL = [query.name for query in list_queries()]


@pytest.fixture
def run(build) -> Run:
    """One sample for each canned query to find."""
    off = {"pointing_hit": False, "energy_in": 0.1, "energy_lift": 0.3}
    wrong = {"sample_id": "wrong.jpg", "pred_index": 1, "pred_prob": 0.85}
    lost = {"sample_id": "lost.jpg", "pred_index": 2, "pred_prob": 0.8}
    predicted = {"target": "predicted"}
    kept = {
        "p_box": 0.45,
        "p_context": 0.9,
        "p_saliency_in_box": 0.18,
        "p_saliency_in_context": 0.99,
        "p_hide_context": 0.8,
    }
    run = build(
        {"sample_id": "quiet.jpg", "p_full": 0.9, **kept},
        {"sample_id": "second.jpg", "p_crop_outside": 0.9, "pred_crop_outside": 0},
        {
            "sample_id": "cue.jpg",
            "outside_effect": 0.6,
            "drop_outside": 0.5,
            "p_full": 0.9,
            "p_hide_outside": 0.4,
            "context_reliance": 0.7,
        },
        {"sample_id": "off.jpg", **off},
        {**wrong, "p_full": 0.05},
        {**wrong, **predicted, "explained": 1, "p_full": 0.85},
        {**lost, "p_full": 0.1},
        {**lost, **predicted, **off, "explained": 2, "p_full": 0.8},
        {"sample_id": "cropped.jpg", "box_kept_frac": 0.5},
        {"sample_id": "quiet.jpg", "method": "uniform"},
        metrics=[measured("entropy", 0.9), measured("box_acc_50", 0.5, threshold=0.2), measured("ad", 0.01)],
    )
    audit(run, AuditSettings())
    cue = {"cue_id": "cue-1a2b", "method": "opti_cam", "rank": 1, "size": 5, "classes": [], "exemplars": []}
    run.write_table("cues", fill(CUES, [cue]))
    return run


@pytest.mark.parametrize("name", ALL)
def test_every_canned_query_finds_something_on_a_run_that_has_everything(run: Run, name: str) -> None:
    query = load_query(name)
    assert query.title
    assert query.answers.endswith("?")
    assert run_query(run, query.of(run)).num_rows > 0


def test_an_auditor_has_at_least_ten_canned_queries() -> None:
    assert len(ALL) >= 10


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("confident_elsewhere", ["off.jpg"]),
        ("context_reliant", ["cue.jpg"]),
        ("harmless_misses", ["off.jpg"]),
        ("label_suspects", ["wrong.jpg"]),
        ("lost_boxes", ["cropped.jpg"]),
        ("missing_boxes", ["second.jpg"]),
        ("relies_on_outside", ["cue.jpg"]),
        ("review_list", ["cue.jpg"]),
        ("target_disagreement", ["wrong.jpg", "lost.jpg"]),
        ("wrong_and_elsewhere", ["lost.jpg"]),
        ("wrong_but_on_object", ["wrong.jpg"]),
    ],
)
def test_a_canned_query_names_the_right_samples(run: Run, name: str, samples: list[str]) -> None:
    assert run_query(run, load_query(name).of(run))["sample_id"].to_pylist() == samples


OF_A_RULE = {
    "confident_elsewhere": "looks_elsewhere_but_right",
    "label_suspects": "label_suspect",
    "missing_boxes": "missing_box",
    "relies_on_outside": "relies_on_outside",
    "wrong_and_elsewhere": "wrong_and_elsewhere",
    "wrong_but_on_object": "wrong_but_on_object",
}


@pytest.mark.parametrize(("name", "rule"), OF_A_RULE.items())
@pytest.mark.parametrize("strict", [False, True])
def test_a_query_about_a_rule_finds_what_the_rule_finds_by_the_run_s_thresholds(
    run: Run, name: str, rule: str, strict: bool
) -> None:
    if strict:  # thresholds that nothing in the run reaches
        settings = AuditSettings(
            confident=0.99,
            suspect_other=0.99,
            missing_box=0.99,
            outside_effect=0.99,
            on_box_lift=0.2,
        )
        audit(run, settings)
    findings = run.table("findings", ["sample_id", "rule"]).to_pylist()
    found = {finding["sample_id"] for finding in findings if finding["rule"] == rule}
    assert {*run_query(run, load_query(name).of(run))["sample_id"].to_pylist()} == found
    assert bool(found) != strict or rule == "wrong_but_on_object"


def test_a_query_with_a_threshold_takes_the_run_s(run: Run) -> None:
    def harmless() -> list[str]:
        return run_query(run, load_query("harmless_misses").of(run))["sample_id"].to_pylist()

    assert harmless() == ["off.jpg"]
    run.write_info(RunInfo(config={"audit": {"on_box_lift": 0.25}}))  # off.jpg has a lift of .3
    assert harmless() == []


def test_the_metrics_of_the_dataset_begin_with_faithfulness(run: Run) -> None:
    rows = run_query(run, load_query("metrics").of(run)).to_pylist()
    assert [row["metric"] for row in rows] == ["ad", "box_acc_50", "entropy"]
    assert rows[1]["threshold"] == pytest.approx(0.2)


def test_the_box_study_is_the_average_drop_of_each_part_in_percent(run: Run) -> None:
    (row,) = run_query(run, load_query("box_study").of(run)).to_pylist()
    assert (row["method"], row["target"], row["rows"]) == ("opti_cam", "label", 1)
    assert row["saliency_in_box"] == pytest.approx(80, abs=1e-3)
    assert row["box"] == pytest.approx(50, abs=1e-3)
    assert (row["saliency_outside_box"], row["context"]) == (0, 0)


def test_locators_are_told_apart(build) -> None:
    run = build(
        {"p_hide_map": 0.2, "p_hide_second": 0.5, "p_hide_scan": 0.8, "p_hide_outside_map": 0.1},
        {"p_hide_map": 0.8, "p_hide_second": 0.5, "p_hide_scan": 0.1, "hide_locator": "scan", "drop_random": 0.4},
    )
    rows = run_query(run, load_query("locators").of(run)).to_pylist()
    finds = [{name: row[name] for name in row if name.endswith("finds")} for row in rows]
    assert [row["hide_locator"] for row in rows] == ["opti_cam", "scan"]
    assert finds == [
        {"map_finds": 1, "second_finds": 1, "outside_map_finds": 1, "scan_finds": 0, "random_finds": 0},
        {"map_finds": 0, "second_finds": 1, "outside_map_finds": 0, "scan_finds": 1, "random_finds": 1},
    ]


def test_a_prediction_that_is_another_sample_of_the_image_is_not_listed_as_wrong(build) -> None:
    cat = {"pred_index": 1, "other_classes": [1]}
    dog = {"sample_id": "dog.jpg", "pred_index": 2}
    both = [{"target": "label", "explained": 0}, {"target": "predicted"}]
    run = build(
        *({"sample_id": "two.jpg", **cat, "explained": 1, **target} for target in both),
        *({**dog, "explained": 2, **target} for target in both),
    )
    assert run_query(run, load_query("target_disagreement").of(run))["sample_id"].to_pylist() == ["dog.jpg"]


def test_faithfulness_is_that_of_the_rows_that_have_all_three_numbers(build) -> None:
    run = build({"ad": 0.0, "ai": 1.0, "ag": 0.5}, {"ad": 0.4, "ai": 0.0, "ag": None})
    (row,) = run_query(run, load_query("method_comparison").of(run)).to_pylist()
    assert (row["rows"], row["ad"], row["ai"], row["ag"]) == (2, 0.0, 100.0, 50.0)


def test_the_audit_view_has_key_columns_once_and_shared_ones_prefixed(run: Run) -> None:
    names = run_query(run, "SELECT * FROM audit LIMIT 0").column_names
    assert len(names) == len(set(names))
    assert names[:4] == ["sample_id", "row", "target", "method"]
    assert {"samples_status", "explain_status", "scores_status", "samples_class_index"} <= set(names)
    assert {"explain_class_index", "samples_reason", "label", "p_full", "drop_outside"} <= set(names)
    assert not {"status", "reason", "class_index"} & set(names)


def test_the_audit_view_names_classes_and_knows_p_of_the_label_beside_every_target(run: Run) -> None:
    rows = run_query(
        run,
        "SELECT target, target_label, pred_label, correct, p_label FROM audit_targets "
        "WHERE sample_id = 'wrong.jpg' ORDER BY target",
    ).to_pylist()
    assert [(row["target"], row["target_label"], row["pred_label"], row["correct"]) for row in rows] == [
        ("label", "mug", "cat", False),
        ("predicted", "cat", "cat", False),
    ]
    assert [row["p_label"] for row in rows] == [pytest.approx(0.05)] * 2


def test_a_prediction_that_another_sample_of_the_image_has_is_neither_right_nor_wrong(build) -> None:
    shared = {"pred_index": 1, "other_classes": [1, 2]}
    run = build({"sample_id": "a.jpg#mug", **shared}, {"sample_id": "b.jpg"}, {"sample_id": "c.jpg", "pred_index": 1})
    found = run_query(run, "SELECT sample_id, correct FROM audit ORDER BY sample_id").to_pylist()
    assert [row["correct"] for row in found] == [None, True, False]
    report = audit(run, AuditSettings())
    (mug,) = report.classes.to_pylist()
    assert (mug["n"], mug["accuracy"]) == (3, 0.5)


def test_audit_has_a_row_a_sample_of_the_audited_method_and_audit_targets_has_all(run: Run) -> None:
    def rows(view: str) -> list[tuple[str, str, str]]:
        found = run_query(run, f"SELECT sample_id, target, method FROM {view} ORDER BY ALL").to_pylist()
        return [(row["sample_id"], row["target"], row["method"]) for row in found]

    of_label = [row for row in rows("audit_targets") if row[1:] == ("label", "opti_cam")]
    assert rows("audit") == of_label
    assert ("wrong.jpg", "predicted", "opti_cam") in rows("audit_targets")
    assert ("quiet.jpg", "label", "uniform") in rows("audit_targets")
    # The mean over labels is that of the label's maps, whatever the predictions' maps say.
    (mean,) = run_query(run, "SELECT avg(energy_lift) AS mean FROM audit WHERE sample_id = 'lost.jpg'").to_pylist()
    assert mean["mean"] > 0.5  # the predicted class's map has .3
    run.write_info(RunInfo(config={"audit": {"method": "uniform"}}))
    assert ("quiet.jpg", "label", "uniform") in rows("audit")


def test_a_query_cannot_write_into_the_run_that_it_reads(run: Run) -> None:
    findings = run.local_path("findings.parquet")
    before = findings.read_bytes()
    for sql in (f"COPY (SELECT 1) TO '{findings}'", f"SELECT 1; COPY (SELECT 1) TO '{findings}'"):
        with pytest.raises(UserError, match="only statements that answer rows"):
            run_query(run, sql)
    assert findings.read_bytes() == before


def test_parts_of_an_earlier_version_answer_null_for_columns_that_they_lack(run: Run) -> None:
    part = next(run.parts("scores", "opti_cam"))
    older = run.read_part(part).drop_columns(["entropy"])
    pq.write_table(older, run.local_path(part.path))
    rows = run_query(run, "SELECT entropy, drop_outside FROM audit WHERE sample_id = 'cue.jpg'").to_pylist()
    assert rows == [{"entropy": None, "drop_outside": 0.5}]


def test_a_run_on_another_file_system_answers_the_same(run: Run) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    root = run.local_path()
    for path in root.rglob("*"):
        if path.is_file():
            memory.pipe_file(f"/audit_query/{path.relative_to(root).as_posix()}", path.read_bytes())
    remote = Run.open("memory://audit_query")
    sql = "SELECT sample_id, target, drop_outside FROM audit ORDER BY ALL"
    assert run_query(remote, sql).equals(run_query(run, sql))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT drop_outsid FROM audit", r'"drop_outsid" not found.*nearest: drop_outside'),
        ("SELECT * FROM audits", r"audits does not exist; nearest: audit"),
        ("SELEC 1", r'syntax error at or near "SELEC"'),
        ("SELECT * FROM reviews", r"no table reviews yet"),
        ("SELECT label, count(*) FROM audit", r'"label" must appear in the GROUP BY clause'),
        ("", r"write a SELECT"),
        ("SELECT 'x'::INT", r"Could not convert string 'x'"),
    ],
)
def test_a_mistake_in_sql_is_told_in_one_line_with_the_remedy(run: Run, sql: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_query(run, sql)
    assert "\n" not in str(caught.value)
    assert "--list" in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{path}')",
        "SELECT * FROM '{path}'",
        "COPY samples TO '{path}'",
        "ATTACH '{path}.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_a_query_cannot_touch_files_or_settings(run: Run, tmp_path, sql: str) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("a\n1\n")
    with pytest.raises(UserError, match=r"disabled by configuration|only statements that answer rows"):
        run_query(run, sql.format(path=path))
    assert path.read_text() == "a\n1\n"


def test_a_query_cannot_see_variables_of_the_program(run: Run) -> None:
    secret = pa.table({"a": [1]})
    with pytest.raises(UserError, match="secret does not exist"):
        run_query(run, "SELECT * FROM secret")
    assert secret.num_rows == 1


def test_an_unknown_canned_query_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="no canned query 'worst_class'; did you mean worst_classes"):
        load_query("worst_class")


TABLE = pa.table({"name": ["a", "b"], "x": [0.5, None], "box": [{"x0": 1.0}, None]})


def test_csv_writes_nested_values_as_json_and_null_as_empty() -> None:
    stream = io.StringIO()
    render(TABLE, "csv", stream)
    assert list(csv.reader(io.StringIO(stream.getvalue()))) == [
        ["name", "x", "box"],
        ["a", "0.5", '{"x0": 1.0}'],
        ["b", "", ""],
    ]


def test_markdown_is_a_table_that_a_cell_cannot_break_and_says_what_it_leaves_out() -> None:
    table = pa.table({"name": ["a|b", "two\nlines"], "p": [0.25, None]})
    stream = io.StringIO()
    render(table, "markdown", stream)
    assert stream.getvalue().splitlines() == ["| name | p |", "| --- | --- |", "| a\\|b | 0.250 |", "| two lines |  |"]
    stream = io.StringIO()
    render(pa.table({"row": range(103)}), "markdown", stream)
    *rows, empty, rest = stream.getvalue().splitlines()
    assert (len(rows), rows[-1], empty) == (102, "| 99 |", "")
    assert rest == "3 more rows: `sightline query ... --format csv` writes all"


def test_json_is_an_array_of_records_with_null_for_nan() -> None:
    stream = io.StringIO()
    render(pa.table({"x": [float("nan"), 1.0], "box": [[{"x0": float("inf")}], []]}), "json", stream)
    assert json.loads(stream.getvalue()) == [{"x": None, "box": [{"x0": None}]}, {"x": 1.0, "box": []}]
    stream = io.StringIO()
    render(TABLE.slice(0, 0), "json", stream)
    assert json.loads(stream.getvalue()) == []


@pytest.mark.parametrize("format", ["csv", "json"])
def test_text_has_the_digits_of_float32_and_no_more(format: str) -> None:
    stream = io.StringIO()
    render(pa.table({"p": pa.array([0.9, None], pa.float32())}), format, stream)
    assert "0.9" in stream.getvalue()
    assert "0.89999" not in stream.getvalue()


def test_parquet_reads_back_the_same() -> None:
    stream = io.BytesIO()
    render(TABLE, "parquet", stream)
    assert pq.read_table(io.BytesIO(stream.getvalue())).equals(TABLE)


def test_a_table_for_people_counts_its_rows_and_says_what_it_leaves_out() -> None:
    stream = io.StringIO()
    render(pa.table({"x": list(range(150))}), "table", stream)
    assert "150 rows, 50 not shown" in stream.getvalue()
    stream = io.StringIO()
    render(TABLE, "table", stream)
    assert "0.500" in stream.getvalue()
    assert "2 rows" in stream.getvalue()


def test_a_wide_table_is_written_a_block_a_row(run: Run) -> None:
    stream = io.StringIO()
    render(run_query(run, "SELECT * FROM audit WHERE sample_id = 'cue.jpg'"), "table", stream)
    assert ["drop_outside", "0.500"] in [line.split() for line in stream.getvalue().splitlines()]


def test_brackets_in_a_value_are_no_markup() -> None:
    stream = io.StringIO()
    render(pa.table({"path": ["[red]a[/red].jpg"]}), "table", stream)
    assert "[red]a[/red].jpg" in stream.getvalue()


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="no format 'parket'; did you mean parquet"):
        render(TABLE, "parket", io.StringIO())
