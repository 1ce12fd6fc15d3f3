import torch
from torch import nn

from stages.explain.opticam.fold import fold_batch_norms
from tests.stages.explain.networks import mobilenet, resnet, tiny


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_every_norm_after_a_convolution_is_folded_and_the_function_stays():
    for network in (mobilenet(), resnet(), tiny()):
        network = network.double()
        images = torch.rand(2, 3, 96, 96, dtype=torch.float64)
        folded = fold_batch_norms(network, images[:1])
        assert norms(network) > 0
        assert norms(folded) == 0
        torch.testing.assert_close(folded(images), network(images), rtol=0, atol=1e-10)


class TwiceUsed(nn.Module):
    """The convolution's output is used beside the norm too, so the norm must not be folded into it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return (self.norm(y) + y).mean((2, 3))


def test_a_convolution_whose_output_is_used_twice_is_left_alone():
    torch.manual_seed(0)
    network = TwiceUsed().eval()
    network.norm.running_var.fill_(4.0)
    network.norm.running_mean.fill_(1.0)
    images = torch.rand(2, 3, 16, 16)
    folded = fold_batch_norms(network, images[:1])
    assert norms(folded) == 1
    torch.testing.assert_close(folded(images), network(images))
