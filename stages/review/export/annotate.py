"""A rule's findings handed over to an annotation tool: what FiftyOne needs to send them, written but not sent."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pyarrow.compute as pc

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
    samples: int


def prepare_handover(run: Run, settings: ReviewSettings, backend: str, rule: str) -> Handover:
    """Write ``annotate/<rule>_<backend>.py`` and its label schema ``.json`` into the run; no server is asked.

    The script sends the samples with a finding of ``rule`` as they stand in FiftyOne, with the ground truth as the
    boxes to start from, and fetches the boxes into ``corrected_boxes``. Raises UserError for another backend, a rule
    that found nothing, or a run that is not on a local disk.
    """
    if backend not in BACKENDS:
        raise UserError(f"no backend {backend!r}; backends are {', '.join(BACKENDS)}")
    method = shown_method(run, settings)
    findings = run.table("findings").filter(pc.field("method") == method)
    counts = Counter(findings["rule"].to_pylist())
    if not counts[rule]:
        known = ", ".join(f"{name} ({count})" for name, count in counts.most_common()) or "none"
        raise UserError(f"rule {rule!r} found nothing in {run.url}; rules with findings: {known}")
    found = findings.filter(pc.field("rule") == rule)
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
    run.directory.write(f"annotate/{schema.name}", (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode())
    values = {
        **BACKENDS[backend],
        "backend": backend,
        "rule": rule,
        "literal": repr(rule),
        "key": f"sightline_{name}_{backend}",
        "schema": schema.name,
        "script": script.name,
    }
    template = Path(__file__).with_name("annotate.py.template").read_text(encoding="utf-8")
    run.directory.write(f"annotate/{script.name}", Template(template).substitute(values).encode())
    return Handover(script, schema, found.num_rows, len(pc.unique(found["sample_id"])))


def _classes(run: Run, method: str) -> list[str]:
    labels = [label for label in run.table("samples", ["label"])["label"].to_pylist() if label is not None]
    return list(dict.fromkeys([*run.class_names(), *sorted(labels)]))
