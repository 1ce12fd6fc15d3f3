"""Two maps of 8 x 8 px through the whole stage: every score worked out with pencil and paper.

The images are 16 x 16 px, squashed to a view of 8 x 8, so a box of the view has twice its corners in the image. The
first map looks at its box with one stray pixel, and its prediction is right; the second ties between inside and
outside, and its prediction is wrong.
"""

from __future__ import annotations

from math import hypot, log, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.score import localization, spread
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run
from storage.tables import SCORES
from tests.stages.score.runs import box, explained, make_run, sample

ON_THE_BOX = """
    . . . . . . . .
    . h X h . . . .
    . h h h . . . .
    . h h . . . . .
    . . . . . . . .
    . . . . . . h .
    . . . . . . . .
    h . . . . . . .
"""
# A is columns 1 to 3 of rows 1 and 2, 6 px; B columns 5 to 7 of rows 4 to 7, 12 px.
A_AND_B = [box(2, 2, 8, 6), box(10, 8, 16, 16)]
TIED = """
    . . . . . . . .
    . . . . X . . .
    . . . . . . . .
    . . . X . . . .
    . . . . . . . .
    . . . . . . . .
    . . . . . . h h
    . . . . . . . .
"""
# C is columns 2 to 5 of rows 2 to 4, 12 px.
C = [box(4, 4, 12, 10)]

DIAGONAL = hypot(8, 8)

BY_HAND: list[dict[str, Any]] = [
    {
        # p .8 -> .6 under the mask; hidden outside .5, inside .2, at random .7.
        "ad": 0.25,
        "ai": 0,
        "ag": 0,
        "outside_effect": (0.8 - 0.3 + 0.6 - 0.2) / 2,  # p without the surroundings: .1 and .5
        "outside_room": (1 - 0.3 + 1 - 0.2) / 2,
        "drop_outside": 0.3,
        "drop_outside_logit": log(4),  # odds 4 and 1
        "drop_inside": 0.6,
        "drop_random": 0.1,
        "context_reliance": 0.25,  # .2 of .6 + .2
        # The mass is 1 + 9 halves = 5.5: in A 3.5, in B .5.
        "energy_in": 8 / 11,
        "box_area_frac": 18 / 64,
        "energy_lift": (8 / 11) / (18 / 64),
        "energy_logodds": log(8 / 3) - log(18 / 46),
        # The boxes together span 7 x 7 px and have three other places: one to the left, one up, both; they hold 3,
        # 2.5 and 2 of the map, less than here.
        "energy_null_pct": 1,
        "pointing_hit": True,
        "pointing_hit_tol": True,
        # The largest component spans columns 1 to 3 of rows 1 to 3, 9 px, and A lies in it.
        "iou_best": 6 / 9,
        "localization_error": 3 / 9,
        "official_metric": 3 / 9,
        "pixel_f1": 2 * 4 / (5.5 + 18),
        # x: 5 + 3.75 + 2 + 3.25 + .25 = 14.25 by rows, y: 3 + 3.75 + 3.5 + 2.75 + 3.75 = 16.75; A's centre is (2.5, 2).
        "centroid_distance": hypot(14.25 / 5.5 - 2.5, 16.75 / 5.5 - 2) / DIAGONAL,
        "saliency_metric": log(9 / 64) - log(0.5),
        "border_energy": 0.5 / 5.5,  # the frame is one pixel wide: the stray pixel alone
        # One pixel has 2/11 of the mass, nine have 1/11.
        "entropy": (2 / 11 * log(11 / 2) + 9 / 11 * log(11)) / log(64),
        "box_kept_frac": 1,
        "n_boxes": 2,
        "status": "ok",
    },
    {
        # p .5 -> .75 under the mask; hidden outside .1, inside .5, at random .5.
        "ad": 0,
        "ai": 1,
        "ag": 0.5,
        "outside_effect": (0.5 - 0.3 + 0.6 - 0.2) / 2,
        "outside_room": (1 - 0.3 + 1 - 0.2) / 2,
        "drop_outside": 0.4,
        "drop_outside_logit": log(9),  # odds 1 and 1/9
        "drop_inside": 0,
        "drop_random": 0,
        "context_reliance": 0.75,  # .3 of .1 + .3
        "energy_in": 1 / 3,
        "box_area_frac": 12 / 64,
        "energy_lift": (1 / 3) / (12 / 64),
        "energy_logodds": log(1 / 2) - log(12 / 52),
        # The box holds 1 here. Of the 29 others of its 5 x 6 places 11 hold less (from the top row of places down
        # 1, 0, 1, 1, 4, 4), 15 as much (4, 2, 3, 4, 1, 1), and 3 hold both maxima.
        "energy_null_pct": (11 + 15 / 2) / 29,
        # The maximum outside has its centre at (4.5, 1.5), half a pixel above C.
        "pointing_hit": False,
        "pointing_hit_tol": True,
        # The largest component is the pair at the lower right, away from C.
        "iou_best": 0,
        "localization_error": 1,
        "official_metric": 1,
        "pixel_f1": 2 * 1 / (3 + 12),
        # x: 4.5 + 3.5 + 3.25 + 3.75 = 15, y: 1.5 + 3.5 + 6.5 = 11.5; C's centre is (4, 3.5).
        "centroid_distance": hypot(15 / 3 - 4, 11.5 / 3 - 3.5) / DIAGONAL,
        "saliency_metric": log(0.05) - log(0.25),  # 2 of 64 px count as a twentieth
        "border_energy": 0.5 / 3,
        "entropy": (2 / 3 * log(3) + 1 / 3 * log(6)) / log(64),
        "box_kept_frac": 1,
        "n_boxes": 1,
        "status": "ok",
    },
]


