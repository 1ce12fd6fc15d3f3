"""How the dataset looks in the App: what is visible at first, colours, sidebar groups, saved views."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from fiftyone import ViewField
from fiftyone.core.odm.dataset import ActiveFields, SidebarGroupDocument

from stages.review.dataset.contents import Cue
from stages.review.dataset.embeddings import CUE_SPACE, IMAGE_SPACE
from stages.review.dataset.fields import (
    CLASSES,
    DOCUMENTS,
    FILTERS,
    KEY,
    NUMBERS,
    ON_IMAGE,
    OUTLINES,
    PRIORITY,
    Field,
    severity_path,
)
from stages.review.dataset.listing import LISTED, Listed, list_findings
from stages.review.dataset.verdict_fields import CORRECTED, VERDICTS
from stages.review.settings import RuleText
from storage.errors import UserError

VISIBLE = ("ground_truth", OUTLINES, CORRECTED, "hidden_box", "view_box", CLASSES, "saliency")
"""Fields that are checked when the App opens."""

COLOURS = {
    "saliency": "#00e5ff",
    "saliency_outside": "#ffe600",
    "saliency_predicted": "#ff9100",
    "ground_truth": "#12b83a",
    OUTLINES: "#12b83a",
    CORRECTED: "#7a3cff",
    "view_box": "#8c929c",
    "hidden_box": "#ff2a1a",
    CLASSES: "#56627a",
    "prediction": "#5b3df5",
    "label": "#12b83a",
}
"""Field colours: cyan for the map, which few photos and none of the demo's objects have; the others are dark enough for
the white names that stand on them."""

OURS = "views"
"""Key of the dataset's info that lists the saved views made here."""

COMPARED = "compared"
"""Key of the dataset's info that lists the saved views of comparisons with other runs, and where these are."""

EVERYTHING = "Everything, worst first"
SELECTED = "Selected, worst first"
NOT_REVIEWED = "Not reviewed yet"
DISAGREE = "Reviewers disagree"
"""The two without a count in their names: they follow the verdicts that are given."""

WORKSPACE = "Review"
LAID_OUT = "workspace"
"""Key of the dataset's info that says which workspace was saved last."""

FINDINGS_PANEL = "sightline_findings"
EVIDENCE_PANEL = "sightline_evidence"
EMBEDDINGS_PANEL = "sightline_embeddings"
"""Names of the panels in ``plugin/panels.py``."""

MAIN_SCORE = f"{NUMBERS}.drop_outside"
_GRID_SHARE = 0.6

MOST_ASKED_FOR = 5000
"""Samples of a query's result that are shown: a view names each of them, in every message to the browser."""

CUE_VIEWS = 200
"""Cues that get a saved view; the field ``cue`` filters for any."""


@dataclass(frozen=True)
class SavedView:
    """A view of the grid under a name."""

    name: str
    view: Any
    description: str
    listed: Listed | None = None
    """What it is in the list of findings, if it is there."""

    def is_saved_in(self, dataset: Any) -> bool:
        """Whether the dataset has it already, just like that."""
        if not dataset.has_saved_view(self.name):
            return False
        stored = dataset.load_saved_view(self.name)._serialize(include_uuids=False)
        said = dataset.get_saved_view_info(self.name)["description"] or ""
        return bool(stored == self.view._serialize(include_uuids=False) and said == self.description)


def lay_out(dataset: Any, fields: Sequence[Field], *, opacity: float) -> None:
    """Set what is visible at first, colours and sidebar groups. ``opacity`` in [0, 1] is that of the overlays."""
    paths = {*(field.path for field in fields), CORRECTED}
    config = dataset.app_config
    config.active_fields = ActiveFields(paths=[path for path in VISIBLE if path in paths])
    config.color_scheme = fo.ColorScheme(
        # By field, a heatmap's opacity follows its value; by value, low values would paint the image over.
        color_by="field",
        opacity=opacity,
        fields=[{"path": path, "fieldColor": colour} for path, colour in COLOURS.items() if path in paths],
    )
    schema = dataset.get_field_schema()
    shown = {"tags": ["tags"], "filter": [*FILTERS, f"{VERDICTS}.verdict"], "on the image": [CORRECTED, *ON_IMAGE]}
    # Where the whole of a document stands in a group, its parts stand in none.
    shown["metadata"] = ["filepath", "id", KEY, "created_at", "last_modified_at", "metadata", "view_box", OUTLINES]
    shown["metadata"] += [VERDICTS, *DOCUMENTS]
    placed = {path for group in shown.values() for path in group}
    shown["other"] = [path for path in schema if path not in placed]
    groups = [
        SidebarGroupDocument(
            name=name,
            paths=[path for path in group if path.partition(".")[0] in schema],
            expanded=name in ("filter", "on the image"),
        )
        for name, group in shown.items()
    ]
    config.sidebar_groups = [group for group in groups if group.paths]
    dataset.save()


