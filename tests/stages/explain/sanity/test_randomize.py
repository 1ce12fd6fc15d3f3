import pytest
import torch
import torchvision
from torch import nn

from stages.explain.sanity.randomize import Block, blocks_of, cascade, randomize
from tests.stages.explain.networks import mobilenet, resnet, tiny


class WithOwnParameters(nn.Module):
    """A class token of the network's own, and blocks that have a scale of their own beside their children."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.linspace(-1, 1, 3))
        self.blocks = nn.ModuleList([Scaled(), Scaled()])
        self.head = nn.Linear(3, 2)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 0.25))
        self.linear = nn.Linear(3, 3)


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(network, before):
    """Paths of the modules of which a parameter or a statistic has changed."""
    now = network.state_dict()
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], now[name])}


def test_a_resnet_is_randomised_stage_by_stage_from_the_output_down() -> None:
    names = [block.name for block in blocks_of(resnet())]
    assert names == ["fc", "layer4", "layer3", "layer2", "layer1", "conv1 to bn1"]


def test_a_sequence_of_many_blocks_is_cut_into_even_runs_behind_the_head() -> None:
    names = [block.name for block in blocks_of(mobilenet())]
    runs = ["features.16 to features.18", "features.12 to features.15", "features.8 to features.11"]
    assert names == ["classifier", *runs, "features.4 to features.7", "features.0 to features.3"]


@pytest.mark.parametrize("levels", [2, 3, 6, 50])
@pytest.mark.parametrize(
    "make",
    [tiny, resnet, WithOwnParameters, lambda: torchvision.models.vit_b_32(weights=None, num_classes=3)],
    ids=["tiny", "resnet", "own", "vit"],
)
def test_blocks_hold_every_parameter_once_and_are_no_more_than_asked(make, levels) -> None:
    network = make()
    blocks = blocks_of(network, levels)
    assert 2 <= len(blocks) <= levels
    held = [path for block in blocks for path in block.modules]
    assert sorted(held) == sorted({name.rpartition(".")[0] for name, _ in network.named_parameters()})
    # In module order, read from the output up.
    order = [path for path, _ in network.named_modules()]
    assert [order.index(path) for block in reversed(blocks) for path in block.modules] == sorted(map(order.index, held))


def test_parameters_of_the_network_itself_come_with_what_is_nearest_to_the_input() -> None:
    blocks = blocks_of(WithOwnParameters(), levels=3)
    assert [block.name for block in blocks] == ["head", "blocks.1", "the network's own to blocks.0"]
    assert blocks[2].modules == ("", "blocks.0", "blocks.0.linear")


def test_too_few_levels_or_nothing_to_randomise_is_refused() -> None:
    with pytest.raises(ValueError, match="levels is 1; take at least 2"):
        blocks_of(tiny(), 1)
    with pytest.raises(ValueError, match="no parameters"):
        blocks_of(nn.ReLU())


def test_each_level_randomises_one_block_more_and_the_network_stays_as_it_was() -> None:
    network = tiny()
    before, image = state(network), torch.rand(1, 3, 32, 32)
    output = network(image)
    levels = list(cascade(network, seed=5))
    expected = [{"head"}, {"head", "features.3"}, {"head", "features.3", "features.1"}]
    assert [changed(copy, before) for _, copy in levels] == [*expected, expected[-1] | {"features.0"}]
    # What is random at one level is the same at the next.
    assert torch.equal(levels[0][1].head.weight, levels[-1][1].head.weight)
    assert not changed(network, before)
    assert torch.equal(network(image), output)
    assert not network.training


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    network = tiny()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again, other = (next(cascade(network, seed=seed))[1] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_modules_are_initialised_as_when_they_were_made() -> None:
    network = nn.Sequential(nn.Linear(100, 50), nn.BatchNorm1d(50))
    network[0].weight.data.fill_(7.0)
    network[1].weight.data.fill_(7.0)
    network[1].running_mean.fill_(3.0)
    network[1].running_var.fill_(9.0)
    randomize(network, Block("all", ("0", "1")), seed=0)
    # torch's default: uniform within 1 / sqrt(fan in), and a uniform distribution of width w spreads w / sqrt(12).
    weight = network[0].weight.detach()
    assert float(weight.abs().max()) <= 0.1
    assert float(weight.std()) == pytest.approx(0.2 / 12**0.5, rel=0.05)
    assert bool((network[1].running_mean == 0).all())
    assert bool((network[1].running_var == 1).all())
    assert bool((network[1].weight == 1).all())


def test_other_parameters_become_noise_of_their_own_spread() -> None:
    network = nn.ParameterDict({"spread": torch.linspace(-3, 5, 20_000), "constant": torch.full((20_000,), -0.5)})
    randomize(network, Block("all", ("",)), seed=0)
    # A uniform distribution of width 8 has the standard deviation 8 / sqrt(12).
    spread, constant = network["spread"].detach(), network["constant"].detach()
    assert float(spread.std()) == pytest.approx(8 / 12**0.5, rel=0.03)
    assert float(spread.mean()) == pytest.approx(0, abs=0.06)
    assert float(constant.std()) == pytest.approx(0.5, rel=0.03)