def drawn(picture: str) -> np.ndarray:
    rows = [line.split() for line in picture.split("\n") if line.strip()]
    return np.array([[{".": 0.0, "h": 0.5, "X": 1.0}[cell] for cell in row] for row in rows], dtype=np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    probes: list[dict[str, Any]] = [
        {"p_full": 0.8, "p_saliency": 0.6, "p_hide_outside": 0.5, "p_hide_inside": 0.2, "p_hide_random": 0.7}
        | {"p_saliency_in_box": 0.6, "p_saliency_in_context": 0.2, "p_crop": 0.5},
        {"p_full": 0.5, "p_saliency": 0.75, "p_hide_outside": 0.1, "p_hide_inside": 0.5, "p_hide_random": 0.5}
        | {"p_saliency_in_box": 0.1, "p_saliency_in_context": 0.3, "p_crop": 0.25, "pred_index": 1},
    ]
    rows = [explained(row, **own) for row, own in enumerate(probes)]
    maps = {"label": [drawn(ON_THE_BOX), drawn(TIED)]}
    made = make_run(tmp_path_factory.mktemp("by_hand"), [sample(0, A_AND_B), sample(1, C)], rows, maps)
    with pytest.MonkeyPatch.context() as patch:  # a tolerance and a frame of one pixel
        patch.setattr(localization, "POINTING_TOLERANCE", 1)
        patch.setattr(spread, "BORDER_WIDTH", 1 / 8)
        score(made, ScoreSettings(box_accuracy=True), workers=1)
    return made


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", sorted(BY_HAND[0]))
def test_a_score_is_what_it_is_on_paper(run: Run, row: int, name: str) -> None:
    found, expected = run.table("scores")[name][row].as_py(), BY_HAND[row][name]
    exact = isinstance(expected, bool | str)
    assert found == (expected if exact else pytest.approx(expected, rel=1e-6, abs=1e-7))


def test_no_score_is_left_out() -> None:
    numbers = {field.name for field in SCORES if not pa.types.is_string(field.type)} - {"row", "evaluable"}
    assert set(BY_HAND[0]) == set(BY_HAND[1]) == numbers | {"status"}


def test_the_metrics_of_the_dataset_are_what_they_are_on_paper(run: Run) -> None:
    found = {row["metric"]: row for row in run.table("metrics").to_pylist()}
    # Below 1/2 the first map's box has IoU 2/3, from there on its maximum alone 1/6; the second map finds nothing.
    for metric in ("box_acc", "max_box_acc_v2"):
        shares = [found[f"{metric}_{level}"]["value"] for level in (30, 50, 70)]
        assert shares == [0.5, 0.5, 0]
        assert found[metric]["value"] == pytest.approx(1 / 3)
    assert found["energy_in"]["value"] == pytest.approx((8 / 11 + 1 / 3) / 2)
    assert found["official_metric"]["value"] == pytest.approx((1 / 3 + 1) / 2)
    assert (found["ad"]["value"], found["ai"]["value"], found["ag"]["value"]) == pytest.approx((0.125, 0.5, 0.25))
    assert found["centroid_distance"]["value"] == pytest.approx(
        (sqrt(533) / 22 + sqrt(10) / 3) / 2 / (8 * sqrt(2)), rel=1e-6
    )
