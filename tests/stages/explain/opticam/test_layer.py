import pytest
import torch
import torchvision

from stages.explain.opticam.layer import capture, find_target_layer
from tests.stages.explain.networks import tiny

EXAMPLE = torch.linspace(-1, 1, 3 * 224 * 224).view(1, 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "layer", "channels", "grid"),
    [
        ("mobilenet_v2", "features", 1280, (7, 7)),
        ("resnet50", "layer4", 2048, (7, 7)),
        ("vgg16", "features.29", 512, (14, 14)),  # before the last max-pool, as in the paper
        ("vgg11_bn", "features.27", 512, (14, 14)),
        ("densenet121", "features + relu", 1024, (7, 7)),
    ],
)
def test_auto_is_the_last_activation_before_the_final_pooling(name, layer, channels, grid):
    network = torchvision.models.get_model(name, weights=None).eval()
    found = find_target_layer(network, EXAMPLE)
    assert (str(found), found.channels, found.grid) == (layer, channels, grid)
    maps, logits = capture(network, found, EXAMPLE)
    assert maps.shape == (1, channels, *grid)
    assert (maps >= 0).all()
    torch.testing.assert_close(logits, network(EXAMPLE))


def test_a_layer_is_named_by_its_module_path():
    network = torchvision.models.resnet18(weights=None)
    found = find_target_layer(network, EXAMPLE, "layer3.1")
    assert (found.path, found.channels, found.grid) == ("layer3.1", 256, (14, 14))


def test_an_unknown_layer_gets_near_names():
    with pytest.raises(ValueError, match=r"no module 'feature'; near names: features"):
        find_target_layer(tiny(), torch.rand(1, 3, 32, 32), "feature")


def test_a_layer_without_feature_maps_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="module 'head' has no output that is a feature map"):
        find_target_layer(tiny(), torch.rand(1, 3, 32, 32), "head")
