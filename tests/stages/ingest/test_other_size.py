"""Images of another size than their annotation says: each sample says it, and not the line at ingest alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings, Labels
from storage.run import Run
from storage.samples import OTHER_SIZE


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """COCO of two images of 60 x 40 px, the second of which is shown on its side: its annotator saw what is stored."""
    turned = Image.Exif()
    turned[0x0112] = 6  # EXIF 2.3, Orientation: turn by 90 degrees clockwise
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.jpg")
    Image.new("RGB", (60, 40), "blue").save(tmp_path / "b.jpg", exif=turned)
    images = [{"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(("a.jpg", "b.jpg"))]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0} for n in range(2)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return str(tmp_path / "labels.json")


@pytest.mark.parametrize("labels", ["each", "largest_box", "crop"])
def test_it_stands_in_the_reason_of_each_sample_whatever_a_sample_is(
    dataset: str, tmp_path: Path, labels: Labels
) -> None:
    told: list[str] = []
    run = Run.create(str(tmp_path / "run"))
    settings = DatasetSettings("coco", dataset, labels=labels)
    for _ in range(2):  # the second time the files are known
        table = ingest(open_dataset(settings), ("cat", "dog"), run, tell=told.append)
        assert table["status"].to_pylist() == ["ok", "ok"]
        same, other = table["reason"].to_pylist()
        assert same is None
        assert other == f"the image, 40 x 60, is {OTHER_SIZE}, 60 x 40"
    assert sum("1 image is of another size than the annotation says, such as b.jpg" in line for line in told) == 2
