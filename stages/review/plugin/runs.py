"""Operators of the FiftyOne App on the run as a whole: a cue gets a name, another run is compared."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from stages.audit.compare.compare import compare
from stages.audit.rules import FLAG
from stages.review.dataset.views import rename_cue, save_comparison
from stages.review.panel.judging import reviewer_name
from stages.review.plugin.operators import answer, chosen_samples
from stages.review.review import loaded_runs, other_run, run_of
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
            rename_cue(ctx.dataset, cue, name)
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
        """A run that was loaded, or the path of one."""
        inputs = types.Object()
        offered = types.AutocompleteView()
        for name, url in loaded_runs(ctx.dataset).items():
            offered.add_choice(url, label=name)
        inputs.str(
            "run",
            required=True,
            label="The earlier run",
            description="One that was loaded, or the name of one beside this",
            view=offered,
        )
        return types.Property(inputs, view=types.View(label="Sightline: compare with an earlier run"))

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """Save both views, and show what broke, or what was fixed where nothing did."""

        def work() -> None:
            before = other_run(ctx.dataset, ctx.params["run"])
            changes = {change.rule: change for change in compare(before, run_of(ctx.dataset)).rules}
            if FLAG not in changes:
                raise UserError(f"neither run has a finding {FLAG}: nothing was fixed, nothing broke")
            change = changes[FLAG]
            name = save_comparison(ctx.dataset, before.name, change.fixed, change.broken)
            ctx.ops.set_view(view=ctx.dataset.load_saved_view(name))
            ctx.ops.notify(
                f"{len(change.fixed)} fixed and {len(change.broken)} broken since {before.name}, "
                f"{len(change.unchanged)} flagged in both: the saved views beginning with Fixed and Broken",
                variant="info",
            )

        return answer(ctx, work)


OPERATORS = (NameCue, CompareRuns)
