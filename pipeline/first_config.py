"""A dataset and a model to a commented config of their own, ``runs/NAME.yaml``, which the user edits from then on."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.config import load_config, resolve_source
from stages.explain.network.settings import source_of
from stages.ingest.places import absolute
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError, quoted, shortened
from storage.files import Directory

RUNS = Path("runs")
"""Folder of new runs, and of their configs beside them."""

_TEMPLATE = """\
# Sightline's config of the run {name}. Edit it, then: sightline run {config}
# To look before: sightline check {config}
# Relative paths are taken from this file's folder. Every key: docs/reference.md

run: {run}

dataset:
  reader: {reader}
  # recognised: {reason}
  path: {path}
  # split: val                     # only this part of the dataset
  # labels: each                   # what a sample is: image, largest_box, each, crop; auto: as the dataset labels
  # mapping: mapping.csv           # label,class: where the dataset's names and the model's do not tell

model:
  source: {source}
  # checkpoint: model.pt           # what training saved; without it the source's own weights
  # classes: classes.txt           # one class a line, in the order of the outputs; by default what the weights say
  # mean: [0.485, 0.456, 0.406]    # of the input, where the source does not say it
  # std: [0.229, 0.224, 0.225]

view:
  geometry: {geometry}
  # auto: as the weights were evaluated; squash: the whole image; resize_crop: Resize(resize), CenterCrop(size)
  # size: 224

explain:
  profile: fast                    # paper: Adam, 100 steps: an optimum as good in six times the passes
"""


def first_config(data: str, model: str, name: str | None = None) -> tuple[Path, bool]:
    """The config of the run ``name`` of a dataset and a model source, and whether it is new.

    By default the run is named after both. The dataset is opened, so that its format can be written down; a file that
    is there is never written to. Raises UserError where it is of another dataset or model, the model is of no known
    source, or the dataset of no known format.
    """
    source_of(model)  # a config with a mistake would be in the way of the corrected command
    name = name or f"{_short(data)}-{_short(model)}"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"--run {quoted(name)} is no name of a run; take letters, digits, '.', '_' and '-'")
    path = RUNS / f"{name}.yaml"
    data, model = absolute(data), resolve_source(model, Path.cwd())
    if path.exists():
        there = load_config(path)
        for key, found, asked in (
            ("dataset.path", there.dataset.path, data),
            ("model.source", there.model.source, model),
        ):
            if found != asked:
                raise UserError(
                    f"{path} exists, and its {key} is {shortened(found)}, not {shortened(asked)}; "
                    f"give another --run, or run it as it is: sightline run {path}"
                )
        return path, False
    dataset = open_dataset(DatasetSettings(path=data))
    text = _TEMPLATE.format(
        name=name,
        config=path,
        reader=dataset.settings.reader,
        run=json.dumps(name),  # JSON's strings are YAML's
        reason=" ".join(dataset.reason.split()),
        path=json.dumps(data, ensure_ascii=False),
        source=json.dumps(model, ensure_ascii=False),
        geometry="squash" if model.startswith("python:") else "auto",
    )
    Directory(str(path.parent)).write(path.name, text.encode())
    return path, True


def _short(address: str) -> str:
    """A dataset or model in a word: the last part of its address, without extension."""
    parts = [part for part in re.split(r"[/:\\]", address) if part]
    word = re.sub(r"\.(ya?ml|json|csv|tsv|parquet|tar|pt|py)$", "", parts[-1] if parts else "")
    return re.sub(r"[^\w.-]+", "_", word).strip("._-") or "dataset"
