"""Whether two runs hold the same: every table column by column, every map value by value.

    python -m benchmarks.same_tables runs/before runs/after

For a change of the code that shall change no result: make a run before and after it, then compare. Ends with 1 if
anything differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from storage import Run
from storage.tables import SCHEMAS


def differences(a: Run, b: Run) -> Iterator[tuple[str, str]]:
    """(table or array, what differs there) for everything that the runs have; nothing is said of what is equal."""
    for name in SCHEMAS:
        in_a, in_b = a.has_table(name), b.has_table(name)
        if in_a != in_b:
            yield name, f"only in {(a if in_a else b).url}"
        if not (in_a and in_b):
            continue
        first, second = a.table(name), b.table(name)
        if first.num_rows != second.num_rows:
            yield name, f"{first.num_rows} and {second.num_rows} rows"
            continue
        for column in first.column_names:
            pairs = zip(first[column].to_pylist(), second[column].to_pylist(), strict=True)
            rows = [row for row, (one, other) in enumerate(pairs) if one != other]
            if rows:
                yield name, f"{column}: {len(rows)} of {first.num_rows} rows, the first is row {rows[0]}"
    arrays = [{(method, target) for method in run.methods() for target in run.targets(method)} for run in (a, b)]
    for method, target in sorted(arrays[0] | arrays[1]):
        name = f"maps {method}/{target}"
        if not all((method, target) in own for own in arrays):
            yield name, "only in one run"
            continue
        first, second = (run.maps(target, method).read(slice(None)) for run in (a, b))
        if not np.array_equal(first, second, equal_nan=True):
            yield name, "other values"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    options = parser.parse_args(arguments)
    found = list(differences(Run.open(options.before), Run.open(options.after)))
    for name, what in found:
        print(f"{name:24} {what}")
    print(f"{len(found)} differences" if found else "equal: every column of every table, every map")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
