"""The first thing a reader sees: the run in one sentence, and what to do about it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from stages.audit.report.contents import Contents
from stages.audit.summary.summary import corrected, flagged_by_prediction, mispredicted, untested
from stages.words import counted, interval, percent


@dataclass(frozen=True)
class Step:
    """Something to do: what, why, and the command for it (empty where there is none)."""

    what: str
    why: str
    command: str = ""


def explanation(contents: Contents) -> str:
    """The headline's numbers, and the experiment behind them."""
    share, limits, true = contents.summary.reliance, contents.thresholds, contents.summary.prevalence
    counted = f" It stands for {corrected(true)}." if true else ""
    left_out = untested(contents.summary)
    left_out = left_out and f" {left_out[0].upper()}{left_out[1:]}."
    unit, wrong = contents.summary.unit, mispredicted(contents.summary)
    wrong = wrong and f" {wrong}."
    if not share.n and left_out:
        return f"{left_out.strip()} The maps below can be looked at, but nothing here says what the model needs."
    if not share.n:
        return (
            "No sample has a map and boxes of its label that leave enough of the view outside: the maps below can be "
            "looked at, but nothing here says what the model needs."
        )
    if not share.hits:
        return (
            f"With {share.n} {unit}s tested, up to {percent(share.interval[1] if share.interval else None)} of such "
            f"{unit}s may still do so. Cues inside a box are not what this test finds.{wrong}{left_out}"
        )
    return (
        f"That is {percent(share.rate)} {interval(share.interval, 100, 1)} of the {unit}s that could be tested."
        f"{counted} What lies outside the boxes is worth {limits['outside_effect']:.2f} or more of the probability "
        "of their label: the mean of what is lost without it, and of what it gives to objects of other classes. "
        f"Either the model uses a shortcut there, or part of the object has no box.{wrong}{left_out}"
    )


def next_steps(contents: Contents) -> tuple[Step, ...]:
    """What to do with the run, in order."""
    run = shlex.quote(contents.url)
    counts = {gallery.rule.id: gallery.count for gallery in contents.rules}
    standing = list(contents.summary.standing_out)
    hits, wrong, unit = contents.summary.reliance.hits, flagged_by_prediction(contents.summary), contents.summary.unit
    flagged = hits + wrong
    sanity = [found for found in contents.summary.sanity if found.method == contents.method and not found.outdated]
    steps = []
    if any(found.fault for found in sanity):
        steps.append(Step("Do not read the maps yet", "they change too little when the network's weights are random"))
    if not (contents.summary.reliance.n or contents.summary.untestable or contents.summary.boxed):
        steps.append(Step("Give the dataset boxes", "without them inside and outside cannot be told apart"))
    if flagged:
        them = "it is" if flagged == 1 else "each is"
        by_label = counted(hits, f"flagged {unit}") if hits else ""
        by_prediction = f"{counted(wrong, unit)} flagged by a wrong prediction" if wrong else ""
        steps.append(
            Step(
                f"Look at the {' and '.join(filter(None, (by_label, by_prediction)))}",
                f"decide whether {them} a shortcut or a part of the object that has no box",
                f"sightline app {run}",
            )
        )
    if standing:
        named = ", ".join(standing[:4]) + (f" and {len(standing) - 4} more" if len(standing) > 4 else "")
        steps.append(
            Step(
                f"Where it is a shortcut, break it in: {named}",
                "train on images without the cue, and on other classes with it, then compare the two runs",
                f"sightline compare {run} NEW_RUN",
            )
        )
    doubts = [
        counted(counts[rule], one, several)
        for rule, one, several in (
            ("missing_box", "image that may lack a box", "images that may lack a box"),
            ("box_suspect", "box that may be in the wrong place", "boxes that may be in the wrong place"),
            ("label_suspect", "suspect label", "suspect labels"),
        )
        if counts.get(rule)
    ]
    if doubts:
        app = "" if flagged else f"sightline app {run}"
        them = " and ".join(filter(None, (", ".join(doubts[:-1]), doubts[-1])))
        steps.append(Step(f"Check {them}", "what is confirmed is a fault of the annotation", app))
    if not sanity:
        steps.append(
            Step("Check that the maps depend on the network", "this run's were not checked", f"sightline sanity {run}")
        )
    if contents.summary.reliance.n and not flagged:
        steps.append(Step("Do not take this for a proof", "cues inside the boxes would not have been found"))
    return tuple(steps)
