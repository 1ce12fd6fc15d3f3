from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection, VOCDetection

from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.review.export import formats
from stages.review.export.export import RECORD, export_annotations
from stages.review.export.formats import sample_paths, stems, voc_box
from stages.review.settings import ReviewSettings
from stages.review.verdicts.boxes import Box
from stages.review.verdicts.table import WITHDRAWN, Review, append_reviews
from storage.errors import SightlineError, UserError
from storage.media.containers import Crop
from storage.media.images import read_image
from storage.run import Run
from storage.tables import SAMPLES
from tests.stages.review.synthetic import Planted, make_run

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PLAIN = Planted("sub/plain.png", 400, 300)  # its box: (140, 150) to (240, 255)
FIXED = Planted("sub/fixed.png", 448, 224, label=1, predicted=1)
TURNED = Planted("turned.jpg", 300, 400, turned=True)
BROKEN = Planted("broken.png", status="unreadable")

REVIEWED = Review(
    "sub/fixed.png",
    "label",
    "r",
    "fix_box",
    "ann",
    boxes=(Box("dog", 10.25, 20, 110.75, 60.5),),
    note="both",
    time=NOON,
)
RENAMED = Review("turned.jpg", "label", "label_suspect", "fix_label", "bob", label="lynx", time=NOON)
SUGGESTED = Review("sub/plain.png", "label", "misses_box", "fix_box", "ann", time=NOON)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    run = make_run(tmp_path, [PLAIN, FIXED, TURNED, BROKEN])
    append_reviews(run, [REVIEWED, RENAMED, SUGGESTED])
    return run


def export(run: Run, directory: Path, format: str, **options: bool) -> list[str]:
    return export_annotations(run, ReviewSettings(), directory, format, **options).lines


