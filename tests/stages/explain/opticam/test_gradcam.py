import pytest
import torch
from torch import nn

from stages.explain.opticam.gradcam import grad_cam
from stages.explain.opticam.layer import capture, find_target_layer
from tests.stages.explain.networks import resnet, tiny


def test_before_global_pooling_and_a_linear_head_it_is_the_class_activation_map():
    # There d logit / d A_k is head[class, k] / (h w) everywhere, so Grad-CAM is relu(sum_k head_k A_k) / (h w).
    network = tiny().double()
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    layer = find_target_layer(network, images[:1])
    targets = torch.tensor([0, 4, 2])
    maps = network.features(images)
    expected = torch.einsum("nk,nkhw->nhw", network.head.weight[targets], maps).relu() / maps[0, 0].numel()
    torch.testing.assert_close(grad_cam(network, layer, images, targets), expected)


def test_it_agrees_with_the_gradient_of_a_cut_network():
    network = resnet().double()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    layer = find_target_layer(network, images[:1], "layer3")
    front = nn.Sequential(*list(network.children())[:7])
    back = nn.Sequential(network.layer4, network.avgpool, nn.Flatten(), network.fc)
    maps = front(images).detach().requires_grad_()
    back(maps)[:, 1].sum().backward()
    expected = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach()
    torch.testing.assert_close(grad_cam(network, layer, images, torch.tensor([1, 1])), expected)


@pytest.mark.parametrize("frozen", [True, False])
def test_it_leaves_hooks_and_gradients_as_they_were(frozen):
    network = tiny().requires_grad_(not frozen)
    images = torch.rand(1, 3, 32, 32)
    layer = find_target_layer(network, images)
    grad_cam(network, layer, images, torch.tensor([0]))
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert capture(network, layer, images)[1].shape == (1, 5)
