"""What is done to valid files: documents with other values, keys and entries, and bytes that are others."""

from __future__ import annotations

import copy
import math
from typing import Any
from xml.etree import ElementTree

from hypothesis import strategies as st

Path = tuple[Any, ...]

NUMBERS = st.one_of(
    st.integers(-50, 50),
    st.floats(-100, 100),
    st.sampled_from([0, -0.0, 1e-45, 1e38, 1e39, 1e308, -1e308, 2**31, 2**63, 2**64, 10**400, -(10**400)]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            " ",
            "n01",
            "N02",
            "nan",
            "inf",
            "1e999",
            "-1",
            "\x00",
            "a\nb",
            "\x1b[31m",
            "\ud800",
            "\ufeff",
            "é",
            "e\u0301",
        ]
    ),
    st.sampled_from(
        ["..", "../..", "/", "a/b", "C:\\a", "tar://a::b", "s3://u:p@b/c", "file://x", "x" * 5000, "\\", "%2e"]
    ),
    st.sampled_from(["first.JPEG", "second.JPEG", "third.JPEG", "_", "null", "true", "1_000", "٣", "9" * 5000]),
)
PLAIN = st.one_of(NUMBERS, TEXTS, st.none(), st.booleans())
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
"""Anything that JSON can hold, and numbers that only its relatives can."""


def places(document: Any, path: Path = ()) -> list[Path]:
    """The paths of all values within a document of dicts and lists."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


@st.composite
def altered(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """A document in which up to ``most`` values are others, gone, there twice, or under another key."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        known = places(document)
        path = known[draw(st.integers(0, len(known) - 1))]
        if not path:
            document = draw(VALUES) if draw(st.integers(0, 20)) == 0 else document
            continue
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        what = draw(st.sampled_from(["value", "value", "value", "gone", "again", "key"]))
        if what == "value":
            # A number is mostly another number: anything else ends the reading before what is done with it.
            number = isinstance(holder[key], int | float) and draw(st.integers(0, 3))
            holder[key] = draw(NUMBERS if number else VALUES)
        elif what == "gone":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(draw(st.integers(0, len(holder))), copy.deepcopy(holder[key]))
        else:
            holder[draw(TEXTS)] = holder.pop(key) if what == "key" else copy.deepcopy(holder[key])
    return document


@st.composite
def damaged(draw: st.DrawFn, content: bytes, most: int = 4) -> bytes:
    """Bytes of which some are others, gone, more, or there twice."""
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, len(content)))
        until = min(len(content), place + draw(st.integers(1, 64)))
        what = draw(st.sampled_from(["flip", "flip", "cut", "gone", "more", "again", "byte"]))
        if what == "flip" and place < len(content):
            content = content[:place] + bytes([content[place] ^ 1 << draw(st.integers(0, 7))]) + content[place + 1 :]
        elif what == "cut":
            content = content[:place]
        elif what == "gone":
            content = content[:place] + content[until:]
        elif what == "more":
            content = content[:place] + draw(st.binary(min_size=1, max_size=16)) + content[place:]
        elif what == "again":
            content = content[:place] + content[place:until] * draw(st.integers(2, 50)) + content[until:]
        elif what == "byte":
            content = (
                content[:place] + bytes([draw(st.sampled_from(b'\x00\xff"<>{}[],;:&\n\t 0-'))]) + content[place + 1 :]
            )
    return content


@st.composite
def altered_words(draw: st.DrawFn, text: str, most: int = 3) -> str:
    """Lines of words, some of which are others, gone, or there twice."""
    lines = [line.split(" ") for line in text.splitlines()]
    changed = draw(altered(lines, most))
    if not isinstance(changed, list):
        return str(changed)
    return "\n".join(" ".join(map(str, line)) if isinstance(line, list) else str(line) for line in changed)


@st.composite
def altered_xml(draw: st.DrawFn, text: str, most: int = 3) -> str:
    """An XML in which elements have another text, are gone, there twice, or have another name."""
    root = ElementTree.fromstring(text)
    for _ in range(draw(st.integers(1, most))):
        pairs = [(parent, child) for parent in root.iter() for child in parent]
        if not pairs:
            break
        parent, child = draw(st.sampled_from(pairs))
        what = draw(st.sampled_from(["text", "text", "text", "gone", "again", "name", "attribute"]))
        if what == "text":
            child.text = str(draw(PLAIN))
        elif what == "gone":
            parent.remove(child)
        elif what == "again":
            parent.insert(draw(st.integers(0, len(parent))), copy.deepcopy(child))
        elif what == "name":
            child.tag = draw(st.sampled_from(["object", "bndbox", "name", "size", "filename", "image", "box", "x"]))
        else:
            child.set(draw(st.sampled_from(["xtl", "ytl", "label", "name", "width", "x"])), str(draw(PLAIN)))
    return ElementTree.tostring(root, encoding="unicode")
