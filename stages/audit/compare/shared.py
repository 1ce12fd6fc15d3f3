"""The samples that two runs share, as tables of Arrow: of a million samples no row and no box is a Python object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_AT_ONCE = 10_000
"""Samples whose boxes are Python objects at a time."""


@dataclass(frozen=True)
class Side:
    """One of two runs, or methods of one run."""

    samples: pa.Table
    """Those of the table ``samples`` that have not left the dataset."""
    rows: pa.Table
    """Those of the view ``audit_targets`` of one method and target."""
    found: dict[tuple[str, str], set[str]]
    """Names of the samples that each rule, (id, kind), finds."""


@dataclass(frozen=True)
class Shared:
    """Samples of one name and one content of the file, in the order of A: row k of a table of A is beside that of B."""

    samples_a: pa.Table
    samples_b: pa.Table
    rows_a: pa.Table
    """Of the shared samples that have a row in both."""
    rows_b: pa.Table
    common: int
    """Samples of one name, whatever their files."""

    def __len__(self) -> int:
        return int(self.samples_a.num_rows)

    def relabelled(self) -> int:
        """Samples with another label in B."""
        return int(differ(self.samples_a["label"], self.samples_b["label"]).sum())

    def reboxed(self) -> int:
        """Samples with other boxes or another mask in B."""
        masks = differ(self.samples_a["mask"], self.samples_b["mask"])
        return int((masks | np.fromiter(self._other_boxes(), bool, len(self))).sum())

    def _other_boxes(self) -> Iterator[bool]:
        for start in range(0, len(self), _AT_ONCE):
            a, b = (side["boxes"].slice(start, _AT_ONCE).to_pylist() for side in (self.samples_a, self.samples_b))
            yield from (of_a != of_b for of_a, of_b in zip(a, b, strict=True))

    def right(self) -> list[tuple[bool, bool]]:
        """Whether A and B name the right class, of the rows where that is known of both."""
        a, b = self.rows_a["correct"], self.rows_b["correct"]
        known = pc.and_(a.is_valid(), b.is_valid())
        return list(zip(a.filter(known).to_pylist(), b.filter(known).to_pylist(), strict=True))

    def values(self, name: str, *, against_boxes: bool) -> NDArray[np.float64]:
        """Pairs (n, 2) of a number of the rows, where both have it and, ``against_boxes``, both are evaluable."""
        known = pc.and_(self.rows_a[name].is_valid(), self.rows_b[name].is_valid())
        if against_boxes:
            known = pc.and_(known, pc.and_(self.rows_a["evaluable"], self.rows_b["evaluable"]))
        columns = (side[name].filter(known).cast(pa.float64()) for side in (self.rows_a, self.rows_b))
        return np.column_stack([column.to_numpy() for column in columns])

    def not_evaluable(self) -> tuple[set[str], set[str]]:
        """Names of the samples that cannot be evaluated in A, and those in B."""
        a, b = (
            set(side.filter(pc.invert(side["evaluable"].fill_null(False)))["sample_id"].to_pylist())
            for side in (self.rows_a, self.rows_b)
        )
        return a, b

    def with_maps(self) -> tuple[pa.Table, pa.Table]:
        """The rows that have a map in both."""
        both = pc.and_(pc.equal(self.rows_a["explain_status"], "ok"), pc.equal(self.rows_b["explain_status"], "ok"))
        return self.rows_a.filter(both), self.rows_b.filter(both)


def shared_by(a: Side, b: Side) -> Shared:
    """The samples that A and B share."""
    samples_a, samples_b = _beside(a.samples["sample_id"], a.samples, b.samples)
    common = samples_a.num_rows
    same = pc.equal(samples_a["digest"], samples_b["digest"])  # null, which is not kept, where a file was not read
    samples_a, samples_b = samples_a.filter(same), samples_b.filter(same)
    return Shared(samples_a, samples_b, *_beside(samples_a["sample_id"], a.rows, b.rows), common)


def differ(a: pa.ChunkedArray, b: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where two columns differ; null is the same as null, and nothing else."""
    one_is_null = pc.xor(a.is_null(), b.is_null())
    return np.array(pc.coalesce(pc.not_equal(a, b), one_is_null))


def _beside(names: pa.ChunkedArray, a: pa.Table, b: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of these samples that both have, in the order of ``names``."""
    places = [pc.index_in(names, value_set=side["sample_id"]) for side in (a, b)]
    both = pc.and_(*(place.is_valid() for place in places))
    at_a, at_b = (place.filter(both) for place in places)
    return a.take(at_a), b.take(at_b)
