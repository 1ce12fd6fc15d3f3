import pytest
import torch

from stages.explain import OptiCam, OptiCamSettings
from stages.explain.opticam.ascent import WeightAscent
from stages.explain.opticam.objective import normalize, objective_value
from tests.stages.explain.networks import tiny
from tests.stages.explain.opticam.plain_loop import MEAN, STD, opticam_of_one
from tests.stages.explain.opticam.test_opticam import IMAGENET, pictures

OBJECTIVES = ["mask", "diff", "iomask", "iodiff", "margin"]
FULL = torch.tensor([[2.0, 1.0, 0.0]])
MASKED = torch.tensor([[5.0, 1.0, 3.0]])
COMPLEMENT = torch.tensor([[0.5, 4.0, 0.0]])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("normalization", ["range", "max", "sigmoid"])
def test_every_objective_and_normalisation_equals_the_plain_loop(objective, normalization):
    network = tiny().double()
    images, targets = pictures(3, 32), torch.tensor([3, 0, 2])
    settings = OptiCamSettings(steps=10, learning_rate=0.3, objective=objective, normalization=normalization)
    result = OptiCam(network, settings=settings, input_size=(32, 32), **IMAGENET)(images, targets)
    for place in range(3):
        trace, saliency = opticam_of_one(
            network,
            network.features,
            images[place : place + 1],
            int(targets[place]),
            steps=10,
            learning_rate=0.3,
            objective=objective,
            normalization=normalization,
        )
        torch.testing.assert_close(result.trace[:, place], trace, rtol=0, atol=1e-9)
        torch.testing.assert_close(result.grid[place], saliency, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("settings", "fill"),
    [
        ({"fill": "mean"}, lambda image: image.mean((2, 3), keepdim=True)),
        ({"fill": "training_mean"}, lambda image: MEAN),
    ],
    ids=["image mean", "normalized space"],
)
def test_fills_equal_the_plain_loop(settings, fill):
    network = tiny().double()
    image = pictures(1, 32)
    opticam = OptiCam(network, settings=OptiCamSettings(steps=8, **settings), input_size=(32, 32), **IMAGENET)
    trace, _ = opticam_of_one(network, network.features, image, 1, steps=8, learning_rate=0.1, fill=fill(image))
    torch.testing.assert_close(opticam(image, [1]).trace[:, 0], trace, rtol=0, atol=1e-9)


def test_masking_in_normalised_space_is_a_product_with_the_normalised_image():
    opticam = OptiCam(tiny().double(), settings=OptiCamSettings(fill="training_mean"), input_size=(32, 32), **IMAGENET)
    image, mask = pictures(1, 32), torch.rand(1, 1, 32, 32, dtype=torch.float64)
    scale, offset = opticam._masking(image)
    torch.testing.assert_close(mask * scale + offset, mask * (image - MEAN) / STD)


@pytest.mark.parametrize(
    ("objective", "expected"),
    # By hand, class 0: g(x) = 2, g(x m) = 5, g(x (1 - m)) = .5, the best other logit on x m is 3.
    [("mask", 5.0), ("diff", -3.0), ("iomask", 4.5), ("iodiff", -1.5), ("margin", 2.0)],
)
def test_objectives_by_hand(objective, expected):
    value = objective_value(objective, torch.tensor([0]), FULL, MASKED, COMPLEMENT)
    assert value.tolist() == [expected]


def test_normalisations_by_hand():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    assert normalize(maps, "range").flatten().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert normalize(maps, "max").flatten().tolist() == pytest.approx([0.2, 0.4, 0.6, 1.0])
    assert normalize(maps, "sigmoid").flatten()[0].item() == pytest.approx(0.7310586)


@pytest.mark.parametrize("kind", ["range", "max"])
@pytest.mark.parametrize("value", [0.0, 1e-38])
def test_a_flat_map_of_denormal_height_gives_the_zero_mask_and_no_gradient(kind, value):
    maps = torch.full((1, 4, 4), value)
    maps[0, 1, 1] *= 2
    maps.requires_grad_()
    masks = normalize(maps, kind)
    masks.sum().backward()
    assert torch.equal(masks, torch.zeros(1, 4, 4))
    assert torch.equal(maps.grad, torch.zeros(1, 4, 4))


@pytest.mark.parametrize("normalization", ["range", "max", "sigmoid"])
def test_the_gradient_of_u_is_that_of_finite_differences(normalization):
    network = tiny().double()
    settings = OptiCamSettings(steps=1, normalization=normalization)
    opticam = OptiCam(network, settings=settings, input_size=(32, 32), **IMAGENET)
    image = pictures(1, 32)
    maps = opticam.features(image).maps.flatten(2)
    u = torch.randn(1, maps.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def objective_at(u):
        grid = torch.bmm(torch.softmax(u, 1)[:, None], maps).view(1, 8, 8)
        mask = normalize(
            torch.nn.functional.interpolate(grid[:, None], size=(32, 32), mode="bilinear")[:, 0], normalization
        )
        return network((image * mask[:, None] - MEAN) / STD)[0, 1]

    ascent = WeightAscent(maps, 0.1, scale_invariant=normalization != "sigmoid")
    ascent.u = u
    grid = ascent.combination().view(1, 8, 8).requires_grad_()
    mask = normalize(
        torch.nn.functional.interpolate(grid[:, None], size=(32, 32), mode="bilinear")[:, 0], normalization
    )
    (slope,) = torch.autograd.grad(network((image * mask[:, None] - MEAN) / STD)[0, 1], grid)
    analytic = ascent.gradient(slope.flatten(1))
    step = 1e-6
    numeric = [
        (objective_at(u + step * unit) - objective_at(u - step * unit)).item() / (2 * step)
        for unit in torch.eye(u.shape[1], dtype=torch.float64)[:, None]
    ]
    assert analytic[0].tolist() == pytest.approx(numeric, abs=1e-7)


def test_a_saturated_softmax_still_gives_a_map():
    network = tiny()
    network.head.weight.data *= 1e4
    result = OptiCam(network, settings=OptiCamSettings(steps=5), input_size=(32, 32))(
        pictures(2, 32, torch.float32), [0, 1]
    )
    assert result.status == ("ok", "ok")
    assert torch.isfinite(result.trace).all()


def test_dead_channels_do_not_move():
    network = tiny().double()
    network.features[3].weight.data[2].zero_()
    network.features[3].bias.data[2] = -1.0  # a channel that is zero on every image
    opticam = OptiCam(network, settings=OptiCamSettings(steps=10), input_size=(32, 32))
    features = opticam.features(pictures(2, 32))
    assert torch.equal(features.maps[:, 2], torch.zeros_like(features.maps[:, 2]))
    ascent = WeightAscent(features.maps.flatten(2), 0.1, scale_invariant=True)
    ascent.combination()
    gradient = ascent.gradient(torch.randn(2, 64, dtype=torch.float64))
    assert torch.equal(gradient[:, 2], torch.zeros(2, dtype=torch.float64))
    assert (gradient[:, :2] != 0).any()
