"""Verdicts as a person gives them in the App: on what finding, by whom, and taken back."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fiftyone import ViewField

from stages.review.dataset.contents import Finding
from stages.review.dataset.fields import KEY, targets_of_findings
from stages.review.dataset.verdict_fields import VERDICTS, give, verdicts_of, withdraw
from stages.review.dataset.views import same_cue
from stages.review.verdicts.table import WITHDRAWN, Review, append_reviews, now
from stages.words import p
from storage.errors import UserError
from storage.run import Run

ENVIRONMENT = "SIGHTLINE_REVIEWER"


@dataclass(frozen=True)
class Judged:
    """A verdict, and the one of the same reviewer that it replaced."""

    review: Review
    before: Review | None


def reviewer_name() -> str:
    """Who reviews: SIGHTLINE_REVIEWER, else who was remembered here, else the operating system's user."""
    named = os.environ.get(ENVIRONMENT, "").strip()
    if named:
        return named
    path = _remembered()
    if path.exists() and (name := path.read_text(encoding="utf-8").strip()):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user: a container that runs as a bare number
        return f"user {os.getuid()}"


def remember_reviewer(name: str) -> None:
    """From now on verdicts are ``name``'s, in every run.

    Raises UserError for no name, or where SIGHTLINE_REVIEWER says who reviews.
    """
    name = " ".join(name.split())
    if not name:
        raise UserError("a reviewer needs a name")
    if os.environ.get(ENVIRONMENT, "").strip():
        raise UserError(f"{ENVIRONMENT} says who reviews; change it, or leave it out and start the App again")
    path = _remembered()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name + "\n", encoding="utf-8")


def judge(
    dataset: Any,
    run: Run,
    samples: Iterable[Any],
    verdict: str,
    *,
    reviewer: str,
    rule: str | None = None,
    label: str | None = None,
    note: str | None = None,
) -> list[Judged]:
    """Give a verdict on the finding of ``rule`` in each sample; None: on the worst finding of each.

    When this returns, the verdicts are on the disk twice: in the database and in the run's table ``reviews``. Samples
    without such a finding are left out; raises UserError if that leaves none, or the run cannot be written.
    """
    samples = list(samples)
    judged = []
    for sample in samples:
        findings = sample["findings"] or []
        found = rule or next(iter(findings), None)
        if found is None or found not in findings:
            continue
        before = {review.key: review for review in verdicts_of(sample)}
        review = give(
            dataset, sample[KEY], rule=found, verdict=verdict, reviewer=reviewer, label=label or None, note=note or None
        )
        judged.append(Judged(review, before.get(review.key)))
    if not judged:
        what = f"finding {rule}" if rule else "finding"
        if len(samples) == 1:
            raise UserError(f"{samples[0][KEY]} has no {what} to judge")
        raise UserError(f"none of the {len(samples)} samples has a {what} to judge")
    _store(run, [one.review for one in judged])
    return judged


def _store(run: Run, reviews: list[Review]) -> None:
    try:
        append_reviews(run, reviews, just_now=True)
    except OSError as error:
        raise UserError(
            f"cannot store a verdict in {run.url}: {error.strerror or error}; make it writable with room to spare, "
            "then give the verdict again"
        ) from error


def whole_cue(dataset: Any, sample: Any, rule: str, reviewer: str) -> list[Any]:
    """The sample, and those of its cue that have the finding and no verdict by the reviewer on it.

    Raises UserError if it belongs to no cue.
    """
    return [sample, *_rest_of_cue(dataset, sample, rule, reviewer)]


def progress(view: Any, sample: Any, rule: str, reviewer: str) -> dict[str, int]:
    """How many of the samples of a view with a finding the reviewer has judged (done, of), and how many samples a
    verdict on the whole of the sample's cue would be given on (cue)."""
    found = view.match(ViewField("findings").contains([rule]))
    done = len(found.match(_judged_by(rule, reviewer)))
    cue = 1 + len(_rest_of_cue(view._dataset, sample, rule, reviewer)) if sample["cue"] else 0
    return {"done": done, "of": len(found), "cue": cue}


def _rest_of_cue(dataset: Any, sample: Any, rule: str, reviewer: str) -> Any:
    found = ViewField("findings").contains([rule]) & ~_judged_by(rule, reviewer)
    return same_cue(dataset, sample).match(found & (ViewField(KEY) != sample[KEY]))


def _judged_by(rule: str, reviewer: str) -> Any:
    mine = (ViewField("rule") == rule) & (ViewField("reviewer") == reviewer)
    return ViewField(VERDICTS).filter(mine).length() > 0


def findings_to_judge(sample: Any, found: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings of a sample that verdicts can be given on, worst first, each with its verdicts so far.

    ``found`` are those of the run, with their reasons. Plain JSON.
    """
    known = {(finding.rule, finding.target): finding for finding in found}
    listed = [known[key] for key in targets_of_findings(sample).items() if key in known]
    return [
        {
            **asdict(finding),
            "severity": p(finding.severity),
            "verdicts": [
                {"verdict": review.verdict, "reviewer": review.reviewer, "note": review.note, "label": review.label}
                for review in verdicts_of(sample)
                if (review.rule, review.target) == (finding.rule, finding.target)
            ],
        }
        for finding in listed
    ]


def take_back(dataset: Any, run: Run, judged: Iterable[Judged]) -> None:
    """Put the verdicts back that there were before, or none. The table ``reviews`` keeps what was taken back, too."""
    stored, new = [], []
    for one in judged:
        review, before = one.review, one.before
        if before is None:
            new.append(review)
            stored.append(replace(review, verdict=WITHDRAWN, label=None, note=None, time=now()))
            continue
        given = give(
            dataset,
            review.sample_id,
            rule=review.rule,
            target=review.target,
            verdict=before.verdict,
            reviewer=review.reviewer,
            label=before.label,
            note=before.note,
        )
        stored.append(given)
    _store(run, stored)
    for review in new:
        withdraw(dataset, review)


def as_json(judged: Judged) -> dict[str, Any]:
    """JSON of a judged finding, which :func:`of_json` reads and the App shows."""
    return {
        "review": _document(judged.review),
        "before": None if judged.before is None else _document(judged.before),
    }


def of_json(document: Mapping[str, Any]) -> Judged:
    """The inverse of :func:`as_json`, but for times."""
    before = document["before"]
    return Judged(Review(**document["review"]), None if before is None else Review(**before))


_PARTS = ("sample_id", "target", "rule", "verdict", "reviewer", "label", "note")


def _document(review: Review) -> dict[str, Any]:
    return {name: getattr(review, name) for name in _PARTS}


def _remembered() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "sightline" / "reviewer"
