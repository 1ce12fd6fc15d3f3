"""A rule's findings handed over to an annotation tool: what FiftyOne needs to send them, written but not sent."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.review.export.suggest import missing_boxes
from stages.review.settings import ReviewSettings, shown_method
from storage.errors import UserError
from storage.run import Run

BACKENDS = {
    "cvat": {
        "title": "CVAT",
        "address": "FIFTYONE_CVAT_URL",
        "credentials": "FIFTYONE_CVAT_USERNAME and FIFTYONE_CVAT_PASSWORD",
        "needs": "nothing else",
    },
    "labelstudio": {
        "title": "Label Studio",
        "address": "FIFTYONE_LABELSTUDIO_URL",
        "credentials": "FIFTYONE_LABELSTUDIO_API_KEY",
        "needs": "pip install 'label-studio-sdk>=1,<2'",
    },
}
"""Annotation tools that FiftyOne talks to: name, where it reads server and credentials, what Python needs for it."""

FIELD = "corrected_boxes"


@dataclass(frozen=True)
class Handover:
    """What was prepared."""

    script: Path
    schema: Path
    findings: int
    """Findings of the rule in the run."""
    samples: int
    """Samples that are handed over."""
    suggested: int
    """Of these, samples that get a box to start from which is not in the dataset."""


def prepare_handover(
    run: Run, settings: ReviewSettings, backend: str, rule: str, *, worst: int | None = None
) -> Handover:
    """Write ``annotate/<rule>_<backend>.py``, its label schema ``.json`` and its list of samples into the run.

    No server is asked. The script sends the samples with a finding of ``rule``, those of the highest severity first and
    at most ``worst`` of them, and fetches the boxes into ``corrected_boxes``. The boxes to start from are the ground
    truth and, where a finding names a box that may be missing, that one. Raises UserError for another backend, a rule
    that found nothing, ``worst`` below 1, or a run that is not on a local disk.
    """
    if worst is not None and worst < 1:
        raise UserError(f"--worst is {worst}; give the number of samples to hand over, at least 1")
    if backend not in BACKENDS:
        raise UserError(f"no backend {backend!r}; backends are {', '.join(BACKENDS)}")
    method = shown_method(run, settings)
    findings = run.table("findings").filter(pc.field("method") == method)
    counts = Counter(findings["rule"].to_pylist())
    if not counts[rule]:
        known = ", ".join(f"{name} ({count})" for name, count in counts.most_common()) or "none"
        raise UserError(f"rule {rule!r} found nothing in {run.url}; rules with findings: {known}")
    found = findings.filter(pc.field("rule") == rule)
    handed = _worst_first(run, settings, found, worst)
    name = re.sub(r"\W", "_", rule)
    folder = run.local_path("annotate")
    script, schema = folder / f"{name}_{backend}.py", folder / f"{name}_{backend}.json"
    written: dict[str, Any] = {
        FIELD: {
            "type": "detections",
            "classes": _classes(run, method),
            "attributes": {},
            "allow_additions": True,
            "allow_deletions": True,
            "allow_label_edits": True,
            "allow_spatial_edits": True,
        }
    }
    samples = folder / f"{name}_{backend}.samples.json"
    for path, content in ((schema, written), (samples, handed)):
        run.directory.write(
            f"annotate/{path.name}", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
        )
    values = {
        **BACKENDS[backend],
        "backend": backend,
        "rule": rule,
        "literal": repr(rule),
        "key": f"sightline_{name}_{backend}",
        "schema": schema.name,
        "samples": samples.name,
        "script": script.name,
    }
    template = Path(__file__).with_name("annotate.py.template").read_text(encoding="utf-8")
    run.directory.write(f"annotate/{script.name}", Template(template).substitute(values).encode())
    return Handover(script, schema, found.num_rows, len(handed), sum(bool(sample["boxes"]) for sample in handed))


def _worst_first(run: Run, settings: ReviewSettings, found: pa.Table, worst: int | None) -> list[dict[str, Any]]:
    """The samples to hand over with the severity of their worst finding, and the boxes to add to the ground truth."""
    severities: dict[str, float] = {}
    for row in found.select(["sample_id", "severity"]).to_pylist():
        severities[row["sample_id"]] = max(row["severity"], severities.get(row["sample_id"], row["severity"]))
    chosen = sorted(severities, key=lambda key: (-severities[key], key))[:worst]
    boxes: dict[str, list[Any]] = {key: [] for key in chosen}
    for (key, *_), box in sorted(missing_boxes(run, settings, found).items()):
        if key in boxes and [box.label, *box.edges] not in boxes[key]:
            boxes[key].append([box.label, *box.edges])
    return [{"sample_id": key, "severity": severities[key], "boxes": boxes[key]} for key in chosen]


def _classes(run: Run, method: str) -> list[str]:
    labels = [label for label in run.table("samples", ["label"])["label"].to_pylist() if label is not None]
    return list(dict.fromkeys([*run.class_names(), *sorted(labels)]))