def worst_first(dataset: Any) -> Any:
    """All samples, those with the most severe flags first."""
    return dataset.sort_by(PRIORITY, reverse=True)


def of_cue(dataset: Any, cue_id: str) -> Any:
    """The samples that rely on a cue, those with the most severe flags first."""
    return worst_first(dataset.match(ViewField("cue") == cue_id))


def same_cue(dataset: Any, sample: Any) -> Any:
    """All samples that rely on the same cue as this one, worst first. Raises UserError if it relies on none."""
    cue = sample["cue"]
    if not cue:
        raise UserError(
            f"{sample[KEY]} belongs to no cue: nothing that costs it probability looks like what other samples have"
        )
    return of_cue(dataset, cue)


def rule_shown(view: Any, findings: Sequence[str]) -> str | None:
    """Which of some findings a view is about: that of a rule's saved view, which sorts by its severity; else None."""
    sorts = {str(stage.field_or_expr) for stage in view._stages if isinstance(stage, fo.SortBy)}
    return next((rule for rule in findings if severity_path(rule) in sorts), None)


def of_keys(dataset: Any, keys: Sequence[str]) -> tuple[Any, int]:
    """The samples of these sample_ids in that order, at most :data:`MOST_ASKED_FOR`; and how many of the keys it shows.

    Raises UserError if the dataset has none of them.
    """
    wanted = list(dict.fromkeys(keys))[:MOST_ASKED_FOR]
    view = dataset.select_by(KEY, wanted, ordered=True)
    count = len(view)
    if not count:
        raise UserError("the query returns no sample that is loaded")
    return view, count


def first_view(dataset: Any) -> Any:
    """The saved view that the App opens on: everything, worst first."""
    return dataset.load_saved_view(dataset.info[OURS][0])


def save_views(
    dataset: Any,
    rules: Mapping[str, RuleText],
    cues: Sequence[Cue] = (),
    *,
    flags: Collection[str] = (),
    selected: bool = False,
) -> None:
    """Save a view of everything, two that follow the verdicts, and one of each rule that found something and each cue.

    ``flags``: rules whose findings are flags. ``selected``: the dataset holds a selection of the run, and the name
    of the first view says so. Names of views carry counts, so those of an earlier load are replaced. Views that people
    saved are left alone.
    """
    findings = [*_of_rules(dataset, rules, flags), *_of_cues(dataset, cues)]
    list_findings(dataset, [view.listed for view in findings if view.listed])
    wanted = [
        SavedView(
            f"{SELECTED if selected else EVERYTHING} ({len(dataset)})",
            worst_first(dataset),
            "All samples, those with the most severe flags first.",
        ),
        *_of_verdicts(dataset),
        *findings,
    ]
    before = dataset.info.get(OURS, [])
    if before == [view.name for view in wanted] and all(view.is_saved_in(dataset) for view in wanted):
        return  # each takes long to save, and stands in the list in the order of saving
    for name in before:
        if dataset.has_saved_view(name):
            dataset.delete_saved_view(name)
    for view in wanted:
        dataset.save_view(view.name, view.view, description=view.description or None, overwrite=True)
    dataset.info[OURS] = [view.name for view in wanted]
    dataset.save()


def _of_verdicts(dataset: Any) -> list[SavedView]:
    said = ViewField(VERDICTS)
    finding = ViewField("target").concat("\n", ViewField("rule"))
    judged, opinions = said.map(finding), said.map(finding.concat("\n", ViewField("verdict")))
    return [
        SavedView(
            NOT_REVIEWED,
            worst_first(dataset.match((ViewField("findings").length() > 0) & (said.length() == 0))),
            "Samples with findings on which nobody has given a verdict yet. Choose it again after some verdicts.",
        ),
        SavedView(
            DISAGREE,
            # A reviewer has one verdict on a finding: more opinions than findings are two on one.
            worst_first(dataset.match((said.length() > 1) & (opinions.unique().length() > judged.unique().length()))),
            "Samples on which two reviewers gave different verdicts on one finding.",
        ),
    ]


def _of_rules(dataset: Any, rules: Mapping[str, RuleText], flags: Collection[str]) -> list[SavedView]:
    counts = dataset.count_values("findings")
    named = [rule for rule in rules if rule in counts]
    named += sorted(rule for rule in counts if rule is not None and rule not in rules)
    views = []
    for rule in sorted(named, key=lambda rule: rule not in flags):  # flags first, else in the order of the rules
        text = rules.get(rule) or RuleText(rule.replace("_", " ").capitalize())
        view = dataset.match(ViewField("findings").contains([rule])).sort_by(severity_path(rule), reverse=True)
        name, kind = f"{text.title} ({counts[rule]})", "flag" if rule in flags else "described"
        views.append(SavedView(name, view, text.meaning, Listed(name, text.title, kind, rule, "", counts[rule])))
    return views