def test_coco_is_read_by_pycocotools_with_the_provenance_of_each_box(run: Run, tmp_path: Path, capsys):
    lines = export(run, tmp_path / "out", "coco")
    assert lines[1] == "1 original, 2 reviewed, 1 suggested; 1 label corrected"
    assert "left out: 1 unreadable" in lines
    assert "labels that neither dataset nor model knows: lynx" in lines
    coco = COCO(str(tmp_path / "out" / "labels.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cat", "dog", "owl", "lynx"]
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert list(images) == ["sub/plain.png", "sub/fixed.png", "turned.jpg"]
    assert (images["turned.jpg"]["width"], images["turned.jpg"]["height"]) == (300, 400)
    assert (images["turned.jpg"]["label"], images["turned.jpg"]["original_label"]) == ("lynx", "cat")

    original, suggested = coco.loadAnns(coco.getAnnIds(images["sub/plain.png"]["id"]))
    assert original["bbox"] == [140, 150, 100, 105]
    assert original["area"] == 100 * 105
    assert original["provenance"] == "original"
    assert "reviewer" not in original
    assert (suggested["provenance"], suggested["verdict"], suggested["rule"]) == ("suggested", "fix_box", "misses_box")
    # The hot cell (1, 5) as in test_heatmaps: view pixels 145 to 207 and 17 to 79 of 224.
    assert suggested["bbox"] == pytest.approx(
        [145 * 400 / 224, 17 * 300 / 224, 62 * 400 / 224, 62 * 300 / 224], abs=1e-3
    )
    (reviewed,) = coco.loadAnns(coco.getAnnIds(images["sub/fixed.png"]["id"]))
    assert reviewed["bbox"] == [10.25, 20, 100.5, 40.5]
    assert reviewed["category_id"] == 2
    assert {key: reviewed[key] for key in ("provenance", "reviewer", "reviewed_at", "note", "target")} == {
        "provenance": "reviewed",
        "reviewer": "ann",
        "reviewed_at": "2026-05-01T12:00:00+00:00",
        "note": "both",
        "target": "label",
    }
    (renamed,) = coco.loadAnns(coco.getAnnIds(images["turned.jpg"]["id"]))
    assert (renamed["category_id"], renamed["original_label"], renamed["rule"]) == (4, "cat", "label_suspect")
    # torchvision finds the images below the dataset's root.
    picture, boxes = CocoDetection(str(tmp_path / "images"), str(tmp_path / "out" / "labels.json"))[1]
    assert picture.size == (448, 224)
    assert boxes[0]["bbox"] == reviewed["bbox"]
    capsys.readouterr()


def test_voc_is_read_by_torchvision_in_whole_pixels_from_one_with_both_ends(run: Run, tmp_path: Path):
    export(run, tmp_path / "out", "voc")
    read = VOCDetection(str(tmp_path / "out"), year="2012", image_set="trainval")
    assert len(read) == 3
    picture, target = read[0]
    annotation = target["annotation"]
    assert picture.size == (400, 300)
    assert annotation["filename"] == "sub/plain.jpg"
    assert annotation["path"] == str(tmp_path / "images" / "sub" / "plain.png")
    assert annotation["size"] == {"width": "400", "height": "300", "depth": "3"}
    original, suggested = annotation["object"]
    assert original["name"] == "cat"
    # Half-open [140, 240) x [150, 255): pixels 140 to 239 and 150 to 254 from zero, one more from one.
    assert original["bndbox"] == {"xmin": "141", "ymin": "151", "xmax": "240", "ymax": "255"}
    # [258.93, 369.64) x [22.77, 105.80) rounds to [259, 370) x [23, 106).
    assert suggested["bndbox"] == {"xmin": "260", "ymin": "24", "xmax": "370", "ymax": "106"}
    assert read[2][1]["annotation"]["object"][0]["name"] == "lynx"
    with open(tmp_path / "out" / "provenance.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["box"], row["provenance"], row["reviewer"]) for row in rows] == [
        ("VOCdevkit/VOC2012/Annotations/sub/plain.xml", "1", "original", ""),
        ("VOCdevkit/VOC2012/Annotations/sub/plain.xml", "2", "suggested", "ann"),
        ("VOCdevkit/VOC2012/Annotations/sub/fixed.xml", "1", "reviewed", "ann"),
        ("VOCdevkit/VOC2012/Annotations/turned.xml", "1", "reviewed", "bob"),
    ]
    assert (rows[3]["label"], rows[3]["original_label"]) == ("lynx", "cat")
    assert [float(rows[2][edge]) for edge in ("x0", "y0", "x1", "y1")] == [10.25, 20, 110.75, 60.5]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ((0, 0, 40, 30), (1, 1, 40, 30)),
        ((0.4, 0.5, 10.4, 10.5), (1, 2, 10, 11)),
        ((39.8, 29.9, 40, 30), (40, 30, 40, 30)),
        ((7.1, 7.1, 7.3, 7.3), (8, 8, 8, 8)),
    ],
)
def test_a_voc_box_lies_in_the_image_and_has_at_least_one_pixel(edges, expected):
    assert voc_box(edges, 40, 30) == expected


def test_yolo_gives_centres_as_fractions_in_labels_beside_images(run: Run, tmp_path: Path):
    import yaml

    export(run, tmp_path / "out", "yolo")
    out = tmp_path / "out"
    described = yaml.safe_load((out / "dataset.yaml").read_text())
    assert described == {
        "train": "images/train",
        "val": "images/train",
        "names": {0: "cat", 1: "dog", 2: "owl", 3: "lynx"},
    }
    assert (out / "dataset.yaml").read_text().startswith("# The dataset has no split val: train stands in.\n")
    (line,) = (out / "labels" / "train" / "sub" / "fixed.txt").read_text().splitlines()
    # x: (10.25 + 110.75) / 2 / 448, y: (20 + 60.5) / 2 / 224, then 100.5 / 448 and 40.5 / 224.
    assert [float(number) for number in line.split()] == pytest.approx([1, 0.135045, 0.179688, 0.224330, 0.180804])
    link = out / "images" / "train" / "sub" / "fixed.png"
    assert link.is_symlink()
    with Image.open(link) as picture:
        assert picture.size == (448, 224)


