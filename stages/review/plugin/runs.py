"""Operators of the FiftyOne App on the run as a whole: a cue gets a name, another run is compared."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from stages.audit.compare.compare import compare_findings
from stages.audit.compare.paired import RuleChange
from stages.audit.rules import FLAG
from stages.review.dataset.views import rename_cue, save_comparison
from stages.review.panel.judging import reviewer_name
from stages.review.plugin.operators import answer, chosen_samples
from stages.review.plugin.showing import saved_now, show_saved
from stages.review.review import other_run, run_of, runs_to_compare
from stages.review.verdicts.cue_names import name_cue
from storage.cues import cue_names
from storage.errors import UserError


class NameCue(foo.Operator):
    """A name for the cue of the open or selected sample."""

    @property
    def config(self) -> Any:
        """In the list of operators."""
        return foo.OperatorConfig(name="name_cue", label="Sightline: name the cue", icon="label", view_target=False)

    def resolve_input(self, ctx: Any) -> Any:
        """The name."""
        inputs = types.Object()
        cue = _cue(ctx)
        if cue is None:
            inputs.view("none", types.Warning(label="Open or select a sample that belongs to a cue"))
            return types.Property(inputs, view=types.View(label="Sightline: name the cue"))
        inputs.str("name", required=True, default=cue_names(run_of(ctx.dataset)).get(cue), label=f"What {cue} is")
        return types.Property(inputs, view=types.View(label="Sightline: name the cue"))

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """Store it in the run, and show it."""

        def work() -> None:
            cue = _cue(ctx)
            if cue is None:
                raise UserError("open or select a sample that belongs to a cue")
            run = run_of(ctx.dataset)
            name_cue(run, cue, ctx.params["name"], reviewer_name())
            name = cue_names(run)[cue]
            saved_now(ctx.dataset, *rename_cue(ctx.dataset, cue, name))
            ctx.ops.notify(f"{cue} is called {name} from now on", variant="success")

        return answer(ctx, work)


def _cue(ctx: Any) -> str | None:
    return next((sample["cue"] for sample in chosen_samples(ctx) if sample["cue"]), None)


class CompareRuns(foo.Operator):
    """Two views of the samples of which the flag differs from that of another run."""

    @property
    def config(self) -> Any:
        """In the list of operators."""
        return foo.OperatorConfig(
            name="compare_runs", label="Sightline: compare with an earlier run", icon="compare", view_target=False
        )

    def resolve_input(self, ctx: Any) -> Any:
        """A run of the same folder or one that was loaded, or a name."""
        inputs = types.Object()
        offered = types.AutocompleteView()
        for name, place in runs_to_compare(ctx.dataset).items():
            offered.add_choice(place, label=name)
        inputs.str(
            "run",
            required=True,
            label="The earlier run",
            description="A run in the same folder as this one, or one that `sightline app` loaded before",
            view=offered,
        )
        return types.Property(inputs, view=types.View(label="Sightline: compare with an earlier run"))

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """Save both views, and show what broke, or what was fixed where nothing did; where nothing changed, say so."""

        def work() -> None:
            before = other_run(ctx.dataset, ctx.params["run"])
            found = compare_findings(before, run_of(ctx.dataset))
            change = next((change for change in found.rules if change.rule == FLAG), None)
            words = in_words(before.name, found.shared, change)
            if change is not None and (change.fixed or change.broken):
                views = save_comparison(ctx.dataset, before.name, before.url, change.fixed, change.broken)
                saved_now(ctx.dataset, *views)
                show_saved(ctx, views[0] if change.broken else views[1])
                words += f"; saved views: {views[0]}, {views[1]}"
            ctx.ops.notify(words, variant="info")

        return answer(ctx, work)


def in_words(before: str, shared: int, change: RuleChange | None) -> str:
    """What became of the flag since the run ``before``, on the samples that both runs have."""
    if change is None:
        return f"Since {before}, of {shared} samples that both runs have: none flagged in either run"
    counts = (
        f"{len(change.fixed)} fixed, {len(change.broken)} broken, {len(change.unchanged)} flagged in both",
        f"{len(change.unjudged)} flagged in one and not to be judged in the other" if change.unjudged else "",
    )
    return f"Since {before}, of {shared} samples that both runs have: " + ", ".join(filter(None, counts))


OPERATORS = (NameCue, CompareRuns)