def _of_cues(dataset: Any, cues: Sequence[Cue]) -> list[SavedView]:
    """Cues that samples of the dataset rely on, those that cost most first."""
    counts = dataset.count_values("cue")
    views = []
    for cue in [cue for cue in cues if cue.cue_id in counts][:CUE_VIEWS]:
        known_as = cue.name or ", ".join(cue.classes) or "no class in particular"
        title, count = f"{known_as}, {cue.cue_id}", counts[cue.cue_id]
        name = f"{'Weak cue' if cue.weak else 'Cue'}: {title} ({count})"
        text = (
            f"Hiding something outside the boxes lowers the probability of their class by {cue.mean_drop:.2f} on "
            "average, and what was hidden looks alike to the network: see hidden_box."
        )
        if cue.weak:
            text += f" It may be no cue at all: {cue.weak}."
        view = of_cue(dataset, cue.cue_id)
        views.append(
            SavedView(name, view, text, Listed(name, title, "weak cue" if cue.weak else "cue", "", cue.cue_id, count))
        )
    return views


def rename_cue(dataset: Any, cue_id: str, name: str) -> list[str]:
    """Give the saved view of a cue, and its line in the list of findings, the name that people call it.

    Returns the new names of views.
    """
    rows = dataset.info[LISTED]
    names = []
    for row in rows:
        if row["cue"] != cue_id:
            continue
        title, before = f"{name}, {cue_id}", row["view"]
        row["view"], row["title"] = before.partition(": ")[0] + f": {title} ({row['samples']})", title
        dataset.update_saved_view_info(before, {"name": row["view"]})
        names.append(row["view"])
        dataset.info[OURS] = [row["view"] if view == before else view for view in dataset.info[OURS]]
    dataset.info[LISTED] = rows
    dataset.save()
    return names


def save_comparison(
    dataset: Any, before: str, place: str, fixed: Collection[str], broken: Collection[str]
) -> tuple[str, str]:
    """Save two views against the run named ``before``, which lies at ``place``: of the samples that it flagged and this
    run does not, and the other way round; those of an earlier comparison with it are replaced.

    Returns the names of both, of what broke first.
    """
    drop_comparisons(dataset, before)
    names = []
    for word, keys, meaning in (
        ("Broken", broken, "flagged in this run and not in that one"),
        ("Fixed", fixed, "flagged in that run and not in this one"),
    ):
        view = worst_first(dataset.match(ViewField(KEY).is_in(list(keys))))
        names.append(f"{word} since {before} ({len(view)})")
        dataset.save_view(names[-1], view, description=f"{meaning.capitalize()}; the panel shows both runs.")
    rows = [{"view": name, "before": before, "run": place} for name in names]
    dataset.info[COMPARED] = [*dataset.info.get(COMPARED, []), *rows]
    dataset.save()
    return names[0], names[1]


def drop_comparisons(dataset: Any, before: str | None = None) -> None:
    """Delete the views of comparisons with the run named ``before``, or of all."""
    kept = []
    for row in dataset.info.get(COMPARED, []):
        if before not in (None, row["before"]):
            kept.append(row)
        elif dataset.has_saved_view(row["view"]):
            dataset.delete_saved_view(row["view"])
    dataset.info[COMPARED] = kept
    dataset.save()


def compared_run(view: Any) -> str | None:
    """Where the run is that a view of a comparison compares with; None for any other view.

    A view without a name, as the App shows what was saved since its page was loaded, is known by its stages; of two
    comparisons with the same samples the later one counts.
    """
    dataset = view._dataset
    rows = dataset.info.get(COMPARED, [])
    if view.name is not None:
        return next((str(row["run"]) for row in rows if row["view"] == view.name), None)
    stages = view._serialize(include_uuids=False)
    for row in reversed(rows):
        if not dataset.has_saved_view(row["view"]):
            continue  # a reviewer deleted it
        if dataset.load_saved_view(row["view"])._serialize(include_uuids=False) == stages:
            return str(row["run"])
    return None


def save_workspace(dataset: Any) -> None:
    """Save the default workspace in the dataset, unless it is there, or a person has changed what was saved last."""
    wanted = default_workspace(dataset)
    layout = _outline(wanted)
    if dataset.has_workspace(WORKSPACE):
        stored = _outline(dataset.load_workspace(WORKSPACE))
        if stored == layout or stored != dataset.info.get(LAID_OUT):
            return
    dataset.save_workspace(
        WORKSPACE, wanted, description="The grid, the findings, evidence and vectors.", overwrite=True
    )
    dataset.info[LAID_OUT] = layout
    dataset.save()


def default_workspace(dataset: Any) -> Any:
    """The grid; beside it the list of findings over the evidence, with the vectors and all numbers behind."""
    # FiftyOne's own opens on a list of the scatters below an advertisement, whatever the workspace says.
    vectors = [fo.Panel(type=EMBEDDINGS_PANEL)] if any(map(dataset.has_brain_run, (CUE_SPACE, IMAGE_SPACE))) else []
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
