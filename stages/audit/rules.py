"""The rules of the audit: what each looks for, what it means, and the numbers that are its evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from stages.audit.settings import THRESHOLD, AuditSettings, CustomRule, fill_thresholds
from stages.words import in_words
from storage.errors import UserError

_PLACEHOLDER = re.compile(r"\{(\w+)(:%)?\}")


@dataclass(frozen=True)
class Rule:
    """One thing that the audit looks for, among the evaluable rows of its targets.

    ``when`` (boolean) and ``severity`` (a number, clipped to [0, 1]; null counts as 0) are SQL over the view
    ``audit``, in which ``{name}`` is a threshold of :class:`AuditSettings`. ``reason`` is a sentence in which
    ``{column}`` is a value of the row and ``{column:%}`` a share in percent. ``evidence`` names the columns
    behind the finding. Only rules of kind ``flag`` enter precision and rank classes; a
    ``description`` filters and explains.
    """

    id: str
    kind: Literal["flag", "description"]
    title: str
    meaning: str
    when: str
    severity: str
    evidence: tuple[str, ...]
    reason: str
    targets: tuple[str, ...] = ("label",)
    unless_cue: bool = False
    """Whether it is left out of samples in a cue that is not weak: what lies outside is known to recur there."""

    def condition(self, thresholds: Mapping[str, float]) -> str:
        """``when`` with the thresholds filled in; raises UserError for a threshold that does not exist."""
        return self._fill(self.when, thresholds)

    def severity_sql(self, thresholds: Mapping[str, float]) -> str:
        """SQL of the severity in [0, 1]."""
        # A constant such as .5 is a decimal number to DuckDB, which a column of floats does not take.
        return f"greatest(0, least(1, coalesce(({self._fill(self.severity, thresholds)})::DOUBLE, 0)))"

    def columns(self) -> tuple[str, ...]:
        """Columns of ``audit`` that the evidence and the reason need, each once."""
        named = (match[1] for match in _PLACEHOLDER.finditer(self.reason))
        return tuple(dict.fromkeys((*self.evidence, *named)))

    def sentence(self, values: Mapping[str, Any]) -> str:
        """The reason in words, with the numbers of one row."""
        return _PLACEHOLDER.sub(lambda match: in_words(values[match[1]], percent=bool(match[2])), self.reason)

    def _fill(self, expression: str, thresholds: Mapping[str, float]) -> str:
        return fill_thresholds(expression, thresholds, f"audit.rules, rule {self.id!r}")


ON_BOX = "pointing_hit AND energy_lift >= {on_box_lift}"
ELSEWHERE = "NOT pointing_hit AND energy_lift < {on_box_lift}"
RELIES = "outside_effect >= {outside_effect} OR CASE WHEN outside_room < {outside_effect} THEN NULL ELSE FALSE END"
"""Null, which is neither a flag nor the lack of one, where the effect could not have reached the threshold."""
_WORTH = (
    "p({target_label}) is {p_full}, {p_hide_context_neutral} with all that lies outside the boxes in one colour and "
    "{p_hide_far} with it blurred from 16 px on; objects of other classes have {p_transplant} of {target_label} in "
    "these surroundings, {p_transplant_null} alone; with the costliest tenth outside hidden ({hide_locator}) p is "
    "{p_hide_outside}, with a random tenth {p_hide_random}"
)
_EFFECT = (
    "outside_effect", "outside_room", "p_full", "p_hide_context_neutral", "p_hide_far", "p_transplant",
    "p_transplant_null", "p_blank", "drop_outside", "drop_random", "p_hide_outside", "p_hide_random", "hide_locator",
    "energy_lift",
)  # fmt: skip
_BESIDE = "greatest(p_crop_outside - p_box, p_hide_far - greatest(p_box, p_hide_context_neutral))"
"""What the class has beside the boxes and not in them."""
_PLACE = ("pointing_hit", "energy_in", "box_area_frac", "energy_lift", "drop_outside")

FLAG = "relies_on_outside"
"""The rule whose rate ranks the classes and makes the headline."""

RULES: tuple[Rule, ...] = (
    Rule(
        id=FLAG,
        kind="flag",
        title="Relies on what is outside the boxes",
        meaning=(
            "What lies outside the boxes is worth much of the class: the class is lost without it, and objects of "
            "other classes gain it from there. Either the model uses a shortcut there, or part of the object has no "
            "box."
        ),
        when=RELIES,
        severity="outside_effect",
        evidence=_EFFECT,
        reason=_WORTH,
        targets=("label", "predicted"),
    ),
    Rule(
        id="may_rely_on_outside",
        kind="description",
        title="Leans on what is outside the boxes, less than a flag needs",
        meaning=(
            "What lies outside the boxes is worth something to the class, but less than a flag needs: some of the "
            "class is lost without it, or objects of other classes gain some from there. Review these when the flagged "
            "ones turn out to be right."
        ),
        when=f"outside_effect >= {{outside_review}} AND NOT coalesce({RELIES}, FALSE)",
        severity="outside_effect",
        evidence=_EFFECT,
        reason=_WORTH,
        targets=("label", "predicted"),
    ),
    Rule(
        id="needs_context",
        kind="description",
        title="Lost without its surroundings, which alone do not give the class",
        meaning=(
            "The class is lost when everything outside the boxes is blurred, but its surroundings do not give it to "
            "objects of other classes: the object is cut off by its box, or hard to tell by itself."
        ),
        when=f"p_full - p_hide_context >= {{needs_context}} AND NOT coalesce({RELIES}, FALSE)",
        severity="p_full - p_hide_context",
        evidence=("p_full", "p_hide_context", "drop_outside", "drop_random", "box_area_frac"),
        reason=(
            "with all that lies outside the boxes blurred, p({target_label}) falls from {p_full} to {p_hide_context}; "
            "hiding the tenth of the view that costs most takes {drop_outside}"
        ),
        targets=("label", "predicted"),
    ),
    Rule(
        id="missing_box",
        kind="description",
        title="Something outside the boxes looks like the class",
        meaning=(
            "The part outside the boxes that lights up most is taken for the class when it is shown alone, by far more "
            "than an empty picture is, and no cue holds the image. If the object is there, its box is missing; if not, "
            "the class is known by its surroundings."
        ),
        when=("p_crop_outside - p_blank >= {missing_box} * (1 - p_blank) AND pred_crop_outside = explain_class_index"),
        severity="p_crop_outside",
        evidence=("p_crop_outside", "p_blank", "crop_outside_box", "p_full", *_PLACE),
        reason=(
            "the part outside the boxes that lights up most, shown alone, is taken for {target_label} with p "
            "{p_crop_outside}; p on an empty view is {p_blank}, on the whole view {p_full}, and hiding something "
            "outside costs {drop_outside}"
        ),
        unless_cue=True,
    ),
    Rule(
        id="box_suspect",
        kind="description",
        title="The box may be in the wrong place",
        meaning=(
            "The class is seen beside the box and not in it, and no cue holds the image: the part outside that lights "
            "up most gives more of it than the box does, or the box gives it only with 16 px more on each side. Look "
            "whether the box lies on the object; one that is too large is not found."
        ),
        when=f"{_BESIDE} >= {{box_suspect}}",
        severity=_BESIDE,
        evidence=("p_box", "p_crop_outside", "p_hide_far", "p_hide_context_neutral", "p_full", *_PLACE),
        reason=(
            "shown alone, the boxes have p({target_label}) {p_box} and the part outside that lights up most "
            "{p_crop_outside}; with 16 px around the boxes left as they are, and the rest blurred, p is {p_hide_far}"
        ),
        unless_cue=True,
    ),
    Rule(
        id="label_suspect",
        kind="description",
        title="The label may be wrong",
        meaning=(
            "The label's class has next to no probability, and another class has most of it while its own "
            "map sits on the box. Check the label first, then whether the two classes can be told apart at "
            "all."
        ),
        when=f"NOT correct AND p_label <= {{suspect_label}} AND p_full >= {{suspect_other}} AND {ON_BOX}",
        severity="p_full - p_label",
        evidence=("p_label", "p_full", "pred_label", *_PLACE),
        reason=(
            "p({label}) is {p_label} and p({pred_label}) is {p_full}, with {energy_in:%} of the map of "
            "{pred_label} in the boxes, which cover {box_area_frac:%} of the view"
        ),
        targets=("predicted",),
    ),
    Rule(
        id="wrong_but_on_object",
        kind="description",
        title="Wrong, but looking at the object",
        meaning=(
            "The prediction is wrong although its map sits on the box. The classes are easily confused, or "
            "the label is wrong."
        ),
        when=f"NOT correct AND {ON_BOX}",
        severity="pred_prob",
        evidence=("pred_prob", "p_label", "pred_label", *_PLACE),
        reason=(
            "taken for {pred_label} (p {pred_prob}; p({label}) is {p_label}) with {energy_in:%} of the map "
            "in the boxes, which cover {box_area_frac:%} of the view"
        ),
        targets=("predicted",),
    ),
    Rule(
        id="wrong_and_elsewhere",
        kind="description",
        title="Wrong, and looking elsewhere",
        meaning=(
            "The prediction is wrong and its map lies outside the boxes. The model took something in the "
            "background for another class."
        ),
        when=f"NOT correct AND {ELSEWHERE}",
        severity="pred_prob * (1 - energy_in)",
        evidence=("pred_prob", "p_label", "pred_label", *_PLACE),
        reason=(
            "taken for {pred_label} (p {pred_prob}) with the map's maximum outside the boxes and "
            "{energy_in:%} of it inside, where a uniform map has {box_area_frac:%}"
        ),
        targets=("predicted",),
    ),
    Rule(
        id="looks_elsewhere_but_right",
        kind="description",
        title="Correct and confident, but looking elsewhere",
        meaning=(
            "The prediction is right and confident while its map lies outside the boxes. A shortcut looks "
            "like this, and so does a map that is merely off; the drop of p says which."
        ),
        when=f"correct AND pred_prob >= {{confident}} AND {ELSEWHERE}",
        severity="pred_prob * (1 - energy_in)",
        evidence=("pred_prob", *_PLACE),
        reason=(
            "right with p({label}) {pred_prob}, with {energy_in:%} of the map in the boxes, where a uniform "
            "map has {box_area_frac:%}; hiding what lights up outside costs {drop_outside}"
        ),
    ),
    Rule(
        id="misses_box",
        kind="description",
        title="The map points outside the boxes",
        meaning=(
            "The map's maximum lies in no box. This describes the map: it says nothing about what the model needs."
        ),
        when="NOT pointing_hit",
        severity="1 - energy_in",
        evidence=_PLACE,
        reason=(
            "the map's maximum lies in no box; {energy_in:%} of the map is inside, where a uniform map has "
            "{box_area_frac:%}"
        ),
    ),
    Rule(
        id="border_energy",
        kind="description",
        title="The map lights up the border",
        meaning=(
            "Much of the map lies in the outer frame of the view. Look for watermarks, captions, frames and padding."
        ),
        when="border_energy >= {border_energy}",
        severity="border_energy",
        evidence=("border_energy", *_PLACE),
        reason="{border_energy:%} of the map lies in the outer frame of the view",
    ),
    Rule(
        id="collapsed_map",
        kind="description",
        title="The map has collapsed to a point",
        meaning=(
            "Nearly all of the map lies in one small spot. Its place says little, and metrics of overlap are "
            "low whatever the spot is on."
        ),
        when="entropy <= {collapsed_entropy}",
        severity="1 - entropy",
        evidence=("entropy", *_PLACE),
        reason="the map's entropy is {entropy:%} of a uniform map's",
    ),
)


def flag_condition(settings: AuditSettings) -> str:
    """SQL of the rule :data:`FLAG` over the view ``audit``: null where its numbers are."""
    return next(rule for rule in RULES if rule.id == FLAG).condition(settings.thresholds())


def rules_of(settings: AuditSettings, columns: Mapping[str, Any] | tuple[str, ...]) -> tuple[Rule, ...]:
    """The shipped rules and the user's own, whose evidence is every one of ``columns`` that they mention.

    Raises UserError for an id that is taken, or a reason with a column that does not exist.
    """
    taken = {rule.id for rule in RULES}
    own = []
    for custom in settings.rules:
        if custom.id in taken:
            raise UserError(f"audit.rules, rule {custom.id!r}: the id is taken; give the rule another one")
        taken.add(custom.id)
        own.append(_checked(own_rule(custom, tuple(columns)), tuple(columns)))
    return (*RULES, *own)


def every_rule(settings: AuditSettings) -> tuple[Rule, ...]:
    """The shipped rules and the user's own, for their words; :func:`rules_of` checks them against a run."""
    return (*RULES, *map(own_rule, settings.rules))


def own_rule(custom: CustomRule, columns: tuple[str, ...] = ()) -> Rule:
    """A user's rule as one of the audit's, with those of ``columns`` that it mentions as its evidence."""
    words = re.findall(r"\w+", THRESHOLD.sub("", f"{custom.when} {custom.severity}"))
    mentioned = tuple(dict.fromkeys(word for word in words if word in columns))
    return Rule(
        id=custom.id,
        kind="description",
        title=custom.title,
        meaning=f"A rule of this project's own. It holds where {custom.when}.",
        when=custom.when,
        severity=custom.severity,
        evidence=mentioned,
        reason=custom.reason or f"{custom.title}: " + ", ".join(f"{name} {{{name}}}" for name in mentioned),
        targets=(custom.target,),
    )


def _checked(rule: Rule, columns: tuple[str, ...]) -> Rule:
    for name in rule.columns():
        if name not in columns:
            near = get_close_matches(name, columns, n=3)
            raise UserError(
                f"audit.rules, rule {rule.id!r}: `reason` names the column {name!r}, which `audit` does "
                f"not have" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
    return rule
