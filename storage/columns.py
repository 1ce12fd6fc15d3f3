"""What is known of each column of ``explain`` and ``scores``: what it is, what it needs, which end is better, where it
is shown.

The schemas of the two tables are made from these entries, and so is every list of columns elsewhere: what a corrected
box clears, what is compared, averaged or shown in the App's panel. The entries are plain data
without Arrow, so that the kernels can read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["real", "integer", "index", "flag", "text", "region", "vector", "probabilities"]
"""real, integer and flag are numbers of a sample; an index names a class; a region is a box in px of the image; a
vector has a number a channel of the layer, probabilities one a class; both stay out of SQL."""

Need = Literal["boxes", "mask", "place"]
"""What a column is undefined without. boxes: a ground-truth box. mask: a map that is not zero, since the network is
shown the image under it. place: a map that is not constant, since the column asks where it is highest."""

PROBABILITY = "[0, 1]"


@dataclass(frozen=True)
class Column:
    """A column of ``explain`` or ``scores``, or a metric of the whole dataset."""

    name: str
    description: str
    kind: Kind = "real"
    range: str = PROBABILITY
    unit: str = ""
    needs: frozenset[Need] = frozenset()
    better: Literal["lower", "higher", ""] = ""
    """Which end is a better map, or a model that needs less of what lies outside the boxes; empty where neither is."""
    compared: bool = False
    """`sightline compare` shows its change between two runs."""
    averaged: bool = False
    """The table ``metrics`` holds its mean."""
    short: str = ""
    """Its heading in the summary's table of localisation; empty where that leaves it out."""
    words: str = ""
    """Its name where the report sets methods side by side; empty where that leaves it out."""
    caption: str = ""
    """What the network saw for this probe, where the App's panel shows it; empty where that leaves it out."""

    @property
    def is_number(self) -> bool:
        """Whether it holds a number of a sample, flags included."""
        return self.kind in ("real", "integer", "flag")

    @property
    def is_share(self) -> bool:
        """Whether its values are 0 and 1, so that its mean is a share."""
        return self.kind == "flag" or self.range == "{0, 1}"

    @property
    def is_percent(self) -> bool:
        """Whether people read it in percent."""
        return self.words.endswith("%")


def columns_of(*tables: str) -> tuple[Column, ...]:
    """The entries of some of the tables ``explain`` and ``scores`` and of ``metrics``, in that order."""
    return tuple(column for table in tables for column in COLUMNS[table])


def needing(need: Need) -> tuple[str, ...]:
    """Columns of ``explain`` that are undefined without this."""
    return tuple(column.name for column in COLUMNS["explain"] if need in column.needs)


_BOXES: frozenset[Need] = frozenset({"boxes"})
_MASK: frozenset[Need] = frozenset({"mask"})
_PLACE: frozenset[Need] = frozenset({"place"})

_BLACK = "the rest is black in pixel space"
_BLUR = "replaced by a Gaussian blur of the image, sigma = 10% of the view's side"

