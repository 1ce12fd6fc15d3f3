"""Stages in order: what is already done is left alone, what is missing is made."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from pipeline import run_info
from pipeline.check import load, try_images
from pipeline.config import Config
from pipeline.progress import Progress
from pipeline.show.console import styled
from pipeline.workers.cluster import connect
from pipeline.workers.environment import environment, version
from pipeline.workers.files import look_on_workers
from pipeline.workers.shards import Outcomes, make_shards, score_shards
from stages.audit.audit import audit, check_rules
from stages.audit.truth import read_truth
from stages.explain.donors import classes_without_donor, donors_of, find_donors, keep_donors
from stages.explain.explain import ShardReport
from stages.explain.methods.methods import NULLS, optimizes
from stages.explain.network.model import Classifier
from stages.explain.other_methods import OtherMethods, settle_other_methods
from stages.explain.plan import (
    DONORS_LACKING,
    ExplainPlan,
    create_map_arrays,
    done_shards,
    make_plan,
    pending_shards,
    remove_other_maps,
)
from stages.explain.trial.trial import Shown, choose_images
from stages.ingest.facts import look_here
from stages.ingest.ingest import list_samples, name_outputs, store_samples
from stages.ingest.recognise import Dataset, open_dataset
from stages.score.score import unscored, write_metrics
from stages.words import counted
from storage import Run
from storage.errors import UserError
from storage.integrity.damage import discard, find_unreadable
from storage.integrity.lock import only_writer
from storage.run import Part, default_method

STAGES = ("load", "ingest", "check", "plan", "workers", "explain", "score", "audit")
"""What a run takes its time for, in order: ``workers`` is the start of the cluster."""

_FAILED = ("unreadable", "non_finite")
_FOR_WORKERS = 2_000
"""New images from which on the workers look at them: their start takes as long as a few thousand files here."""
_TRIED = 64
"""Images of the trial before a run's first map: at most 6 forward passes each, as many as a few maps take."""
_OF_THE_AUDIT = ("duckdb", "scikit-learn", "scipy")
"""Packages whose versions can change an audit, beside those that can change a map."""


@dataclass
class Timings:
    """Seconds of each stage, in order; those of a stage that begins within another count there alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    _within: float = 0.0
    """Seconds of what ended within the stage that is measured now."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time a stage, or a part of it."""
        began, before, self._within = time.perf_counter(), self._within, 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + took - self._within, 3)
            self._within = before + took


def run_pipeline(config: Config, console: Console, *, retry_failed: bool = False, force: bool = False) -> Run:
    """Run ingest, explain, score and audit on ``config``; only what is missing or out of date is computed.

    Raises UserError for a mistake in the config or the dataset and, unless ``force``, for what cannot be right (see
    :class:`~stages.explain.trial.trial.Trial`); SightlineError if a shard fails for good.
    """
    timings = Timings()
    if config.dataset.truth:
        read_truth(config.dataset.truth)  # told now, not after hours of work
    check_rules(config.audit)
    console.print(styled("[bold]Sightline[/] {} -> {}", config.dataset.path, config.run))
    dataset = open_dataset(config.dataset)
    console.print(styled("[green]dataset[/]  {}", dataset))
    with timings.measure("load"), console.status(styled("loading {}", config.model.source)):
        classifier, view = load(config)
    auto = config.view.geometry == "auto"
    config = config.model_copy(update={"view": view})
    for note in (*classifier.notes, *((f"the view is that of its weights: {view}",) if auto else ())):
        console.print(styled("[green]model[/]    {}", note))
    run = Run.create(config.run)  # not before the config has proved to be a sound one
    classifier.class_names = name_outputs(dataset, classifier.class_names, partial(_tell, console))

    with only_writer(run.directory, partial(_tell, console)), ExitStack() as stack:
        workers = cache(partial(_start_workers, config, stack, console, timings))  # where there is work for them
        _discard_unreadable(run, console)
        samples = _ingest(config, dataset, run, classifier, workers, console, timings)
        _check(config, run, classifier, samples, force, console, timings)
        plan, pending, lacking = _plan(config, run, classifier, samples, retry_failed, console, timings)
        info = run_info.begun(run, config, plan, samples, makes_maps=bool(pending))
        if pending:
            run.write_info(info)
        reports = _explain(config, run, plan, samples, pending, workers, console, timings)
        _tell_of_donors(lacking + sum(report.donors_lacking > 0 for report in reports), console)
        if reports:
            info = run_info.explained(info, reports, timings.seconds["explain"])
            run.write_info(info)
        _score(config, run, len(reports), workers, console, timings)
        stack.close()
        _audit(config, run, console, timings)
        run.write_info(run_info.finished(info, timings.seconds))
    return run


