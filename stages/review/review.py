"""A run as a FiftyOne dataset."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone.core.odm import get_db_conn

from stages.review.dataset.contents import Contents, Sample, make_heatmaps, read_contents
from stages.review.dataset.documents import add, update
from stages.review.dataset.embeddings import save_embeddings
from stages.review.dataset.fields import DIGEST, KEY, PRIORITY, Field, declare, fields_of
from stages.review.dataset.records import Record, records
from stages.review.dataset.select import selected
from stages.review.dataset.verdict_fields import bring_back, declare_verdicts, find_reviews
from stages.review.dataset.views import drop_comparisons, lay_out, save_views, save_workspace
from stages.review.settings import ReviewSettings, RuleText, Selection
from stages.review.verdicts.table import append_reviews, last_words, read_reviews
from stages.words import counted
from storage.errors import UserError
from storage.run import Run, holds_run

RUN = "run"
"""Key of a dataset's info: where its run is."""

OURS = "fields"
"""Key of the dataset's info that lists the fields made here."""


@dataclass(frozen=True)
class LoadReport:
    """What a load did, in samples."""

    dataset: str
    added: int
    updated: int
    unchanged: int
    removed: int
    skipped: Mapping[str, int]
    without_heatmap: int

    def __str__(self) -> str:
        text = (
            f"FiftyOne dataset {self.dataset!r}: {counted(self.added, 'sample')} added, {self.updated} updated, "
            f"{self.unchanged} unchanged"
        )
        if self.removed:
            text += f", {self.removed} taken out (no longer in the run, or not selected)"
        if self.without_heatmap:
            text += f"; {self.without_heatmap} without a heatmap (see explain_status)"
        if self.skipped:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
            text += f"; not shown: {counts}"
        return text


def load(
    run: Run,
    settings: ReviewSettings | None = None,
    *,
    rules: Mapping[str, RuleText] | None = None,
    selection: Selection | None = None,
    tell: Callable[[LoadReport], None] | None = None,
) -> fo.Dataset:
    """Load a run into a persistent FiftyOne dataset, or bring the dataset that it has up to date.

    Samples are known by ``sample_key``. Those that changed are updated and keep the tags, fields and saved views that
    people added; samples that the run no longer has are taken out. Verdicts are stored in the run first, and those that
    the run has are brought back. ``rules`` names rules in words for the saved views. With a ``selection``, only its
    samples are loaded and drawn, the others are taken out; those that people worked on stay all the same.
    Call it within :func:`stages.review.app.database.database`. Raises UserError for a run that cannot be shown, a
    selection of nothing, or a dataset name that is taken.
    """
    settings = settings or ReviewSettings()
    rules = rules or {}
    former = existing_dataset(run, settings)
    if former is not None:
        append_reviews(run, find_reviews(former).reviews)
    ours = former.info.get(OURS, []) if former is not None else ()
    only = selected(former, selection, rules, ours) if selection is not None else None
    contents = read_contents(run, settings, only)
    heatmaps = make_heatmaps(run, contents, settings)
    dataset = former if former is not None else _new_dataset(run, settings)
    fields = fields_of(
        contents.rules,
        crops=contents.crops,
        both_targets=len(contents.measured) > 1,
        outside=contents.outside is not None,
        masks=contents.table["mask"].null_count < contents.table.num_rows,
    )
    _drop_former(dataset, fields)
    declare(dataset, fields)
    if PRIORITY not in dataset.get_index_information():
        dataset.create_index(PRIORITY)
    report = _bring_up_to_date(dataset, fields, contents, records(contents, heatmaps))
    if report.added or report.updated or report.removed:
        drop_comparisons(dataset)  # of findings that are no more
    declare_verdicts(dataset, contents.class_names)
    bring_back(dataset, last_words(read_reviews(run)))
    save_embeddings(dataset, run, contents)
    lay_out(dataset, fields, opacity=settings.heatmap_opacity)
    save_views(dataset, rules, contents.cues, flags=contents.flags, selected=selection is not None)
    save_workspace(dataset)
    if tell:
        tell(report)
    return dataset


def existing_dataset(run: Run, settings: ReviewSettings) -> Any | None:
    """The run's FiftyOne dataset; None if it was never loaded. Two runs of one name are told apart by where they are.

    Call it within :func:`stages.review.app.database.database`. Raises UserError if ``review.dataset`` names another's.
    """
    name = _name(run, settings)
    return fo.load_dataset(name) if fo.dataset_exists(name) else None


