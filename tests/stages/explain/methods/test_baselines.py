"""The package's methods against their formulas, written out with loops on small networks of every layout."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.explain.methods.baselines import ONE_BY_ONE, load_package, package_maps
from stages.explain.opticam.gradcam import grad_cam
from stages.explain.opticam.layer import capture, find_target_layer
from stages.explain.opticam.opticam import to_masks
from storage.errors import UserError
from tests.stages.explain.networks import resnet

pytest.importorskip("pytorch_grad_cam", reason="needs the package grad-cam (the extra `baselines`)")

METHODS = ("grad_cam", "grad_cam_pp", "score_cam", "layer_cam", "hires_cam", "ablation_cam")
LAYOUTS = ("nchw", "nhwc", "tokens")
CHANNELS, GRID, CLASSES = 6, 4, 5


class Split(nn.Module):
    """``back(act(front(x)))``: the layer ``act`` is (N, K, 4, 4), (N, 4, 4, K), or (N, 1 + 16, K) with a class token.

    The gradient of a logit at ``act`` is different at every place, so that no two methods agree by accident.
    """

    def __init__(self, layout, act=None):
        super().__init__()
        torch.manual_seed(3)
        self.layout = layout
        self.embed = nn.Conv2d(3, CHANNELS, 8, stride=8)
        self.act = act or nn.ReLU()
        self.class_token = nn.Parameter(torch.randn(1, 1, CHANNELS))
        places = GRID * GRID + (layout == "tokens")
        self.back = nn.Sequential(nn.Flatten(), nn.Linear(places * CHANNELS, 7), nn.Tanh(), nn.Linear(7, CLASSES))

    def front(self, x):
        maps = 3 * self.embed(x)
        if self.layout == "nchw":
            return maps
        if self.layout == "nhwc":
            return maps.permute(0, 2, 3, 1)
        tokens = maps.flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1)

    def forward(self, x):
        return self.back(self.act(self.front(x)))

    def as_maps(self, raw):
        if self.layout == "nhwc":
            return raw.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            return raw[:, 1:].transpose(1, 2).reshape(-1, CHANNELS, GRID, GRID)
        return raw


def split(layout="nchw", act=None):
    network = Split(layout, act).double().eval()
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    targets = torch.tensor([0, 4, 2])
    return network, find_target_layer(network, images[:1], "act"), images, targets


def made(method, network, layer, images, targets, count=None):
    features, _ = capture(network, layer, images)
    return package_maps(method, network, layer, images, features, targets, count or len(images))


def activations_and_gradients(network, images, targets):
    raw = network.act(network.front(images)).detach().requires_grad_()
    network.back(raw).gather(1, targets[:, None]).sum().backward()
    return network.as_maps(raw).detach(), network.as_maps(raw.grad)


def plus_plus(maps, slopes, eps):
    """Chattopadhay et al. 2018, equations 5, 7 and 19, without the factor exp(logit), which is one number an image."""
    alpha = slopes**2 / (2 * slopes**2 + maps.sum((2, 3), keepdim=True) * slopes**3 + eps)
    alpha = torch.where(slopes == 0, 0, alpha)
    return (((alpha * slopes.relu()).sum((2, 3), keepdim=True)) * maps).sum(1).relu()


def score_by_loop(network, images, targets, align_corners=True):
    """Wang et al. 2020, algorithm 1, one masked image at a time."""
    maps = network.as_maps(network.act(network.front(images))).detach()
    result = []
    for image, own, target in zip(images, maps, targets, strict=True):
        scores = []
        for channel in own:
            mask = F.interpolate(channel[None, None], size=(32, 32), mode="bilinear", align_corners=align_corners)
            span = mask.max() - mask.min()
            mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
            scores.append(network(image[None] * mask)[0, target].detach())
        weights = torch.stack(scores).softmax(0)
        result.append(sum(weight * channel for weight, channel in zip(weights, own, strict=True)).relu())
    return torch.stack(result)


def ablation_by_loop(network, images, targets):
    """Desai and Ramaswamy 2020, equations 3 and 4, one channel set to zero at a time."""
    result = []
    for image, target in zip(images, targets, strict=True):
        raw = network.act(network.front(image[None])).detach()
        whole = network.back(raw)[0, target]
        total = 0
        for channel, place in zip(network.as_maps(raw)[0], range(CHANNELS), strict=True):
            ablated = raw.clone()
            ablated[(slice(None), place) if network.layout == "nchw" else (..., place)] = 0
            total = total + (whole - network.back(ablated)[0, target]) / whole * channel
        result.append(total.relu())
    return torch.stack(result).detach()


def by_formula(method, network, images, targets):
    if method == "score_cam":
        return score_by_loop(network, images, targets)
    if method == "ablation_cam":
        return ablation_by_loop(network, images, targets)
    maps, slopes = activations_and_gradients(network, images, targets)
    return {
        "grad_cam": (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu(),
        "grad_cam_pp": plus_plus(maps, slopes, eps=1e-6),
        "layer_cam": (slopes.relu() * maps).sum(1).relu(),
        "hires_cam": (slopes * maps).sum(1).relu(),
    }[method]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_the_stored_grid_is_that_of_the_formula(method, layout):
    network, layer, images, targets = split(layout)
    expected = by_formula(method, network, images, targets)
    assert (expected.amax((1, 2)) > expected.amin((1, 2))).any()
    # Score-CAM and Ablation-CAM take their scores through float32.
    torch.testing.assert_close(made(method, network, layer, images, targets), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_upsampled_it_is_what_the_package_itself_shows(method):
    network, layer, images, targets = split()
    package = load_package()
    classes = {name: getattr(package, name) for name in dir(package)}
    name = {"grad_cam_pp": "GradCAMPlusPlus", "hires_cam": "HiResCAM"}.get(method, method.title().replace("_C", "C"))
    wanted = [package.utils.model_targets.ClassifierOutputTarget(int(target)) for target in targets]
    shown = classes[name.replace("Cam", "CAM")](model=network, target_layers=[network.act])(images, wanted)
    ours = to_masks(made(method, network, layer, images, targets), (32, 32))
    torch.testing.assert_close(ours.float(), torch.from_numpy(shown), rtol=0, atol=2e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_grad_cam_of_the_package_is_our_own(layout):
    network, layer, images, targets = split(layout)
    own = grad_cam(network, layer, images, targets)
    torch.testing.assert_close(made("grad_cam", network, layer, images, targets), own)


@pytest.mark.parametrize(("scale", "differs"), [(100.0, False), (1e-3, True)], ids=["large slopes", "small slopes"])
def test_the_package_s_grad_cam_plus_plus_leaves_its_paper_where_slopes_are_small(scale, differs):
    # 1e-6 in the denominator of alpha: nothing beside large slopes, more than the slopes' squares beside small ones.
    network, layer, images, targets = split()
    with torch.no_grad():
        network.back[3].weight.mul_(scale)
    ours = to_masks(made("grad_cam_pp", network, layer, images, targets), (4, 4))
    paper = to_masks(plus_plus(*activations_and_gradients(network, images, targets), eps=0), (4, 4))
    assert bool((ours - paper).abs().max() > 0.02) == differs


def test_the_package_s_score_cam_upsamples_with_aligned_corners():
    network, layer, images, targets = split()
    ours = made("score_cam", network, layer, images, targets)
    half_pixel = score_by_loop(network, images, targets, align_corners=False)
    assert (ours - half_pixel).abs().max() > 1e-3
    torch.testing.assert_close(ours, half_pixel, rtol=0.2, atol=0.1)


def test_the_package_s_ablation_cam_leaves_its_paper_where_activations_are_negative():
    # There it puts in 1e7 less than the minimum, not zero.
    network, layer, images, targets = split(act=nn.GELU())
    ours = made("ablation_cam", network, layer, images, targets)
    assert (to_masks(ours, (4, 4)) - to_masks(ablation_by_loop(network, images, targets), (4, 4))).abs().max() > 0.1


class InPlace(nn.Module):
    """A functional ReLU in place after the layer, as in DenseNet."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.act = nn.Conv2d(3, CHANNELS, 8, stride=8)
        self.head = nn.Linear(CHANNELS * GRID * GRID, CLASSES)

    def forward(self, x):
        return self.head(F.relu(self.act(x), inplace=True).flatten(1))


