"""What a report says, gathered from a run's tables, maps and images; nothing here knows HTML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import yaml

from stages.audit.report.pictures import Picture, Pictures, Shown
from stages.audit.rules import FLAG, Rule, flag_condition, rules_of
from stages.audit.settings import audit_settings
from stages.audit.summary.summary import Summary, summarise
from stages.audit.truth import TruthReport, against_truth, read_truth
from stages.words import in_words
from storage.cues import read_cues
from storage.errors import UserError
from storage.samples import edges
from storage.sql import connect

if TYPE_CHECKING:
    from storage.info import RunInfo
    from storage.run import Run

MOST_CUES = 10
"""Cues with a gallery, the costliest first."""
MOST_CLOSE_UPS = 4
"""Close-ups of a cue."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """One sample of a gallery: its pictures, and why it is here.

    ``probabilities`` of the class ``explained`` are (what was hidden, p or None); ``place`` is where the map lies.
    """

    sample_id: str
    label: str
    predicted: str
    explained: str
    reason: str
    shown: Shown
    probabilities: tuple[tuple[str, float | None], ...]
    place: str


@dataclass(frozen=True)
class RuleGallery:
    """A rule with findings: on how many images, and the most severe of them."""

    rule: Rule
    condition: str
    count: int
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class CueGallery:
    """A row of the table ``cues``, its exemplars, and close-ups of what was hidden in them."""

    cue: Mapping[str, Any]
    cards: tuple[Card, ...]
    close_ups: tuple[Picture, ...]


@dataclass(frozen=True)
class Point:
    """An evaluable sample, as the charts show it: target ``label`` of the audited method."""

    box_area_frac: float | None
    energy_in: float | None
    p_full: float | None
    outside_effect: float | None
    flagged: bool


@dataclass(frozen=True)
class MetricsTable:
    """The table ``metrics`` of one target: ``rows`` are (metric, a record or None for each of ``methods``)."""

    target: str
    methods: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Record | None, ...]], ...]


@dataclass(frozen=True)
class Contents:
    """All that a report says. ``problems`` counts pictures that could not be made, by reason."""

    name: str
    url: str
    model: str
    dataset: str
    method: str
    thresholds: Mapping[str, float]
    min_class_size: int
    facts: tuple[tuple[str, str], ...]
    summary: Summary
    classes: tuple[Record, ...]
    points: tuple[Point, ...]
    rules: tuple[RuleGallery, ...]
    flagged_close_ups: tuple[Picture, ...]
    quiet_rules: tuple[str, ...]
    cues: tuple[CueGallery, ...]
    n_cues: int
    """Those that are not weak."""
    weak_cues: tuple[Record, ...]
    """Rows of the table ``cues`` that say why they may be none."""
    metrics: tuple[MetricsTable, ...]
    sanity: tuple[Record, ...]
    truth: TruthReport | None
    truth_problem: str
    config: str
    versions: tuple[tuple[str, str], ...]
    pictures: int
    problems: Counter[str]

    @property
    def has_outside(self) -> bool:
        """Whether any picture is of a map of the outside."""
        galleries: tuple[RuleGallery | CueGallery, ...] = (*self.rules, *self.cues)
        return any(card.shown.outside for gallery in galleries for card in gallery.cards)


def gather(run: Run, *, per_rule: int = 6, progress: Callable[[int, int], None] | None = None) -> Contents:
    """What a report on an audited run says, with at most ``per_rule`` pictures a rule and a cue.

    ``progress`` takes (pictures done, pictures in all). Images are read from where the run found them; one that is
    missing, or another file by now, is a placeholder and a count. Raises UserError for a run that was not audited.
    """
    info = run.info
    settings, method, summary = audit_settings(info), run.audited_method(), summarise(run)
    findings = [finding for finding in run.table("findings").to_pylist() if finding["method"] == method]
    found_cues = read_cues(run, method)
    cues = [cue for cue in found_cues if not cue["weak"]]
    shown_cues = cues[:MOST_CUES]
    with connect(run) as connection:
        columns = tuple(name for name, *_ in connection.sql("DESCRIBE audit_targets").fetchall())
        rules = rules_of(settings, columns)
        points = _points(connection, method, flag_condition(settings))
        chosen = {rule.id: [found for found in findings if found["rule"] == rule.id][:per_rule] for rule in rules}
        exemplars = [example for cue in shown_cues for example in cue["exemplars"][:per_rule]]
        flagged = [found for found in findings if (found["rule"], found["target"]) == (FLAG, "label")]
        closest = [] if shown_cues else flagged[: min(per_rule, MOST_CLOSE_UPS)]
        wanted = [*(found for group in chosen.values() for found in group), *exemplars, *closest]
        rows = _audit_rows(connection, method, wanted)
    cards = _Cards(Pictures(run, method), rows, sum(map(len, chosen.values())) + len(exemplars), progress)
    images = {(finding["rule"], finding["sample_id"]) for finding in findings}
    counts = Counter(rule for rule, _ in images)
    # Flags first: where the page is full, pictures of descriptions are left out.
    order = [rule for rule in rules if rule.kind == "flag"], [rule for rule in rules if rule.kind != "flag"]
    flags = _galleries(order[0], chosen, counts, settings.thresholds(), cards)
    cue_galleries = tuple(
        CueGallery(cue, cards.of_cue(cue, per_rule), cards.close_ups(cue, per_rule)) for cue in shown_cues
    )
    descriptions = _galleries(order[1], chosen, counts, settings.thresholds(), cards)
    classes = tuple(run.table("classes").to_pylist())
    truth, problem = _truth(run, info)
    return Contents(
        name=run.name,
        url=run.url,
        model=str(info.section("model").get("source") or ""),
        dataset=_last_parts(info.section("dataset").get("path")),
        method=method,
        thresholds=settings.thresholds(),
        min_class_size=settings.min_class_size,
        facts=_facts(info, method, summary),
        summary=summary,
        classes=classes,
        points=points,
        rules=(*flags, *descriptions),
        flagged_close_ups=cards.of_flagged(closest),
        quiet_rules=tuple(rule.title for rule in rules if not counts[rule.id]),
        cues=cue_galleries,
        n_cues=len(cues),
        weak_cues=tuple(cue for cue in found_cues if cue["weak"]),
        metrics=_metrics(run, method),
        sanity=tuple(run.table("sanity").to_pylist()) if run.has_table("sanity") else (),
        truth=truth,
        truth_problem=problem,
        config=yaml.safe_dump(dict(info.config), sort_keys=False, allow_unicode=True) if info.config else "",
        versions=tuple((name, version) for name, version in info.versions.items() if version),
        pictures=cards.done,
        problems=cards.pictures.problems,
    )


class _Cards:
    """Makes cards of rows of ``audit``, which are known by (sample_id, target)."""

    def __init__(
        self,
        pictures: Pictures,
        rows: Mapping[tuple[str, str], Record],
        total: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.pictures, self.done = pictures, 0
        self._rows, self._total, self._progress = rows, total, progress

    def of_finding(self, finding: Record) -> Card:
        """The card of a row of ``findings``; what its rule measured outside the boxes is outlined."""
        row = self._rows[finding["sample_id"], finding["target"]]
        evidence = json.loads(finding["evidence"])
        region = evidence.get("crop_outside_box") or (row.get("hidden_box") if "hide_locator" in evidence else None)
        return self._card(row, finding["reason"], region)

    def of_cue(self, cue: Record, count: int) -> tuple[Card, ...]:
        """The cards of a cue's exemplars."""
        return tuple(
            self._card(row, _what_hiding_did(row), example["box"])
            for example in cue["exemplars"][:count]
            # A sample may have left the dataset since the cues were found.
            if (row := self._rows.get((example["sample_id"], example["target"]))) is not None
        )

    def close_ups(self, cue: Record, count: int) -> tuple[Picture, ...]:
        """What was hidden in the cue's exemplars; those whose image cannot be shown are left out."""
        return self._close_ups([(example, example["box"]) for example in cue["exemplars"][:count]])

    def of_flagged(self, findings: Sequence[Record]) -> tuple[Picture, ...]:
        """What was hidden in the samples of findings."""
        return self._close_ups(
            [(found, self._rows[found["sample_id"], found["target"]]["hidden_box"]) for found in findings]
        )

    def _close_ups(self, places: Sequence[tuple[Record, Record | None]]) -> tuple[Picture, ...]:
        pictures = []
        for item, box in places[:MOST_CLOSE_UPS]:
            row, region = self._rows.get((item["sample_id"], item["target"])), edges(box) if box else None
            if row is not None and region is not None:
                alt = f"Close-up of what was hidden in {row['sample_id']}, labelled {row['label']}"
                pictures.append(self.pictures.close_up(row, alt, region))
        return tuple(picture for picture in pictures if picture is not None)

    def _card(self, row: Record, reason: str, box: Record | None) -> Card:
        region = edges(box) if box else None
        shown = self.pictures.of(row, region)
        self.done += 1
        if self._progress:
            self._progress(self.done, self._total)
        probabilities = (
            ("nothing hidden", row["p_full"]),
            ("costliest tenth hidden", row["p_hide_outside"]),
            ("random tenth hidden", row["p_hide_random"]),
            ("all outside in one colour", row["p_hide_context_neutral"]),
            ("another object there", row["p_transplant"]),
        )
        energy, area = (in_words(row[name], percent=True) for name in ("energy_in", "box_area_frac"))
        place = f"{energy} of the map in the boxes, by chance {area}" if row["energy_in"] is not None else ""
        return Card(
            sample_id=row["sample_id"],
            label=row["label"] or "unknown",
            predicted=row["pred_label"] or "unknown",
            explained=row["target_label"] or "unknown",
            reason=reason,
            shown=shown,
            probabilities=probabilities if row["p_full"] is not None else (),
            place=place,
        )


