from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.media.object_masks import encode_mask
from storage.run import Run
from storage.tables import SAMPLES
from tests.stages.review.synthetic import Planted, make_run, object_box

pytestmark = pytest.mark.usefixtures("mongo")

FIRST = Planted("a.png", rules=(("relies_on_outside", "flag", 0.5),))
SECOND = Planted("b.png", predicted=1, predicted_cell=(6, 0))


def load_run(run: Run) -> Any:
    from stages.review.review import load

    return load(run)


def test_a_document_is_what_fiftyone_itself_would_have_stored(tmp_path: Path):
    import fiftyone as fo

    dataset = load_run(make_run(tmp_path, [FIRST], name=tmp_path.name))
    (ours,) = dataset._sample_collection.find({})
    x0, y0, x1, y1 = object_box(FIRST)
    sample = fo.Sample(
        filepath=str(tmp_path / "images" / "a.png"),
        metadata=fo.ImageMetadata(
            size_bytes=(tmp_path / "images" / "a.png").stat().st_size, width=FIRST.width, height=FIRST.height
        ),
        sample_key="a.png",
        label=fo.Classification(label="cat"),
        prediction=fo.Classification(label="cat", confidence=0.75),
        classes="cat",
        ground_truth=fo.Detections(
            detections=[fo.Detection(label="cat", bounding_box=[x0 / 400, y0 / 300, (x1 - x0) / 400, (y1 - y0) / 300])]
        ),
        saliency=fo.Heatmap(map_path=dataset.first().saliency.map_path),
        findings=["relies_on_outside"],
        numbers=fo.DynamicEmbeddedDocument(correct=True, worst=0.5, priority=1.5, pointing_hit=False, p_full=0.75),
        severity=fo.DynamicEmbeddedDocument(relies_on_outside=0.5),
        record=fo.DynamicEmbeddedDocument(remarks=[]),
    )
    other = fo.Dataset()
    other.add_sample(sample)
    (theirs,) = other._sample_collection.find({})
    # Null and absent are the same to FiftyOne, and null is not written here.
    assert set(plain(theirs)) <= set(ours)
    for name in plain(theirs):
        assert_same(plain(ours)[name], plain(theirs)[name], part=name in ("numbers", "record"))
    assert 0.999 <= ours["_rand"] < 1
    assert ours["_dataset_id"] == dataset._doc.id
    assert ours["created_at"] == ours["last_modified_at"]
    # And it holds for all that FiftyOne checks of a sample.
    dataset.first()._doc.validate()


def test_every_label_has_an_id_of_its_own(tmp_path: Path):
    two = ({"x0": 1.0, "y0": 2.0, "x1": 30.0, "y1": 40.0, "label": None},) * 2
    run = make_run(tmp_path, [FIRST, SECOND], name=tmp_path.name)
    samples = run.table("samples")
    boxes = pa.array([list(two)] * 2, samples.schema.field("boxes").type)
    run.write_table("samples", samples.set_column(samples.schema.get_field_index("boxes"), "boxes", boxes))
    dataset = load_run(run)
    ids = [sample[name].id for sample in dataset for name in ("label", "prediction", "saliency")]
    ids += [box.id for sample in dataset for box in sample.ground_truth.detections]
    assert len(set(ids)) == len(ids) == 2 * (3 + 2)


def plain(document: Any) -> Any:
    """Without what differs between any two documents: ids and times."""
    if isinstance(document, dict):
        own = ("_id", "_rand", "_dataset_id", "created_at", "last_modified_at")
        return {name: plain(value) for name, value in document.items() if name not in own and value is not None}
    return [plain(value) for value in document] if isinstance(document, list) else document


