"""Every score of a batch, from its maps, boxes and probes: the columns of the table ``scores``, computed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.geometry import Boxes, largest_component_box
from stages.score import faithfulness, localization, nulls, spread
from stages.score.ratio import Maps, Values


def measure_maps(
    maps: Maps,
    coverage: Maps,
    boxes: Boxes,
    correct: Values,
    p_crop: Values,
    places: Boxes | None = None,
    others: Maps | None = None,
) -> dict[str, Values]:
    """Scores of maps (N, H, W) in [0, 1]: column name to (N,), NaN where undefined.

    ``coverage`` (N, H, W), ``boxes`` (N, K, 4) and ``places`` (N, M, 4), by default the boxes, and ``others``
    (N, H, W) are as in :mod:`stages.score.localization`; ``correct`` (N,) says whether the network's prediction is
    right (1, 0, NaN = unknown); ``p_crop`` (N,) is the probability of the explained class on the crop of the map's box.
    """
    pixels = maps.shape[1] * maps.shape[2]
    area = localization.box_area_frac(coverage, others)
    energy = localization.energy_in(maps, coverage, others)
    map_boxes = largest_component_box(maps)
    map_box_area = (map_boxes[:, 2:] - map_boxes[:, :2]).prod(axis=1) / pixels
    distance = localization.pointing_distance(maps, boxes if places is None else places, others)
    best = localization.iou_best(map_boxes, boxes)
    return {
        "energy_in": energy,
        "box_area_frac": area,
        "energy_lift": nulls.energy_lift(energy, area),
        "energy_logodds": nulls.energy_logodds(energy, area),
        "energy_null_pct": nulls.energy_null_pct(maps, coverage, nulls.GRID, others),
        "pointing_hit": localization.pointing_hit(distance),
        "pointing_hit_tol": localization.pointing_hit(distance, localization.POINTING_TOLERANCE),
        "localization_error": localization.localization_error(best),
        "official_metric": localization.official_metric(best, correct),
        "pixel_f1": localization.pixel_f1(maps, coverage, others),
        "iou_best": best,
        "centroid_distance": localization.centroid_distance(localization.counted(maps, others), coverage, boxes),
        "saliency_metric": faithfulness.saliency_metric(map_box_area, p_crop),
        "border_energy": spread.border_energy(maps, spread.BORDER_WIDTH),
        "entropy": spread.entropy(maps),
    }


def measure_probes(probes: Mapping[str, Values]) -> dict[str, Values]:
    """Scores of the probes alone, named as in the table ``explain``, (N,) each: column name to (N,)."""
    full, masked = probes["p_full"], probes["p_saliency"]
    return {
        "ad": faithfulness.average_drop(full, masked),
        "ai": faithfulness.average_increase(full, masked),
        "ag": faithfulness.average_gain(full, masked),
        "outside_effect": faithfulness.outside_effect(
            full,
            (probes["p_hide_context_neutral"] + probes["p_hide_far"]) / 2,
            probes["p_transplant"],
            probes["p_transplant_null"],
        ),
        "outside_room": faithfulness.outside_room(probes["p_blank"], probes["p_transplant_null"]),
        "drop_outside": faithfulness.drop(full, probes["p_hide_outside"]),
        "drop_outside_logit": faithfulness.drop_logit(full, probes["p_hide_outside"]),
        "drop_inside": faithfulness.drop(full, probes["p_hide_inside"]),
        "drop_random": faithfulness.drop(full, probes["p_hide_random"]),
        "context_reliance": faithfulness.context_reliance(probes["p_saliency_in_box"], probes["p_saliency_in_context"]),
    }


def zero(maps: Maps) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which maps (N, H, W) are zero everywhere: no mass to measure. False for a map with NaN."""
    return np.asarray(~maps.any(axis=(1, 2)))
