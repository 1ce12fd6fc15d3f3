"""Runs beside the one that is reviewed, for comparison."""

from __future__ import annotations

from typing import Any

from fiftyone.core.odm import get_db_conn

from storage.errors import UserError
from storage.run import Run

RUN = "run"
"""Key of a dataset's info: where its run is."""


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
