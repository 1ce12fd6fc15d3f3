"""What the terms of a finished run mean, each in a line: the summary and the report say it in the same words."""

from __future__ import annotations

Terms = tuple[tuple[str, str], ...]
"""(term, what it means), in the order in which they are read."""

FAITHFULNESS: Terms = (
    ("AD", "average drop: what p of the class loses when all but the map's part is black"),
    ("AI", "average increase: images where p rises instead"),
    ("AG", "average gain: what p rises by, as a share of what was left to rise"),
)

LOCALISATION: Terms = (
    ("energy", "share of the map inside the boxes; null: the same of a map that looks everywhere"),
    ("pointing", "images whose map has its maximum in a box"),
    ("LE, OM", "1 - IoU of the map's box with the nearest box, lower is better; OM counts a wrong prediction as 1"),
    ("F1", "of the map in the boxes: how much of each lies in the other; the others: docs/definitions.md"),
)

FINDINGS = "a flag says that the class rests on something outside, a description only helps to look"

Q = "the share of claims at least as sure that chance alone makes"

CLASSES: Terms = (
    ("measured", "images with a map and a box of their label, of which enough of the view lies outside"),
    ("rest on outside", "images with the flag: what lies outside the boxes is worth half of the class or more"),
    ("q", f"whether that is more often than in the other classes: {Q}"),
    ("map misses", "images whose map has its maximum in no box; by chance: a random point would"),
    ("map in boxes", "share of the map inside the boxes, times what chance puts there; the median"),
    ("flags", "how often an image got a flag: for its label, or for a wrong prediction"),
)

RANKING: Terms = (
    ("AUROC", "share of pairs of an image of the class and one without it in which the first has the higher p"),
    ("AP", "average precision: mean, over the images of the class, of its share among those of as high a p"),
)

UNMEASURED = {
    "no_box": "without a box of their label",
    "box_outside_view": "with no box in the view",
    "box_uninformative": "with boxes over more than 80% of the view",
    "no_class": "without a label that the model knows",
    "other_sample": "of which the prediction is another class of the same image",
    "unreadable": "unreadable",
    "degenerate_map": "with a constant map",
    "non_finite": "with numbers that are not finite",
}
"""Why images are not measured against their boxes, by status."""

CUES = "groups of images that rely on the same kind of thing outside their boxes"

MAP_OF_THE_OUTSIDE = "which part outside the boxes costs the class most when hidden; how much it costs, p says"