def test_maps_are_after_a_functional_relu_and_slopes_keep_their_sign():
    network = InPlace().double()
    images, targets = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 3])
    layer = find_target_layer(network, images[:1], "act")
    assert layer.relu
    slopes = network.head.weight[targets].view(2, CHANNELS, GRID, GRID)
    expected = (slopes * network.act(images).relu()).sum(1).relu().detach()
    torch.testing.assert_close(made("hires_cam", network, layer, images, targets), expected)


@pytest.mark.parametrize("method", ONE_BY_ONE)
def test_images_that_fill_up_a_batch_are_not_computed(method):
    network, layer, images, targets = split()
    ours = made(method, network, layer, images, targets, count=2)
    assert ours[:2].isfinite().all()
    assert ours[2].isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was(method):
    network, layer, images, targets = split()
    network.requires_grad_(False)
    before = dict(network.named_modules())
    made(method, network, layer, images, targets)
    assert dict(network.named_modules()) == before
    assert not any(module._forward_hooks for module in network.modules())


def test_ablation_cam_refuses_a_module_that_runs_several_times():
    network = resnet()
    image = torch.rand(1, 3, 64, 64)
    layer = find_target_layer(network, image, "layer4.1.relu")
    with pytest.raises(UserError, match=r"layer4\.1\.relu runs 2 times.*name the block"):
        made("ablation_cam", network, layer, image, torch.tensor([0]))


def test_without_the_package_the_remedy_is_told(monkeypatch):
    load_package.cache_clear()
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(UserError, match=r"grad-cam need it.*pip install -e '\.\[baselines\]'"):
        load_package()
