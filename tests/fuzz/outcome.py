"""What may come of a dataset, however it is broken: samples that keep their word, or one line that says what to do."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage import Run
from storage.errors import SightlineError, UserError
from tests.fuzz.profile import ending

CLASSES = ("n01", "n02", "n03")
STATUSES = {"ok", "unreadable", "no_class", "no_box"}
LONGEST = 900
"""Characters of a message, at most: that of the corpus of broken datasets."""
LONGEST_REASON = 3500
"""Of a reason, which names ten faults of one sample."""
_KEY = re.compile(r"\b(dataset|model)\.\w+")
_TOLD_BOX = re.compile(r"\b(box|annotation|line|object) \S+")

Rows = list[dict[str, Any]]


@dataclass
class Base:
    """A valid dataset in a folder, whose files can be replaced for one example."""

    folder: Path
    settings: DatasetSettings
    files: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.files = {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }

    @contextmanager
    def having(self, changes: Mapping[str, bytes | None]) -> Iterator[None]:
        """The dataset with other contents of some files, more files, or, for None, fewer."""
        try:
            for name, content in changes.items():
                path = self.folder / name
                if content is None:
                    path.unlink()
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            yield
        finally:
            for name in changes:
                if name in self.files:
                    (self.folder / name).write_bytes(self.files[name])
                else:
                    (self.folder / name).unlink(missing_ok=True)

    def take(self, changes: Mapping[str, bytes | None], **settings: Any) -> Rows | str:
        """The samples of the dataset with these changes, or what is said instead; both are checked."""
        place = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            with self.having(changes), ending():
                return _take(replace(self.settings, **settings), self.folder, place / "run")
        finally:
            shutil.rmtree(place)


def _take(settings: DatasetSettings, folder: Path, run: Path) -> Rows | str:
    remarks: list[str] = []
    refused = None
    try:
        rows: Rows = ingest(open_dataset(settings), CLASSES, Run.create(str(run)), tell=remarks.append).to_pylist()
    except UserError as error:
        refused = str(error)
    if refused is not None:
        check_message(refused, str(folder))
        assert _KEY.search(refused) or str(folder) in refused, f"names neither file nor key: {refused}"
        assert not run.exists() or list(run.iterdir()) == [], "a refused dataset left files"
        return refused
    assert [path.name for path in run.iterdir()] == ["samples.parquet"]
    for remark in remarks:
        check_line(remark, LONGEST + len(str(folder)))
    check_rows(rows)
    return rows


def check_message(message: str, place: str = "") -> None:
    """One line that a terminal can show, no longer than ``LONGEST`` beside the ``place`` that it may name thrice."""
    check_line(message, LONGEST + 3 * len(place))


def check_line(line: str, longest: int) -> None:
    assert "\n" not in line, f"several lines: {line!r}"
    assert "\r" not in line, f"several lines: {line!r}"
    assert len(line) <= longest, f"{len(line)} characters: {line[:500]!r}"
    line.encode()


def check_rows(rows: Rows) -> None:
    """What holds of samples, whatever the dataset is."""
    assert rows
    assert [row["row"] for row in rows] == list(range(len(rows)))
    assert len({row["sample_id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["status"] in STATUSES
        if row["reason"] is not None:
            check_line(row["reason"], LONGEST_REASON)
        assert row["status"] == "ok" or row["reason"], row
        for box in row["boxes"]:
            assert all(map(math.isfinite, (box["x0"], box["y0"], box["x1"], box["y1"]))), row
            assert 0 <= box["x0"] < box["x1"] <= row["width"], row
            assert 0 <= box["y0"] < box["y1"] <= row["height"], row
        if row["status"] == "ok":
            assert row["class_index"] in range(len(CLASSES)), row
            assert any(box["label"] is None for box in row["boxes"]), row
            assert row["width"] > 0
            assert row["height"] > 0
            assert row["digest"]


def check_boxes_told(rows: Rows, declared: Callable[[dict[str, Any]], int]) -> None:
    """Each box that the dataset says of an image that can be read is a box of its sample, or named in the reason."""
    for row in rows:
        if row["status"] == "unreadable":
            continue
        told = len(_TOLD_BOX.findall(row["reason"] or ""))
        assert len(row["boxes"]) + told >= declared(row), (declared(row), row)


def said_or_done(action: Callable[[], Any], place: str, kinds: tuple[type[Exception], ...] = (SightlineError,)) -> Any:
    """What ``action`` answers; None where it raises one of ``kinds`` in one line that names ``place``."""
    try:
        with ending():
            return action()
    except kinds as error:
        for line in str(error).splitlines():
            check_line(line, LONGEST + 3 * len(place))
            assert place in line, f"does not name {place}: {line}"
        return None
