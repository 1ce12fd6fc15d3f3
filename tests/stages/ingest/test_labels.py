from __future__ import annotations

from pathlib import Path

import pytest

from stages.ingest.labels import LabelResolver, ResolvedLabel, check_labels, left_over
from stages.ingest.mapping import read_mapping
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


class TestSpelling:
    @pytest.mark.parametrize(
        ("label", "name"),
        [
            ("golden_retriever", "Golden Retriever"),
            ("golden-retriever", "Golden Retriever"),
            (" GOLDEN  RETRIEVER ", "Golden Retriever"),
            ("caf\u00e9", "cafe\u0301"),
            ("cafe\u0301", "caf\u00e9"),
            ("stra\u00dfe", "STRASSE"),
            ("tabby cat", "tabby, tabby cat"),
            ("Tabby", "tabby, tabby cat"),
            ("tabby, tabby cat", "tabby"),
        ],
    )
    def test_one_class_in_two_spellings(self, label: str, name: str) -> None:
        assert LabelResolver(("dog", name)).resolve(label) == ResolvedLabel(name, 1)

    def test_the_exact_spelling_wins(self) -> None:
        labels = LabelResolver(("Crane", "crane", "crane, lifting device"))
        assert labels.resolve("crane").class_index == 1
        assert labels.resolve("Crane").class_index == 0
        assert labels.resolve("lifting device").class_index == 2

    def test_a_spelling_of_two_classes_is_not_guessed(self) -> None:
        found = LabelResolver(("Crane", "crane")).resolve("CRANE")
        assert found.problem is not None
        assert "2 classes of the model are named 'CRANE' (outputs 0 and 1)" in found.problem

    def test_a_part_of_a_name_is_no_name(self) -> None:
        assert LabelResolver(("tabby cat", "sports car")).resolve("cat").class_index is None


class TestNumbers:
    def resolver(self, *labels: str, names: tuple[str, ...] = ("cat", "dog")) -> LabelResolver:
        return LabelResolver(names, labels=labels)

    @pytest.mark.parametrize("label", ["1", "1.0", "01"])
    def test_numbers_are_outputs_where_all_labels_are(self, label: str) -> None:
        labels = self.resolver("0", label)
        assert labels.resolve(label) == ResolvedLabel("dog", 1)
        assert labels.remarks() == [
            "labels are numbers, taken as the model's outputs, 0 to 1; dataset.mapping says otherwise"
        ]

    def test_a_number_beyond_the_outputs(self) -> None:
        found = self.resolver("0", "2").resolve("2")
        assert found.problem is not None
        assert "the model has no output '2'" in found.problem

    @pytest.mark.parametrize("others", [("cat",), ("-1",), ("1.5",), ("1e3",)])
    def test_one_label_that_is_no_number_makes_all_of_them_names(self, others: tuple[str, ...]) -> None:
        labels = self.resolver("0", *others)
        assert labels.resolve("0").class_index is None
        assert labels.remarks() == []

    def test_numbers_that_count_from_one_are_refused(self) -> None:
        with pytest.raises(UserError, match="labels are the numbers 1 to 2, and the model's outputs are 0 to 1"):
            self.resolver("1", "2")

    def test_a_model_without_names(self) -> None:
        labels = self.resolver("0", "1.0", names=("0", "1"))
        assert labels.resolve("1.0") == ResolvedLabel("1", 1)
        assert labels.remarks() == []

    def test_a_model_that_has_numbers_for_names_keeps_them(self) -> None:
        labels = self.resolver("1", "7", names=("7", "1"))
        assert labels.resolve("7") == ResolvedLabel("7", 0)


class TestListedClasses:
    ANIMALS = (DatasetClass("cat", "cat"), DatasetClass("dog", "dog"))

    def test_names_are_found_by_name_in_whatever_order(self) -> None:
        assert LabelResolver(("dog", "cat"), self.ANIMALS).resolve("cat") == ResolvedLabel("cat", 1)

    def test_a_model_without_names_has_the_datasets_order_and_it_is_told(self) -> None:
        labels = LabelResolver(("0", "1"), self.ANIMALS)
        assert labels.resolve("dog") == ResolvedLabel("dog", 1)
        (line,) = labels.remarks()
        assert line.startswith(
            "the model's outputs have no names: they are taken in the order of the dataset's classes"
        )

    def test_imagenets_names_in_another_order_are_found_by_name(self) -> None:
        labels = LabelResolver(("Tinca tinca", "derrick", "bird"), CLASSES)
        assert labels.by_position
        shuffled = LabelResolver(("bird", "lifting device", "tench"), CLASSES)
        assert not shuffled.by_position
        assert shuffled.resolve("n01") == ResolvedLabel("tench", 2)

    def test_a_wordnet_id_without_a_list_says_what_names_it(self) -> None:
        found = LabelResolver(("tench", "goldfish")).resolve("n01440764")
        assert found.problem is not None
        assert "give dataset.synsets, which names WordNet ids" in found.problem


class TestMapping:
    def test_a_label_is_the_class_that_the_file_says(self) -> None:
        labels = LabelResolver(("cat", "Big Dog"), mapping={"puppy": "big_dog", "cafe\u0301": "cat"})
        assert labels.resolve("puppy") == ResolvedLabel("Big Dog", 1)
        assert labels.resolve("caf\u00e9") == ResolvedLabel("cat", 0)
        assert labels.resolve("cat") == ResolvedLabel("cat", 0)

    def test_a_class_that_the_model_lacks_is_told(self) -> None:
        found = LabelResolver(("cat",), mapping={"puppy": "dog"}).resolve("puppy")
        assert found.problem is not None
        assert "dataset.mapping says 'dog', and the model has no such class" in found.problem

    @pytest.mark.parametrize(
        ("name", "text"),
        [("m.csv", "\ufefflabel,class\npuppy,dog\n\nkitten,cat\n"), ("m.json", '{"puppy": "dog", "kitten": "cat"}')],
    )
    def test_csv_and_json(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        assert read_mapping(str(tmp_path / name)) == {"puppy": "dog", "kitten": "cat"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("puppy,dog,1\n", r"m\.csv, line 1: 'puppy,dog,1' is no label and class; write a CSV"),
            ("puppy,\n", r"line 1: 'puppy,' is no label and class"),
            ("puppy,dog\npuppy,cat\n", r"line 2: the label 'puppy' a second time"),
            ('{"puppy": ["dog"]}', r"the class \['dog'\] is no name"),
            ('{"puppy": ', r"m\.csv is not JSON"),
            ("\xff", r"m\.csv is not UTF-8 \(byte 0\)"),
        ],
    )
    def test_another_file_is_named_with_its_line(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "m.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match=message):
            read_mapping(str(tmp_path / "m.csv"))

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"dataset\.mapping: cannot read .*m\.csv \(no such file"):
            read_mapping(str(tmp_path / "m.csv"))


def test_what_is_left_over_is_listed_with_counts_and_the_nearest() -> None:
    labels = LabelResolver(("starfish", "cat"))
    (line,) = left_over({"cat": 1, "star-fish": 2, "oak": 1}, labels)
    assert line == (
        "2 labels, of 3 samples, are no class of the model: 'star-fish' (2), near 'starfish'; 'oak' (1); "
        "dataset.mapping says which they are"
    )
    assert left_over({"cat": 1}, labels) == []
