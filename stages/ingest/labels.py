"""Labels of a dataset to classes of the model."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stages.ingest.record import DatasetClass
from stages.words import counted
from storage.errors import UserError, quoted

WORDNET = re.compile(r"n\d{8}")
"""A WordNet id, as ImageNet labels its classes."""

_REMEDY = "correct the label, list the class in model.classes, or say which one it is in dataset.mapping"
_HINTS = 50
"""The nearest names are looked up for at most this number of labels without a class."""


@dataclass(frozen=True)
class ResolvedLabel:
    """A label in the model's words."""

    name: str | None
    class_index: int | None
    problem: str | None = None
    """Why there is no class index."""


class LabelResolver:
    """Finds the model's class of a label.

    In this order: the dataset's own list, line by line, where the names of the model or the list are bare codes (see
    ``by_position``); ``mapping``; the name itself; any other name that the dataset knows for it; either of them without
    regard to capitals, ``_``, ``-`` and spaces, composed (NFC); any of the names in "tabby, tabby cat"; the number of
    the model's output, where all labels are such numbers (``are_indices``). A name of two classes is never guessed.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        dataset_classes: Sequence[DatasetClass] = (),
        mapping: Mapping[str, str] | None = None,
        labels: Iterable[str] = (),
    ) -> None:
        self._class_names = tuple(class_names)
        self._classes = {_composed(entry.key): (index, entry) for index, entry in enumerate(dataset_classes)}
        self._mapping = {_composed(label): name for label, name in (mapping or {}).items()}
        self._names = _Names(self._class_names)
        self._dataset_names = Counter(entry.name for entry in dataset_classes)
        self._resolved: dict[str, ResolvedLabel] = {}
        self._hints = 0
        self.by_position = not self._mapping and self._told_by_position()
        """Whether the k-th class of the dataset's list is the model's output k, whatever that is called."""
        self.are_indices = self._told_by_index(labels)
        """Whether labels are numbers of the model's outputs."""

    def resolve(self, label: str | None) -> ResolvedLabel:
        """Class of a label; None stands for an unlabelled sample."""
        if label is None:
            return ResolvedLabel(None, None, "the sample has no label; give it one to have it explained")
        if label not in self._resolved:
            self._resolved[label] = self._find(_composed(label))
        return self._resolved[label]

    def name_outputs(self) -> tuple[str, ...]:
        """Name of each of the model's outputs, as labels are named: the dataset's, where the model has bare numbers,
        and distinct, where two classes share one. The model's own names where no list of the dataset names them."""
        if not self.by_position:
            return self._class_names
        return tuple(self._name_at(index, entry) for index, entry in self._classes.values())

    def remarks(self) -> list[str]:
        """A sentence on how labels were matched, where it was by number or by place in a list and not by name."""
        if self.are_indices and not self._unnamed():
            last = len(self._class_names) - 1
            return [f"labels are numbers, taken as the model's outputs, 0 to {last}; dataset.mapping says otherwise"]
        coded = all(WORDNET.fullmatch(key) for key in self._classes)
        if self.by_position and not coded:
            first = ", ".join(f"{index} {quoted(entry.name)}" for index, entry in list(self._classes.values())[:3])
            return [
                f"the model's outputs have no names: they are taken in the order of the dataset's classes ({first}, "
                "...); model.classes says otherwise"
            ]
        return []

    def _told_by_position(self) -> bool:
        """A list of the dataset's, as long as the model's, says the index by its lines if one of the two is codes.

        ImageNet's list is of WordNet ids, and names for them differ from one model to another; but where most of its
        names are found at other places of the model's list, the model's is in another order.
        """
        if not self._classes or len(self._class_names) not in (0, len(self._classes)):
            return False
        if self._unnamed():
            return True
        if not all(WORDNET.fullmatch(key) or entry.aliases for key, (_, entry) in self._classes.items()):
            return False
        found = {index: self._names.find((entry.name, *entry.aliases)) for index, entry in self._classes.values()}
        elsewhere = sum(len(places) == 1 and places != [index] for index, places in found.items())
        return elsewhere <= sum(index in places for index, places in found.items())

    def _told_by_index(self, labels: Iterable[str]) -> bool:
        """All labels are numbers of outputs, and the model's names are not the same numbers."""
        found = {label for label in map(_composed, labels) if label not in self._mapping}
        if not found or self._classes or (self._names.has_any(found) and not self._unnamed()):
            return False
        numbers = [_index(label) for label in found]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers):
            return False
        if min(known) > 0 and max(known) == len(self._class_names):
            raise UserError(
                f"labels are the numbers {min(known)} to {max(known)}, and the model's outputs are 0 to "
                f"{max(known) - 1}: they count from 1; subtract 1, or name both, in dataset.mapping and model.classes"
            )
        return True

    def _unnamed(self) -> bool:
        """Whether the model's names are the bare numbers of its outputs."""
        return all(name == str(index) for index, name in enumerate(self._class_names))

    def _find(self, label: str) -> ResolvedLabel:
        if label in self._mapping:
            found = self._by_name(label, label, (self._mapping[label],))
            if found.problem is None or self._names.find((self._mapping[label],)):
                return found
            told = f"dataset.mapping says {quoted(self._mapping[label])}, and the model has no such class"
            return ResolvedLabel(label, None, f"{told}; correct it there")
        if self.are_indices:
            return self._at(label, _index(label))
        if label not in self._classes:
            if self.by_position:
                return ResolvedLabel(
                    label, None, f"the label {quoted(label)} is not in the dataset's list of classes; correct it"
                )
            return self._by_name(label, label, (label,))
        index, entry = self._classes[label]
        if self.by_position:
            return ResolvedLabel(self._name_at(index, entry), index)
        return self._by_name(label, self._distinct(entry), (label, entry.name, *entry.aliases))

    def _at(self, label: str, index: int | None) -> ResolvedLabel:
        if index is None or index >= len(self._class_names):
            return ResolvedLabel(label, None, f"the model has no output {quoted(label)}; {_REMEDY}")
        return ResolvedLabel(self._class_names[index], index)

    def _name_at(self, index: int, entry: DatasetClass) -> str:
        """The model's name for a class, unless that is a bare number or shared by two classes."""
        name = self._class_names[index] if self._class_names else None
        if name is None or name == str(index):
            return self._distinct(entry)
        return name if self._class_names.count(name) == 1 else f"{name} ({entry.key})"

    def _distinct(self, entry: DatasetClass) -> str:
        return entry.name if self._dataset_names[entry.name] == 1 else f"{entry.name} ({entry.key})"

    def _by_name(self, label: str, name: str, names: Sequence[str]) -> ResolvedLabel:
        places = self._names.find(names)
        if len(places) == 1:
            return ResolvedLabel(self._class_names[places[0]], places[0])
        if places:
            numbers = " and ".join(map(str, places[:5]))
            return ResolvedLabel(
                name,
                None,
                f"{len(places)} classes of the model are named {quoted(names[0])} (outputs {numbers}); "
                "give distinct names in model.classes",
            )
        near = self.nearest(name) if self._hints < _HINTS else []
        self._hints += 1
        hint = f"did you mean {quoted(near[0])}? " if near else ""
        codes = "give dataset.synsets, which names WordNet ids; or " if WORDNET.fullmatch(label) else ""
        return ResolvedLabel(name, None, f"the model has no class {quoted(name)}; {hint}{codes}{_REMEDY}")

    def nearest(self, name: str, count: int = 1) -> list[str]:
        """The model's names that are most like ``name``."""
        return difflib.get_close_matches(name, self._class_names, n=count)


