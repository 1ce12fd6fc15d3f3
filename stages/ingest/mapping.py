"""The file of ``dataset.mapping``: which class of the model a label of the dataset is."""

from __future__ import annotations

import csv
import io
import json

from stages.ingest.places import absolute, decode_text
from storage.errors import UserError, quoted
from storage.media.images import ImageError, read_bytes

_REMEDY = "write a CSV with the header label,class, or a JSON object of labels to classes"


def read_mapping(path: str) -> dict[str, str]:
    """Label -> class, as the file says; raises UserError, naming the line, for anything but that."""
    path = absolute(path)
    try:
        text = decode_text(read_bytes(path), path, _REMEDY)
    except ImageError as error:
        raise UserError(f"dataset.mapping: cannot read {path} ({error.reason}); {_REMEDY}") from None
    if text.lstrip().startswith("{"):
        return _from_json(path, text)
    rows = csv.reader(io.StringIO(text, newline=""))
    mapping: dict[str, str] = {}
    for row in rows:
        place, cells = f"{path}, line {rows.line_num}", [cell.strip() for cell in row]
        if (cells == ["label", "class"] and not mapping) or not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise UserError(f"{place}: {quoted(','.join(cells))} is no label and class; {_REMEDY}")
        if mapping.setdefault(cells[0], cells[1]) != cells[1]:
            raise UserError(f"{place}: the label {quoted(cells[0])} a second time; give it one class")
    return mapping


def _from_json(path: str, text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"dataset.mapping: {path} is not JSON: {error}; {_REMEDY}") from None
    wrong = [name for name in content.values() if isinstance(name, bool | dict | list) or name is None]
    if wrong:
        raise UserError(f"dataset.mapping: {path}: the class {quoted(wrong[0])} is no name; {_REMEDY}")
    return {str(label): str(name) for label, name in content.items()}
