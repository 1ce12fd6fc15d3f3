"""Verdicts of people on findings: what one says, and the table ``reviews`` that keeps them all."""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.review.verdicts.boxes import Box, same_boxes
from storage.errors import UserError, said
from storage.run import Run
from storage.tables import NO_TABLE, REVIEWS, decode

VERDICTS = {
    "confirmed": "the finding is right, and it is the model that is at fault",
    "false_alarm": "there is nothing wrong here",
    "fix_box": "the boxes are wrong or one is missing",
    "fix_label": "the label is wrong",
    "unsure": "cannot tell",
}
"""The verdicts there are, and what each says."""

RIGHT = ("confirmed", "fix_box", "fix_label")
"""Verdicts that say of a finding that it was worth a look: the model, the boxes or the label are at fault."""

WITHDRAWN = "withdrawn"
"""In place of a verdict: the reviewer took the last one back, and says nothing of the finding any more."""

COPIES = "reviews.copies"
"""Folder of the run with the table ``reviews`` as it was before each of the last changes, named by its rows."""

KEPT_COPIES = 3

Key = tuple[str, str, str, str]


def now() -> datetime:
    """The time in UTC to the millisecond, which is what MongoDB keeps."""
    return to_milliseconds(datetime.now(UTC))


@dataclass(frozen=True)
class Review:
    """What one reviewer says of one finding. Raises UserError for a verdict that does not exist or says too little."""

    sample_id: str
    target: str
    """Which class's map the finding is about: label, predicted ..."""
    rule: str
    verdict: str
    """One of :data:`VERDICTS`, or :data:`WITHDRAWN`."""
    reviewer: str
    label: str | None = None
    """With fix_label: the right class; None if the reviewer did not say."""
    boxes: tuple[Box, ...] | None = None
    """With fix_box: all boxes as the reviewer left them, image px; None if none was drawn."""
    note: str | None = None
    time: datetime = field(default_factory=now)
    """With a time zone."""
    number: int = field(default=0, compare=False)
    """Place in the order in which the run's verdicts were given; :func:`append_reviews` assigns it."""

    def __post_init__(self) -> None:
        for name in ("sample_id", "target", "rule", "reviewer"):
            if not getattr(self, name).strip():
                raise UserError(f"a verdict needs a {name}")
        if self.verdict not in VERDICTS and self.verdict != WITHDRAWN:
            near = get_close_matches(self.verdict, VERDICTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"verdicts are {', '.join(VERDICTS)}"
            raise UserError(f"no verdict {self.verdict!r}; {hint}")
        if self.label is not None and self.verdict != "fix_label":
            raise UserError(f"a label goes with the verdict fix_label, not with {self.verdict}")
        if self.boxes is not None and self.verdict != "fix_box":
            raise UserError(f"boxes go with the verdict fix_box, not with {self.verdict}")

    @property
    def key(self) -> Key:
        """Of one key the last verdict counts."""
        return self.sample_id, self.target, self.rule, self.reviewer

    @property
    def order(self) -> tuple[int, datetime]:
        """Sorts verdicts from the first that was given to the last, also where the clock was set back in between."""
        return self.number, self.time

    def says(self, other: Review) -> bool:
        """Whether both say the same of the same finding, whenever it was."""
        return (
            (self.key, self.verdict, self.label) == (other.key, other.verdict, other.label)
            and (self.note or None) == (other.note or None)
            and same_boxes(self.boxes, other.boxes)
        )


def read_reviews(run: Run) -> list[Review]:
    """All verdicts of a run in the order they came in, those that were replaced included; empty if it has none.

    Raises UserError for a table that is damaged; it names the copy to go back to.
    """
    return [_of_row(row) for row in _table(run).to_pylist()]


def last_words(reviews: Iterable[Review]) -> dict[Key, Review]:
    """Of each key what was said last, verdicts that were withdrawn included; of equal order, what came in last."""
    last: dict[Key, Review] = {}
    for review in reviews:
        before = last.get(review.key)
        if before is None or review.order >= before.order:
            last[review.key] = review
    return last


def standing(reviews: Iterable[Review]) -> dict[Key, Review]:
    """The verdicts that count: of each key the last, unless it was withdrawn."""
    return {key: review for key, review in last_words(reviews).items() if review.verdict != WITHDRAWN}


def latest(reviews: Iterable[Review]) -> Review | None:
    """The last that was given; None of none."""
    return max(reviews, key=lambda review: review.order, default=None)


def of_sample(reviews: Iterable[Review]) -> dict[str, Sequence[Review]]:
    """Verdicts by sample, in their order."""
    found: dict[str, list[Review]] = {}
    for review in reviews:
        found.setdefault(review.sample_id, []).append(review)
    return dict(found)


def append_reviews(run: Run, given: Iterable[Review], *, just_now: bool = False) -> int:
    """Append to the table ``reviews`` what it does not say yet; nothing is ever taken out. Returns how many were new.

    A verdict is not new if it says what the last one of its key says already, or if the table has it to the time.
    Verdicts take their place among the stored ones by their time; those that were given ``just_now`` come after all of
    them, whatever the clock says. The table is on the disk when this returns, and its last states are kept in
    :data:`COPIES`. Processes that append to one run on a local disk wait for each other.
    """
    given = sorted(given, key=lambda review: review.time)
    if not given:
        return 0
    with alone(run):
        table = _table(run)
        number = _numbering(table, just_now)
        samples = pa.array({review.sample_id for review in given})
        stored = [_of_row(row) for row in table.filter(pc.is_in(table["sample_id"], samples)).to_pylist()]
        last = last_words(stored)
        new: list[Review] = []
        for review in given:
            before = last.get(review.key)
            known = any(review.time == other.time and review.says(other) for other in (*stored, *new))
            if (known and not just_now) or (before is not None and before.says(review)):
                continue
            review = replace(review, number=number(review.time))
            new.append(review)
            if before is None or review.order >= before.order:
                last[review.key] = review
        if new:
            _keep_copy(run, len(table))
            added = pa.Table.from_pylist([_row(review) for review in new], schema=REVIEWS)
            run.write_table("reviews", pa.concat_tables([table, added], promote_options="default"))
    return len(new)


def _numbering(table: pa.Table, just_now: bool) -> Callable[[datetime], int]:
    """The number of a verdict that is appended now, by its time."""
    numbers = table["number"].fill_null(0).to_pylist() if "number" in table.column_names else [0] * len(table)
    if just_now:
        following = max(numbers, default=-1) + 1
        return lambda _time: following
    ordered = sorted(zip(table["time"].to_pylist(), numbers, strict=True))
    times = [time for time, _ in ordered]
    highest = list(accumulate((number for _, number in ordered), max, initial=0))
    return lambda time: highest[bisect_right(times, time)]


def _table(run: Run) -> pa.Table:
    if not run.has_table("reviews"):
        return REVIEWS.empty_table()
    content = run.directory.read("reviews.parquet")
    try:
        return decode(content)
    except NO_TABLE as error:
        raise UserError(
            f"{run.directory.url_of('reviews.parquet')} is damaged: {said(error)}; {_remedy(run)}"
        ) from None


def _remedy(run: Run) -> str:
    for name in reversed(run.directory.names(COPIES)):
        with suppress(*NO_TABLE):
            rows = len(decode(run.directory.read(f"{COPIES}/{name}")))
            return f"copy {run.directory.url_of(f'{COPIES}/{name}')}, its first {rows} verdicts, in its place"
    return f"bring it back from a copy of yours ({run.directory.url_of(COPIES)} has none that can be read)"


def _keep_copy(run: Run, rows: int) -> None:
    """Keep the table as it is, with so many rows, beside the states before it; the oldest of them goes."""
    if not rows:
        return
    run.directory.write(f"{COPIES}/{rows:09d}.parquet", run.directory.read("reviews.parquet"))
    for name in run.directory.names(COPIES)[:-KEPT_COPIES]:
        run.directory.remove(f"{COPIES}/{name}")


def to_milliseconds(time: datetime) -> datetime:
    """A time as MongoDB keeps it."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _of_row(row: dict[str, Any]) -> Review:
    boxes = None if row["boxes"] is None else tuple(map(Box.of, row["boxes"]))
    number = row.get("number") or 0
    return Review(**{**row, "boxes": boxes, "time": row["time"].astimezone(UTC), "number": number})


def _row(review: Review) -> dict[str, Any]:
    values = {name: getattr(review, name) for name in REVIEWS.names}
    return {**values, "boxes": None if review.boxes is None else [box.struct() for box in review.boxes]}


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """One process at a time reads and replaces the table, where the run is on a local disk."""
    if not run.directory.is_local:
        yield
        return
    directory = os.open(run.local_path(), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
