from __future__ import annotations

import pytest

from stages.ingest.labels import LabelResolver, ResolvedLabel, check_labels
from stages.ingest.record import DatasetClass
from storage.errors import UserError

CLASSES = (
    DatasetClass("n01", "tench", ("tench, Tinca tinca", "tench", "Tinca tinca")),
    DatasetClass("n02", "crane", ("crane",)),
    DatasetClass("n03", "crane", ("crane, lifting device", "crane", "lifting device")),
)


def test_a_manifests_label_is_found_by_name() -> None:
    labels = LabelResolver(("cat", "dog"))
    assert labels.resolve("dog") == ResolvedLabel("dog", 1)


def test_a_label_the_model_lacks_names_the_nearest_and_the_remedy() -> None:
    found = LabelResolver(("cat", "starfish")).resolve("star-fish")
    assert found.class_index is None
    assert found.problem is not None
    assert "no class 'star-fish'; did you mean 'starfish'?" in found.problem
    assert "model.classes" in found.problem


def test_a_name_of_two_classes_is_not_guessed() -> None:
    found = LabelResolver(("crane", "cat", "crane")).resolve("crane")
    assert found.class_index is None
    assert found.problem is not None
    assert "2 classes of the model are named 'crane' (outputs 0 and 2)" in found.problem


def test_no_label_is_no_class() -> None:
    assert LabelResolver(("cat",)).resolve(None).class_index is None


@pytest.mark.parametrize("names", [(), ("0", "1", "2")])
def test_a_datasets_list_gives_the_index_by_its_line(names: tuple[str, ...]) -> None:
    labels = LabelResolver(names, CLASSES)
    assert labels.resolve("n01") == ResolvedLabel("tench", 0)
    assert labels.resolve("n03") == ResolvedLabel("crane (n03)", 2)  # two classes would share the name


def test_a_list_of_the_same_length_takes_the_models_names() -> None:
    labels = LabelResolver(("Tench fish", "crane", "crane"), CLASSES)
    assert labels.resolve("n01") == ResolvedLabel("Tench fish", 0)
    assert labels.resolve("n02") == ResolvedLabel("crane (n02)", 1)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("0", "1", "2"), ("tench", "crane (n02)", "crane (n03)")),
        (("Tench fish", "crane", "crane"), ("Tench fish", "crane (n02)", "crane (n03)")),
        (("Tench fish", "heron", "derrick"), ("Tench fish", "heron", "derrick")),
        (("dog", "crane"), ("dog", "crane")),
    ],
)
def test_outputs_are_named_as_labels_are(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    labels = LabelResolver(names, CLASSES)
    assert labels.name_outputs() == expected
    # And naming them so changes no label.
    for key in ("n01", "n02", "n03"):
        assert LabelResolver(expected, CLASSES).resolve(key) == labels.resolve(key)


@pytest.mark.parametrize("name", ["n03", "crane, lifting device", "lifting device"])
def test_a_list_of_another_length_is_matched_by_any_known_name(name: str) -> None:
    assert LabelResolver(("dog", name), CLASSES).resolve("n03") == ResolvedLabel(name, 1)


def test_a_label_outside_the_datasets_own_list() -> None:
    found = LabelResolver((), CLASSES).resolve("n99")
    assert found.class_index is None
    assert found.problem is not None
    assert "'n99' is not in the dataset's list" in found.problem


def test_nothing_in_common_is_a_mistake_that_shows_both_lists() -> None:
    labels = LabelResolver(("cat", "dog"))
    with pytest.raises(UserError, match=r"none of the dataset's 2 labels \('oak', 'yew'\).*2 classes \('cat', 'dog'\)"):
        check_labels([labels.resolve("oak"), labels.resolve("yew"), labels.resolve(None)], ("cat", "dog"))


def test_one_label_in_common_or_no_label_at_all_is_no_mistake() -> None:
    labels = LabelResolver(("cat", "dog"))
    check_labels([labels.resolve("oak"), labels.resolve("cat")], ("cat", "dog"))
    check_labels([labels.resolve(None)], ("cat", "dog"))
