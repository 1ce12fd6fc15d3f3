import functools

import pytest
import torch

from stages.explain import OptiCam, OptiCamSettings
from tests.stages.explain.networks import mobilenet, resnet, resnet_features, tiny
from tests.stages.explain.opticam.plain_loop import opticam_of_one

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def pictures(count, side, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator, dtype=dtype)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(
    ("build", "features"),
    [(mobilenet, lambda network: network.features), (resnet, resnet_features)],
    ids=["mobilenet_v2", "resnet18"],
)
@pytest.mark.parametrize("learning_rate", [0.1, 0.5])
def test_equals_the_plain_loop_written_from_the_paper(build, features, learning_rate):
    network = build().double()
    images, targets = pictures(3, 96), torch.tensor([3, 0, 7])
    settings = OptiCamSettings(steps=12, learning_rate=learning_rate)
    result = OptiCam(network, settings=settings, input_size=(96, 96), **IMAGENET)(images, targets)
    for place in range(3):
        trace, saliency = opticam_of_one(
            network,
            features(network),
            images[place : place + 1],
            int(targets[place]),
            steps=12,
            learning_rate=learning_rate,
        )
        torch.testing.assert_close(result.trace[:, place], trace, rtol=0, atol=1e-9)
        torch.testing.assert_close(result.grid[place], saliency, rtol=0, atol=1e-9)
        assert result.objective_best[place] == pytest.approx(trace.max().item(), abs=1e-9)
        assert trace.max() > trace[0] + 0.01  # the objective does move


def test_a_map_does_not_depend_on_its_batch_mates():
    network = mobilenet()
    opticam = OptiCam(network, settings=OptiCamSettings(steps=10), input_size=(96, 96), **IMAGENET)
    images, targets = pictures(8, 96, torch.float32), torch.arange(8)
    together = opticam(images, targets)
    mates = pictures(8, 96, torch.float32, seed=9)
    mates[5] = images[2]
    apart = opticam(mates, torch.tensor([1, 1, 1, 1, 1, 2, 1, 1]))
    assert torch.equal(together.grid[2], apart.grid[5])
    assert torch.equal(together.trace[:, 2], apart.trace[:, 5])


