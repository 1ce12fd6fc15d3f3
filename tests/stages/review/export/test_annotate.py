from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.review.export.annotate import prepare_handover
from stages.review.settings import ReviewSettings
from storage.errors import UserError
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run, replace_findings

RULE = "misses_box"
ONE = Planted("one.png", rules=((RULE, "description", 0.5),))
TWO = Planted("two.png", rules=(("border_energy", "description", 0.5),))


def make(tmp_path: Path) -> Run:
    return make_run(tmp_path, [ONE, TWO], name=tmp_path.name)


def test_script_and_schema_lie_in_the_run(tmp_path: Path):
    run = make(tmp_path)
    done = prepare_handover(run, ReviewSettings(), "cvat", RULE)
    assert (done.findings, done.samples, done.suggested) == (1, 1, 0)
    assert done.script == run.local_path("annotate/misses_box_cvat.py")
    schema = json.loads(done.schema.read_text())
    assert schema["corrected_boxes"]["type"] == "detections"
    assert schema["corrected_boxes"]["classes"] == ["cat", "dog", "owl"]


def test_a_script_without_an_address_contacts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done = prepare_handover(make(tmp_path), ReviewSettings(), "labelstudio", RULE)
    monkeypatch.delenv("FIFTYONE_LABELSTUDIO_URL", raising=False)
    monkeypatch.setattr(sys, "argv", [str(done.script), "upload"])
    with pytest.raises(SystemExit, match="set FIFTYONE_LABELSTUDIO_URL to the address of your server"):
        runpy.run_path(str(done.script), run_name="__main__")
    monkeypatch.setattr(sys, "argv", [str(done.script)])
    with pytest.raises(SystemExit, match=r"misses_box_labelstudio\.py download"):
        runpy.run_path(str(done.script), run_name="__main__")


@pytest.mark.parametrize(
    ("backend", "rule", "message"),
    [
        ("vgg", RULE, "no backend 'vgg'; backends are cvat, labelstudio"),
        (
            "cvat",
            "nothing",
            r"rule 'nothing' found nothing in .*; rules with findings: misses_box \(1\), border_energy",
        ),
    ],
)
def test_mistakes_are_told(tmp_path: Path, backend: str, rule: str, message: str):
    with pytest.raises(UserError, match=message):
        prepare_handover(make(tmp_path), ReviewSettings(), backend, rule)


MISSING = {"x0": 40.0, "y0": 30.0, "x1": 80.0, "y1": 90.0}


def make_unsorted(tmp_path: Path) -> Run:
    """Three images whose findings of missing_box lie in the order of the images; of one a box is named."""
    run = make_run(tmp_path, [Planted(f"{name}.png") for name in "abc"], name=tmp_path.name)
    keys = {"target": "label", "method": "opti_cam", "rule": "missing_box", "kind": "flag", "reason": "why"}
    severities = {"a.png": 0.25, "b.png": 0.75, "c.png": 0.5}
    evidence = {"b.png": json.dumps({"crop_outside_box": MISSING})}
    findings = [
        keys | {"sample_id": name, "row": row, "severity": severity, "evidence": evidence.get(name, "{}")}
        for row, (name, severity) in enumerate(severities.items())
    ]
    replace_findings(run, findings)
    return run


def test_the_worst_come_first_and_the_missing_box_is_suggested(tmp_path: Path):
    run = make_unsorted(tmp_path)
    done = prepare_handover(run, ReviewSettings(), "cvat", "missing_box", worst=2)
    handed = json.loads(run.local_path("annotate/missing_box_cvat.samples.json").read_text())
    assert handed == [
        {"sample_id": "b.png", "severity": 0.75, "boxes": [[None, 40.0, 30.0, 80.0, 90.0]]},
        {"sample_id": "c.png", "severity": 0.5, "boxes": []},
    ]
    assert (done.findings, done.samples, done.suggested) == (3, 2, 1)
    with pytest.raises(UserError, match="--worst is 0; give the number of samples to hand over"):
        prepare_handover(run, ReviewSettings(), "cvat", "missing_box", worst=0)


@pytest.mark.usefixtures("mongo")
def test_the_script_sends_the_worst_first_with_the_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make_unsorted(tmp_path)
    ((keys, labels, boxes), _) = upload(run, "missing_box", monkeypatch)
    assert keys == ["b.png", "c.png", "a.png"]
    assert labels == [["cat", "cat"], ["cat"], ["cat"]]
    assert boxes[0][1] == pytest.approx([40 / 400, 30 / 300, 40 / 400, 60 / 300])


@pytest.mark.usefixtures("mongo")
def test_the_script_sends_the_findings_with_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    ((keys, labels, _), config) = upload(make(tmp_path), RULE, monkeypatch)
    assert (keys, labels, config.url) == (["one.png"], [["cat"]], "http://127.0.0.1:9")
    assert config.label_schema["corrected_boxes"]["existing_field"] is True
    assert "1 sample sent to http://127.0.0.1:9" in capsys.readouterr().out


def upload(run: Run, rule: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], Any]:
    """What the script of a rule sends, as (keys, labels, boxes), and to where: all of FiftyOne's own way to CVAT, but
    the upload itself, which needs a server."""
    from fiftyone.utils.cvat import CVATAnnotationResults, CVATBackend

    from stages.review.review import load

    load(run)
    done = prepare_handover(run, ReviewSettings(), "cvat", rule)
    sent: list[Any] = []

    def take(backend: Any, samples: Any, key: str, launch_editor: bool = False) -> Any:
        corrected = "corrected_boxes.detections"
        sent.extend([samples.values(["sample_key", f"{corrected}.label", f"{corrected}.bounding_box"]), backend.config])
        empty: tuple[Any, ...] = ({}, {}, [], [], {}, {}, {})
        return CVATAnnotationResults(samples, backend.config, key, *empty, backend=backend)

    monkeypatch.setattr(CVATBackend, "upload_annotations", take)
    monkeypatch.setenv("FIFTYONE_CVAT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", [str(done.script), "upload"])
    runpy.run_path(str(done.script), run_name="__main__")
    values, config = sent
    return values, config
