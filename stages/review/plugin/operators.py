"""Operators of the FiftyOne App: what the panel beside a sample (`panel/`) asks for, and those for the grid.

FiftyOne's server imports this in a process of its own. Like the command line it is an entrance: it may import from
every layer, puts their functions together and computes nothing itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types
from pymongo.errors import PyMongoError

from pipeline.show.rows import render
from stages.audit.canned import list_queries, load_query
from stages.audit.rules import every_rule
from stages.audit.settings import audit_settings
from stages.review.dataset.fields import KEY, targets_of_findings
from stages.review.dataset.views import compared_run, of_keys, rule_shown, same_cue
from stages.review.panel.judging import (
    as_json,
    findings_to_judge,
    judge,
    of_json,
    progress,
    remember_reviewer,
    reviewer_name,
    take_back,
    whole_cue,
)
from stages.review.panel.portrait import as_shown, choices, findings_of, portray
from stages.review.plugin.showing import show
from stages.review.review import other_run, run_of, runs_to_compare
from stages.review.settings import review_settings, shown_method
from stages.review.verdicts.table import VERDICTS
from stages.words import counted
from storage.cues import cue_names
from storage.errors import UserError
from storage.run import Run
from storage.sql import Limits, run_query

SQL = "(SQL of your own)"
PATIENCE_S = 60
"""Seconds that a reviewer waits for a query at most."""

FIRST_QUERY = "relies_on_outside"
WORST = "(the worst finding of each)"


def answer(ctx: Any, work: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """The work's result; a user's mistake, or a database that is gone, is told in the App instead of a traceback."""
    try:
        return work()
    except UserError as error:
        problem = str(error)
    except PyMongoError:
        problem = "the database does not answer; it is started again by itself: try again in a moment"
    ctx.ops.notify(problem, variant="error")
    return {"problem": problem} if ctx.params.get("from_panel") else None


class Portrait(foo.Operator):
    """Everything that the panel shows of a sample, and of the same sample in another run if one is named."""

    @property
    def config(self) -> Any:
        """Not listed: only the panel has a use for it."""
        return foo.OperatorConfig(name="portrait", label="Sightline: a sample", unlisted=True)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """``params``: sample (FiftyOne's id), method, target, other = {run, method, target}, rule; all but the first
        may be left out. Result: plain JSON; ``problem`` says why something is missing."""
        try:
            return _panel(ctx.dataset, ctx.view, ctx.params)
        except UserError as error:
            return {"problem": str(error)}


def _panel(dataset: Any, view: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    run, sample = run_of(dataset), dataset[params["sample"]]
    reviewed = shown_method(run, review_settings(run.info))
    method = params.get("method") or reviewed
    targets = run.targets(method)
    found = targets_of_findings(sample)
    rule = (
        params.get("rule") if params.get("rule") in found else rule_shown(view, list(found)) or next(iter(found), None)
    )
    # The map that the finding is about, unless another one is asked for.
    wanted = params.get("target") or (found[rule] if rule else None)
    target = wanted if wanted in targets else targets[0]
    shown: dict[str, Any] = {
        "this": as_shown(portray(run, sample[KEY], method=method, target=target)),
        "name": dataset.name,
        "choices": choices(run),
        "runs": {dataset.name: run.url, **runs_to_compare(dataset)},
        "other": None,
        "titles": {rule.id: rule.title for rule in every_rule(audit_settings(run.info))},
        "findings": findings_to_judge(sample, findings_of(run, sample[KEY], reviewed)),
        "rule": rule,
        "progress": progress(view, sample, rule, reviewer_name()) if rule else None,
        "cue": sample["cue"],
        "cue_name": cue_names(run).get(sample["cue"]) or sample["cue"],
        "reviewer": reviewer_name(),
        "verdicts": list(VERDICTS.items()),
    }
    other = params.get("other")
    if other is None:  # nothing was chosen: in a view of a comparison, the run that it compares with
        other = {"run": compared_run(view)}
    if other.get("run"):
        try:
            shown["other"] = _other(other_run(dataset, other["run"]), other, sample[KEY], method, target)
        except UserError as error:
            shown["other"] = {"problem": str(error)}
    return shown


def _other(run: Run, other: Mapping[str, Any], key: str, method: str, target: str) -> dict[str, Any]:
    offered = choices(run)
    wished = {"method": other.get("method") or method, "target": other.get("target") or target}
    if wished not in offered and offered:
        wished = offered[0]
    return {"choices": offered, **as_shown(portray(run, key, **wished))}


class Judge(foo.Operator):
    """A verdict from the keyboard."""

    @property
    def config(self) -> Any:
        """Not listed: the keys of the panel call it."""
        return foo.OperatorConfig(name="judge", label="Sightline: judge a sample", unlisted=True)

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """``params``: sample (FiftyOne's id), verdict, rule, and if wanted label, note, whole_cue: then all samples of
        the cue get the verdict that have none by this reviewer."""
        given = ctx.params

        def work() -> dict[str, Any]:
            dataset, sample, rule = ctx.dataset, ctx.dataset[given["sample"]], given["rule"]
            judged = judge(
                dataset,
                run_of(dataset),
                whole_cue(dataset, sample, rule, reviewer_name()) if given.get("whole_cue") else [sample],
                given["verdict"],
                reviewer=reviewer_name(),
                rule=rule,
                label=given.get("label"),
                note=given.get("note"),
            )
            return {"judged": [as_json(one) for one in judged]}

        return answer(ctx, work)


class TakeBack(foo.Operator):
    """Undo of a verdict from the keyboard."""

    @property
    def config(self) -> Any:
        """Not listed: a key of the panel calls it."""
        return foo.OperatorConfig(name="take_back", label="Sightline: take a verdict back", unlisted=True)

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """``params``: judged, as :class:`Judge` returned it."""

        def work() -> dict[str, Any]:
            take_back(ctx.dataset, run_of(ctx.dataset), map(of_json, ctx.params["judged"]))
            return {}

        return answer(ctx, work)


class Verdict(foo.Operator):
    """A verdict by a form: on the selected samples of the grid, else on the sample that is open."""

    @property
    def config(self) -> Any:
        """In the list of operators and among the grid's buttons."""
        return foo.OperatorConfig(name="verdict", label="Sightline: give a verdict", icon="gavel", view_target=False)

    def resolve_placement(self, ctx: Any) -> Any:
        """A button over the grid."""
        return types.Placement(
            types.Places.SAMPLES_GRID_SECONDARY_ACTIONS,
            types.Button(label="Give a verdict on the selected samples", icon="gavel", prompt=True),
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Verdict, rule, right label and note."""
        inputs = types.Object()
        samples = chosen_samples(ctx)
        rules = sorted({rule for sample in samples for rule in sample["findings"] or ()})
        if not rules:
            inputs.view(
                "nothing", types.Warning(label="Select samples that have findings, or open one; nothing to judge here")
            )
            return types.Property(inputs, view=types.View(label="Sightline: give a verdict"))
        verdicts = types.RadioGroup()
        for name, says in VERDICTS.items():
            verdicts.add_choice(name, label=f"{name}: {says}")
        inputs.enum("verdict", verdicts.values(), required=True, label="Verdict", view=verdicts)
        of = types.DropdownView()
        for name in (WORST, *rules):
            of.add_choice(name, label=name)
        inputs.enum("rule", of.values(), default=WORST, label="On the finding", view=of)
        inputs.str("label", label="Right class", description="With fix_label, if you know it")
        inputs.str("note", label="Note")
        return types.Property(
            inputs, view=types.View(label=f"Sightline: a verdict on {len(samples)} sample(s), by {reviewer_name()}")
        )

    def execute(self, ctx: Any) -> None:
        """Give the verdict, and say on how many samples."""

        def work() -> None:
            rule, verdict = ctx.params.get("rule"), ctx.params["verdict"]
            samples = chosen_samples(ctx)
            judged = judge(
                ctx.dataset,
                run_of(ctx.dataset),
                samples,
                verdict,
                reviewer=reviewer_name(),
                rule=None if rule == WORST else rule,
                label=ctx.params.get("label"),
                note=ctx.params.get("note"),
            )
            without = len(samples) - len(judged)
            text = f"{verdict} on {len(judged)} sample(s)" + (f"; {without} have no such finding" if without else "")
            ctx.ops.notify(text, variant="success")

        answer(ctx, work)


def chosen_samples(ctx: Any) -> list[Any]:
    """The sample that is open, else those that are selected in the grid."""
    ids = [ctx.current_sample] if ctx.current_sample else list(ctx.selected)
    return list(ctx.dataset.select(ids)) if ids else []


class MoreLikeThis(foo.Operator):
    """The samples of one cue."""

    @property
    def config(self) -> Any:
        """In the list of operators."""
        return foo.OperatorConfig(
            name="more_like_this", label="Sightline: more like this (same cue)", icon="hub", view_target=False
        )

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """Of ``sample`` in ``params``, else of the open or first selected one."""

        def work() -> dict[str, Any] | None:
            ids = [ctx.params["sample"]] if ctx.params.get("sample") else [s.id for s in chosen_samples(ctx)]
            if not ids:
                raise UserError("open or select a sample first")
            sample = ctx.dataset[ids[0]]
            view = same_cue(ctx.dataset, sample)
            show(ctx, view)
            ctx.ops.notify(f"{counted(len(view), 'sample relies', 'samples rely')} on {sample['cue']}", variant="info")
            return None

        return answer(ctx, work)


class Query(foo.Operator):
    """A query over the run's tables; what it returns as the grid's view."""

    @property
    def config(self) -> Any:
        """In the list of operators and among the grid's buttons."""
        return foo.OperatorConfig(
            name="query", label="Sightline: query the audit", icon="manage_search", dynamic=True, view_target=False
        )

    def resolve_placement(self, ctx: Any) -> Any:
        """A button over the grid."""
        return types.Placement(
            types.Places.SAMPLES_GRID_SECONDARY_ACTIONS,
            types.Button(label="Query the audit", icon="manage_search", prompt=True),
        )

    def resolve_input(self, ctx: Any) -> Any:
        """A canned query, or SQL."""
        inputs = types.Object()
        offered = types.DropdownView()
        for query in list_queries():
            offered.add_choice(query.name, label=query.title, description=query.answers)
        offered.add_choice(SQL, label="SQL of your own", description="over the tables of `sightline query --list`")
        inputs.enum("name", offered.values(), required=True, default=FIRST_QUERY, label="Question", view=offered)
        chosen = ctx.params.get("name", FIRST_QUERY)
        if chosen == SQL:
            inputs.str(
                "sql",
                required=True,
                label="SQL",
                description="with a column sample_id, the samples become the view in the query's order",
                # Not FiftyOne's editor of code: that one is fetched from the network.
                view=types.TextFieldView(componentsProps={"field": {"multiline": True, "minRows": 4}}),
            )
        elif chosen:
            inputs.md(load_query(chosen).answers, name="answers")
        return types.Property(inputs, view=types.View(label="Sightline: query the audit"))

    def execute(self, ctx: Any) -> dict[str, Any] | None:
        """Show its samples; of a query without samples, its table."""

        def work() -> dict[str, Any] | None:
            name = ctx.params["name"]
            run = run_of(ctx.dataset)
            asked = ctx.params["sql"] if name == SQL else load_query(name).of(run)
            table = run_query(run, asked, Limits(seconds=PATIENCE_S))
            if "sample_id" not in table.column_names:
                text = io.StringIO()
                render(table, "markdown", text)
                return {"table": text.getvalue()}
            keys = table["sample_id"].to_pylist()
            view, count = of_keys(ctx.dataset, keys)
            show(ctx, view)
            rest = len(set(keys)) - count
            ctx.ops.notify(counted(count, "sample") + (f"; {rest} more are not shown" if rest else ""), variant="info")
            return None

        return answer(ctx, work)

    def resolve_output(self, ctx: Any) -> Any:
        """The table of a query without samples."""
        outputs = types.Object()
        outputs.str("table", view=types.MarkdownView())
        return types.Property(outputs, view=types.View(label="Sightline: the answer"))


class Reviewer(foo.Operator):
    """Who reviews."""

    @property
    def config(self) -> Any:
        """In the list of operators."""
        return foo.OperatorConfig(name="reviewer", label="Sightline: who reviews", icon="badge", view_target=False)

    def resolve_input(self, ctx: Any) -> Any:
        """A name."""
        inputs = types.Object()
        inputs.str("name", required=True, default=reviewer_name(), label="Your name, as verdicts shall bear it")
        return types.Property(inputs, view=types.View(label="Sightline: who reviews"))

    def execute(self, ctx: Any) -> None:
        """Remember it."""

        def work() -> None:
            remember_reviewer(ctx.params["name"])
            ctx.ops.notify(f"Verdicts are {reviewer_name()}'s from now on", variant="success")

        answer(ctx, work)


OPERATORS = (Portrait, Judge, TakeBack, Verdict, MoreLikeThis, Query, Reviewer)
