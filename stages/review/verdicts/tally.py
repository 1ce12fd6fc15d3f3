"""What the verdicts say together: the precision of each rule, and how far reviewers agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from sklearn.metrics import cohen_kappa_score

from stages.review.verdicts.table import RIGHT, Review, standing
from stages.statistics import wilson

Finding = tuple[str, str, str]
"""(sample_id, target, rule)"""


@dataclass(frozen=True)
class RuleTally:
    """Verdicts on the findings that a run has of one rule."""

    rule: str
    findings: int
    """Findings of the rule in the run."""
    judged: int
    """Of these, findings with a verdict."""
    verdicts: Mapping[str, int]
    """How often each verdict was given; several reviewers count each."""
    right: int
    """Findings of which more reviewers say that something is at fault than that it is a false alarm."""
    wrong: int
    """Findings of which more reviewers say the opposite. The rest is undecided: a tie, or all are unsure."""
    precision: float | None
    """right / (right + wrong), [0, 1]; None where nothing is decided."""
    interval: tuple[float, float] | None
    """Its 95% Wilson interval."""


@dataclass(frozen=True)
class Agreement:
    """Two reviewers on the findings that both judged."""

    reviewers: tuple[str, str]
    n: int
    agreement: float
    """Share of findings with the same verdict, [0, 1]."""
    kappa: float | None
    """Cohen's kappa over the five verdicts, [-1, 1]; None where both gave one and the same verdict throughout."""


@dataclass(frozen=True)
class Tally:
    """Counts of verdicts, precision by rule, agreement by pair of reviewers."""

    stored: int
    """Rows of the table ``reviews``."""
    standing: int
    """Of these, verdicts that count: the last of each sample, target, rule and reviewer."""
    gone: int
    """Of these, verdicts on findings that the run does not have; no precision counts them."""
    verdicts: Mapping[str, int]
    """How often each verdict stands."""
    rules: tuple[RuleTally, ...]
    agreements: tuple[Agreement, ...]


def tally(reviews: Iterable[Review], findings: Iterable[Finding]) -> Tally:
    """Precision by rule and agreement by pair of reviewers, from a run's verdicts and its findings."""
    reviews = list(reviews)
    counting = list(standing(reviews).values())
    present = set(findings)
    of_finding: dict[Finding, list[Review]] = defaultdict(list)
    for review in counting:
        of_finding[review.sample_id, review.target, review.rule].append(review)
    judged = {finding: said for finding, said in of_finding.items() if finding in present}
    sizes = Counter(rule for _, _, rule in present)
    rules = sorted({rule for _, _, rule in judged})
    return Tally(
        stored=len(reviews),
        standing=len(counting),
        gone=sum(len(said) for finding, said in of_finding.items() if finding not in present),
        verdicts=dict(Counter(review.verdict for review in counting)),
        rules=tuple(
            _of_rule(rule, sizes[rule], [said for finding, said in judged.items() if finding[2] == rule])
            for rule in rules
        ),
        agreements=_agreements(of_finding.values()),
    )


def _of_rule(rule: str, findings: int, judged: list[list[Review]]) -> RuleTally:
    margins = [sum(_vote(review.verdict) for review in said) for said in judged]
    right, wrong = sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)
    precision, interval = right / (right + wrong) if right + wrong else None, wilson(right, right + wrong)
    verdicts = Counter(review.verdict for said in judged for review in said)
    return RuleTally(rule, findings, len(judged), dict(verdicts), right, wrong, precision, interval)


def _vote(verdict: str) -> int:
    return int(verdict in RIGHT) - int(verdict == "false_alarm")


def _agreements(judged: Iterable[list[Review]]) -> tuple[Agreement, ...]:
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in judged:
        for one, other in combinations(sorted(said, key=lambda review: review.reviewer), 2):
            pairs[one.reviewer, other.reviewer].append((one.verdict, other.verdict))
    return tuple(_agreement(reviewers, verdicts) for reviewers, verdicts in sorted(pairs.items()))


def _agreement(reviewers: tuple[str, str], verdicts: list[tuple[str, str]]) -> Agreement:
    ones, others = [one for one, _ in verdicts], [other for _, other in verdicts]
    same = sum(one == other for one, other in verdicts) / len(verdicts)
    # Agreement by chance is then certain, and kappa is 0 / 0.
    constant = len({*ones, *others}) == 1
    return Agreement(reviewers, len(verdicts), same, None if constant else float(cohen_kappa_score(ones, others)))