def test_copied_images_stand_upright_and_the_others_are_the_same_bytes(run: Run, tmp_path: Path):
    lines = export(run, tmp_path / "out", "coco", copy_images=True)
    assert "1 image encoded again, upright and as the format wants them" in lines
    data = tmp_path / "out" / "data"
    plain = tmp_path / "images" / "sub" / "plain.png"
    assert (data / "sub" / "plain.png").read_bytes() == plain.read_bytes()
    with Image.open(data / "turned.jpg") as turned, Image.open(tmp_path / "images" / "turned.jpg") as stored:
        assert turned.size == (300, 400)
        assert turned.getexif().get(ExifTags.Base.Orientation, 1) == 1
        upright = np.asarray(stored.transpose(Image.Transpose.ROTATE_270), dtype=int)
        assert np.abs(np.asarray(turned, dtype=int) - upright).mean() < 2
    assert not any(path.is_symlink() for path in data.rglob("*"))


def test_voc_copies_are_jpegs(run: Run, tmp_path: Path):
    export(run, tmp_path / "out", "voc", copy_images=True)
    folder = tmp_path / "out" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    beginnings = [path.read_bytes()[:3] for path in folder.rglob("*.jpg")]
    assert beginnings == [b"\xff\xd8\xff"] * 3


def test_without_verdicts_the_originals_are_written_and_that_is_said(tmp_path: Path):
    lines = export(make_run(tmp_path, [Planted("a.png")]), tmp_path / "out", "coco")
    assert lines[1] == "1 original, 0 reviewed, 0 suggested; 0 labels corrected"
    assert lines[2] == "no verdict was given yet: these are the dataset's own annotations"