def assert_same(ours: Any, theirs: Any, part: bool = False) -> None:
    """The same, or with ``part`` the same as far as theirs goes."""
    if isinstance(theirs, dict):
        assert part or ours.keys() == theirs.keys()
        for name in theirs:
            assert_same(ours[name], theirs[name])
    elif isinstance(theirs, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        # Tables keep edges as float32.
        assert ours == (pytest.approx(theirs) if isinstance(theirs, float) else theirs)


def test_a_label_that_did_not_change_keeps_its_id_and_what_people_tagged_it_with(tmp_path: Path):
    dataset = load_run(make_run(tmp_path, [FIRST, SECOND], name=tmp_path.name))
    dataset.tag_labels("looked at", label_fields=["ground_truth", "prediction"])
    before = dict(zip(*dataset.values(["sample_key", "ground_truth.detections.id"]), strict=True))
    # Another prediction of a.png; its boxes stay.
    dataset = load_run(make_run(tmp_path, [Planted("a.png", predicted=2), SECOND], name=tmp_path.name))
    sample = dataset.one({"sample_key": "a.png"})
    assert [box.tags for box in sample.ground_truth.detections] == [["looked at"]]
    assert [box.id for box in sample.ground_truth.detections] == before["a.png"]
    assert (sample.prediction.label, sample.prediction.tags) == ("owl", [])


def test_what_is_null_after_an_update_was_taken_out(tmp_path: Path):
    dataset = load_run(make_run(tmp_path, [SECOND], name=tmp_path.name))
    held = dataset.first()
    assert held.predicted.p_full == 0.75
    load_run(make_run(tmp_path, [Planted("b.png")], name=tmp_path.name))
    # Samples that this process holds see the change.
    assert (held.predicted, held.saliency_predicted, held.numbers.correct) == (None, None, True)
    assert dataset.match(~dataset_field("predicted.p_full").exists()).values("sample_key") == ["b.png"]


def dataset_field(path: str) -> Any:
    from fiftyone import ViewField

    return ViewField(path)


def test_the_outline_of_a_mask_is_drawn_as_lines_in_shares_of_the_image(tmp_path: Path):
    import fiftyone as fo

    from stages.review.dataset.fields import OUTLINES

    run = make_run(tmp_path, [FIRST, SECOND], name=tmp_path.name)
    row, bare = run.table("samples").to_pylist()
    mask = np.zeros((FIRST.height, FIRST.width), dtype=bool)
    mask[160:200, 150:170] = True
    mask[170:180, 155:160] = False  # a hole
    row |= {"mask": encode_mask(mask), "object_masks": [encode_mask(mask)]}
    run.write_table("samples", pa.Table.from_pylist([row, bare], schema=SAMPLES))
    dataset = load_run(run)
    masked, other = (dataset.one(fo.ViewField("sample_key") == key) for key in ("a.png", "b.png"))
    (line,) = masked[OUTLINES].polylines
    assert (line.label, line.closed, line.filled) == (None, True, False)
    ends = [np.array(ring) * [FIRST.width, FIRST.height] for ring in line.points]
    assert sorted([*ring.min(axis=0), *ring.max(axis=0)] for ring in ends) == [
        pytest.approx([150, 160, 170, 200]),
        pytest.approx([155, 170, 160, 180]),
    ]
    assert other[OUTLINES] is None
    assert OUTLINES in dataset.app_config.active_fields.paths
    # What FiftyOne stores of the same line, and draws: what its own code makes of it has the mask's pixels.
    stored = dataset._sample_collection.find_one({"sample_key": "a.png"})[OUTLINES]["polylines"][0]
    theirs = fo.Polyline(points=line.points, closed=True, filled=False).to_dict()
    assert {name: stored[name] for name in theirs if name != "_id"} == {k: v for k, v in theirs.items() if k != "_id"}
    drawn = fo.Polyline(points=[line.points[0]], closed=True, filled=True).to_segmentation(frame_size=(400, 300)).mask
    solid = np.zeros_like(mask)
    solid[160:200, 150:170] = True
    assert (solid & (drawn > 0)).sum() / (solid | (drawn > 0)).sum() > 0.9
    load_run(run)
    assert (
        dataset._sample_collection.find_one({"sample_key": "a.png"})[OUTLINES]["polylines"][0]["_id"] == stored["_id"]
    )
