"""How the dataset looks in the App: what is visible at first, colours, sidebar groups, saved views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo
from fiftyone import ViewField
from fiftyone.core.odm.dataset import ActiveFields, SidebarGroupDocument

from stages.review.contents import Cue
from stages.review.fields import EXPANDED, GROUPS, IMAGE, Field, severity_path
from stages.review.settings import RuleText
from stages.review.verdicts import CORRECTED, VERDICTS

VISIBLE = ("ground_truth", CORRECTED, "salient_box", "view_box", "prediction", "label", "saliency")
"""Fields that are checked when the App opens."""

COLOURS = {
    "saliency": "#ff0a8a",
    "saliency_predicted": "#00b84c",
    "ground_truth": "#0098d8",
    CORRECTED: "#1f8a4c",
    "salient_box": "#d08a00",
    "view_box": "#8c929c",
    "hidden_box": "#b5261e",
    "prediction": "#5b3df5",
    "label": "#0098d8",
}
"""Field colours: pink for the map, which few photos have; dark enough for the white names that stand on them."""

OURS = "views"
"""Key of the dataset's info that lists the saved views made here."""

EVERYTHING = "Everything, worst first"
SELECTED = "Selected, worst first"

CUE_VIEWS = 20
"""Cues that get a saved view; the field ``cue`` filters for any."""


def lay_out(dataset: Any, fields: Sequence[Field], *, opacity: float) -> None:
    """Set what is visible at first, colours and sidebar groups. ``opacity`` in [0, 1] is that of the overlays."""
    paths = [*(field.path for field in fields), CORRECTED]
    config = dataset.app_config
    config.active_fields = ActiveFields(paths=[path for path in VISIBLE if path in paths])
    config.color_scheme = fo.ColorScheme(
        # By field, a heatmap's opacity follows its value; by value, low values would paint the image over.
        color_by="field",
        opacity=opacity,
        fields=[{"path": path, "fieldColor": colour} for path, colour in COLOURS.items() if path in paths],
    )
    groups = [SidebarGroupDocument(name="tags", paths=["tags"], expanded=True)]
    groups += [
        SidebarGroupDocument(
            name=group,
            paths=[field.path for field in fields if field.group == group] + ([CORRECTED] if group == IMAGE else []),
            expanded=group in EXPANDED,
        )
        for group in GROUPS
    ]
    said = [path for path in dataset.get_field_schema(flat=True) if path.startswith(f"{VERDICTS}.")]
    groups.insert(1, SidebarGroupDocument(name=VERDICTS, paths=said, expanded=True))
    ours = {path for group in groups for path in group.paths}
    rest = [path for path in dataset.get_field_schema() if path not in ours and path not in ("metadata", VERDICTS)]
    groups.append(SidebarGroupDocument(name="metadata", paths=["metadata.width", "metadata.height"], expanded=False))
    groups.append(SidebarGroupDocument(name="other", paths=rest, expanded=False))
    config.sidebar_groups = [group for group in groups if group.paths]
    dataset.save()


def worst_first(dataset: Any) -> Any:
    """All samples, those with the most severe evidence first."""
    return dataset.sort_by("priority", reverse=True)


def first_view(dataset: Any) -> Any:
    """The saved view that the App opens on: everything, worst first."""
    return dataset.load_saved_view(dataset.info[OURS][0])


def save_views(
    dataset: Any, rules: Mapping[str, RuleText], cues: Sequence[Cue] = (), *, selected: bool = False
) -> dict[str, str]:
    """Save a view of each rule that found something, of each cue, and of everything; returns rule -> name of its view.

    ``selected``: the dataset holds a selection of the run, and the name of that one says so. Names carry counts, so
    views of an earlier load are replaced. Views that people saved are left alone.
    """
    for name in dataset.info.get(OURS, []):
        if dataset.has_saved_view(name):
            dataset.delete_saved_view(name)
    counts = dataset.count_values("findings")
    named = [rule for rule in rules if rule in counts]
    named += sorted(rule for rule in counts if rule is not None and rule not in rules)
    names: dict[str, str] = {}
    everything = f"{SELECTED if selected else EVERYTHING} ({len(dataset)})"
    dataset.save_view(everything, worst_first(dataset), overwrite=True)
    for rule in named:
        text = rules.get(rule) or RuleText(rule.replace("_", " ").capitalize())
        names[rule] = f"{text.title} ({counts[rule]})"
        view = dataset.match(ViewField("findings").contains([rule])).sort_by(severity_path(rule), reverse=True)
        dataset.save_view(names[rule], view, description=text.meaning or None, overwrite=True)
    dataset.info[OURS] = [everything, *names.values(), *_save_cues(dataset, cues)]
    dataset.save()
    return names


def _save_cues(dataset: Any, cues: Sequence[Cue]) -> list[str]:
    """Save a view of each cue that samples of the dataset rely on, those it costs most first; returns their names."""
    counts = dataset.count_values("cue")
    names = []
    for cue in [cue for cue in cues if cue.cue_id in counts][:CUE_VIEWS]:
        name = f"Cue: {', '.join(cue.classes) or 'no class in particular'}, {cue.cue_id} ({counts[cue.cue_id]})"
        text = (
            f"Hiding something outside the boxes lowers the probability of their class by {cue.mean_drop:.2f} on "
            "average, and what was hidden looks alike to the network: see hidden_box."
        )
        view = dataset.match(ViewField("cue") == cue.cue_id).sort_by("priority", reverse=True)
        dataset.save_view(name, view, description=text, overwrite=True)
        names.append(name)
    return names