# fmt: off
_EXPLAIN = (
    Column("class_index", "Index of the explained class.", "index", ""),
    Column("status", "Whether there is a map.", "text", "ok | unreadable | no_class | degenerate_map | non_finite"),
    Column("reason", "Why there is none, in words.", "text", ""),
    Column("pred_index", "Class of highest probability on the whole view.", "index", ""),
    Column("pred_prob", "Probability of that class."),
    Column("class_probabilities", "p of every class on the whole view, where classes do not exclude each other; in the "
        "row of the first target, null in the others; not in SQL.", "probabilities"),
    Column("p_full", "p of the explained class on the whole view.", compared=True,
        caption="whole view"),
    Column("p_saliency", f"p on the view times the map S; {_BLACK}.", needs=_MASK,
        caption="what lights up (S)"),
    Column("p_box", f"p inside the ground-truth boxes; {_BLACK}.", needs=_BOXES,
        caption="boxes alone"),
    Column("p_context", "p outside the ground-truth boxes; the boxes are black in pixel space.", needs=_BOXES,
        caption="all but the boxes"),
    Column("p_saliency_in_box", f"p on S inside the boxes; {_BLACK}.", needs=_BOXES | _MASK,
        caption="S in the boxes"),
    Column("p_saliency_in_context", f"p on S outside the boxes; {_BLACK}.", needs=_BOXES | _MASK,
        caption="S outside the boxes"),
    Column("p_hide_outside", "p with a part outside the boxes hidden: the lowest of p_hide_map, p_hide_outside_map, "
        "p_hide_second and p_hide_scan.", needs=_BOXES, caption="costliest tenth outside hidden"),
    Column("hide_locator", "Whose proposal that was; ties go to the method.", "text",
        "the method | outside_map | grad_cam | scan", needs=_BOXES),
    Column("p_hide_map", f"p with the 10% of the view's pixels outside the boxes where S is highest {_BLUR}.",
        needs=_BOXES | _PLACE),
    Column("p_hide_outside_map", "The same with the map of what outside the boxes carries the class in place of S; "
        "null unless explain.outside.", needs=_BOXES),
    Column("p_hide_second", "The same with a Grad-CAM of the same layer in place of S; null if that is constant.",
        needs=_BOXES | _PLACE),
    Column("p_hide_scan", "Lowest p over 25 windows, each at most 10% of the view, with what the window holds "
        f"outside the boxes {_BLUR}; null unless explain.scan.", needs=_BOXES),
    Column("scan_box", "The window of p_hide_scan, upright image.", "region", "", "px", needs=_BOXES),
    Column("hidden_box", "Box of the largest connected part that p_hide_outside hid, upright image.", "region", "",
        "px", needs=_BOXES),
    Column("outside_features", "The layer's feature maps averaged under that proposal's map outside the boxes, or over "
        "the random tenth where hiding it costs no more than that; one number a channel; not in SQL.", "vector", "",
        needs=_BOXES),
    Column("p_hide_inside", f"p with the most salient 10% of the view's pixels inside the boxes {_BLUR}.",
        needs=_BOXES | _PLACE),
    Column("p_hide_random", f"p with a seeded random blob of 10% of the view's pixels outside the boxes {_BLUR}.",
        needs=_BOXES, caption="random tenth outside hidden"),
    Column("p_hide_context", f"p with all that lies outside the boxes {_BLUR}.", needs=_BOXES,
        caption="all outside hidden"),
    Column("p_hide_context_neutral", "p with all that lies outside the boxes in the mean colour of the training set.",
        needs=_BOXES, caption="all outside in one colour"),
    Column("p_hide_far", f"p with all that lies more than 16 px from the boxes {_BLUR}.", needs=_BOXES,
        caption="all far from the boxes hidden"),
    Column("p_transplant", "Mean p with objects of other classes in the place of the boxes' content: of up to 4 "
        "donors, of the classes that are most taken for this one.", needs=_BOXES,
        caption="another object in the boxes"),
    Column("p_transplant_null", "Mean p of the class on those objects alone; the rest, but for other classes' objects, "
        "is in the mean colour of the training set.", needs=_BOXES, caption="that object alone"),
    Column("p_blank", "p of the class on a view of the mean colour of the training set, which shows nothing."),
    Column("p_crop", "p on the crop of the largest component of S > mean(S), resized to the view.",
        needs=_PLACE),
    Column("p_crop_outside", "p on the crop of the heaviest component of S > mean(S) outside the boxes, resized to "
        "the view; what the crop holds of the boxes is black.", needs=_BOXES | _PLACE),
    Column("pred_crop_outside", "Class of highest probability on that crop.", "index", "", needs=_BOXES | _PLACE),
    Column("crop_outside_box", "Where that crop is, upright image.", "region", "", "px", needs=_BOXES | _PLACE),
    Column("insertion", "Area under RISE's insertion curve; null unless explain.curves. Higher is better.",
        needs=_PLACE, better="higher", compared=True, averaged=True,
        words="insertion, area under the curve"),
    Column("deletion", "Area under RISE's deletion curve; null unless explain.curves. Lower is better.",
        needs=_PLACE, better="lower", compared=True, averaged=True,
        words="deletion, area under the curve"),
    Column("image_features", "The layer's feature maps averaged over the view, one number a channel; in the first "
        "of a sample's rows that has a map, null in the others; not in SQL.", "vector", ""),
    Column("objective_start", "Objective at the uniform weights, before the first step.", range="", unit="logit"),
    Column("objective_best", "Objective of the best iterate, whose map is stored.", range="", unit="logit"),
    Column("iterations", "Steps taken; null for methods that do not iterate.", "integer", ">= 0"),
)
# fmt: on


def _score(
    name: str,
    description: str,
    *,
    kind: Kind = "real",
    range: str = PROBABILITY,
    unit: str = "",
    boxes: bool = True,
    better: Literal["lower", "higher", ""] = "",
    compared: bool = True,
    short: str = "",
    words: str = "",
) -> Column:
    """A column of ``scores`` that has a mean; ``boxes``: it is undefined without a ground-truth box."""
    return Column(
        name,
        description,
        kind,
        range,
        unit,
        _BOXES if boxes else frozenset(),
        better,
        compared,
        True,
        short,
        words,
    )


