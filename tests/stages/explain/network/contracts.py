"""Factories of small networks, each with a contract of its own: some can be explained, some cannot."""

from __future__ import annotations

from collections import namedtuple

import torch
import torch.nn.functional as F
from torch import nn

from tests.stages.explain.networks import tiny


class Wrapped(nn.Module):
    """The tiny network, with something done before or after it."""

    def __init__(self, before=lambda x: x, after=lambda z: z, classes=5, channels=3):
        super().__init__()
        self.inner = tiny(classes=classes)
        if channels != 3:
            torch.manual_seed(4)
            self.inner.features[0] = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.before, self.after = before, after

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


def logits() -> nn.Module:
    return Wrapped()


# What the outputs are


def softmax_module() -> nn.Module:
    return nn.Sequential(tiny(), nn.Softmax(1))


def softmax_function() -> nn.Module:
    return Wrapped(after=lambda z: z.softmax(1))


def sharp(scale=60.0) -> nn.Module:
    """Sure of itself: p of the best class is above .999 for most images."""
    network = tiny()
    network.head.weight.data.mul_(scale)
    network.head.bias.data.mul_(scale)
    return network


def sharp_softmax_module() -> nn.Module:
    return nn.Sequential(sharp(), nn.Softmax(1))


def sharp_softmax_function() -> nn.Module:
    network = Wrapped(after=lambda z: F.softmax(z, dim=1))
    network.inner = sharp()
    return network


def log_softmax_module() -> nn.Module:
    return nn.Sequential(tiny(), nn.LogSoftmax(1))


def log_softmax_function() -> nn.Module:
    return Wrapped(after=lambda z: F.log_softmax(z, dim=1))


def sigmoid_module() -> nn.Module:
    return nn.Sequential(tiny(), nn.Sigmoid())


def sigmoid_function() -> nn.Module:
    return Wrapped(after=torch.sigmoid)


def one_logit() -> nn.Module:
    return Wrapped(classes=1)


def one_logit_flat() -> nn.Module:
    return Wrapped(classes=1, after=lambda z: z.squeeze(1))


def one_sigmoid() -> nn.Module:
    return nn.Sequential(tiny(classes=1), nn.Sigmoid())


def one_sigmoid_flat() -> nn.Module:
    return Wrapped(classes=1, after=lambda z: torch.sigmoid(z).squeeze(1))


def shares() -> nn.Module:
    """In [0, 1], and neither sigmoids nor a distribution."""
    return Wrapped(after=lambda z: (z.square() / (1 + z.square())).clamp(0, 1))


def mean_of_sigmoids() -> nn.Module:
    """As an average over members or crops gives them."""
    return Wrapped(after=lambda z: torch.stack([z.sigmoid(), (z + 1).sigmoid()]).mean(0))


def small_logits() -> nn.Module:
    """Of a linear layer, and by chance in [0, 1]."""
    network = tiny()
    network.head.weight.data.mul_(0.1)
    network.head.bias.data.fill_(0.5)
    return network


def tanh() -> nn.Module:
    return Wrapped(after=torch.tanh)


# Where the logits are


def in_dict() -> nn.Module:
    return Wrapped(after=lambda z: {"logits": z, "features": None})


Pair = namedtuple("Pair", ["logits", "auxiliary"])


def in_named_tuple() -> nn.Module:
    return Wrapped(after=lambda z: Pair(z, None))


def in_tuple() -> nn.Module:
    return Wrapped(after=lambda z: (z, z.mean()))


def in_map() -> nn.Module:
    return Wrapped(after=lambda z: z[:, :, None, None])


def detector() -> nn.Module:
    return Wrapped(after=lambda z: [{"boxes": z, "scores": z}])


def segmenter() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def other_dict() -> nn.Module:
    return Wrapped(after=lambda z: {"prediction": z, "features": z})


def squeezed() -> nn.Module:
    return Wrapped(after=lambda z: z.squeeze() if len(z) > 1 else z[0])


# What spoils gradients, batches and results


def no_grad() -> nn.Module:
    network = Wrapped()
    network.forward = torch.no_grad()(network.forward)
    return network


class FrozenFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = tiny().features, nn.Linear(8, 5)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features.mean((2, 3)))


def detached() -> nn.Module:
    network = Wrapped(after=lambda z: z)
    network.inner.pool.register_forward_hook(lambda module, args, output: output.detach())
    return network


def inference() -> nn.Module:
    network = Wrapped()
    network.forward = torch.inference_mode()(network.forward)
    return network


def numpy_inside() -> nn.Module:
    return Wrapped(after=lambda z: torch.from_numpy(z.detach().numpy().copy()))


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2


def no_backward() -> nn.Module:
    return Wrapped(after=NoBackward.apply)


def only_without_gradients() -> nn.Module:
    def check(x):
        if torch.is_grad_enabled():
            raise RuntimeError("call me in evaluation only")
        return x

    return Wrapped(before=check)


def in_place() -> nn.Module:
    return Wrapped(before=lambda x: x.mul_(0.5).add_(0.1))


def rounded() -> nn.Module:
    return Wrapped(after=lambda z: (z * 1000).round())


class AlwaysTraining(nn.Module):
    """A module that stays in training mode."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def train(self, mode=True):
        return super().train(True)

    def forward(self, x):
        return self.inner(x)


def dropout_module() -> nn.Module:
    return nn.Sequential(tiny(), AlwaysTraining(nn.Dropout(0.5)))


class FunctionalDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny()

    def forward(self, x):
        return self.inner.head(F.dropout(self.inner.pool(self.inner.features(x)).flatten(1), 0.5))


def noise() -> nn.Module:
    return Wrapped(before=lambda x: x + 0.5 * torch.randn_like(x))


def batch_norm_training() -> nn.Module:
    network = tiny()
    network.features[1] = AlwaysTraining(network.features[1])
    return network


def softmax_over_batch() -> nn.Module:
    return nn.Sequential(tiny(), nn.Softmax(0))


def centred_on_batch() -> nn.Module:
    return Wrapped(before=lambda x: x - x.mean(0))


def fixed_batch() -> nn.Module:
    return Wrapped(before=lambda x: x.view(1, 3, 32, 32))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny()

    def forward(self, image, metadata):
        return self.inner(image) + metadata


class KeywordInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny()

    def forward(self, image, *, age):
        return self.inner(image) + age


def zeros() -> nn.Module:
    network = tiny()
    for parameter in network.head.parameters():
        parameter.data.zero_()
    return network


def dead() -> nn.Module:
    """Its second activation is 0 for every image."""
    network = tiny()
    network.features[3].bias.data.fill_(-1000.0)
    return network


def nan_weights() -> nn.Module:
    network = tiny()
    network.features[3].weight.data[0, 0, 0, 0] = torch.nan
    return network


def overflowing() -> nn.Module:
    return Wrapped(after=lambda z: torch.exp(1000 * z.abs()))


def lazy() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def one_size() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 64 * 64, 4))


def raising() -> nn.Module:
    def fail(x):
        raise ValueError("the tokenizer is missing")

    return Wrapped(before=fail)


# What the input is


def one_channel() -> nn.Module:
    return Wrapped(channels=1)


def four_channels() -> nn.Module:
    return Wrapped(channels=4)


def half() -> nn.Module:
    return tiny().half()


def bfloat16() -> nn.Module:
    return tiny().bfloat16()


def double() -> nn.Module:
    return tiny().double()


def compiled() -> nn.Module:
    return torch.compile(tiny())
