"""What the panel shows of a sample is what the run's tables and maps say."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stages.review.panel.portrait import as_shown, choices, findings_of, portray
from storage.errors import UserError
from storage.media.object_masks import encode_mask
from storage.tables import FINDINGS, SAMPLES
from tests.stages.review.synthetic import RELYING, Planted, cue_box, make_run, object_box

STICKER = Planted(
    "sticker.png",
    480,
    320,
    cell=(1, 5),
    rules=(("misses_box", "description", 0.9), ("relies_on_outside", "flag", 0.5)),
    probes={**RELYING, "hide_locator": "opti_cam", "hidden_box": {"x0": 300, "y0": 20, "x1": 420, "y1": 110}},
)
OTHER = Planted("other.png", 300, 450, label=2, predicted=1, predicted_cell=(0, 6))
DAMAGED = Planted("damaged.png", status="unreadable")


def test_the_probes_are_those_of_the_table(tmp_path: Path) -> None:
    run = make_run(tmp_path, [OTHER, STICKER])
    portrait = portray(run, "sticker.png", method="opti_cam", target="label")
    assert portrait.probes == RELYING
    assert (portrait.explained, portrait.label, portrait.correct) == ("cat", "cat", True)
    assert portrait.words.seen.startswith("Hiding what matters most outside takes p(cat) from .94 to .06")
    assert portrait.boxes == (pytest.approx(object_box(STICKER), abs=1e-4),)
    assert portrait.hidden_box == (300, 20, 420, 110)
    shown = as_shown(portrait)
    assert {probe["name"]: probe["value"] for probe in shown["probes"]} == RELYING
    assert [probe["text"] for probe in shown["probes"]] == [
        ".94",
        ".75",
        ".25",
        ".50",
        ".12",
        ".62",
        ".06",
        ".88",
        ".12",
        ".25",
        ".50",
        ".75",
        ".06",
    ]


def test_the_map_has_all_the_digits_of_the_store_and_lies_on_its_cue(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER, OTHER], "resize_crop")
    for sample, target, cell in ((STICKER, "label", STICKER.cell), (OTHER, "predicted", OTHER.predicted_cell)):
        shown = as_shown(portray(run, sample.name, method="opti_cam", target=target))
        sent = np.frombuffer(base64.b64decode(shown["map"]["float32"]), "<f4").reshape(224, 224)
        row = 0 if sample is STICKER else 1
        assert np.array_equal(sent, run.maps(target).read([row], size=(224, 224))[0])
        y, x = np.unravel_index(sent.argmax(), sent.shape)
        at = [
            (centre + 0.5 - offset) / scale
            for centre, scale, offset in zip((x, y), shown["map"]["scale"], shown["map"]["offset"], strict=True)
        ]
        x0, y0, x1, y1 = cue_box(sample, "resize_crop", cell)
        assert x0 <= at[0] <= x1
        assert y0 <= at[1] <= y1


def test_an_image_that_was_replaced_since_the_run_is_named_and_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER])
    portrait = portray(run, STICKER.name, method="opti_cam", target="label")
    assert as_shown(portrait)["problem"] is None
    Image.new("RGB", (480, 320), "navy").save(tmp_path / "images" / STICKER.name)
    shown = as_shown(portrait)
    assert shown["problem"] == "the image cannot be shown: the file is not the one that ingest saw; run again"
    assert "image" not in shown
    assert all(probe["picture"] is None for probe in shown["probes"])
    assert shown["map"]["width"] == 224  # the map is still the run's


def test_each_target_is_about_its_own_class(tmp_path: Path) -> None:
    run = make_run(tmp_path, [OTHER])
    assert choices(run) == [{"method": "opti_cam", "target": target} for target in ("label", "predicted")]
    label = portray(run, "other.png", method="opti_cam", target="label")
    predicted = portray(run, "other.png", method="opti_cam", target="predicted")
    assert (label.explained, predicted.explained) == ("owl", "dog")
    assert label.predicted == predicted.predicted == "dog"
    assert label.correct is False


def test_findings_come_with_their_reasons_and_evidence_first(tmp_path: Path) -> None:
    found = findings_of(make_run(tmp_path, [STICKER]), "sticker.png", "opti_cam")
    assert [(finding.rule, finding.kind, finding.reason) for finding in found] == [
        ("relies_on_outside", "flag", "because of relies_on_outside"),
        ("misses_box", "description", "because of misses_box"),
    ]


def test_boxes_of_another_label_and_findings_of_another_method_are_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER])
    (sample,) = run.table("samples").to_pylist()
    sample["boxes"].append({"x0": 0.0, "y0": 0.0, "x1": 9.0, "y1": 9.0, "label": "dog"})
    run.write_table("samples", pa.Table.from_pylist([sample], schema=SAMPLES))
    rows = run.table("findings").to_pylist()
    run.write_table("findings", pa.Table.from_pylist([*rows, rows[0] | {"method": "grad_cam"}], schema=FINDINGS))
    assert len(portray(run, "sticker.png", method="opti_cam", target="label").boxes) == 1
    assert len(findings_of(run, "sticker.png", "opti_cam")) == 2


def test_the_outline_of_a_mask_is_in_px_of_the_image(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER])
    assert as_shown(portray(run, "sticker.png", method="opti_cam", target="label"))["outline"] is None
    (sample,) = run.table("samples").to_pylist()
    mask = np.zeros((320, 480), dtype=bool)
    mask[100:200, 60:120] = True
    run.write_table("samples", pa.Table.from_pylist([sample | {"mask": encode_mask(mask)}], schema=SAMPLES))
    path = as_shown(portray(run, "sticker.png", method="opti_cam", target="label"))["outline"]
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    edges = [f(numbers[axis::2]) for f in (min, max) for axis in (0, 1)]
    assert edges == pytest.approx([60, 100, 120, 200], abs=2.5)  # about a pixel of the view


def test_there_is_a_picture_of_each_probe_that_can_be_made_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER])
    shown = as_shown(portray(run, "sticker.png", method="opti_cam", target="label"))
    without = [probe["name"] for probe in shown["probes"] if probe["picture"] is None]
    # The panel knows neither the random blob's grid nor the training set's mean colour, nor does it read the donors.
    assert without == ["p_hide_random", "p_hide_context_neutral", "p_transplant", "p_transplant_null"]
    scanned = {"scan_box": {"x0": 0, "y0": 0, "x1": 100, "y1": 100}, "hide_locator": "scan"}
    for probes, hidden in ((scanned, True), ({"hide_locator": "grad_cam"}, False)):
        other = Planted("sticker.png", 480, 320, probes=RELYING | probes)
        run = make_run(tmp_path, [other], name=f"by-{probes['hide_locator']}")
        shown = as_shown(portray(run, "sticker.png", method="opti_cam", target="label"))
        (picture,) = (probe["picture"] for probe in shown["probes"] if probe["name"] == "p_hide_outside")
        assert (picture is not None) == hidden


def test_what_the_map_of_the_outside_had_hidden_is_hidden_again(tmp_path: Path) -> None:
    one = Planted("sticker.png", 480, 320, probes=RELYING | {"hide_locator": "outside_map"})
    run = make_run(tmp_path, [one])
    grid = run.maps("label", "opti_cam").read([0])
    (height, width), cell = grid.shape[1:], (0, grid.shape[2] - 1)
    lit = np.zeros((1, height, width), np.float32)
    lit[0][cell] = 1
    attributes = replace(run.maps("label", "opti_cam").attributes, method="opti_cam.outside")
    run.create_maps(attributes, rows=1, grid=(height, width)).write(0, lit)
    portrait = portray(run, "sticker.png", method="opti_cam", target="label")
    assert portrait.outside is not None
    peak = np.array(np.unravel_index(portrait.outside.argmax(), portrait.outside.shape))
    assert tuple(peak * (height, width) // portrait.outside.shape) == cell
    (picture,) = (one["picture"] for one in as_shown(portrait)["probes"] if one["name"] == "p_hide_outside")
    assert picture is not None


def test_an_image_that_went_away_leaves_the_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER])
    (tmp_path / "images" / "sticker.png").unlink()
    shown = as_shown(portray(run, "sticker.png", method="opti_cam", target="label"))
    assert shown["problem"].startswith("the image cannot be shown: no such file")
    assert "image" not in shown
    assert len(shown["contours"]) == len(shown["levels"]) == len(shown["shares"])


def test_a_sample_without_a_map_says_why(tmp_path: Path) -> None:
    shown = as_shown(portray(make_run(tmp_path, [DAMAGED]), "damaged.png", method="opti_cam", target="label"))
    assert (shown["status"], shown["reason"]) == ("unreadable", "truncated file")
    assert "map" not in shown


def test_an_image_on_its_side_is_shown_upright(tmp_path: Path) -> None:
    run = make_run(tmp_path, [Planted("turned.jpg", 480, 320, turned=True)])
    shown = as_shown(portray(run, "turned.jpg", method="opti_cam", target="label"))
    content = base64.b64decode(shown["image"].split(",")[1])
    assert Image.open(io.BytesIO(content)).size == (480, 320)


def test_the_words_follow_the_findings_of_the_class_s_map(tmp_path: Path) -> None:
    relying = Planted("sticker.png", 480, 320, rules=(("relies_on_outside", "flag", 0.5),), probes=RELYING)
    run = make_run(tmp_path, [relying])

    def conclusion(target: str) -> str:
        return portray(run, "sticker.png", method="opti_cam", target=target).words.conclusion

    assert conclusion("label") == (
        "The class rests on its surroundings: without them p is .25 (one colour) or .50 (blurred), and objects of "
        "other classes have .75 of it in them, .06 alone."
    )
    run.write_table("findings", run.table("findings").slice(0, 0))
    assert conclusion("label").startswith("No single part decides")
    run.discard_table("findings")
    assert conclusion("label") == "The run was not audited yet, so no rule says what the class rests on."


def test_an_audit_that_is_done_again_is_seen(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STICKER])
    assert len(findings_of(run, "sticker.png", "opti_cam")) == 2
    run.write_table("findings", run.table("findings").slice(0, 1))
    assert len(findings_of(run, "sticker.png", "opti_cam")) == 1


@pytest.mark.parametrize(
    ("sample", "target", "told"),
    [
        ("nobody.png", "label", "has no sample 'nobody.png'"),
        ("sticker.png", "top1", "has no maps opti_cam/top1; it has opti_cam/label, opti_cam/predicted"),
    ],
)
def test_what_the_run_lacks_is_named(sample: str, target: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        portray(make_run(tmp_path, [STICKER]), sample, method="opti_cam", target=target)