def test_an_export_replaces_an_earlier_one_and_nothing_else(run: Run, tmp_path: Path):
    out = tmp_path / "out"
    export(run, out, "voc")
    export(run, out, "coco")
    assert sorted(path.name for path in out.iterdir()) == ["data.json", "labels.json", RECORD]
    before = (out / "labels.json").read_bytes()
    export(run, out, "coco")
    assert (out / "labels.json").read_bytes() == before
    (out / "mine.txt").write_text("")
    with pytest.raises(UserError, match=r"holds 1 file\(s\) that no export wrote \(mine\.txt\); nothing was changed"):
        export(run, out, "yolo")
    assert (out / "labels.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_somebody_elses_is_refused_and_an_empty_one_taken(run: Run, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    export(run, other, "coco")
    (other / RECORD).write_text(json.dumps({"kind": "something", "files": ["labels.json", "data.json"]}))
    with pytest.raises(UserError, match="holds 2 file"):
        export(run, other, "coco")


def test_an_image_that_is_gone_stops_a_copy_and_leaves_nothing(run: Run, tmp_path: Path):
    (tmp_path / "images" / "sub" / "plain.png").unlink()
    with pytest.raises(UserError, match=r"cannot copy .*plain\.png: no such file"):
        export(run, tmp_path / "out", "coco", copy_images=True)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert "1 image on another file system or gone, and not linked; --copy-images copies" in export(
        run, tmp_path / "out", "yolo"
    )


def test_an_unknown_format_is_told_with_the_nearest(run: Run, tmp_path: Path):
    with pytest.raises(UserError, match=r"no format 'cocoa'; did you mean coco\?"):
        export(run, tmp_path / "out", "cocoa")


def test_names_stay_below_the_folder_and_are_given_once(run: Run, tmp_path: Path):
    from dataclasses import replace

    from stages.review.export.corrected import corrected_annotations

    one = corrected_annotations(run, ReviewSettings()).images[0]
    keys = ["/data/a.jpg", "s3://data/a.jpg", "../data/a.png", "data/a.jpg"]
    images = [replace(one, sample_id=key) for key in keys]
    for of_files in (False, True):
        assert [str(path) for path in sample_paths(images, of_files=of_files).values()] == [
            *("data/a.jpg", "data/a-2.jpg", "data/a.png", "data/a-3.jpg")
        ]
    assert list(stems(images).values()) == ["data/a", "data/a-2", "data/a-3", "data/a-4"]


@pytest.mark.parametrize("name", ["new\nline.png", "new\u2028line.png", "a\tb.png", " at the ends .png", "a b.png"])
def test_torchvision_finds_images_of_any_name_in_a_voc_export(tmp_path: Path, name: str):
    (tmp_path / "images").mkdir()
    made = make_run(tmp_path, [Planted(name)])
    export(made, tmp_path / "out", "voc", copy_images=True)
    (pair,) = VOCDetection(str(tmp_path / "out"), year="2012", image_set="trainval")
    assert len(pair[1]["annotation"]["object"]) == 1


@pytest.mark.usefixtures("mongo")
def test_fiftyone_reads_every_format_back_with_the_same_boxes(run: Run, tmp_path: Path):
    import fiftyone as fo

    kinds = {
        "coco": (fo.types.COCODetectionDataset, {"data_path": "data.json"}),
        "voc": (fo.types.VOCDetectionDataset, {"data_path": "VOCdevkit/VOC2012/JPEGImages", "labels_path": LABELS}),
        "yolo": (fo.types.YOLOv5Dataset, {"split": "train"}),
        "fiftyone": (fo.types.FiftyOneDataset, {}),
    }
    expected = [("dog", 10.25 / 448, 20 / 224, 100.5 / 448, 40.5 / 224)]
    before = fo.list_datasets()
    for format, (kind, options) in kinds.items():
        out = tmp_path / format
        export(run, out, format, copy_images=format == "fiftyone")
        dataset = fo.Dataset.from_dir(dataset_dir=str(out), dataset_type=kind, progress=False, **options)
        assert len(dataset) == 3
        assert all(Path(path).is_file() for path in dataset.values("filepath"))
        (sample,) = (sample for sample in dataset if "fixed" in sample.filepath)
        boxes = sample["ground_truth" if "ground_truth" in dataset.get_field_schema() else "detections"].detections
        tolerance = 1 / 224 if format == "voc" else 1e-5
        assert [(box.label, *box.bounding_box) for box in boxes] == [
            (label, *(pytest.approx(number, abs=tolerance) for number in numbers)) for label, *numbers in expected
        ]
        if format in ("coco", "fiftyone"):
            assert (boxes[0].provenance, boxes[0].reviewer) == ("reviewed", "ann")
        if format == "fiftyone":
            assert sample.filepath == str(out / "data" / "sub" / "fixed.png")
            assert sample.label.label == "dog"
        dataset.delete()
    assert fo.list_datasets() == before


LABELS = "VOCdevkit/VOC2012/Annotations"


def test_yolo_readers_find_the_labels_of_samples_that_lie_below_a_folder_images(tmp_path: Path):
    from fiftyone.utils.yolo import YOLOv5DatasetImporter

    planted = [Planted(name) for name in ("images/audit/gear.png", "images/labels/gear.png", "audit/gear.png")]
    for one in planted:
        (tmp_path / "images" / one.name).parent.mkdir(parents=True, exist_ok=True)
    lines = export(make_run(tmp_path, planted), tmp_path / "out", "yolo")
    assert "3 images and 3 boxes" in lines[0]
    importer = YOLOv5DatasetImporter(dataset_dir=str(tmp_path / "out"), yaml_path="dataset.yaml", split="train")
    with importer:
        read = {path: detections for path, _, detections in importer}
    assert len(read) == 3
    assert [len(detections.detections) for detections in read.values()] == [1, 1, 1]


def test_an_export_that_its_readers_would_find_incomplete_is_a_fault(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As it was before: labels of images/a.png at labels/images/a.txt, where nobody looks.
    monkeypatch.setattr(
        formats, "stems", lambda images, without=(): {i.sample_id: f"images/{i.sample_id}" for i in images}
    )
    with pytest.raises(SightlineError, match="would be read as 0 images and 0 boxes, not 3 and 4"):
        export(run, tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def nameless(run: Run) -> Run:
    """The run, where one sample is a crop, and another's name has no extension, as those of a table of pictures."""
    rows = run.table("samples").to_pylist()
    crop = Crop((100, 100, 300, 280), rows[0]["uri"])
    rows[0] |= {"uri": crop.url, "width": 200, "height": 180, "sample_id": "sub/plain.png#1"}
    rows[1] |= {"sample_id": "train.parquet/17"}
    run.write_table("samples", pa.Table.from_pylist(rows, schema=SAMPLES))
    return run


def test_crops_are_exported_with_their_pictures_only(nameless: Run, tmp_path: Path):
    with pytest.raises(UserError, match=r"the samples are crops of images .* --copy-images writes them"):
        export(nameless, tmp_path / "out", "coco")


@pytest.mark.parametrize("format", ["coco", "voc", "yolo"])
def test_pictures_that_have_no_file_get_one_of_the_kind_that_its_name_says(nameless: Run, tmp_path: Path, format: str):
    out = tmp_path / "out"
    export(nameless, out, format, copy_images=True)
    files = {path.name: path for path in out.rglob("*") if path.suffix in (".png", ".jpg")}
    kind, extension = ("JPEG", ".jpg") if format == "voc" else ("PNG", ".png")
    for name in ("plain-1", "17"):
        with Image.open(files[name + extension]) as picture:
            assert picture.format == kind
    assert read_image(str(files[f"plain-1{extension}"])).size == (200, 180)
    records = list(open_dataset(DatasetSettings(path=str(out), reader="auto")).reader.records())
    assert len(records) == 3
    assert [record.problem for record in records] == [None] * len(records)
    assert all(Path(record.uri).is_file() for record in records)


def test_an_export_into_a_link_replaces_what_it_leads_to(run: Run, tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for _ in range(2):
        export(run, tmp_path / "link", "coco")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "labels.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.fixture
def unboxed(run: Run) -> Run:
    """The run, where one sample has no box: neither the dataset's nor a reviewer's."""
    rows = run.table("samples").to_pylist()
    bare = [row | ({"boxes": [], "status": "no_box"} if row["sample_id"] == "sub/fixed.png" else {}) for row in rows]
    run.write_table("samples", pa.Table.from_pylist(bare, schema=SAMPLES))
    append_reviews(run, [Review(**(vars(REVIEWED) | {"verdict": WITHDRAWN, "boxes": None, "time": NOON + DAY}))])
    return run


def test_a_suggested_box_has_its_score_in_coco(unboxed: Run, tmp_path: Path) -> None:
    lines = export(unboxed, tmp_path / "out", "coco", box_unboxed=True)
    assert any(line.startswith("1 sample without a box got one: the largest part of each") for line in lines)
    coco = COCO(str(tmp_path / "out" / "labels.json"))
    (image,) = (image for image in coco.loadImgs(coco.getImgIds()) if image["file_name"] == "sub/fixed.png")
    (suggested,) = coco.loadAnns(coco.getAnnIds(image["id"]))
    assert (suggested["provenance"], suggested["score"]) == ("suggested", 0.75)
    assert suggested["bbox"] == pytest.approx([2 * 145, 17, 2 * 62, 62])


@pytest.mark.usefixtures("mongo")
def test_fiftyone_reads_the_score_of_a_suggested_box_as_its_confidence(unboxed: Run, tmp_path: Path) -> None:
    import fiftyone as fo

    export(unboxed, tmp_path / "out", "fiftyone", box_unboxed=True)
    kind = fo.types.FiftyOneDataset
    dataset = fo.Dataset.from_dir(dataset_dir=str(tmp_path / "out"), dataset_type=kind, progress=False)
    (sample,) = (sample for sample in dataset if sample.filepath.endswith("sub/fixed.png"))
    (suggested,) = sample.ground_truth.detections
    assert (suggested.label, suggested.provenance, suggested.confidence) == ("dog", "suggested", 0.75)
    assert suggested.bounding_box == pytest.approx([145 / 224, 17 / 224, 62 / 224, 62 / 224])
    dataset.delete()
