import pytest
import torch
import torchvision
from torch import nn

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


@pytest.mark.parametrize(
    ("name", "layer", "channels", "grid", "prefix"),
    [
        ("vit_tiny_patch16_224", "blocks.11.norm1", 192, (14, 14), 1),  # before the last attention, as in the paper
        ("deit_tiny_distilled_patch16_224", "blocks.11.norm1", 192, (14, 14), 2),
        # Attention by other names, whose weights are (N, heads, T, T).
        ("convit_tiny", "blocks.11.norm1", 192, (14, 14), 1),
        ("levit_128s", "stages.2.blocks.2.mlp.ln2", 384, (4, 4), 0),
        # Tokens without attention: the last ones, not the patch embedding.
        ("mixer_s32_224", "norm", 512, (7, 7), 0),
        ("resmlp_12_224", "norm", 384, (14, 14), 0),
        # A convolution on tokens, which are a map for a moment.
        ("twins_svt_small", "blocks.3.3.norm1", 512, (7, 7), 0),
    ],
)
def test_auto_finds_the_tokens_of_the_image_in_transformers_and_mixers(name, layer, channels, grid, prefix):
    timm = pytest.importorskip("timm", reason="needs the extra `timm`")
    torch.manual_seed(0)
    found = find_target_layer(timm.create_model(name, num_classes=5).eval(), EXAMPLE)
    assert (str(found), found.channels, found.grid, found.prefix_tokens) == (layer, channels, grid, prefix)


def test_a_convolution_on_tokens_can_be_named():
    timm = pytest.importorskip("timm", reason="needs the extra `timm`")
    found = find_target_layer(timm.create_model("twins_svt_small", num_classes=5).eval(), EXAMPLE, "pos_block.3.proj")
    assert (found.layout, found.channels, found.grid) == ("nchw", 512, (7, 7))


class MH(nn.Module):
    """Self-attention by a name that says nothing, with a dropout on its weights (N, heads, T, T)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.drop, self.out = heads, nn.Linear(width, 3 * width), nn.Dropout(0.1), nn.Linear(8, 8)

    def forward(self, tokens):
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = self.drop((q @ k.transpose(-2, -1)).softmax(-1))
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Vit(nn.Module):
    """A transformer as people write one, of patches of 8 px, which judges by its class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.mixing = nn.ModuleList(MH(8, 2) for _ in range(2))
        self.last, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        x = torch.cat([self.token, self.patches(x).flatten(2).transpose(1, 2)], 1)
        for norm, mix in zip(self.norms, self.mixing, strict=True):
            x = x + mix(norm(x))
        return self.head(self.last(x)[:, 0])


def test_auto_takes_tokens_that_the_class_token_still_hears_and_no_weights_of_attention():
    found = find_target_layer(Vit(), EXAMPLE[..., :64, :64])
    # After the second attention the patches' tokens go nowhere.
    assert (str(found), found.layout, found.grid, found.prefix_tokens) == ("norms.1", "tokens", (8, 8), 1)


class Gated(nn.Module):
    """Maps, a gate of one channel on them, and a decoder beside the head that makes a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gate = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 1, 1)
        self.decoder, self.head = nn.ConvTranspose2d(6, 3, 4, 4), nn.Linear(6, 5)

    def forward(self, x):
        maps = self.body(x)
        maps = maps * self.gate(maps).sigmoid()
        self.picture = self.decoder(maps)
        return self.head(maps.mean((2, 3)))


def test_auto_takes_no_gate_and_nothing_that_the_logits_do_not_depend_on():
    found = find_target_layer(Gated(), EXAMPLE)
    assert (str(found), found.channels, found.grid) == ("body", 6, (56, 56))


@pytest.mark.parametrize(("network", "path"), [(Gated(), "decoder"), (Vit(), "last")])
def test_a_named_layer_beside_the_way_to_the_logits_is_refused(network, path):
    with pytest.raises(ValueError, match=f"^the logits do not depend on the feature maps of {path}, as those of an"):
        find_target_layer(network, EXAMPLE[..., :64, :64], path)
