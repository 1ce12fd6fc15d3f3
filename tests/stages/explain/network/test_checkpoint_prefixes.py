"""Several networks' weights in one state dict, each after a prefix: which are taken, and how others are named."""

import pytest
import torch

from stages.explain.network.checkpoint import load_checkpoint
from storage.errors import UserError
from tests.stages.explain.network.test_checkpoint import AVERAGED, RAW, equal, saved
from tests.stages.explain.networks import tiny


def side_by_side(*named):
    """One state dict that has several networks' weights, each after a prefix of its own."""
    return {f"{prefix}.{name}": value for prefix, network in named for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("average", "own"), [("ema_model.module", "model"), ("teacher", "student"), ("teacher.backbone", "backbone")]
)
def test_an_average_in_the_same_state_dict_comes_last_and_is_named(tmp_path, average, own):
    network, state = tiny(), side_by_side((average, AVERAGED), (own, RAW)) | {"loss.weight": torch.ones(2)}
    path = saved(tmp_path / "model.pt", {"state_dict": state})
    told = load_checkpoint(network, path)
    assert equal(network, RAW)
    assert told == [
        f"checkpoint: weights at `state_dict.{own}`, not at `state_dict.{average}`; model.checkpoint_key takes another",
        f"checkpoint: the prefix `{own}.` of its keys is left out",
        "checkpoint: 1 more tensors are not the network's: loss.weight",
    ]


@pytest.mark.parametrize("key", ["teacher", "teacher.", "state_dict.teacher"])
def test_the_key_names_a_prefix_too(tmp_path, key):
    network = tiny()
    path = saved(tmp_path / "model.pt", {"state_dict": side_by_side(("teacher", AVERAGED), ("student", RAW))})
    told = load_checkpoint(network, path, key)
    assert equal(network, AVERAGED)
    assert told[:2] == [
        "checkpoint: weights at `state_dict.teacher`",
        "checkpoint: the prefix `teacher.` of its keys is left out",
    ]
    with pytest.raises(UserError, match=r"'pupil'; it has these: state_dict\.teacher, state_dict\.student$"):
        load_checkpoint(network, path, "pupil")


def test_an_average_beside_weights_without_a_prefix_comes_last(tmp_path):
    network = tiny()
    path = saved(tmp_path / "model.pt", side_by_side(("ema", AVERAGED)) | RAW.state_dict())
    assert load_checkpoint(network, path) == [
        "checkpoint: weights at the file's top, not at `ema`; model.checkpoint_key takes another"
    ]
    assert equal(network, RAW)
    load_checkpoint(network, path, "ema")
    assert equal(network, AVERAGED)


def test_a_dict_s_name_comes_before_a_prefix_of_that_name(tmp_path):
    network = tiny()
    path = saved(tmp_path / "model.pt", {"ema": side_by_side(("model", AVERAGED)), "model": RAW.state_dict()})
    assert load_checkpoint(network, path, "model") == ["checkpoint: weights at `model`"]
    assert equal(network, RAW)
