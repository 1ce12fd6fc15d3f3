"""What stands where when the App opens."""

from __future__ import annotations

from typing import Any

import fiftyone as fo

from stages.review.dataset.embeddings import CUE_SPACE, IMAGE_SPACE

NAME = "Review"
OURS = "workspace"
"""Key of the dataset's info that says which layout was saved last."""

FINDINGS_PANEL = "sightline_findings"
EVIDENCE_PANEL = "sightline_evidence"
"""Names of the panels in ``plugin/overview.py``."""

MAIN_SCORE = "drop_outside"
_GRID_SHARE = 0.6


def save_workspace(dataset: Any) -> None:
    """Save the default workspace in the dataset, unless it is there, or a person has changed what was saved last."""
    wanted = default_workspace(dataset)
    layout = _outline(wanted)
    if dataset.has_workspace(NAME):
        stored = _outline(dataset.load_workspace(NAME))
        if stored == layout or stored != dataset.info.get(OURS):
            return
    dataset.save_workspace(NAME, wanted, description="The grid, the findings, evidence and vectors.", overwrite=True)
    dataset.info[OURS] = layout
    dataset.save()


def default_workspace(dataset: Any) -> Any:
    """The grid; beside it the list of findings over the evidence, with the vectors and all numbers behind."""
    # It opens on the list of the scatters: which one, and by what it is coloured, a workspace cannot say.
    vectors = [fo.Panel(type="Embeddings")] if any(map(dataset.has_brain_run, (CUE_SPACE, IMAGE_SPACE))) else []
    findings, evidence = fo.Panel(type=FINDINGS_PANEL), fo.Panel(type=EVIDENCE_PANEL)
    numbers = fo.Panel(type="Histograms", state={"path": MAIN_SCORE})
    beside = fo.Space(
        orientation="vertical", children=[_stack(findings), _stack(evidence, *vectors, numbers)], sizes=[0.42, 0.58]
    )
    grid = _stack(fo.Panel(type="Samples", pinned=True))
    return fo.Space(orientation="horizontal", children=[grid, beside], sizes=[_GRID_SHARE, 1 - _GRID_SHARE])


def _stack(*panels: Any) -> Any:
    """Panels as tabs, the first in front: without one in front nothing is drawn."""
    return fo.Space(children=list(panels), active_child=panels[0].component_id)


def _outline(workspace: Any) -> str:
    """A layout without the ids, which are new each time, and without what is nothing."""

    def outline(component: dict[str, Any]) -> Any:
        children = [outline(child) for child in component.get("children") or ()]
        own = {name: component[name] for name in ("type", "state", "sizes") if component.get(name)}
        return [own, children]

    return repr(outline(workspace.to_dict()))
