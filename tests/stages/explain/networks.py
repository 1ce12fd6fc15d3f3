"""Small networks with random weights and batch-norm statistics that make folding matter."""

import torch
import torchvision
from torch import nn


def randomized(network, seed=0):
    """Random batch norms whose statistics come from data: without that, no signal gets through a deep network."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
            module.momentum = None  # the plain mean over what it sees
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
    return network.eval()


def mobilenet(classes=10):
    torch.manual_seed(1)
    return randomized(torchvision.models.mobilenet_v2(weights=None, num_classes=classes))


def resnet(classes=10):
    torch.manual_seed(2)
    return randomized(torchvision.models.resnet18(weights=None, num_classes=classes))


def resnet_features(network):
    return nn.Sequential(*list(network.children())[:-2])


class TinyNet(nn.Module):
    """Two convolutions and a linear head; quick enough for many runs."""

    def __init__(self, classes=5, channels=8):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.pool(self.features(x)).flatten(1))


def tiny(seed=0, **sizes):
    torch.manual_seed(seed)
    return randomized(TinyNet(**sizes), seed)


class OneChannel(nn.Module):
    """One feature map, the brightness of 4 x 4 px: every convex combination of the layer's maps is that map."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 1, 4, stride=4), nn.ReLU())
        self.features[0].weight.data.fill_(1 / 48)
        self.features[0].bias.data.fill_(3.0)  # normalised pixels are at least -2.2
        self.head = nn.Linear(1, 5)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def one_channel():
    torch.manual_seed(3)
    return OneChannel()
