"""How many channels a network takes, and whether it normalises them itself."""

import pytest
import torch

from stages.explain import ModelSettings, load_classifier
from stages.explain.network.inputs import OwnNormalization, own_normalization
from storage.errors import UserError
from tests.stages.explain.network import contracts, normalizing

SIZE = 32
IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def load(factory, **settings):
    place = next(module for module in (normalizing, contracts) if hasattr(module, factory)).__name__
    return load_classifier(ModelSettings(source=f"python:{place}:{factory}", **settings), SIZE)


@pytest.mark.parametrize(
    ("factory", "place", "scale"),
    [
        ("normalize_first", "0 (Normalize): it gets pixels in [0, 1]", 1),
        ("normalize_of_torchvision", "0 (Normalize): it gets pixels in [0, 1]", 1),
        ("own_buffers", "the network itself (OwnBuffers): it gets pixels in [0, 1]", 1),
        ("own_buffers_of_bytes", "the network itself (OwnBuffers): it gets pixels in 0 to 255", 255),
        ("one_number_of_torchvision", "before (Normalize): it gets pixels in [0, 1]", 1),
        ("composed", "before.0 (Normalize): it gets pixels in [0, 1]", 1),
        ("composed_by_v2", "before.transforms.0 (Normalize): it gets pixels in [0, 1]", 1),
        ("Numbers", "the network itself (Numbers): it gets pixels in [0, 1]", 1),
        ("OneBuffer", "the network itself (OneBuffer): it gets pixels in [0, 1]", 1),
        ("Parameters", "the network itself (Parameters): it gets pixels in [0, 1]", 1),
        ("makes_bytes", "the network itself (Scales): it gets pixels in [0, 1]", 1),
        ("takes_bytes_and_makes_shares", "the network itself (Scales): it gets pixels in 0 to 255", 255),
        ("OnlyDivides", "the network itself (OnlyDivides): it gets pixels in 0 to 255", 255),
        ("ResizesFirst", "norm (Normalize): it gets pixels in [0, 1]", 1),
    ],
)
def test_a_network_that_normalises_its_input_is_not_given_normalised_pixels(factory, place, scale):
    classifier = load(factory)
    assert classifier.notes == (f"normalises its input itself, in {place}",)
    wanted = getattr(normalizing, factory)().eval()(IMAGES * scale)
    torch.testing.assert_close(classifier(IMAGES), wanted)


def test_what_it_normalises_by_is_as_before():
    classifier = load("own_buffers")
    assert torch.equal(classifier.network.pixel_mean.flatten(), torch.tensor(normalizing.MEAN))
    assert load("normalize_of_torchvision").network[0].mean == normalizing.MEAN
    assert isinstance(load("Parameters").network.mean, torch.nn.Parameter)
    assert "mean" not in vars(load("Numbers").network)


@pytest.mark.parametrize(
    ("factory", "place"), [("Squares", "norm (Normalize)"), ("PadsFirst", "the network itself (PadsFirst)")]
)
def test_a_normalisation_that_cannot_be_followed_is_named_with_the_key(factory, place):
    classifier = load(factory)
    assert classifier.notes == (
        f"has a normalisation of its own, in {place}, that cannot be followed: it gets ImageNet's mean and std too; if "
        "it takes pixels in [0, 1], set model.mean: [0, 0, 0] and model.std: [1, 1, 1]",
    )
    torch.testing.assert_close(classifier.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    given = load(factory, mean=(0, 0, 0), std=(1, 1, 1))
    assert given.notes == ()
    torch.testing.assert_close(given(IMAGES), getattr(normalizing, factory)().eval()(IMAGES))


def test_a_normalisation_is_seen_where_the_output_does_not_change():
    own = own_normalization(normalizing.sure_of_itself().eval(), IMAGES[:1])
    assert own == OwnNormalization("0 (Normalize)", 1.0)


@pytest.mark.parametrize("factory", ["Remembers", "Axes"])
def test_numbers_that_the_network_does_not_normalise_by_are_no_normalisation(factory):
    classifier = load(factory)
    assert classifier.notes == ()
    torch.testing.assert_close(classifier.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_a_mean_that_is_given_is_taken_and_the_second_one_said():
    classifier = load("own_buffers", mean=(0.1, 0.1, 0.1), std=(1, 1, 1))
    assert classifier.notes == (
        "normalises its input itself, in the network itself (OwnBuffers), and gets it normalised by model.mean and std "
        "already",
    )
    torch.testing.assert_close(classifier(IMAGES), normalizing.own_buffers().eval()(IMAGES - 0.1))


def test_a_network_of_one_channel_sees_gray():
    classifier = load("one_channel")
    red, green, blue = IMAGES.unbind(1)
    gray = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    torch.testing.assert_close(classifier(IMAGES), contracts.one_channel().eval()(gray))
    assert classifier.notes == (
        "takes one channel: the view is shown to it in gray (.299 R + .587 G + .114 B)",
        "gray is given to it in [0, 1]; model.mean and std, each thrice the same, normalise it",
    )
    given = load("one_channel", mean=(0.13, 0.13, 0.13), std=(0.3, 0.3, 0.3))
    torch.testing.assert_close(given(IMAGES), contracts.one_channel().eval()((gray - 0.13) / 0.3))
    assert len(given.notes) == 1


def test_three_different_means_for_one_channel_are_refused():
    with pytest.raises(UserError, match=r"takes one channel; give one number three times"):
        load("one_channel", mean=(0.485, 0.456, 0.406), std=(0.3, 0.3, 0.3))


@pytest.mark.parametrize(("factory", "name"), [("half", "float16"), ("bfloat16", "bfloat16"), ("double", "float64")])
def test_weights_of_another_precision_are_computed_with_in_float32(factory, name):
    classifier = load(factory)
    assert classifier.notes == (f"{name} weights are computed with in float32",)
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in classifier.state_dict().values())
    wanted = getattr(contracts, factory)().float().eval()
    torch.testing.assert_close(classifier(IMAGES), wanted((IMAGES - classifier.mean) / classifier.std))