# fmt: off
_SCORES = (
    Column("status", "Whether the scores are defined.", "text", "ok | other_sample | no_box | box_outside_view | "
        "box_uninformative | a status of `explain`"),
    Column("reason", "Why not, in words.", "text", ""),
    _score("ad", "Average drop: max(0, p_full - p_saliency) / p_full. Lower is better.", boxes=False,
        better="lower", words="average drop (AD), %"),
    _score("ai", "Average increase: 1 if p_saliency > p_full, else 0. Higher is better.",
        range="{0, 1}", boxes=False, better="higher", words="average increase (AI), %"),
    _score("ag", "Average gain: max(0, p_saliency - p_full) / (1 - p_full); null where p_full is 1. Higher is "
        "better.", boxes=False, better="higher", words="average gain (AG), %"),
    _score("energy_in", "Share of the map's mass inside the boxes, of what lies on no other class's object. A uniform "
        "map scores box_area_frac.",
        better="higher", short="energy", words="map in the boxes, %"),
    _score("box_area_frac", "Area of the boxes' union in the view beside other classes' objects: null of energy_in.",
        compared=False, short="null"),
    _score("energy_lift", "energy_in / box_area_frac; 1 for a map that looks everywhere.",
        range=">= 0", better="higher", words="map in the boxes, times chance"),
    _score("energy_logodds", "logit(energy_in) - logit(box_area_frac), both clamped to [.01, .99].",
        range="[-9.2, 9.2]", better="higher"),
    _score("energy_null_pct", "Percentile of energy_in among the same boxes moved elsewhere in the view (steps of "
        "1/56 of its side; ties half).", better="higher"),
    _score("outside_effect", "What lies outside the boxes is worth to the class: the mean of what is lost without it, "
        "p_full - (p_hide_context_neutral + p_hide_far) / 2, and of what it gives to other objects, p_transplant - "
        "p_transplant_null.", range="[-1, 1]", better="lower"),
    _score("outside_room", "What outside_effect can be at most where p_full is 1: the mean of 1 - p_blank and 1 - "
        "p_transplant_null.", compared=False),
    _score("drop_outside", "p_full - p_hide_outside: what hiding the salient part outside costs.",
        range="[-1, 1]", better="lower"),
    _score("drop_outside_logit", "The same as a difference of log-odds.", range="", unit="logit",
        better="lower"),
    _score("drop_inside", "p_full - p_hide_inside.", range="[-1, 1]"),
    _score("drop_random", "p_full - p_hide_random: the matched null of drop_outside.", range="[-1, 1]"),
    _score("pointing_hit", "At least half of the map's maximum, its largest connected plateau, lies inside a box; null "
        "where that covers more than a twentieth of the view or lies on another class's object.", kind="flag", range="",
        better="higher", short="pointing", words="maximum in a box, %"),
    _score("pointing_hit_tol", "At least half of the map's maximum lies within 15 px of a box.",
        kind="flag", range="", better="higher"),
    _score("localization_error", "1 - highest IoU of the map's box with a ground-truth box (LE).",
        better="lower", short="LE"),
    _score("official_metric", "The same, and 1 where the prediction is wrong (OM).", better="lower",
        short="OM"),
    _score("pixel_f1", "Harmonic mean of the map's mass inside the boxes over its mass, and over the boxes' area.",
        better="higher", short="F1"),
    _score("iou_best", "Highest IoU of the map's box with a ground-truth box.", better="higher"),
    _score("centroid_distance", "Distance of the map's centre of mass from the nearest of the boxes' centres and "
        "their union's.", unit="diagonal of the view", better="lower"),
    _score("saliency_metric", "log max(.05, area of the map's box) - log p_crop (SM). Lower is better.",
        range="", unit="nat", boxes=False, better="lower"),
    _score("context_reliance", "p_saliency_in_context / (p_saliency_in_box + p_saliency_in_context)."),
    _score("box_kept_frac", "Share of the boxes' area that the view kept.", compared=False),
    _score("border_energy", "Share of the map's mass in the outer frame, 5% of the side wide; .19 for a uniform map.",
        boxes=False),
    _score("entropy", "Entropy of the map as a distribution, over its maximum.", boxes=False),
    Column("n_boxes", "Ground-truth boxes of the label in view.", "integer", ">= 0"),
    Column("evaluable", "Status ok, a box in view and box_area_frac <= .8.", "flag", ""),
)
# fmt: on

# fmt: off
_METRICS = (
    Column("box_acc", "Share of images whose map's box fits a ground-truth box, at the one threshold that suits all "
        "best.", better="higher", short="BoxAcc", words="box accuracy (BoxAcc), %"),
    Column("max_box_acc_v2", "The same with the boxes of every component of the map.", better="higher",
        short="MaxBoxAcc V2", words="box accuracy (MaxBoxAccV2), %"),
)
# fmt: on
"""Metrics of the whole dataset, which no sample has."""

COLUMNS = {"explain": _EXPLAIN, "scores": _SCORES, "metrics": _METRICS}
