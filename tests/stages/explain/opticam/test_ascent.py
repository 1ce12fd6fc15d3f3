import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import nnls

from stages.explain import OptiCam, OptiCamSettings
from stages.explain.opticam.ascent import FeatureMaps, ProjectedAscent, project_on_cone
from tests.stages.explain.networks import mobilenet, resnet, resnet_features, tiny
from tests.stages.explain.opticam.plain_loop import MEAN, STD
from tests.stages.explain.opticam.test_opticam import IMAGENET, pictures

FAST = OptiCamSettings(steps=8, learning_rate=0.3, optimizer="projected")


def projected_of_one(network, feature_maps, image, target, *, steps, learning_rate):
    """The definition of the projected ascent for one image, written out with numpy and torch's own Adam."""
    with torch.no_grad():
        features = feature_maps((image - MEAN) / STD)[0].flatten(1)
    side = int(features.shape[1] ** 0.5)
    shifted = (features - features.min(1, keepdim=True).values).numpy()
    weights = np.full(len(features), 1 / len(features))
    place = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([place], lr=1.0, betas=(0.6, 0.999))
    trace, best, best_saliency = [], -float("inf"), None
    for step in range(steps + 1):
        saliency = (torch.from_numpy(weights)[:, None] * features).sum(0).requires_grad_()
        mask = F.interpolate(
            saliency.view(1, 1, side, side), size=image.shape[2:], mode="bilinear", align_corners=False
        )
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        value = network((image * mask - MEAN) / STD)[0, target]
        trace.append(value.item())
        if value.item() > best:
            best, best_saliency = value.item(), saliency.detach().view(side, side).clone()
        if step == steps:
            break
        (slope,) = torch.autograd.grad(value, saliency)
        values = saliency.detach().numpy()
        span = values.max() - values.min()
        before = place.detach().clone()
        place.grad = -slope * span  # torch's Adam minimises
        adam.step()
        move = (place.detach() - before).numpy()
        rate = learning_rate * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        goal = np.maximum(weights @ shifted / span + rate * move, 0)
        weights = weights / span
        for _ in range(50):
            weights = weights * (shifted @ goal) / np.maximum(shifted @ (weights @ shifted), 1e-300)
        weights = weights / weights.sum()
    return torch.tensor(trace, dtype=torch.float64), best_saliency


@pytest.mark.parametrize(
    ("build", "features"),
    [(mobilenet, lambda network: network.features), (resnet, resnet_features)],
    ids=["mobilenet_v2", "resnet18"],
)
def test_the_projected_ascent_equals_a_loop_over_single_images(build, features):
    network = build().double()
    images, targets = pictures(3, 96), torch.tensor([3, 0, 7])
    result = OptiCam(network, settings=FAST, input_size=(96, 96), **IMAGENET)(images, targets)
    for place in range(3):
        trace, saliency = projected_of_one(
            network, features(network), images[place : place + 1], int(targets[place]), steps=8, learning_rate=0.3
        )
        torch.testing.assert_close(result.trace[:, place], trace, rtol=0, atol=1e-7)
        torch.testing.assert_close(result.grid[place], saliency, rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_the_projection_reaches_the_distance_of_non_negative_least_squares(seed):
    generator = np.random.default_rng(seed)
    maps, goal = generator.random((6, 9)), generator.random(9)
    _, least = nnls(maps.T, goal)
    start = torch.full((1, 6), 1 / 6, dtype=torch.float64)
    stack, wanted = FeatureMaps(torch.from_numpy(maps)[None]), torch.from_numpy(goal)[None]
    distances = [
        float(np.linalg.norm(project_on_cone(stack, wanted, start, updates)[0].numpy() @ maps - goal))
        for updates in (0, 1, 5, 50, 20000)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == pytest.approx(least, rel=1e-3)


def test_what_it_proposes_is_a_convex_combination_also_of_maps_with_negative_values():
    maps = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ascent = ProjectedAscent(maps, 0.3, steps=10)
    running = torch.ones(2, dtype=torch.bool)
    goal = torch.zeros(2, 9, dtype=torch.float64)
    goal[:, 4] = 1.0
    before = ascent.combination()
    for _ in range(10):
        ascent.ascend(goal, running)
        proposed = ascent.combination()
        torch.testing.assert_close(ascent.weights.sum(1), torch.ones(2, dtype=torch.float64))
        assert (ascent.weights >= 0).all()
        torch.testing.assert_close(proposed, torch.einsum("nk,nkp->np", ascent.weights, maps))

    def standing_out(saliency):
        low, high = saliency.amin(1), saliency.amax(1)
        return (saliency[:, 4] - low) / (high - low)

    assert (standing_out(proposed) > standing_out(before)).all()  # it went where the slope pointed


def test_an_image_that_has_stopped_or_has_dead_maps_keeps_its_weights():
    maps = torch.rand(3, 4, 9, generator=torch.Generator().manual_seed(0))
    maps[1] = 0.0
    ascent = ProjectedAscent(maps, 0.3, steps=5)
    before = ascent.weights.clone()
    ascent.combination()
    ascent.ascend(torch.randn(3, 9, generator=torch.Generator().manual_seed(1)), torch.tensor([False, True, True]))
    assert torch.equal(ascent.weights[:2], before[:2])
    assert not torch.equal(ascent.weights[2], before[2])
    assert torch.isfinite(ascent.weights).all()


def test_its_maps_do_not_depend_on_batch_mates_and_survive_a_neighbour_of_nan():
    opticam = OptiCam(tiny(), settings=FAST, input_size=(32, 32))
    images, targets = pictures(4, 32, torch.float32), torch.zeros(4, dtype=torch.int64)
    clean = opticam(images, targets)
    spoilt = images.clone()
    spoilt[1, 0, 3, 3] = torch.nan
    result = opticam(spoilt, targets)
    assert result.status == ("ok", "non_finite", "ok", "ok")
    for place in (0, 2, 3):
        assert torch.equal(result.grid[place], clean.grid[place])


def assert_summed(found, exact, terms):
    """``found`` is the float32 sum of products of numbers >= 0 that ``exact`` is in float64.

    However a machine orders n terms, the relative error stays below n times the unit round-off (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1).
    """
    torch.testing.assert_close(found.double(), exact, rtol=terms * 2.0**-24, atol=0)


@pytest.mark.parametrize(("channels", "places"), [(1280, 49), (777, 49), (512, 196), (2048, 9), (5, 4)])
def test_products_do_not_depend_on_the_place_in_the_batch(channels, places):
    generator = torch.Generator().manual_seed(0)
    for trial in range(16):
        maps, mates = torch.rand(2, 16, channels, places, generator=generator)
        weights, other = torch.rand(2, 16, channels, generator=generator)
        here, there = trial, (5 * trial + 3) % 16
        mates[there], other[there] = maps[here], weights[here]
        first, second = FeatureMaps(maps), FeatureMaps(mates)
        one, two = first.combine(weights), second.combine(other)
        assert_summed(one[here], weights[here].double() @ maps[here].double(), channels)
        assert torch.equal(one[here], two[there])
        pattern = torch.rand(16, places, generator=generator)
        another = pattern.roll(there - here, 0)
        assert_summed(first.correlate(pattern)[here], maps[here].double() @ pattern[here].double(), places)
        assert torch.equal(first.correlate(pattern)[here], second.correlate(another)[there])


@pytest.mark.parametrize("normalization", ["max", "sigmoid"])
def test_normalisations_that_depend_on_the_offset_are_refused(normalization):
    with pytest.raises(ValueError, match="projected needs the normalization range"):
        OptiCamSettings(optimizer="projected", normalization=normalization)
