"""What the tests of broken datasets share: a folder with one image, and what ingest makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.run import Run

NAMES = ("cat", "dog", "caf\u00e9")
HEADER = "path,label,boxes\n"
BOX = '"[[0, 0, 20, 20]]"'
LONGEST_MESSAGE = 900

Rows = list[dict[str, Any]]


def take(folder: Path, **settings: Any) -> Rows:
    """The samples of the dataset in ``folder``, or at the ``path`` below it."""
    path = str(folder / settings.pop("path", "."))
    run = Run.create(str(folder.with_name(f"{folder.name}-run")))
    rows: Rows = ingest(open_dataset(DatasetSettings(path=path, **settings)), NAMES, run).to_pylist()
    return rows


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


def coco(entries: int, indent: int | None = None) -> str:
    images = [{"id": number, "file_name": f"{number:012}.jpg"} for number in range(entries)]
    annotation = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": images, "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    return json.dumps(content, indent=indent)


def edited(**changes: Any) -> str:
    content = json.loads(coco(1)) | {"images": [{"id": 0, "file_name": "a.jpg", "width": 40, "height": 30}]}
    return json.dumps(content | changes)


def annotated(**keys: Any) -> str:
    return edited(annotations=[{"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], **keys}])
