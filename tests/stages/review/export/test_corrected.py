from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages.review.export.corrected import AnnotatedImage, Annotations, corrected_annotations
from stages.review.settings import ReviewSettings
from stages.review.verdicts.boxes import Box
from stages.review.verdicts.table import Review, append_reviews
from stages.score.boxacc import IOU_LEVELS, THRESHOLDS, FoundCounts
from stages.score.metrics import BOX_COUNTS, LARGEST, encode_counts
from storage.run import Part, Run
from storage.tables import SAMPLES
from tests.stages.review.synthetic import Planted, make_run, object_box, replace_findings

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ONE = Planted("one.png", 448, 224, cell=(1, 5))
WRONG = Planted("wrong.png", 448, 224, cell=(1, 5), predicted=1, predicted_cell=(5, 1))
BROKEN = Planted("broken.png", status="unreadable")

# The hot cell (1, 5) of 7 x 7 reaches 31.3 px of 224 from its centre (176, 48) above the map's mean: view pixels 145 to
# 207 and 17 to 79, and the image is twice as wide as the view. Cell (5, 1) is the same about (48, 176).
SALIENT = (290, 17, 414, 79)
SALIENT_PREDICTED = (34, 145, 158, 207)


def verdict(key: str, verdict: str, minute: int = 0, **more: object) -> Review:
    values = {"target": "label", "rule": "r", "reviewer": "ann"} | more
    return Review(key, verdict=verdict, time=NOON + timedelta(minutes=minute), **values)  # type: ignore[arg-type]


def corrected(run: Run, *reviews: Review, suggestions: bool = True) -> Annotations:
    append_reviews(run, reviews)
    return corrected_annotations(run, ReviewSettings(), suggestions=suggestions)


def image_of(annotations: Annotations, key: str = "one.png") -> AnnotatedImage:
    (image,) = (image for image in annotations.images if image.sample_id == key)
    return image


def test_without_verdicts_everything_is_the_original(tmp_path: Path):
    found = corrected(make_run(tmp_path, [ONE, BROKEN, WRONG]))
    assert (found.verdicts, found.left_out) == (0, {"unreadable": 1})
    assert [image.sample_id for image in found.images] == ["one.png", "wrong.png"]
    assert found.categories == ("cat", "dog", "owl")
    (box,) = image_of(found).annotations
    assert (box.label, box.provenance, box.review) == ("cat", "original", None)
    assert box.edges == pytest.approx(object_box(ONE), abs=1e-4)


def test_drawn_boxes_replace_those_of_the_dataset(tmp_path: Path):
    drawn = verdict("one.png", "fix_box", boxes=(Box("cat", 1, 2, 30, 40), Box("fox", 5, 6, 7, 8)))
    found = corrected(make_run(tmp_path, [ONE]), drawn)
    boxes = image_of(found).annotations
    assert [(box.label, box.edges, box.provenance) for box in boxes] == [
        ("cat", (1, 2, 30, 40), "reviewed"),
        ("fox", (5, 6, 7, 8), "reviewed"),
    ]
    assert boxes[0].review == drawn
    assert found.categories == ("cat", "dog", "owl", "fox")
    assert found.without_box == 0


def test_the_latest_drawing_counts_and_one_that_was_taken_back_does_not(tmp_path: Path):
    run = make_run(tmp_path, [ONE])
    first = verdict("one.png", "fix_box", 0, boxes=(Box("cat", 0, 0, 10, 10),))
    second = verdict("one.png", "fix_box", 1, boxes=(Box("cat", 0, 0, 20, 20),), reviewer="bob")
    assert [box.edges for box in image_of(corrected(run, first, second)).annotations] == [(0, 0, 20, 20)]
    found = corrected(run, verdict("one.png", "confirmed", 2, reviewer="bob"))
    assert [box.edges for box in image_of(found).annotations] == [(0, 0, 10, 10)]
    assert found.disputed == 1
    found = corrected(run, verdict("one.png", "unsure", 3))
    assert [box.provenance for box in image_of(found).annotations] == ["original"]


def test_where_nothing_was_drawn_the_salient_part_is_suggested_beside_the_original(tmp_path: Path):
    given = verdict("one.png", "fix_box")
    run = make_run(tmp_path, [ONE])
    original, suggested = image_of(corrected(run, given)).annotations
    assert original.provenance == "original"
    assert (suggested.provenance, suggested.label, suggested.review) == ("suggested", "cat", given)
    assert suggested.edges == pytest.approx(SALIENT)
    found = corrected(run, suggestions=False)
    assert [box.provenance for box in image_of(found).annotations] == ["original"]
    assert found.without_box == 1


