from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.planted.measure import Audited, class_probabilities, measure_locator, measure_without_maps
from stages.explain.donors import settle_donors
from stages.explain.explain import explain_shard
from stages.explain.network.view import render_view
from stages.explain.opticam.opticam import OptiCam
from stages.explain.plan import load_plan_classifier
from stages.score.localization import pad_boxes
from storage import Run
from tests.stages.explain.networks import tiny
from tests.stages.explain.shards import CLASSES, VIEW, planned, rows_by_key, samples_of, settings

BOX = (5, 5, 25, 20)
N = 4


def audited_of(samples: list[dict]) -> Audited:
    images = [Image.open(sample["uri"]).convert("RGB") for sample in samples]
    transforms = [VIEW.transform(*image.size) for image in images]
    return Audited(
        views=np.stack([render_view(image, VIEW) for image in images]),
        coverage=np.stack([transform.coverage([BOX]) for transform in transforms]),
        boxes=pad_boxes([transform.boxes_to_view([BOX]) for transform in transforms]),
        labels=np.array([sample["class_index"] for sample in samples]),
        seeds=tuple(int(sample["digest"][:15], 16) for sample in samples),
    )


def test_the_drops_measured_in_memory_are_those_that_the_pipeline_stores(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "images", range(N), BOX)
    explaining = settings(outside=False, scan=True, targets=("label",))
    url = str(tmp_path / "run")
    run, plan = planned(url, samples, explaining, donors=settle_donors(Run.create(url), samples))
    explain_shard(plan, 0, samples)
    stored = rows_by_key(run)
    opticam = load_plan_classifier(plan, torch.device("cpu"))[1]
    audited = audited_of(samples.to_pylist())

    def column(name: str) -> np.ndarray:
        return np.array([stored[f"{k}.png", "label"][name] for k in range(N)], dtype=float)

    first, second, blind = (measure_locator(opticam, audited, name) for name in ("opti_cam", "grad_cam", "random"))
    without = measure_without_maps(opticam, audited)
    full = column("p_full")
    for measured, name in (
        (first["drop_outside"], "p_hide_map"),
        (second["drop_outside"], "p_hide_second"),
        (np.maximum(first["drop_outside"], second["drop_outside"]), "p_hide_outside"),
        (blind["drop_outside"], "p_hide_random"),
        (without["scan_5x5"], "p_hide_scan"),
        (without["minus_p_box"], "p_box"),
    ):
        if name == "p_hide_outside":
            measured = np.maximum(measured, without["scan_5x5"])
        np.testing.assert_allclose(measured, full - column(name), atol=1e-5, err_msg=name)
    np.testing.assert_allclose(without["p_context"], column("p_context"), atol=1e-5)
    np.testing.assert_allclose(full - without["minus_p_box_blurred"], column("p_hide_context"), atol=1e-5)
    np.testing.assert_allclose(first["p_crop_outside"], column("p_crop_outside"), atol=1e-5)
    reliance = column("p_saliency_in_context") / (column("p_saliency_in_box") + column("p_saliency_in_context"))
    np.testing.assert_allclose(first["context_reliance"], reliance, atol=1e-4)
    carried = column("p_saliency_in_context") - column("p_saliency_in_box")
    np.testing.assert_allclose(first["context_minus_box"], carried, atol=1e-5)
    lost = full - (column("p_hide_context_neutral") + column("p_hide_far")) / 2
    given = column("p_transplant") - column("p_transplant_null")
    np.testing.assert_allclose(without["outside_effect"], (lost + given) / 2, atol=1e-5)
    room = (1 - column("p_blank") + 1 - column("p_transplant_null")) / 2
    np.testing.assert_allclose(without["outside_room"], room, atol=1e-5)
    assert np.ptp(full - column("p_hide_map")) > 1e-3  # the pictures differ, so the agreement says something


@pytest.fixture
def opticam() -> OptiCam:
    return OptiCam(tiny(classes=CLASSES), input_size=(32, 32))


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    return audited_of(samples_of(tmp_path, range(3), BOX).to_pylist())


def test_passes_are_counted_as_the_network_runs_them(
    opticam: OptiCam, audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"folded": 0, "network": 0}
    for name in calls:
        network = getattr(opticam, name)
        network.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    for name, backward in (("opti_cam", opticam.settings.steps), ("grad_cam", 1), ("random", 0), ("center", 1)):
        calls.update(folded=0, network=0)
        columns = measure_locator(opticam, audited, name)
        # Not counted: p of the whole picture; context reliance and the crop of those that look at the picture; and the
        # features, where the map is not made of them.
        others = {"opti_cam": 1 + 3, "grad_cam": 1 + 3 + 1, "random": 1 + 1, "center": 1 + 3}[name]
        assert columns["passes_forward"].tolist() == [sum(calls.values()) - others] * 3
        assert columns["passes_backward"].tolist() == [backward] * 3


def test_the_ablation_at_the_audits_own_area_and_fill_is_the_drop(opticam: OptiCam, audited: Audited) -> None:
    columns = measure_locator(opticam, audited, "grad_cam", ablate=True)
    np.testing.assert_allclose(columns["10.0%, blurred"], columns["drop_outside"], atol=1e-6)
    for other in ("20.0%, blurred", "10.0%, black", "10.0%, mean"):
        assert (columns[other] != columns["10.0%, blurred"]).any()
    # A view of 32 px has nothing 32 px off its box.
    assert np.isnan(columns["10.0%, blurred, 32 px off the boxes"]).all()


def test_hiding_what_a_prediction_rests_on_is_found_by_the_scan_and_by_the_box_alone() -> None:
    class RedCorner(torch.nn.Module):
        """Class 1 if the top left corner is red, whatever else there is."""

        def __init__(self) -> None:
            super().__init__()
            self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 4, stride=4), torch.nn.ReLU())
            self.head = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # A trace of the features, on which the logits of a target layer must depend.
            red = self.features(x).sum() * 1e-9 + (x[:, 0] - x[:, 1])[:, :4, :4].mean((1, 2))
            return torch.stack([torch.zeros_like(red), 20 * red - 10], 1)

    views = np.full((1, 3, 32, 32), 128, dtype=np.uint8)
    views[0, :, :4, :4] = np.array([255, 0, 0])[:, None, None]
    coverage = np.zeros((1, 32, 32), dtype=np.float32)
    coverage[:, 16:, 16:] = 1
    audited = Audited(views, coverage, np.array([[[16.0, 16, 32, 32]]]), np.array([1]), (0,))
    opticam = OptiCam(RedCorner(), "features.1", input_size=(32, 32))
    p = 1 / (1 + np.exp(-10.0))
    assert class_probabilities(opticam, views)[0, 1] == pytest.approx(p, rel=1e-5)
    without = measure_without_maps(opticam, audited)
    assert without["minus_p_box"][0] == pytest.approx(p - 1 / (1 + np.exp(10.0)), rel=1e-5)
    assert without["p_context"][0] == pytest.approx(p, rel=1e-5)
    assert without["context_reliance"][0] == pytest.approx(p / (p + 1 / (1 + np.exp(10.0))), rel=1e-5)
    assert without["scan_5x5"][0] > 0.8
    assert without["scan_3x3"][0] == without["scan_5x5"][0]  # the corner's window is in both
