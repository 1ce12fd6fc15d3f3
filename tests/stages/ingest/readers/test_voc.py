from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from stages.ingest.readers.ilsvrc import imagenet_reader
from stages.ingest.readers.voc import VocReader
from stages.ingest.recognise import open_dataset
from stages.ingest.record import Box, Record
from stages.ingest.settings import DatasetSettings

# The first object of 2007_000027.xml, with a part, as the VOC 2012 development kit has it.
PERSON = """
<object><name>person</name><truncated>0</truncated>
  <bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox>
  <part><name>head</name><bndbox><xmin>169</xmin><ymin>104</ymin><xmax>209</xmax><ymax>146</ymax></bndbox></part>
</object>"""


def annotate(
    folder: Path, stem: str, objects: str = PERSON, filename: str = "", below: str = "Annotations", said: str = ""
) -> None:
    path = folder / below / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    size = "<size><width>486</width><height>500</height><depth>3</depth></size>"
    path.write_text(f"<annotation><folder>{said}</folder><filename>{filename}</filename>{size}{objects}</annotation>")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def read(folder: Path, **settings: str) -> list[Record]:
    return list(VocReader(DatasetSettings("voc", str(folder), **settings)).records())  # type: ignore[arg-type]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    annotate(tmp_path, "2007_000027", filename="2007_000027.jpg")
    picture(tmp_path / "JPEGImages" / "2007_000027.jpg")
    return tmp_path


def test_corners_count_from_one_and_include_both_ends(voc: Path) -> None:
    (record,) = read(voc)
    (box,) = record.boxes
    assert box == Box(173, 100, 349, 351, "person")
    # By the kit's own formula: pixels xmin to xmax, both included.
    assert (box.x1 - box.x0, box.y1 - box.y0) == (349 - 174 + 1, 351 - 101 + 1)
    assert record.size == (486, 500)


def test_parts_of_an_object_are_no_objects(voc: Path) -> None:
    (record,) = read(voc)
    assert [box.label for box in record.boxes] == ["person"]


def test_an_image_may_have_another_extension_or_another_name_in_the_xml(voc: Path) -> None:
    (voc / "JPEGImages" / "2007_000027.jpg").rename(voc / "JPEGImages" / "2007_000027.PNG")
    annotate(voc, "renamed", filename="photo.jpg")
    picture(voc / "JPEGImages" / "photo.jpg")
    assert [record.sample_id for record in read(voc)] == ["JPEGImages/2007_000027.PNG", "JPEGImages/photo.jpg"]


