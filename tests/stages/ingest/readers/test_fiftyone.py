"""Datasets of FiftyOne: by name, by saved view, exported; and which of their fields is the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.ingest.recognise import open_dataset
from stages.ingest.record import Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.media.images import read_image
from tests.stages.ingest.datasets import PICTURES
from tests.stages.ingest.written import as_fiftyone, in_database

pytestmark = pytest.mark.usefixtures("mongo")


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Any]:
    """The three pictures in FiftyOne's database, as the dataset ``three/pictures``."""
    made = in_database(tmp_path / "data", name="three/pictures")
    yield made
    made.delete()


def read(path: str, **settings: Any) -> list[Record]:
    return list(open_dataset(DatasetSettings(path=path, **settings)).reader.records())


def plain(record: Record) -> Record:
    """A record without what says where it stands."""
    return replace(record, sample_id="", uri="", place="")


def test_a_dataset_by_name_is_what_it_exports(dataset: Any, tmp_path: Path) -> None:
    found = open_dataset(DatasetSettings(path="fiftyone://three/pictures"))
    assert str(found) == "fiftyone: a name in FiftyOne's database"
    records, exported = list(found.reader.records()), read(as_fiftyone(tmp_path / "exported").path)
    assert list(map(plain, records)) == list(map(plain, exported))
    for record, picture in zip(records, PICTURES, strict=True):
        assert record.uri == str(tmp_path / "data-originals" / picture.name)
        assert record.uri == f"/{record.sample_id}"
        assert read_image(record.uri).size == picture.size
        assert record.place == f"fiftyone://three/pictures, image {PICTURES.index(picture) + 1}"


def test_a_saved_view_is_its_samples_in_its_order(dataset: Any) -> None:
    from fiftyone import ViewField

    few = dataset.match(ViewField("metadata.width") == 40).sort_by("filepath", reverse=True)
    dataset.save_view("wide ones", few)
    found = read("fiftyone://three/pictures/wide ones")
    assert [Path(record.uri).name for record in found] == ["second.JPEG", "first.JPEG"]


def test_an_image_has_the_class_of_its_classification_and_the_boxes_of_its_detections(dataset: Any) -> None:
    import fiftyone as fo

    for sample, label in zip(dataset, ("crane", None, "tench"), strict=True):
        sample["kind"] = fo.Classification(label=label) if label else None
        sample.save()
    found = read("fiftyone://three/pictures")
    assert [record.label for record in found] == ["crane", None, "tench"]
    assert [len(record.boxes) for record in found] == [1, 2, 1]
    only = read("fiftyone://three/pictures", fields=("kind",))
    assert [(record.label, record.boxes) for record in only] == [("crane", ()), (None, ()), ("tench", ())]


def test_of_several_fields_of_a_kind_one_must_be_named(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset.clone_sample_field("ground_truth", "predictions")
    dataset.export(export_dir=str(tmp_path / "exported"), dataset_type=fo.types.FiftyOneDataset, export_media=False)
    for path in ("fiftyone://three/pictures", str(tmp_path / "exported")):
        with pytest.raises(
            UserError, match=r"dataset\.fields: ground_truth, predictions of .* all label objects; name "
        ):
            read(path)
        assert [len(record.boxes) for record in read(path, fields=("predictions",))] == [1, 2, 1]
        with pytest.raises(
            UserError, match=r"no Classification or Detections 'prediction'; did you mean predictions\?"
        ):
            read(path, fields=("prediction",))


def test_classes_are_in_the_order_of_the_datasets_own_list(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    assert open_dataset(DatasetSettings(path="fiftyone://three/pictures")).classes() == ()
    dataset.default_classes = ["n03", "n01", "n02"]
    dataset.save()
    dataset.export(export_dir=str(tmp_path / "exported"), dataset_type=fo.types.FiftyOneDataset)
    for path in ("fiftyone://three/pictures", str(tmp_path / "exported")):
        found = open_dataset(DatasetSettings(path=path)).classes()
        assert [entry.name for entry in found] == ["n03", "n01", "n02"]


def test_a_mistaken_name_is_told_with_the_nearest(dataset: Any) -> None:
    with pytest.raises(UserError, match=r"no dataset 'three/picture'; did you mean three/pictures\?"):
        read("fiftyone://three/picture")
    with pytest.raises(UserError, match="dataset 'three/pictures' has no saved view 'all'; it has none"):
        read("fiftyone://three/pictures/all")


def test_a_dataset_without_labels_or_of_videos_is_refused_with_what_it_has(dataset: Any) -> None:
    import fiftyone as fo

    bare = fo.Dataset("bare")
    film = fo.Dataset("film")
    try:
        bare.add_samples([fo.Sample("a.jpg", shape=fo.Polylines())], progress=False)
        with pytest.raises(UserError, match=r"no field of type Classification or Detections, but shape \(Polylines\)"):
            read("fiftyone://bare")
        film.media_type = "video"
        with pytest.raises(UserError, match="is of media type video, and Sightline audits images"):
            read("fiftyone://film")
    finally:
        bare.delete()
        film.delete()


def test_a_database_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import fiftyone as fo

    def refuse() -> None:
        raise ConnectionError("Could not connect to `mongod`")

    monkeypatch.setattr(fo, "list_datasets", refuse)
    with pytest.raises(
        UserError, match=r"database does not answer \(Could not connect to `mongod`\); start it, or set"
    ):
        read("fiftyone://three/pictures")


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "no JSON": ("{", r"samples\.json is not JSON: .*; export the dataset again"),
        "a list": ("[]", r"samples\.json is no object of JSON"),
        "no samples": ("{}", r"samples\.json has no list of samples"),
        "no path": (
            '{"samples": [{"tags": []}]}',
            r"has no field of type Classification or Detections, but none at all",
        ),
        "a number for a path": (
            json.dumps({"samples": [{"filepath": 3, "kind": {"_cls": "Classification", "label": "cat"}}]}),
            r"samples\.json, image 1: no filepath",
        ),
    }.values(),
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_a_damaged_export_is_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "samples.json").write_text(content)
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        read(str(tmp_path))


def test_a_box_that_is_none_is_noted(tmp_path: Path) -> None:
    found = {"_cls": "Detections", "detections": [{"label": "cat", "bounding_box": [0.1, 0.2]}]}
    (tmp_path / "samples.json").write_text(json.dumps({"samples": [{"filepath": "data/a.jpg", "truth": found}]}))
    (tmp_path / "metadata.json").write_text("{}")
    (record,) = read(str(tmp_path))
    assert (record.sample_id, record.notes) == ("data/a.jpg", ("object 1 has no box of four numbers: [0.1, 0.2]",))