class _Names:
    """Where a name stands among the model's: exactly, else normalised, else as one of several names of a class."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._levels: list[dict[str, list[int]]] = [{}, {}, {}]
        for index, name in enumerate(class_names):
            for level, spellings in zip(self._levels, self._spellings(name), strict=True):
                for spelling in dict.fromkeys(spellings):
                    level.setdefault(spelling, []).append(index)

    def find(self, names: Sequence[str]) -> list[int]:
        """Outputs that bear one of ``names``: of the first name, and the strictest reading, that any bears."""
        for reading, level in enumerate(self._levels):
            for name in names:
                for spelling in self._spellings(name)[reading]:
                    if places := level.get(spelling):
                        return places
        return []

    def has_any(self, names: Iterable[str]) -> bool:
        """Whether an output bears exactly one of ``names``."""
        return any(name in self._levels[0] for name in names)

    @staticmethod
    def _spellings(name: str) -> tuple[list[str], list[str], list[str]]:
        terms = [normalised(term) for term in name.split(",") if term.strip()]
        return [_composed(name)], [normalised(name)], terms


def normalised(name: str) -> str:
    """A name without regard to capitals, underscores, hyphens, spaces and the composition of accents."""
    return " ".join(re.sub(r"[\s_-]+", " ", _composed(name)).casefold().split())


def check_labels(labels: Iterable[ResolvedLabel], class_names: Sequence[str]) -> None:
    """Raise UserError if there are labels and the model knows none of them: then the two do not belong together."""
    named = [label for label in labels if label.name is not None]
    if not named or any(label.class_index is not None for label in named):
        return
    found = sorted({label.name for label in named if label.name is not None})
    raise UserError(
        f"none of the dataset's {len(found)} labels ({_some(found)}) is one of the model's {len(class_names)} "
        f"classes ({_some(class_names)}); give model.classes, one class a line in the order of the outputs, "
        "or dataset.mapping, a CSV of label,class, or correct the labels"
    )


def left_over(labels: Mapping[str, int], resolver: LabelResolver, shown: int = 5) -> list[str]:
    """A line for the labels of samples that are no class of the model: the most frequent, and their nearest names.

    ``labels`` are the samples of each label.
    """
    unknown = Counter({label: n for label, n in labels.items() if resolver.resolve(label).class_index is None})
    if not unknown:
        return []
    told = []
    for label, count in unknown.most_common(shown):
        near = resolver.nearest(label, 3)
        told.append(f"{quoted(label)} ({count})" + (f", near {', '.join(map(quoted, near))}" if near else ""))
    more = "; ..." if len(unknown) > shown else ""
    return [
        f"{counted(len(unknown), 'label')}, of {counted(unknown.total(), 'sample')}, "
        f"{'is' if len(unknown) == 1 else 'are'} no class of the model: {'; '.join(told)}{more}; "
        "dataset.mapping says which they are"
    ]


def _index(label: str) -> int | None:
    """The number that a label is, 0 or more; "0.0", which spreadsheets make of 0, is 0."""
    match = re.fullmatch(r"(\d{1,9})(?:\.0+)?", label.strip())
    return int(match[1]) if match else None


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(map(quoted, names[:count])) + (", ..." if len(names) > count else "")
