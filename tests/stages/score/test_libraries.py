"""The scores beside other libraries' definitions: the same where those are right, and how they differ where not.

Each library's rule is written out in a few lines. The rules of Quantus 0.6.0, torchcam 0.5.0 and grad-cam 1.5.7 were
run against the packages themselves, on the maps of these tests, and gave the numbers below; wsolevaluation is no
package, its rules are those of evaluation.py at commit 0c476cd1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure

from stages.geometry import ViewTransform
from stages.score.boxacc import THRESHOLDS, best_thresholds, count_found, threshold_ious
from stages.score.faithfulness import average_drop, average_gain, average_increase
from stages.score.localization import energy_in, pad_boxes, pointing_distance, pointing_hit
from stages.score.spread import entropy
from storage.maps import normalize, resize

VIEW = ViewTransform(8, 8, 8, 8, 1.0, 1.0, 0.0, 0.0)
BOX = np.array([[2.0, 2, 6, 4]])
INSIDE = VIEW.coverage(BOX)[None]

distinct_maps = st.permutations(range(64)).map(lambda order: np.array(order, np.float32).reshape(1, 8, 8) / 63)
maps_with_mass = hnp.arrays(np.float32, (1, 8, 8), elements=st.floats(0, 1, width=16)).filter(lambda m: m.sum() > 0.01)


class TestQuantus:
    @staticmethod
    def pointing_game(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """``PointingGame.evaluate_batch``: any of the highest pixels inside; "NaN if segmentation is empty"."""
        count = len(maps)
        a, s = maps.reshape(count, -1), mask.reshape(count, -1).astype(bool)
        hit = np.any(s * (a == a.max(axis=-1, keepdims=True)), axis=-1)
        hit[s.sum(axis=-1) == 0] = np.nan
        return hit

    @given(distinct_maps)
    def test_one_maximum_hits_or_misses_alike(self, maps: np.ndarray) -> None:
        ours = pointing_hit(pointing_distance(maps, pad_boxes([BOX])))
        assert ours.tolist() == self.pointing_game(maps, INSIDE).tolist()

    def test_an_empty_mask_is_a_hit_there_and_undefined_here(self) -> None:
        # The array of verdicts is boolean, and NaN written into it reads True.
        maps = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
        assert self.pointing_game(maps, np.zeros((1, 8, 8))).tolist() == [True]
        assert np.isnan(pointing_hit(pointing_distance(maps, pad_boxes([np.empty((0, 4))])))).all()

    def test_one_tied_maximum_inside_is_a_hit_there_and_none_here(self) -> None:
        tied = np.zeros((1, 8, 8), dtype=np.float32)
        tied[0, 2, 2] = tied[0, 7, 7] = 1
        assert self.pointing_game(tied, INSIDE).tolist() == [True]
        assert pointing_hit(pointing_distance(tied, pad_boxes([BOX]))).tolist() == [0]

    def test_the_uniform_map_hits_every_mask_there_and_points_nowhere_here(self) -> None:
        uniform = np.ones((1, 8, 8), dtype=np.float32)
        assert self.pointing_game(uniform, INSIDE).tolist() == [True]
        assert np.isnan(pointing_hit(pointing_distance(uniform, pad_boxes([BOX])))).all()

    @given(maps_with_mass)
    def test_its_relevance_mass_accuracy_is_the_energy(self, maps: np.ndarray) -> None:
        """``RelevanceMassAccuracy``: mass inside a binary mask over the whole mass."""
        theirs = (maps * INSIDE.astype(bool)).sum() / maps.sum()
        assert energy_in(maps, INSIDE).tolist() == pytest.approx([theirs], rel=1e-4, abs=1e-6)

    def test_a_mask_is_all_or_nothing_there_and_a_share_of_the_pixel_here(self) -> None:
        # Half of the first column: their mask has it whole or not at all.
        uniform, half = np.ones((1, 8, 8), dtype=np.float32), VIEW.coverage([[0, 0, 0.5, 8]])[None]
        assert (uniform * half.astype(bool)).sum() / uniform.sum() == 1 / 8
        assert energy_in(uniform, half).tolist() == [1 / 16]

    @given(maps_with_mass)
    def test_its_complexity_is_the_entropy_in_nats(self, maps: np.ndarray) -> None:
        """``Complexity``: -sum p log(p + 1e-12) of the shares p of the mass."""
        p = maps.astype(np.float64) / maps.sum(dtype=np.float64)
        theirs = -(p * np.log(p + 1e-12)).sum()
        assert entropy(maps).tolist() == pytest.approx([theirs / np.log(64)], abs=1e-5)


class TestClassification:
    """Probabilities of a two-class network that sees the mean of a white image, normalised by mean .5 and std .25.

    The mask shows half of the image, so that masked black is -2 and the mean colour 0: the network's logit is 2 on the
    whole image, (2 - 2) / 2 = 0 on the masked one, and 1 where the normalised tensor is masked.
    """

    FULL, BLACK, MEAN_COLOUR = (1 / (1 + np.exp(-logit)) for logit in (2.0, 0.0, 1.0))

    @staticmethod
    def torchcam(full: float, masked: float) -> tuple[float, bool]:
        """``ClassificationMetric``: relu(p - o) / (p + 1e-7), and p < o."""
        return max(0, full - masked) / (full + 1e-7), full < masked

    @given(st.floats(0.01, 1), st.floats(0, 1))
    def test_torchcams_average_drop_and_increase_are_the_papers(self, full: float, masked: float) -> None:
        drop, increase = self.torchcam(full, masked)
        assert average_drop([full], [masked]).tolist() == pytest.approx([drop], abs=2e-5)
        assert average_increase([full], [masked]).tolist() == [increase]

    def test_torchcam_masks_the_normalised_tensor_so_its_drop_is_another(self) -> None:
        # 0.170003 is what torchcam 0.5.0 says of this network and image with logits_fn=softmax.
        assert self.torchcam(self.FULL, self.MEAN_COLOUR)[0] == pytest.approx(0.170003, abs=1e-6)
        assert average_drop([self.FULL], [self.BLACK]).tolist() == pytest.approx([0.432332], abs=1e-6)

    def test_torchcam_takes_logits_if_not_told_otherwise(self) -> None:
        # Without logits_fn its drop is that of the logits, 2 -> 1; a negative logit would make it negative or huge.
        assert self.torchcam(2.0, 1.0)[0] == pytest.approx(0.5)

    def test_grad_cam_does_not_divide_by_p(self) -> None:
        # ``DropInConfidence``: max(0, p - o), of the masked normalised tensor too. It says 0.149738 of this one.
        drop = max(0, self.FULL - self.MEAN_COLOUR)
        assert drop == pytest.approx(0.149738, abs=1e-6)
        assert average_drop([self.FULL], [self.MEAN_COLOUR]).tolist() == pytest.approx([drop / self.FULL])

    def test_the_gain_is_where_drop_and_increase_are_blind(self) -> None:
        # The paper's case against AD and AI: a hair more confidence is no drop and a full increase; AG says how little.
        assert average_drop([0.5], [0.5001]).tolist() == [0]
        assert average_increase([0.5], [0.5001]).tolist() == [1]
        assert average_gain([0.5], [0.5001]).tolist() == pytest.approx([0.0002])


def smooth_maps(count: int, side: int = 56) -> np.ndarray:
    """Maps in [0, 1] as a network of 7 x 7 places makes them, in the 256 grey values that OpenCV knows: a hill, and
    lesser ones anywhere.
    """
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:7, :7]
    tops = generator.uniform(1, 5, (count, 2, 1, 1))
    hills = np.exp(-((y - tops[:, 0]) ** 2 + (x - tops[:, 1]) ** 2) / generator.uniform(1, 4, (count, 1, 1)))
    grids = (hills + 0.6 * generator.random((count, 7, 7)) ** 2).astype(np.float32)
    return np.floor(normalize(resize(grids, (side, side))) * 255) / np.float32(255)


def boxes_near(maps: np.ndarray) -> list[np.ndarray]:
    """Two boxes a map: one about round what is brighter than .6, and a small one anywhere."""
    generator, boxes = np.random.default_rng(4), []
    for one in maps:
        y, x = np.nonzero(one > 0.6)
        near = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) + generator.integers(-3, 4, 4)
        left, top = generator.integers(0, maps.shape[1] - 8, 2)
        boxes.append(np.array([near, [left, top, left + 8, top + 8]], dtype=float))
    return boxes


class TestWsolevaluation:
    """``BoxEvaluator`` of Choe et al.: OpenCV's contours of an 8-bit map above a share of its maximum."""

    @staticmethod
    def contours(one: np.ndarray, threshold: float) -> Iterator[tuple[float, tuple[int, int, int, int]]]:
        """Area by OpenCV and half-open box of each outer contour of a map of 256 grey values."""
        cv2 = pytest.importorskip("cv2", reason="needs OpenCV, which grad-cam brings")
        grey = np.round(one * 255).astype(np.uint8)
        _, bright = cv2.threshold(grey, int(threshold * grey.max()), 255, cv2.THRESH_BINARY)
        found, parents = cv2.findContours(bright, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for place, contour in enumerate(found):
            if parents[0, place, 3] < 0:  # the rim of a hole has a parent
                x, y, width, height = cv2.boundingRect(contour)
                yield cv2.contourArea(contour), (x, y, x + width, y + height)

    @staticmethod
    def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(width, 0) * max(height, 0)
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    def test_the_boxes_of_all_components_are_those_of_opencvs_contours(self) -> None:
        maps = smooth_maps(20)
        boxes = boxes_near(maps)
        cuts = THRESHOLDS[::7]
        ours = threshold_ious(maps, pad_boxes(boxes), cuts).every
        for index, one in enumerate(maps):
            for place, cut in enumerate(cuts):
                theirs = [self.iou(own, box) for _, own in self.contours(one, cut) for box in boxes[index]]
                assert ours[index, place] == pytest.approx(max(theirs, default=0)), (index, cut)

    def test_max_box_acc_is_theirs_but_for_what_the_largest_component_is(self) -> None:
        maps = smooth_maps(40)
        boxes = boxes_near(maps)
        ours = best_thresholds(count_found(threshold_ious(maps, pad_boxes(boxes)).largest))
        best = [
            [max(self.iou(max(self.contours(one, cut))[1], box) for box in own) for cut in THRESHOLDS]
            for one, own in zip(maps, boxes, strict=True)
        ]
        theirs = [(np.array(best) >= level).mean(axis=0).max() for level in ours.levels]
        assert list(ours.accuracy) == pytest.approx(theirs, abs=1 / 40 + 1e-9)

    def test_the_largest_component_is_that_of_most_pixels_not_of_the_widest_rim(self) -> None:
        # OpenCV's area is what the contour encloses, holes included: of a ring of 20 px round nothing it is 25, of a
        # block of 24 px it is 15. The paper speaks of the component.
        ring_and_block = np.zeros((1, 16, 16), dtype=np.float32)
        ring_and_block[0, 1:7, 1:7] = 1
        ring_and_block[0, 2:6, 2:6] = 0
        ring_and_block[0, 9:13, 9:15] = 1
        areas = sorted(area for area, _ in self.contours(ring_and_block[0], 0.5))
        assert areas == [15, 25]
        on_block = pad_boxes([np.array([[9.0, 9, 15, 13]])])
        assert threshold_ious(ring_and_block, on_block, [0.5]).largest.tolist() == [[1]]


@given(hnp.arrays(np.float32, (8, 8), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])).filter(lambda m: np.ptp(m) > 0))
def test_components_are_those_of_scikit_image(one: np.ndarray) -> None:
    boxes, cuts = np.array([[1.0, 1, 5, 4], [4, 4, 8, 8]]), [0.0, 0.25, 0.75]
    ours = threshold_ious(one[None], pad_boxes([boxes]), cuts)
    for place, cut in enumerate(cuts):
        best = defaultdict(list)  # IoUs of the components of each size
        for part in measure.regionprops(measure.label(one > cut, connectivity=2)):
            y0, x0, y1, x1 = part.bbox
            best[part.area].append(max(TestWsolevaluation.iou((x0, y0, x1, y1), tuple(box)) for box in boxes))
        assert ours.every[0, place] == pytest.approx(max(sum(best.values(), start=[0.0])))
        assert ours.largest[0, place] in [pytest.approx(iou) for iou in best[max(best, default=0)] or [0]]