class Places(torch.nn.Module):
    """Four feature maps, each the red of one quadrant of the view times its height, so that their mean is not constant;
    the logit of class 0 adds up the reds with weights."""

    HEIGHTS = torch.tensor([1.0, 0.8, 0.6, 0.9])

    def __init__(self, weights):
        super().__init__()
        quadrants = torch.zeros(4, 1, 2, 2)
        for k in range(4):
            quadrants[k, 0, k // 2, k % 2] = 1
        self.register_buffer("quadrants", quadrants.repeat_interleave(16, 2).repeat_interleave(16, 3))
        self.features = torch.nn.Identity()
        self.weights = torch.nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        red = torch.nn.functional.avg_pool2d(x[:, :1] ** 2 * self.quadrants[:, 0], 8)
        logit = self.features(red * self.HEIGHTS[:, None, None]).mean((2, 3)) @ (self.weights / self.HEIGHTS)
        return torch.stack([logit, torch.zeros_like(logit), -logit], 1)


@pytest.mark.parametrize("sigmoid", [False, True], ids=["softmax", "sigmoid"])
def test_what_carries_the_class_outside_is_found_whatever_lies_inside(sigmoid):
    # Quadrants: in the box, against the class, weakly for it, strongly for it.
    network = Places([50.0, -20.0, 5.0, 20.0])
    opticam = OptiCam(network, layer="features", input_size=(32, 32), sigmoid=sigmoid)
    images = torch.zeros(1, 3, 32, 32)
    images[:, 0] = (torch.arange(32)[:, None] + torch.arange(32)) % 2  # a blur takes this to a half
    outside = torch.ones(1, 32, 32, dtype=torch.bool)
    outside[:, :16, :16] = False
    found = opticam.maximize_outside(images, opticam.features(images).maps, torch.tensor([0]), outside)
    map_ = found.maps()[0]
    assert map_[16:, 16:].mean() == map_.view(2, 16, 2, 16).mean((1, 3)).max()
    assert map_[16:, 16:].mean() > 0.9
    assert map_[:12, 20:].max() < 0.2  # clear of what the upsampling spreads

    def by_hand(mask):  # blurred, red is a half: its square falls from a half on average to a quarter
        weights = torch.tensor([0, -20.0, 5.0, 20.0]).view(1, 2, 2)
        red = images[:, 0] + mask * (0.5 - images[:, 0])
        shares = (red**2).view(1, 2, 16, 2, 16).mean((2, 4)) / 4
        inside = 50 * (images[:, 0, :16, :16] ** 2).mean() / 4
        logit = inside + (shares * weights).sum()
        return -logit if sigmoid else torch.logsumexp(torch.stack([torch.zeros(()), -logit]), 0) - logit

    assert found.objective_best.item() == pytest.approx(by_hand(found.maps() * outside).item(), abs=0.02)
    alone = torch.zeros(1, 32, 32)
    alone[:, 16:, 16:] = 1
    assert found.objective_best.item() >= by_hand(alone).item()


def test_where_nothing_lies_outside_the_weights_stay_uniform():
    opticam = OptiCam(tiny(), input_size=(32, 32))
    images = pictures(2, 32, torch.float32)
    features = opticam.features(images).maps
    outside = torch.zeros(2, 32, 32, dtype=torch.bool)
    found = opticam.maximize_outside(images, features, torch.tensor([0, 1]), outside)
    torch.testing.assert_close(found.grid, features.mean(1))


def test_an_image_of_nan_leaves_the_others_alone():
    opticam = OptiCam(tiny(), settings=OptiCamSettings(steps=5), input_size=(32, 32))
    images, targets = pictures(4, 32, torch.float32), torch.zeros(4, dtype=torch.int64)
    clean = opticam(images, targets)
    spoilt = images.clone()
    spoilt[1, 0, 3, 3] = torch.nan
    result = opticam(spoilt, targets)
    assert result.status == ("ok", "non_finite", "ok", "ok")
    assert torch.isnan(result.grid[1]).all()
    for place in (0, 2, 3):
        assert torch.equal(result.grid[place], clean.grid[place])


def test_a_constant_map_has_a_status_and_a_zero_mask():
    network = tiny()
    for parameter in network.features[3].parameters():
        parameter.data.zero_()  # the last activation is zero everywhere
    opticam = OptiCam(network, settings=OptiCamSettings(steps=5), input_size=(32, 32))
    result = opticam(pictures(2, 32, torch.float32), torch.tensor([0, 1]))
    assert result.status == ("degenerate_map", "degenerate_map")
    assert torch.equal(result.maps(), torch.zeros(2, 32, 32))
    assert (result.iterations <= 1).all()  # its objective cannot change, so it stops


def test_a_constant_map_that_is_not_zero_is_constant_after_upsampling_too():
    network = tiny()
    network.features[3].weight.data.zero_()
    network.features[3].bias.data.fill_(0.3)
    opticam = OptiCam(network, settings=OptiCamSettings(steps=3), input_size=(30, 30))
    result = opticam(pictures(2, 30, torch.float32), [0, 1])
    assert result.status == ("degenerate_map", "degenerate_map")
    assert torch.equal(result.maps(), torch.zeros(2, 30, 30))


def test_the_stored_map_is_the_best_iterate_and_never_worse_than_the_start():
    # A learning rate far too large makes the last iterate a bad one.
    opticam = OptiCam(tiny(), settings=OptiCamSettings(steps=20, learning_rate=30.0), input_size=(32, 32))
    images, targets = pictures(4, 32, torch.float32), torch.arange(4)
    result = opticam(images, targets)
    masked = images * result.maps()[:, None]
    again = opticam.logits(masked).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(again, result.trace.amax(0), rtol=1e-4, atol=1e-5)
    assert (result.objective_best >= result.objective_start).all()


def test_maps_lie_between_zero_and_one_and_reach_both():
    result = OptiCam(tiny(), settings=OptiCamSettings(steps=3), input_size=(32, 32))(pictures(3, 32, torch.float32))
    maps = result.maps()
    assert maps.shape == (3, 32, 32)
    assert torch.equal(maps.amin((1, 2)), torch.zeros(3))
    assert torch.equal(maps.amax((1, 2)), torch.ones(3))


def test_without_targets_the_predicted_class_is_explained():
    opticam = OptiCam(tiny(), settings=OptiCamSettings(steps=3), input_size=(32, 32))
    images = pictures(3, 32, torch.float32)
    predicted = opticam.network(images).argmax(1)
    assert torch.equal(opticam(images).grid, opticam(images, predicted).grid)


def test_the_network_is_left_as_it_was():
    network = tiny()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    OptiCam(network, settings=OptiCamSettings(steps=2), input_size=(32, 32))(pictures(1, 32, torch.float32))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("targets", "message"), [([0, 1, 2], "3 targets for a batch of 2"), ([0, 5], "network's 5 classes")]
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    opticam = OptiCam(tiny(), input_size=(32, 32))
    with pytest.raises(ValueError, match=message):
        opticam(pictures(2, 32, torch.float32), targets)


def test_bfloat16_concerns_the_passes_of_the_optimisation_alone():
    images, targets = pictures(4, 32, torch.float32), torch.tensor([0, 1, 2, 0])
    exact = OptiCam(tiny(), settings=OptiCamSettings(steps=6), input_size=(32, 32))
    rough = OptiCam(tiny(), settings=OptiCamSettings(steps=6, precision="bfloat16"), input_size=(32, 32))
    assert torch.equal(exact.logits(images), rough.logits(images))
    expected, result = exact(images, targets), rough(images, targets)
    assert result.grid.dtype == torch.float32
    # Eight bits of mantissa: the logits agree to a percent of their size, and are not the same.
    scale = exact.logits(images).abs().amax()
    assert 0 < (result.trace[0] - expected.trace[0]).abs().max() < 0.02 * scale
    assert result.status == ("ok",) * 4
    assert result.iterations.tolist() == [6] * 4  # equal logits in a row do not stop it


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own, while tracing
def test_a_compiled_network_gives_the_same_objective(monkeypatch):
    # Traced and differentiated as for a GPU, but run by torch itself: generating code takes minutes here.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    images, targets = pictures(2, 32, torch.float32), torch.tensor([0, 1])
    plain = OptiCam(tiny(), settings=OptiCamSettings(steps=2), input_size=(32, 32))(images, targets)
    compiled = OptiCam(tiny(), settings=OptiCamSettings(steps=2, compile=True), input_size=(32, 32))(images, targets)
    torch.testing.assert_close(compiled.trace, plain.trace, rtol=1e-4, atol=1e-5)
