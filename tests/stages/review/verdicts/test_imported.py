"""Verdicts that are imported are those that a run can have, and what is none is told with its line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from stages.review.verdicts.boxes import Box
from stages.review.verdicts.imported import Judged, read_csv
from stages.review.verdicts.table import Review, append_reviews
from storage.errors import UserError
from storage.info import RunInfo
from storage.run import Run
from storage.tables import FINDINGS, SAMPLES

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KNOWN = Judged(
    {"a.png": (400, 300), "b.png": (300, 450)},
    {"missing_box": ["label"], "misses_box": ["label"], "label_suspect": ["predicted"]},
)


def test_csv_gives_verdicts(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "sample_id,rule,verdict,reviewer,target,label,note,boxes,time\n"
        'a.png,missing_box,fix_box,ann,,,,"[[1, 2, 30, 40], {""x0"": 5, ""y0"": 6, ""x1"": 7, ""y1"": 8, ""label"": '
        '""dog""}]",2026-05-01T14:00:00+02:00\n'
        'b.png,label_suspect,fix_label,ann,predicted,owl,"barn owl, I think",,2026-05-01T12:00:00\n'
    )
    boxes = (Box(None, 1, 2, 30, 40), Box("dog", 5, 6, 7, 8))
    assert read_csv(path, KNOWN) == [
        Review("a.png", "label", "missing_box", "fix_box", "ann", boxes=boxes, time=NOON),
        Review(
            "b.png",
            "predicted",
            "label_suspect",
            "fix_label",
            "ann",
            label="owl",
            note="barn owl, I think",
            time=NOON,
        ),
    ]


HEADER = "sample_id,rule,verdict,reviewer,boxes,time"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample_id,rule,verdict\n", "has no column 'reviewer'; its header is sample_id,rule,verdict,reviewer"),
        ("sample_id,rule,verdict,reviewer,who\n", "has an unknown column 'who'"),
        (
            f"{HEADER}\na.pgn,misses_box,confirmed,ann,,\n",
            r"mine\.csv, line 2: the run has no sample 'a.pgn'; did you mean a.png",
        ),
        (
            f"{HEADER}\na.png,miss_box,confirmed,ann,,\n",
            "the run has no rule 'miss_box'; did you mean misses_box",
        ),
        (
            f"{HEADER}\na.png,misses_box,fix_box,ann,[],\n",
            r"boxes are \[\], and that an image has no box cannot",
        ),
        (f"{HEADER}\na.png,misses_box,confirmed,ann\n", "line 2: not as many fields as in the header"),
        (f"{HEADER}\na.png,misses_box,ok,ann,,\n", "line 2: no verdict 'ok'"),
        (f"{HEADER}\na.png,misses_box,confirmed,ann,,noon\n", "line 2: time 'noon' is not understood"),
        (f"{HEADER}\na.png,misses_box,fix_box,ann,[[1]],\n", "line 2: boxes are not understood"),
        (f'{HEADER}\na.png,misses_box,fix_box,ann,"[[9, 9, 9, 20]]",\n', "line 2: a box without area"),
        (f'{HEADER}\na.png,misses_box,fix_box,ann,"[[0, 0, 401, 20]]",\n', "reaches out of the image of 400 x 300 px"),
    ],
)
def test_mistakes_in_a_csv_are_told_with_their_line(tmp_path: Path, content: str, message: str):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_csv(path, KNOWN)


def test_a_verdict_without_a_target_is_about_what_the_findings_of_its_rule_are_about(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("sample_id,rule,verdict,reviewer\na.png,label_suspect,unsure,ann\na.png,misses_box,unsure,ann\n")
    assert [review.target for review in read_csv(path, KNOWN)] == ["predicted", "label"]
    path.write_text("sample_id,rule,verdict,reviewer,target\na.png,label_suspect,unsure,ann,label\n")
    with pytest.raises(UserError, match="line 2: findings of label_suspect are about predicted, not 'label'"):
        read_csv(path, KNOWN)


def test_what_a_run_has_to_judge_are_its_rules_and_what_was_found_or_said_before(tmp_path: Path):
    run = Run.create(str(tmp_path / "run"))
    rule = {"id": "mine", "title": "t", "when": "true", "severity": "p_full", "reason": "r", "target": "predicted"}
    run.write_info(RunInfo(config={"audit": {"rules": [rule]}}))
    sample = dict.fromkeys(SAMPLES.names) | {"sample_id": "a.png", "row": 0, "status": "ok", "width": 4, "height": 3}
    run.write_table("samples", pa.Table.from_pylist([sample], schema=SAMPLES))
    append_reviews(run, [Review("a.png", "top2", "of_an_earlier_config", "unsure", "ann")])
    known = Judged.of(run)
    assert known.sizes == {"a.png": (4, 3)}
    assert known.targets["mine"] == ["predicted"]
    assert known.targets["of_an_earlier_config"] == ["top2"]
    assert known.targets["relies_on_outside"] == ["label", "predicted"]


def test_a_verdict_without_a_target_is_about_the_finding_that_its_sample_has(tmp_path: Path):
    run = Run.create(str(tmp_path / "run"))
    samples = [
        dict.fromkeys(SAMPLES.names) | {"sample_id": key, "row": row, "status": "ok", "width": 4, "height": 3}
        for row, key in enumerate(("one.png", "other.png", "both.png", "none.png"))
    ]
    run.write_table("samples", pa.Table.from_pylist(samples, schema=SAMPLES))
    found = (("one.png", "label"), ("other.png", "predicted"), ("both.png", "predicted"), ("both.png", "label"))
    findings = [
        dict.fromkeys(FINDINGS.names) | {"sample_id": key, "rule": "relies_on_outside", "target": target}
        for key, target in found
    ]
    run.write_table("findings", pa.Table.from_pylist(findings, schema=FINDINGS))
    path = tmp_path / "mine.csv"
    lines = [f"{sample['sample_id']},relies_on_outside,confirmed,ann" for sample in samples]
    path.write_text("\n".join(["sample_id,rule,verdict,reviewer", *lines]))
    targets = [review.target for review in read_csv(path, Judged.of(run))]
    assert targets == ["label", "predicted", "label", "label"]


def test_a_csv_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"cannot read .*none\.csv: No such file"):
        read_csv(tmp_path / "none.csv", KNOWN)
