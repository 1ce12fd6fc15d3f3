from __future__ import annotations

import hashlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage import Run
from storage.maps import MapAttributes

VOID = {"meta", "img", "br", "hr", "link", "input"}
GREY = 100
"""Brightness of the test images: any overlay shows on it."""


class Page(HTMLParser):
    """What a page is made of: (tag, attributes) in order, and the text of every element."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.texts[index] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of the elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str, **wanted: str) -> list[str]:
        """Text of the elements of a tag with these attributes, spaces collapsed."""
        return [
            " ".join(text.split())
            for (name, attributes), text in zip(self.elements, self.texts, strict=True)
            if name == tag and all(attributes.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]

    def row(self, head: str) -> list[str]:
        """Cells of the table row with that head."""
        cells: list[str] = []
        for (name, attributes), text in zip(self.elements, self.texts, strict=True):
            if name == "tr" or (name == "th" and attributes.get("scope") == "row"):
                if cells:
                    return cells[1:]
                cells = [head] if name == "th" and " ".join(text.split()) == head else []
            elif name == "td" and cells:
                cells.append(" ".join(text.split()))
        assert cells, f"no row {head!r}"
        return cells[1:]


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Columns of ``samples`` for a grey image that is written here."""

    def make(name: str, width: int = 480, height: int = 320, box: tuple[float, ...] = ()) -> dict[str, Any]:
        path = tmp_path / name
        Image.new("RGB", (width, height), (GREY, GREY, GREY)).save(path)
        return {
            "sample_id": name,
            "uri": str(path),
            "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
            "width": width,
            "height": height,
            "boxes": [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True), label=None)] if box else [],
        }

    return make


def write_hot_cell(
    run: Run, rows: int, cell: tuple[int, int], geometry: str = "squash", size: int = 224, method: str = "opti_cam"
) -> None:
    """Maps of 7 x 7 with one hot cell (row, column) for the target ``label``."""
    names = ("mug", "cat", "dog")
    attributes = MapAttributes(method, "label", size=size, geometry=geometry, resize=256, class_names=names)
    store = run.create_maps(attributes, rows=rows, grid=(7, 7))
    maps = np.zeros((rows, 7, 7), np.float32)
    maps[:, cell[0], cell[1]] = 1
    store.write(0, maps)