def _what_hiding_did(row: Record) -> str:
    before, after = in_words(row["p_full"]), in_words(row["p_hide_outside"])
    return f"hiding the dashed part lowers p({row['target_label']}) from {before} to {after}"


def _galleries(
    rules: Sequence[Rule],
    chosen: Mapping[str, Sequence[Record]],
    counts: Counter[str],
    thresholds: dict[str, float],
    cards: _Cards,
) -> tuple[RuleGallery, ...]:
    return tuple(
        RuleGallery(
            rule,
            rule.condition(thresholds),
            counts[rule.id],
            tuple(cards.of_finding(found) for found in chosen[rule.id]),
        )
        for rule in rules
        if counts[rule.id]
    )


def _points(connection: duckdb.DuckDBPyConnection, method: str, relies: str) -> tuple[Point, ...]:
    """The evaluable samples, and which of them rely on what is outside their boxes."""
    found = connection.execute(
        f"SELECT box_area_frac, energy_in, p_full, outside_effect, ({relies}) AS relies FROM audit_targets "
        "WHERE method = ? AND target = 'label' AND evaluable ORDER BY row",
        [method],
    ).fetchall()
    return tuple(Point(area, energy, p, effect, bool(relies)) for area, energy, p, effect, relies in found)


def _audit_rows(
    connection: duckdb.DuckDBPyConnection, method: str, wanted: Sequence[Record]
) -> dict[tuple[str, str], Record]:
    """Rows of ``audit`` by (sample_id, target), of the samples that are shown."""
    ids = sorted({item["sample_id"] for item in wanted})
    table = connection.sql(
        "SELECT * FROM audit_targets WHERE method = ? AND list_contains(?::VARCHAR[], sample_id)", params=[method, ids]
    ).to_arrow_table()
    return {(row["sample_id"], row["target"]): row for row in table.to_pylist()}


