"""Every family of torchvision's classifiers, and the transformers of timm: random weights, one table."""

import warnings
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from stages.explain import PROFILES, OptiCam, OptiCamSettings

IMAGE = torch.nn.functional.interpolate(
    torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)), size=(224, 224), mode="bicubic"
).clamp(0, 1)

TORCHVISION = [
    # name, layer, channels, grid
    ("alexnet", "features.11", 256, (13, 13)),
    ("vgg11", "features.19", 512, (14, 14)),
    ("vgg11_bn", "features.27", 512, (14, 14)),
    ("resnet18", "layer4", 512, (7, 7)),
    ("resnext50_32x4d", "layer4", 2048, (7, 7)),
    ("densenet121", "features + relu", 1024, (7, 7)),
    ("inception_v3", "Mixed_7c", 2048, (5, 5)),
    ("googlenet", "inception5b", 1024, (7, 7)),
    ("mobilenet_v2", "features", 1280, (7, 7)),
    ("mobilenet_v3_small", "features", 576, (7, 7)),
    ("mnasnet0_5", "layers", 1280, (7, 7)),
    ("shufflenet_v2_x0_5", "conv5", 1024, (7, 7)),
    ("squeezenet1_1", "classifier.2", 1000, (13, 13)),
    ("efficientnet_b0", "features", 1280, (7, 7)),
    ("regnet_y_400mf", "trunk_output", 440, (7, 7)),
    ("convnext_tiny", "features", 768, (7, 7)),
    ("swin_t", "permute", 768, (7, 7)),
    ("vit_b_32", "encoder.layers.encoder_layer_11.ln_1", 768, (7, 7)),
]
TIMM = [
    ("vit_tiny_patch16_224", "blocks.11.norm1", 192, (14, 14)),
    ("deit_tiny_patch16_224", "blocks.11.norm1", 192, (14, 14)),
    ("deit_tiny_distilled_patch16_224", "blocks.11.norm1", 192, (14, 14)),  # two tokens before the grid's
    ("swin_tiny_patch4_window7_224", "norm", 768, (7, 7)),
]


def with_signal(network):
    """Random weights through which a signal gets: batch norms with statistics of data, no head of zeros."""
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    if norms:
        with torch.no_grad():
            network(torch.randn(2, 3, 128, 128))
    for module in network.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
        if isinstance(module, nn.LayerNorm):  # of unit weights, the mean over channels is zero everywhere
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def check(network, layer, channels, grid):
    opticam = OptiCam(with_signal(network), settings=OptiCamSettings(steps=3, learning_rate=0.02))
    assert (str(opticam.layer), opticam.layer.channels, opticam.layer.grid) == (layer, channels, grid)
    result = opticam(IMAGE)
    assert result.grid.shape == (1, *grid)
    assert result.status == ("ok",)
    assert result.objective_best[0] > result.objective_start[0]


@pytest.mark.parametrize(("name", "layer", "channels", "grid"), TORCHVISION, ids=lambda value: str(value))
def test_torchvision(name, layer, channels, grid):
    torch.manual_seed(0)
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    check(torchvision.models.get_model(name, weights=None, **extra), layer, channels, grid)


@pytest.mark.parametrize(("name", "layer", "channels", "grid"), TIMM, ids=lambda value: str(value))
def test_timm(name, layer, channels, grid):
    timm = pytest.importorskip("timm", reason="needs the extra `timm`")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own deprecations
        network = timm.create_model(name, pretrained=False)
    check(network, layer, channels, grid)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "densenet121"])
def test_the_fast_profile_climbs_on_layers_with_negative_values_too(name):
    torch.manual_seed(0)
    network = with_signal(torchvision.models.get_model(name, weights=None))
    result = OptiCam(network, settings=replace(PROFILES["fast"], steps=3, learning_rate=0.05))(IMAGE)
    assert result.status == ("ok",)
    assert result.objective_best[0] > result.objective_start[0]


class Unfit(nn.Module):
    """Neither maps nor tokens in a square."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(3 * 224 * 224, 4)

    def forward(self, x):
        return self.flat(x.flatten(1))


def test_a_network_that_fits_none_of_these_gets_the_remedy():
    with pytest.raises(ValueError, match=r"name such a layer by its module path.*reshapes its output"):
        OptiCam(Unfit())