def test_a_suggestion_is_from_the_map_that_the_finding_is_about(tmp_path: Path):
    run = make_run(tmp_path, [ONE, WRONG])
    found = corrected(run, verdict("wrong.png", "fix_box", target="predicted"))
    suggested = image_of(found, "wrong.png").annotations[-1]
    assert suggested.edges == pytest.approx(SALIENT_PREDICTED)
    assert suggested.label == "dog"


def test_a_suggestion_is_the_box_that_the_finding_names(tmp_path: Path):
    run = make_run(tmp_path, [ONE])
    named = {"crop_outside_box": {"x0": 3, "y0": 4, "x1": 50, "y1": 60}, "p_full": 0.5}
    keys = {"sample_id": "one.png", "row": 0, "target": "label", "method": "opti_cam", "kind": "description"}
    replace_findings(run, [{**keys, "rule": "missing_box", "reason": "", "evidence": json.dumps(named)}])
    found = corrected(run, verdict("one.png", "fix_box", rule="missing_box"))
    assert image_of(found).annotations[-1].edges == (3, 4, 50, 60)


def test_a_constant_map_suggests_nothing_and_that_is_counted(tmp_path: Path):
    run = make_run(tmp_path, [ONE])
    run.maps("label", mode="r+").write(0, np.ones((1, 7, 7), np.float32))
    found = corrected(run, verdict("one.png", "fix_box"))
    assert (found.without_box, len(image_of(found).annotations)) == (1, 1)


def test_a_corrected_label_is_that_of_the_image_and_of_its_own_boxes(tmp_path: Path):
    run = make_run(tmp_path, [ONE])
    rows = run.table("samples").to_pylist()
    rows[0]["boxes"].append({"x0": 0, "y0": 0, "x1": 9, "y1": 9, "label": "dog"})
    run.write_table("samples", run.table("samples").from_pylist(rows, schema=run.table("samples").schema))
    given = verdict("one.png", "fix_label", label="lynx")
    found = corrected(run, given)
    image = image_of(found)
    assert (image.label, image.original_label, image.relabelled_by, image.class_index) == ("lynx", "cat", given, None)
    own, other = image.annotations
    assert (own.label, own.original_label, own.provenance, own.review) == ("lynx", "cat", "reviewed", given)
    assert (other.label, other.original_label, other.provenance) == ("dog", None, "original")
    assert found.new_labels == ("lynx",)
    assert found.categories == ("cat", "dog", "owl", "lynx")


def test_a_wrong_label_without_the_right_one_changes_nothing_and_is_counted(tmp_path: Path):
    found = corrected(make_run(tmp_path, [ONE]), verdict("one.png", "fix_label"))
    assert (found.without_label, image_of(found).label) == (1, "cat")


def test_other_verdicts_change_nothing(tmp_path: Path):
    run = make_run(tmp_path, [ONE])
    before = corrected(run).images
    given = [verdict("one.png", name, reviewer=name) for name in ("confirmed", "false_alarm", "unsure")]
    assert corrected(run, *given).images == before


def shared(tmp_path: Path) -> Run:
    """One image of a cat and a dog, each a sample, as ``dataset.labels: each`` makes them."""
    run = make_run(tmp_path, [ONE, ONE])
    cat, dog = run.table("samples").to_pylist()
    boxes = [cat["boxes"][0] | {"label": None}, {"x0": 5, "y0": 6, "x1": 50, "y1": 60, "label": "dog"}]
    theirs = [cat["boxes"][0] | {"label": "cat"}, boxes[1] | {"label": None}]
    dog |= {"label": "dog", "class_index": 1, "boxes": theirs, "sample_id": "one.png#dog", "uri": cat["uri"]}
    cat |= {"boxes": boxes, "sample_id": "one.png#cat"}
    run.write_table("samples", pa.Table.from_pylist([cat, dog], schema=SAMPLES))
    return run


def test_the_samples_of_an_image_are_one_image_with_each_box_once(tmp_path: Path):
    (image,) = corrected(shared(tmp_path)).images
    assert (image.sample_id, image.label, image.class_index) == ("one.png", None, None)
    assert [(box.label, box.provenance) for box in image.annotations] == [("cat", "original"), ("dog", "original")]
    assert image.annotations[1].edges == (5, 6, 50, 60)


def test_a_verdict_on_one_class_of_an_image_leaves_the_others(tmp_path: Path):
    renamed = verdict("one.png#dog", "fix_label", label="fox")
    (image,) = corrected(shared(tmp_path), renamed).images
    assert [(box.label, box.original_label, box.provenance) for box in image.annotations] == [
        ("cat", None, "original"),
        ("fox", "dog", "reviewed"),
    ]