def _facts(info: RunInfo, method: str, summary: Summary) -> tuple[tuple[str, str], ...]:
    """What was run on what, as (name, value); what run.json does not say is left out."""
    model, view, dataset = (info.section(name) for name in ("model", "view", "dataset"))
    facts = {
        "Dataset": dataset.get("path"),
        "Samples": ", ".join(f"{count} {status}" for status, count in summary.samples.items()),
        "Dataset digest": info.dataset_digest,
        "Model": model.get("source"),
        "Weights": model.get("checkpoint") or model.get("weights"),
        "Weights digest": info.weights_digest,
        "Layer": info.layer,
        "View": f"{view['geometry']}, {view['size']} px" if view else None,
        "Saliency method": method,
        "Optimiser": info.optimizer if method == "opti_cam" else None,
        "Finished": info.finished.replace("T", " ").replace("+00:00", " UTC"),
        "Sightline": info.versions.get("sightline"),
    }
    return tuple((name, str(value)) for name, value in facts.items() if value)


def _last_parts(path: str | None) -> str:
    """The end of a path, which is enough to recognise it by."""
    return "/".join(path.rstrip("/").split("/")[-2:]) if path else ""


def _metrics(run: Run, method: str) -> tuple[MetricsTable, ...]:
    """The table ``metrics`` by target, the audited method first, in the order in which the metrics were written."""
    found = run.table("metrics").to_pylist() if run.has_table("metrics") else []
    cells = {(row["target"], row["metric"], row["method"]): row for row in found}
    tables = []
    for target in sorted({target for target, *_ in cells}, key=lambda name: (name != "label", name)):
        methods = sorted({own for of, _, own in cells if of == target}, key=lambda name: (name != method, name))
        names = dict.fromkeys(metric for of, metric, _ in cells if of == target)
        rows = tuple((name, tuple(cells.get((target, name, own)) for own in methods)) for name in names)
        tables.append(MetricsTable(target, tuple(methods), rows))
    return tuple(tables)


def _truth(run: Run, info: RunInfo) -> tuple[TruthReport | None, str]:
    """The rules against the planted truth where the run has one, or why that cannot be told any more."""
    path = info.section("dataset").get("truth")
    if not path:
        return None, ""
    try:
        return against_truth(run, read_truth(path)), ""
    except UserError as error:
        return None, str(error)