def run_of(dataset: Any) -> Run:
    """The run that a dataset was loaded from. Raises UserError for a dataset that is none of Sightline's."""
    place = dataset.info.get(RUN)
    if not place:
        raise UserError(f"{dataset.name} was not loaded by `sightline app`: it has no maps to show")
    return Run.open(place)


def loaded_runs(dataset: Any) -> dict[str, str]:
    """Other datasets of the database that were loaded from a run: name to where the run is."""
    # One question to the database: loading every dataset takes longer than showing a sample.
    place = f"info.{RUN}"
    found = get_db_conn().datasets.find({place: {"$exists": True}}, ["name", place])
    return {one["name"]: str(one["info"][RUN]) for one in found if one["name"] != dataset.name}


def runs_to_compare(dataset: Any) -> dict[str, str]:
    """What a page of the App offers beside the run of its dataset: name to place of the runs in the same folder, and of
    those that were loaded from elsewhere.
    """
    own = run_of(dataset).local_path()
    loaded = loaded_runs(dataset)
    beside = {
        folder.name: str(folder) for folder in sorted(own.parent.iterdir()) if folder != own and holds_run(folder)
    }
    elsewhere = {name: place for name, place in loaded.items() if place not in beside.values()}
    return beside | {name if name not in beside else f"{name}, {place}": place for name, place in elsewhere.items()}


def other_run(dataset: Any, place: str) -> Run:
    """The run that a page of the App asks for beside that of its dataset: one that was loaded too, or lies in the same
    folder, by its name or path.

    Raises UserError for any other: what a page sends shall open no other folder, and no URL.
    """
    if place in loaded_runs(dataset).values():
        return Run.open(place)
    own = run_of(dataset).local_path()
    beside = Path(os.path.abspath(own.parent / place))
    if beside.parent != own.parent:
        raise UserError(
            f"{place} is not beside {own}: the App compares with runs of that folder, and with those that "
            "`sightline app` has loaded"
        )
    return Run.open(str(beside))


def _new_dataset(run: Run, settings: ReviewSettings) -> Any:
    name = _name(run, settings)
    try:
        dataset = fo.Dataset(name, persistent=True)
    except ValueError as error:
        raise UserError(f"FiftyOne does not take {name!r} for a dataset: {error}; set review.dataset") from None
    dataset.media_type = "image"
    dataset.info[RUN] = _place(run)
    dataset.save()
    declare(dataset, [Field(KEY, "text", "")])
    dataset.create_index(KEY, unique=True)
    return dataset


def _name(run: Run, settings: ReviewSettings) -> str:
    name, place = settings.dataset or run.name, _place(run)
    if not fo.dataset_exists(name) or fo.load_dataset(name).info.get(RUN) == place:
        return name
    if settings.dataset:
        raise UserError(
            f"review.dataset: FiftyOne has a dataset {name!r} already, of something else than {place}; "
            "take another name"
        )
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


def _place(run: Run) -> str:
    return run.url if "://" in run.url else str(run.local_path())


def _drop_former(dataset: Any, fields: list[Field]) -> None:
    """Take out fields of an earlier load that this one lacks: a rule's, say, that no longer finds anything."""
    paths = [field.path for field in fields]
    former = [path for path in dataset.info.get(OURS, []) if path not in paths and dataset.has_sample_field(path)]
    if former:
        dataset.delete_sample_fields(former)
    dataset.info[OURS] = paths
    dataset.save()


def _bring_up_to_date(
    dataset: Any, fields: list[Field], contents: Contents, batches: Iterator[list[tuple[Sample, Record]]]
) -> LoadReport:
    before = dict(zip(*dataset.values([KEY, DIGEST]), strict=True))
    added = updated = without_heatmap = 0
    for batch in batches:
        for sample, record in batch:
            record[DIGEST] = hashlib.blake2b(repr((sample, record)).encode(), digest_size=16).hexdigest()
            without_heatmap += record["saliency"] is None and record["saliency_predicted"] is None
        new = [shown for shown in batch if shown[0].key not in before]
        changed = [shown for shown in batch if shown[0].key in before and shown[1][DIGEST] != before[shown[0].key]]
        add(dataset, fields, new)
        update(dataset, fields, changed)
        added += len(new)
        updated += len(changed)
    wanted = contents.known if contents.only is None else contents.known & contents.only
    gone = [key for key in before if key not in wanted]
    if gone:
        dataset.delete_samples(dataset.select_by(KEY, gone))
    unchanged = len(contents.samples) - added - updated
    return LoadReport(dataset.name, added, updated, unchanged, len(gone), dict(contents.skipped), without_heatmap)