def test_boxes_drawn_on_one_sample_of_an_image_are_all_that_it_has(tmp_path: Path):
    drawn = verdict("one.png#dog", "fix_box", boxes=(Box(None, 1, 2, 30, 40), Box("cat", 5, 6, 7, 8)))
    (image,) = corrected(shared(tmp_path), drawn).images
    assert [(box.label, box.edges) for box in image.annotations] == [("dog", (1, 2, 30, 40)), ("cat", (5, 6, 7, 8))]


def test_boxes_drawn_on_one_sample_without_those_of_other_classes_leave_the_others(tmp_path: Path):
    run = shared(tmp_path)
    drawn = verdict("one.png#dog", "fix_box", boxes=(Box(None, 1, 2, 30, 40),))
    (image,) = corrected(run, drawn).images
    cat, dog = image.annotations
    assert (cat.label, cat.provenance, cat.edges) == ("cat", "original", pytest.approx(object_box(ONE), abs=1e-4))
    assert (dog.label, dog.provenance, dog.edges) == ("dog", "reviewed", (1, 2, 30, 40))


@pytest.mark.parametrize("of_all", [(), (Box("dog", 9, 9, 10, 10),)])
def test_each_sample_of_an_image_keeps_the_boxes_that_were_drawn_on_it(tmp_path: Path, of_all: tuple[Box, ...]):
    # The later drawing may list the other class's boxes too, as they were before anybody drew some on its sample.
    dog = verdict("one.png#dog", "fix_box", boxes=(Box(None, 1, 2, 30, 40),))
    cat = verdict("one.png#cat", "fix_box", minute=1, boxes=(Box(None, 3, 4, 33, 44), *of_all))
    (image,) = corrected(shared(tmp_path), dog, cat).images
    assert {(box.label, box.provenance, box.edges) for box in image.annotations} == {
        ("dog", "reviewed", (1, 2, 30, 40)),
        ("cat", "reviewed", (3, 4, 33, 44)),
    }
    assert len(image.annotations) == 2


def test_a_box_drawn_on_one_sample_leaves_the_suggestion_for_another(tmp_path: Path):
    drawn = verdict("one.png#dog", "fix_box", boxes=(Box(None, 1, 2, 30, 40),))
    asked = verdict("one.png#cat", "fix_box", rule="misses_box")
    (image,) = corrected(shared(tmp_path), drawn, asked).images
    assert [(box.label, box.provenance) for box in image.annotations] == [
        ("cat", "original"),
        ("dog", "reviewed"),
        ("cat", "suggested"),
    ]


def without_box(run: Run, key: str) -> None:
    rows = run.table("samples").to_pylist()
    changed = [row | ({"boxes": [], "status": "no_box"} if row["sample_id"] == key else {}) for row in rows]
    run.write_table("samples", pa.Table.from_pylist(changed, schema=SAMPLES))


def test_a_sample_without_a_box_is_given_one_only_where_that_is_asked_for(tmp_path: Path):
    run = make_run(tmp_path, [ONE, WRONG])
    without_box(run, "one.png")
    assert image_of(corrected(run)).annotations == ()
    found = corrected_annotations(run, ReviewSettings(), box_unboxed=True)
    (box,) = image_of(found).annotations
    assert (box.label, box.provenance, box.score, box.review) == ("cat", "suggested", 0.75, None)
    assert box.edges == pytest.approx(SALIENT)  # nothing was measured: above the map's mean
    assert [box.provenance for box in image_of(found, "wrong.png").annotations] == ["original"]
    assert found.boxed == 1


def test_the_threshold_is_that_which_finds_the_most_boxes(tmp_path: Path):
    run = make_run(tmp_path, [ONE, WRONG])
    without_box(run, "one.png")
    counts = np.zeros((len(IOU_LEVELS), len(THRESHOLDS)), dtype=np.int64)
    counts[IOU_LEVELS.index(0.5), 50] = 1
    found = {"label": {LARGEST: FoundCounts(1, counts)}}
    run.write_part(Part("scores", "opti_cam", 0), run.table("scores"), {BOX_COUNTS: encode_counts(found)})
    (box,) = image_of(corrected_annotations(run, ReviewSettings(), box_unboxed=True)).annotations
    # From its centre at (176, 48) the map falls to a half within 16 px of the view; the image is twice as wide.
    assert box.edges == pytest.approx((2 * 160, 32, 2 * 192, 64))


def test_boxes_that_a_reviewer_drew_stand_without_a_suggestion(tmp_path: Path):
    run = make_run(tmp_path, [ONE])
    without_box(run, "one.png")
    append_reviews(run, [verdict("one.png", "fix_box", boxes=(Box("cat", 1, 2, 30, 40),))])
    found = corrected_annotations(run, ReviewSettings(), box_unboxed=True)
    assert [box.provenance for box in image_of(found).annotations] == ["reviewed"]
