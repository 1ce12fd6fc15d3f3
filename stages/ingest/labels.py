"""Labels of a dataset to classes of the model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.ingest.record import DatasetClass
from storage.errors import UserError

_REMEDY = "correct the label, or list the class in model.classes"


@dataclass(frozen=True)
class ResolvedLabel:
    """A label in the model's words."""

    name: str | None
    class_index: int | None
    problem: str | None = None
    """Why there is no class index."""


class LabelResolver:
    """Finds the model's class of a label.

    A dataset with its own list of classes, as long as the model's (or for a model without names), says the index by
    position. Any other label is looked up by name: the label itself, then the other names the dataset knows for it.
    """

    def __init__(self, class_names: Sequence[str], dataset_classes: Sequence[DatasetClass] = ()) -> None:
        self._class_names = tuple(class_names)
        self._classes = {entry.key: (index, entry) for index, entry in enumerate(dataset_classes)}
        self._by_position = bool(dataset_classes) and len(class_names) in (0, len(dataset_classes))
        self._places: dict[str, list[int]] = {}
        for index, name in enumerate(class_names):
            self._places.setdefault(name, []).append(index)
        self._dataset_names: dict[str, int] = {}
        for entry in dataset_classes:
            self._dataset_names[entry.name] = self._dataset_names.get(entry.name, 0) + 1
        self._resolved: dict[str, ResolvedLabel] = {}

    def resolve(self, label: str | None) -> ResolvedLabel:
        """Class of a label; None stands for an unlabelled sample."""
        if label is None:
            return ResolvedLabel(None, None, "the sample has no label; give it one to have it explained")
        if label not in self._resolved:
            self._resolved[label] = self._listed(label) if self._classes else self._by_name(label, label, ())
        return self._resolved[label]

    def name_outputs(self) -> tuple[str, ...]:
        """Name of each of the model's outputs, as labels are named: the dataset's, where the model has bare numbers,
        and distinct, where two classes share one. The model's own names where the dataset lists no classes as long."""
        if not self._by_position:
            return self._class_names
        return tuple(self._name_at(index, entry) for index, entry in self._classes.values())

    def _listed(self, label: str) -> ResolvedLabel:
        if label not in self._classes:
            return ResolvedLabel(
                label, None, f"the label {label!r} is not in the dataset's list of classes; correct it"
            )
        index, entry = self._classes[label]
        if self._by_position:
            return ResolvedLabel(self._name_at(index, entry), index)
        return self._by_name(label, self._distinct(entry), (entry.name, *entry.aliases))

    def _name_at(self, index: int, entry: DatasetClass) -> str:
        """The model's name for a class, unless that is a bare number or shared by two classes."""
        name = self._class_names[index] if self._class_names else None
        if name is None or name == str(index):
            return self._distinct(entry)
        return name if len(self._places[name]) == 1 else f"{name} ({entry.key})"

    def _distinct(self, entry: DatasetClass) -> str:
        return entry.name if self._dataset_names[entry.name] == 1 else f"{entry.name} ({entry.key})"

    def _by_name(self, label: str, name: str, aliases: Iterable[str]) -> ResolvedLabel:
        for candidate in (label, *aliases):
            places = self._places.get(candidate, [])
            if len(places) == 1:
                return ResolvedLabel(candidate, places[0])
            if places:
                return ResolvedLabel(
                    name,
                    None,
                    f"{len(places)} classes of the model are named {candidate!r} ({', '.join(map(str, places))}); "
                    "give distinct names in model.classes",
                )
        near = difflib.get_close_matches(name, self._class_names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return ResolvedLabel(name, None, f"the model has no class {name!r}; {hint}{_REMEDY}")


def check_labels(labels: Iterable[ResolvedLabel], class_names: Sequence[str]) -> None:
    """Raise UserError if there are labels and the model knows none of them: then the two do not belong together."""
    named = [label for label in labels if label.name is not None]
    if not named or any(label.class_index is not None for label in named):
        return
    found = sorted({label.name for label in named if label.name is not None})
    raise UserError(
        f"none of the dataset's {len(found)} labels ({_some(found)}) is one of the model's {len(class_names)} "
        f"classes ({_some(class_names)}); give model.classes, one class a line in the order of the outputs, "
        "or correct the labels"
    )


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(map(repr, names[:count])) + (", ..." if len(names) > count else "")