def _discard_unreadable(run: Run, console: Console) -> None:
    """Remove files that cannot be read, which makes them as good as absent, and name each."""
    for damage in list(find_unreadable(run)):
        discard(run, damage)
        console.print(styled("[yellow]damaged[/]  {}: {}; {}", damage.path, damage.what, damage.remedy))


def _ingest(
    config: Config,
    dataset: Dataset,
    run: Run,
    classifier: Classifier,
    workers: Callable[[], Any],
    console: Console,
    timings: Timings,
) -> pa.Table:
    def look(asked: Iterator[pa.Table], new: int) -> Iterator[tuple[int, pa.Table]]:
        if new < _FOR_WORKERS:
            return look_here(asked, new)
        _tell(console, f"the workers look at the {new} new images")
        return look_on_workers(workers(), asked, retries=config.cluster.retries, say=partial(_tell, console))

    with timings.measure("ingest"), Progress(console, "ingest", "images") as progress:
        samples = list_samples(dataset, classifier.class_names, run, progress.update, partial(_tell, console), look)
    if not any(run.parts("explain")):
        store_samples(run, samples)  # what took long is kept, whatever the check says
    console.print(styled("[green]ingest[/]   {}", _statuses(samples["status"])))
    return samples


def _check(
    config: Config,
    run: Run,
    classifier: Classifier,
    samples: pa.Table,
    force: bool,
    console: Console,
    timings: Timings,
) -> None:
    """Before the first map: is the classifier right on a few images, or would it be if it were fed another way?

    What is doubtful is written to run.json, with what it was found on: the same network, fed in the same way, is not
    tried on the same images again. Raises UserError for what cannot be right, unless ``force``.
    """
    with timings.measure("check"):
        images = choose_images(samples, _TRIED, config.dataset.seed)
        tried = _tried(config, classifier, images)
        if run.info.tried == tried:
            return
        trial = try_images(classifier, config, images, console)
    if trial is not None and trial.hint is not None:
        console.print(styled("[green]check[/]    {}", trial.hint))
    warning = trial.warning if trial is not None else None
    if trial is not None and warning is not None:
        if trial.cannot_be_right and not force:
            raise UserError(f"{warning}; `sightline check CONFIG` shows more, and --force runs it as it is")
        console.print(styled("[yellow]check[/]    {}", warning))
    run.write_info(replace(run.info, misfed=warning or "", tried=tried))


def _tried(config: Config, classifier: Classifier, images: list[Shown]) -> str:
    """Digest of all that a trial depends on."""
    settings = config.model_dump(mode="json")
    fed = [settings[name] for name in ("model", "view")]
    shown = [(image.sample["digest"], sorted(image.classes)) for image in images]
    tried = [fed, classifier.digest(), classifier.class_names, shown]
    return hashlib.sha256(json.dumps(tried, sort_keys=True).encode()).hexdigest()


def _plan(
    config: Config,
    run: Run,
    classifier: Classifier,
    samples: pa.Table,
    retry_failed: bool,
    console: Console,
    timings: Timings,
) -> tuple[ExplainPlan, list[int], int]:
    """The plan, its pending shards, and how many of the others lack donors, with all removed from the run that the
    pending ones make out of date."""
    with timings.measure("plan"):
        donors = find_donors(run, samples)
        plan = make_plan(
            run,
            classifier,
            config.model,
            config.view,
            config.explain,
            samples.num_rows,
            config.cluster.device,
            donors_of(donors, samples),
        )
        store_samples(run, samples)  # not before all that may refuse it: a refused run leaves a finished one as it was
        keep_donors(run, donors)
        create_map_arrays(run, plan)
        others = settle_other_methods(run, plan, samples)
        if retry_failed:
            _forget_failures(run, plan, samples)
        done = done_shards(run, plan, samples)
        pending = [index for index in range(plan.shards) if index not in done]
    console.print(styled("[green]explain[/]  {}", _method(plan, config)))
    _tell_of_others(others, console)
    if new := classes_without_donor(donors, samples):
        came = counted(new, "class came", "classes came")
        _tell(
            console, f"{came} after the donors were chosen, and no donor is of them; a run of another name chooses anew"
        )
    changed = others.methods | ({plan.explain.method} if pending else set())
    # Derived tables are deleted before maps change, so that an interrupted run never shows old findings beside new
    # maps. `cues` stays: the next audit reuses its ids.
    if changed:
        run.discard_table("metrics")
    if (config.audit.method or default_method([*run.methods(), plan.explain.method])) in changed:
        for table in ("findings", "classes"):
            run.discard_table(table)
    for index in pending:
        run.discard_part(Part("scores", plan.explain.method, index))
    return plan, pending, sum(DONORS_LACKING in vouched for vouched in done.values())