def test_of_two_images_the_nearest_to_the_xml_is_taken(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        annotate(tmp_path, "a", below=part)
        picture(tmp_path / part / "a.jpg")
    assert [(record.sample_id, record.split) for record in read(tmp_path)] == [
        ("train/a.jpg", "train"),
        ("valid/a.jpg", "valid"),
    ]


def test_the_trimaps_of_oxford_iiit_pet_are_no_images(tmp_path: Path) -> None:
    for name in ("Abyssinian_1", "Abyssinian_2"):
        annotate(tmp_path, name, filename=f"{name}.jpg", below="annotations/xmls", said="OXIIIT")
    for name in ("Abyssinian_1", "Abyssinian_2", "Bombay_3"):  # the last has a trimap, and no XML
        picture(tmp_path / f"images/{name}.jpg")
        picture(tmp_path / f"annotations/trimaps/{name}.png")
    dataset = open_dataset(DatasetSettings(path=str(tmp_path)))
    assert str(dataset) == "voc: an .xml for 2 of 3 images, such as annotations/xmls/Abyssinian_1.xml"
    found = [(record.sample_id, len(record.boxes)) for record in dataset.reader.records()]
    assert found == [("images/Abyssinian_1.jpg", 1), ("images/Abyssinian_2.jpg", 1), ("images/Bombay_3.jpg", 0)]
    assert dataset.reader.remarks() == ["1 image has no .xml; the first is images/Bombay_3.jpg"]


def test_images_that_lie_with_their_xml_alone_are_the_images(tmp_path: Path) -> None:
    annotate(tmp_path, "a", below="annotations")
    picture(tmp_path / "annotations/a.png")
    picture(tmp_path / "logo.png")
    assert [record.sample_id for record in read(tmp_path)] == ["annotations/a.png", "logo.png"]


@pytest.mark.parametrize(
    ("filename", "said", "image"),
    [
        ("a.jpg", "", "photos/a.jpg"),  # the file's whole name, though the mask lies nearer
        (r"D:\work\a.jpg", "", "photos/a.jpg"),
        ("", "", "labels/masks/a.png"),  # nothing said: the nearest
        ("a.jpg", "labels", "photos/a.jpg"),
    ],
)
def test_of_a_photo_and_a_mask_the_one_that_the_xml_names_is_taken(
    tmp_path: Path, filename: str, said: str, image: str
) -> None:
    annotate(tmp_path, "a", filename=filename, below="labels/xmls", said=said)
    picture(tmp_path / "labels/masks/a.png")
    picture(tmp_path / "photos/a.jpg")
    first, _ = read(tmp_path)
    assert first.sample_id == image


@pytest.mark.parametrize("said", ["images", r"C:\data\images", "/data/images"])
def test_of_images_of_one_name_the_folder_in_the_xml_decides_where_none_is_nearer(tmp_path: Path, said: str) -> None:
    annotate(tmp_path, "0", filename="0.png", below="annotations", said=said)
    annotate(tmp_path, "1", filename="1.png", below="masks", said=said)  # a name of the folder where it was drawn
    for name in ("images/0.png", "masks/0.png", "images/1.png", "masks/1.png"):
        picture(tmp_path / name)
    assert [record.sample_id for record in read(tmp_path)][:2] == ["images/0.png", "masks/1.png"]


def test_an_image_without_annotation_is_a_sample_and_is_counted(voc: Path) -> None:
    picture(voc / "JPEGImages" / "new.jpg")
    picture(voc / "SegmentationClass" / "2007_000027.png")
    reader = VocReader(DatasetSettings("voc", str(voc)))
    _, bare = reader.records()
    assert (bare.sample_id, bare.boxes, bare.notes) == ("JPEGImages/new.jpg", (), ("the image has no annotation",))
    assert reader.remarks() == ["1 image has no .xml; the first is JPEGImages/new.jpg"]


def test_the_shortest_list_that_names_an_image_is_its_split(voc: Path) -> None:
    for name in ("a", "b"):
        annotate(voc, name)
        picture(voc / "JPEGImages" / f"{name}.jpg")
    sets = voc / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a\n")
    (sets / "val.txt").write_text("b\n")
    (sets / "trainval.txt").write_text("a\nb\n")
    (sets / "person_train.txt").write_text("2007_000027 -1\na  1\n")
    assert [record.split for record in read(voc)] == [None, "train", "val"]
    assert [record.split for record in read(voc, split="trainval")] == [None, "trainval", "trainval"]


class TestIlsvrc:
    def read(self, folder: Path) -> list[Record]:
        return list(imagenet_reader(DatasetSettings("imagenet", str(folder))).records())

    @pytest.fixture
    def ilsvrc(self, tmp_path: Path) -> Path:
        box = "<bndbox><xmin>0</xmin><ymin>10</ymin><xmax>499</xmax><ymax>374</ymax></bndbox>"
        objects = f"<object><name>n01440764</name>{box}</object>"
        root = tmp_path / "ILSVRC"
        annotate(root, "ILSVRC2012_val_00000293", objects, below="Annotations/CLS-LOC/val")
        picture(root / "Data/CLS-LOC/val/ILSVRC2012_val_00000293.JPEG")
        picture(root / "Data/CLS-LOC/train/n01440764/n01440764_1.JPEG")
        (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\n")
        return tmp_path

    def test_corners_count_from_zero_and_include_both_ends(self, ilsvrc: Path) -> None:
        train, val = self.read(ilsvrc)
        assert (val.label, val.split, val.boxes) == ("n01440764", "val", (Box(0, 10, 500, 375),))
        assert (train.label, train.split, train.boxes) == ("n01440764", "train", ())

    def test_classes_are_found_beside_the_folder(self, ilsvrc: Path) -> None:
        (entry,) = imagenet_reader(DatasetSettings("imagenet", str(ilsvrc))).classes()
        assert (entry.key, entry.name) == ("n01440764", "tench")
