from __future__ import annotations

import math

import pytest

from stages.ingest.labels import LabelResolver
from stages.ingest.record import Box, Record, Records
from stages.ingest.samples.objects import choose_labels, samples_of

LABELS = LabelResolver(("cat", "dog"))


def record(*labels: str | None, label: str | None = None) -> Record:
    boxes = tuple(Box(0, 0, number + 1, 1, name) for number, name in enumerate(labels))
    return Record("a.jpg", "/d/a.jpg", "m.csv, line 2", label, boxes)


def named(found: list[Record]) -> list[tuple[str, str | None]]:
    return [(sample.sample_id, sample.label) for sample in found]


def test_an_image_is_a_sample_for_each_class_it_has_boxes_of() -> None:
    found = samples_of(record("dog", "cat", "dog"), "each", LABELS)
    assert named(found) == [("a.jpg#cat", "cat"), ("a.jpg#dog", "dog")]
    assert {sample.uri for sample in found} == {"/d/a.jpg"}
    assert all(len(sample.boxes) == 3 for sample in found)


def test_an_image_of_one_class_is_named_alike() -> None:
    assert named(samples_of(record("dog"), "each", LABELS)) == [("a.jpg#dog", "dog")]


def test_labels_that_are_one_class_are_one_sample() -> None:
    mapped = LabelResolver(("cat", "dog"), mapping={"puppy": "dog", "hound": "dog"})
    assert named(samples_of(record("puppy", "hound", "cat"), "each", mapped)) == [
        ("a.jpg#cat", "cat"),
        ("a.jpg#hound", "hound"),
    ]


def test_accents_composed_or_not_are_one_label() -> None:
    assert named(samples_of(record("caf\u00e9", "cafe\u0301"), "each", LABELS)) == [("a.jpg#caf\u00e9", "caf\u00e9")]


def test_an_image_without_classes_is_one_sample() -> None:
    for image in (record(), record(None)):
        assert samples_of(image, "each", LABELS) == [image]


def test_the_largest_box_gives_the_class() -> None:
    assert named(samples_of(record("cat", "dog", "cat"), "largest_box", LABELS)) == [("a.jpg", "cat")]
    odd = Record("a.jpg", "u", "p", None, (Box(0, 0, math.inf, 1, "dog"), Box(0, 0, 1, 1, "cat")))
    assert named(samples_of(odd, "largest_box", LABELS)) == [("a.jpg", "cat")]


@pytest.mark.parametrize(
    ("images", "how"),
    [
        ([record("cat"), record()], "each"),
        ([record("cat"), record(label="dog")], "image"),
        ([record(None, label="dog")], "image"),
        ([record()], "image"),
    ],
)
def test_where_only_boxes_have_classes_each_is_a_sample(images: list[Record], how: str) -> None:
    assert choose_labels("auto", Records.of(images)) == how
    assert choose_labels("largest_box", Records.of(images)) == "largest_box"