def _explain(
    config: Config,
    run: Run,
    plan: ExplainPlan,
    samples: pa.Table,
    pending: list[int],
    workers: Callable[[], Any],
    console: Console,
    timings: Timings,
) -> list[ShardReport]:
    """Explain and score the pending shards on the workers; afterwards all maps of the method are the plan's."""
    outcomes = Outcomes(plan, pending)
    if pending:
        client, say = workers(), partial(_tell, console)
        try:
            with timings.measure("explain"), Progress(console, "explain", "images", outcomes.total) as progress:
                make_shards(client, outcomes, samples, config.score, progress, retries=config.cluster.retries, say=say)
        except KeyboardInterrupt:
            # Not the reports: a shard is committed before its worker's report comes.
            done = len(pending) - len(pending_shards(run, plan, samples))
            console.print(
                f"\nstopped: {done} of {len(pending)} shards of this run are committed; "
                "the same command goes on from there"
            )
            raise
        outcomes.raise_the_first_failure()
    remove_other_maps(run, plan)
    _tell(console, f"{len(outcomes.reports)} of {plan.shards} shards computed, {plan.shards - len(pending)} were done")
    return outcomes.reports


def _score(
    config: Config, run: Run, explained: int, workers: Callable[[], Any], console: Console, timings: Timings
) -> None:
    """Score what was not scored as it was explained, on the workers, then sum up all scores.

    ``explained``: shards that were.
    """
    with timings.measure("score"):
        pending = unscored(run, config.score)
    if pending:
        client, say = workers(), partial(_tell, console)
        with timings.measure("score"), Progress(console, "score", "shards") as progress:
            score_shards(client, run, pending, config.score, progress, say=say)
    with timings.measure("score"):
        write_metrics(run)
    scored = explained + len(pending)
    done = len(list(run.parts("scores"))) - scored
    console.print(styled("[green]score[/]    {} scored, {} were done", counted(scored, "shard"), done))


def _start_workers(config: Config, stack: ExitStack, console: Console, timings: Timings) -> Any:
    """The client of a cluster that ends with ``stack``."""
    with timings.measure("workers"), console.status("starting the workers"):
        client = stack.enter_context(connect(config.cluster, partial(_tell, console)))
    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    _tell(console, f"{counted(workers, 'worker')}, dashboard {client.dashboard_link}")
    return client


def _audit(config: Config, run: Run, console: Console, timings: Timings) -> None:
    with timings.measure("audit"), console.status("audit"):
        versions = environment() | {name: version(name) for name in _OF_THE_AUDIT}
        report = audit(run, config.audit, versions)
    tables = (("finding", report.findings), ("class", report.classes), ("cue", report.cues))
    made = ", ".join(counted(table.num_rows, name) for name, table in tables)
    done = "; all were done" if report.was_done else ""
    console.print(styled("[green]audit[/]    {}{}", made, done))
    if report.sampled:
        _tell(console, report.sampled)


def _tell(console: Console, line: str) -> None:
    """A line that belongs to the stage above it."""
    console.print(f"         {line}")


def _forget_failures(run: Run, plan: ExplainPlan, samples: pa.Table) -> None:
    """Discard the parts with failed rows of samples that ingest can read, and those that lack donors, so that they are
    tried again.

    Ingest itself reads every unreadable file again in every run.
    """
    readable = set(samples.filter(pc.not_equal(samples["status"], "unreadable"))["row"].to_pylist())
    for part, vouched in run.footers("explain", plan.explain.method).items():
        rows = run.read_part(part).select(["row", "status"]).to_pylist()
        if DONORS_LACKING in vouched or any(row["status"] in _FAILED and row["row"] in readable for row in rows):
            run.discard_part(part)


def _statuses(statuses: pa.ChunkedArray) -> str:
    counts = Counter({str(found["values"]): found["counts"].as_py() for found in statuses.value_counts()})
    rest = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
    return counted(len(statuses), "sample") + (f" ({counts['ok']} ok, {rest})" if rest else ", all ok")


def _method(plan: ExplainPlan, config: Config) -> str:
    """How the plan makes its maps, in words."""
    place = "" if plan.explain.method in NULLS else f" at {plan.layer} {plan.layer.grid[0]}x{plan.layer.grid[1]}"
    how = f", {run_info.optimizer(plan)}" if optimizes(plan.explain.method) else ""
    return f"{plan.explain.method}{place}, {config.view.geometry} {config.view.size} px{how}"


def _tell_of_donors(lacking: int, console: Console) -> None:
    if lacking:
        made = counted(lacking, "shard was", "shards were")
        why = "whose files could not be read; --retry-failed makes such shards again"
        _tell(console, f"{made} made without some donors, {why}")


def _tell_of_others(others: OtherMethods, console: Console) -> None:
    for method, count in others.removed.items():
        what = "the network, layer, view, images or classes changed since it was run"
        _tell(console, f"{counted(count, 'shard')} of {method} removed: {what}")
    for method, count in others.cleared.items():
        what = "boxes or labels changed; its probes of the boxes are empty until it is run again"
        _tell(console, f"{counted(count, 'shard')} of {method}: {what}")
