"""Names of crops: an object keeps its own where others of its image come and go."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from stages.ingest.record import Records

_NUMBER = r"#\d+$"


def keep_names(crops: Records, known: pa.Table) -> Records:
    """The crops, each under the name that its rectangle of its image had in the run before.

    A crop is named by its object's place in the annotation. Where an object is taken out, those behind it would get its
    name and theirs, and with them what people said of other objects. So a rectangle keeps the name it was ``known`` by
    (``sample_id`` and ``uri`` of all samples of that run, the removed ones too), and one that was not gets no name that
    another had.
    """
    names, uris = crops.column("sample_id"), crops.column("uri")
    before = known["uri"].take(pc.index_in(names, value_set=known["sample_id"]))
    moved = pc.fill_null(pc.not_equal(before, uris), False)
    if not pc.any(moved).as_py():
        return crops
    images = pc.unique(_images(names.filter(moved)))
    ours, theirs = (
        zip(*(column.filter(pc.is_in(_images(pair[0]), value_set=images)).to_pylist() for column in pair), strict=True)
        for pair in ((names, uris), (known["sample_id"], known["uri"]))
    )
    return crops.renamed(_new_names(list(ours), list(theirs)))


def _new_names(crops: Sequence[tuple[str, str]], known: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The name that each crop gets, by the one that it has; ``crops`` and ``known`` are names and URIs."""
    of_rectangle: dict[str, list[str]] = defaultdict(list)
    highest: dict[str, int] = defaultdict(int)
    for name, uri in known:
        of_rectangle[uri].append(name)
        image, number = _parts(name)
        highest[image] = max(highest[image], number)
    taken = {name for name, _ in known}
    given: dict[str, str] = {}
    used: set[str] = set()
    for name, uri in crops:
        former = [one for one in of_rectangle[uri] if one not in used]
        if former or name not in taken:
            given[name] = former[0] if former else name
            used.add(given[name])
    for name, _ in crops:
        if name not in given:
            image, _ = _parts(name)
            given[name] = next(new for new in _numbers_above(image, highest) if new not in used)
    return given


def _numbers_above(image: str, highest: dict[str, int]) -> Iterator[str]:
    """Names of crops of an image beyond the highest number, which is raised by each."""
    while True:
        highest[image] += 1
        yield f"{image}#{highest[image]}"


def _images(names: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(names, pattern=_NUMBER, replacement="")


def _parts(name: str) -> tuple[str, int]:
    """The name of a crop's image, and its number; 0 for what is no crop."""
    number = re.search(_NUMBER, name)
    return (name[: number.start()], int(number[0][1:])) if number else (name, 0)
