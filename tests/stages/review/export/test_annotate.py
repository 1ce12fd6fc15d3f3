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
from tests.stages.review.synthetic import Planted, make_run

RULE = "misses_box"
ONE = Planted("one.png", rules=((RULE, "description", 0.5),))
TWO = Planted("two.png", rules=(("border_energy", "description", 0.5),))


def make(tmp_path: Path) -> Run:
    return make_run(tmp_path, [ONE, TWO], name=tmp_path.name)


def test_script_and_schema_lie_in_the_run(tmp_path: Path):
    run = make(tmp_path)
    done = prepare_handover(run, ReviewSettings(), "cvat", RULE)
    assert (done.findings, done.samples) == (1, 1)
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


@pytest.mark.usefixtures("mongo")
def test_the_script_sends_the_findings_with_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """All of FiftyOne's own way to CVAT, but the upload itself, which needs a server."""
    from fiftyone.utils.cvat import CVATAnnotationResults, CVATBackend

    from stages.review.review import load

    run = make(tmp_path)
    load(run)
    done = prepare_handover(run, ReviewSettings(), "cvat", RULE)
    sent: dict[str, Any] = {}

    def upload(backend: Any, samples: Any, key: str, launch_editor: bool = False) -> Any:
        keys, boxes = samples.values(["sample_key", "corrected_boxes.detections.label"])
        sent.update(keys=keys, boxes=boxes, url=backend.config.url, schema=backend.config.label_schema)
        empty: tuple[Any, ...] = ({}, {}, [], [], {}, {}, {})
        return CVATAnnotationResults(samples, backend.config, key, *empty, backend=backend)

    monkeypatch.setattr(CVATBackend, "upload_annotations", upload)
    monkeypatch.setenv("FIFTYONE_CVAT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", [str(done.script), "upload"])
    runpy.run_path(str(done.script), run_name="__main__")
    assert (sent["keys"], sent["boxes"], sent["url"]) == (["one.png"], [["cat"]], "http://127.0.0.1:9")
    assert sent["schema"]["corrected_boxes"]["existing_field"] is True
    assert "1 samples sent to http://127.0.0.1:9" in capsys.readouterr().out
