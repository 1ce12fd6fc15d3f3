"""Weights in the form in which training leaves them: found, unwrapped and said; what is none is told by its name."""

import argparse
import pathlib
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from stages.explain.network.checkpoint import load_checkpoint
from storage.errors import UserError
from tests.stages.explain.networks import TinyNet, tiny

RAW, AVERAGED = tiny(seed=7), tiny(seed=8)


def saved(path, content):
    torch.save(content, path)
    return str(path)


def equal(network, other):
    return all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


class Trainer(nn.Module):
    """A network beside a loss with weights of its own, as Lightning keeps them."""

    def __init__(self, network):
        super().__init__()
        self.model, self.loss = network, nn.CrossEntropyLoss(weight=torch.ones(5))


def trained():
    """A step of a training loop: the network's optimizer has a state."""
    network = tiny(seed=7)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    return network, optimizer


def loop_of_the_tutorial():
    network, optimizer = trained()
    return network, {
        "epoch": 3,
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": torch.tensor(0.3),
    }


def loop_of_torchvision():
    """references/classification/train.py: --model-ema keeps an AveragedModel beside the model."""
    network, optimizer = trained()
    args = argparse.Namespace(model="tiny", lr=0.1, weights=None, output_dir=pathlib.Path("runs"), amp=False)
    return network, {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
        "epoch": 89,
        "args": args,
        "model_ema": AveragedModel(AVERAGED, use_buffers=True).state_dict(),
    }


def loop_of_imagenet_example():
    network, _ = trained()
    wrapped = nn.DataParallel(network)
    return network, {"epoch": 90, "arch": "tiny", "state_dict": wrapped.state_dict(), "best_acc1": torch.tensor(0.7)}


def nested(state):
    return {"ema": {"decay": 0.999, "module": state}, "metric": np.float64(0.81)}


NOT_WRAPPED: list[str] = []
FORMS = {
    # what is written: the network whose weights it holds, the content, what is said
    "bare": lambda: (RAW, RAW.state_dict(), NOT_WRAPPED),
    "state_dict": lambda: (RAW, {"state_dict": RAW.state_dict(), "epoch": 3}, ["weights at `state_dict`"]),
    "model": lambda: (RAW, {"model": RAW.state_dict()}, ["weights at `model`"]),
    "net": lambda: (RAW, {"net": RAW.state_dict(), "acc": 93.1}, ["weights at `net`"]),
    "the tutorial's loop": lambda: (*loop_of_the_tutorial(), ["weights at `model_state_dict`"]),
    "torchvision's loop": lambda: (
        *loop_of_torchvision(),
        ["weights at `model`, not at `model_ema`; model.checkpoint_key takes another"],
    ),
    "DataParallel": lambda: (
        *loop_of_imagenet_example(),
        ["weights at `state_dict`", "the prefix `module.` of its keys is left out"],
    ),
    "torch.compile": lambda: (
        RAW,
        torch.compile(RAW).state_dict(),
        ["the prefix `_orig_mod.` of its keys is left out"],
    ),
    "both": lambda: (
        RAW,
        nn.DataParallel(torch.compile(RAW)).state_dict(),
        ["the prefix `module._orig_mod.` of its keys is left out"],
    ),
    "backbone": lambda: (
        RAW,
        {f"backbone.{name}": value for name, value in RAW.state_dict().items()},
        ["the prefix `backbone.` of its keys is left out"],
    ),
    "Lightning": lambda: (
        RAW,
        {"state_dict": Trainer(RAW).state_dict(), "pytorch-lightning_version": "2.5.0", "loops": {"fit": 1}},
        [
            "weights at `state_dict`",
            "the prefix `model.` of its keys is left out",
            "1 more tensors are not the network's: loss.weight",
        ],
    ),
    "AveragedModel": lambda: (
        AVERAGED,
        AveragedModel(AVERAGED).state_dict(),
        ["the prefix `module.` of its keys is left out", "1 more tensors are not the network's: n_averaged"],
    ),
    "an average alone, nested": lambda: (AVERAGED, nested(AVERAGED.state_dict()), ["weights at `ema.module`"]),
    "timm's": lambda: (
        RAW,
        {"state_dict": RAW.state_dict(), "state_dict_ema": AVERAGED.state_dict(), "version": 2, "metric": 81.2},
        ["weights at `state_dict`, not at `state_dict_ema`; model.checkpoint_key takes another"],
    ),
    "the average first": lambda: (
        RAW,
        {"ema": AVERAGED.state_dict(), "net": RAW.state_dict()},
        ["weights at `net`, not at `ema`; model.checkpoint_key takes another"],
    ),
    "without counters": lambda: (
        RAW,
        {name: value for name, value in RAW.state_dict().items() if not name.endswith("num_batches_tracked")},
        NOT_WRAPPED,
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_weights_are_found_where_training_puts_them(tmp_path, form):
    wanted, content, said = form()
    network = tiny()
    told = load_checkpoint(network, saved(tmp_path / "model.pt", content))
    assert equal(network, wanted)
    assert told == [f"checkpoint: {line}" for line in said]


def test_weights_in_half_precision_are_said_to_be(tmp_path):
    network = tiny()
    told = load_checkpoint(network, saved(tmp_path / "model.pt", tiny(seed=7).half().state_dict()))
    assert told == ["checkpoint: float16 weights are computed with in float32"]
    assert network.head.weight.dtype == torch.float32
    assert torch.equal(network.head.weight, RAW.head.weight.half().float())


def test_the_key_chooses_among_several(tmp_path):
    _, content = loop_of_torchvision()
    network = tiny()
    told = load_checkpoint(network, saved(tmp_path / "model.pt", content), "model_ema")
    assert equal(network, AVERAGED)
    assert told[0] == "checkpoint: weights at `model_ema`"
    with pytest.raises(UserError, match=r"no weights at 'emma'; it has these: model, model_ema$"):
        load_checkpoint(network, str(tmp_path / "model.pt"), "emma")


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_safetensors_are_read_whatever_their_name(tmp_path, name):
    save_file(RAW.state_dict(), tmp_path / name)
    network = tiny()
    assert load_checkpoint(network, str(tmp_path / name)) == []
    assert equal(network, RAW)


def test_the_model_ema_of_timm_is_read(tmp_path):
    utils = pytest.importorskip("timm.utils", reason="needs the extra `timm`")
    ema = utils.ModelEmaV3(tiny(seed=7), decay=0.5)
    ema.update(AVERAGED)
    network = tiny()
    told = load_checkpoint(network, saved(tmp_path / "model.pt", {"state_dict_ema": ema.state_dict()}))
    assert equal(network, ema.module)
    assert told == [
        "checkpoint: weights at `state_dict_ema`",
        "checkpoint: the prefix `module.` of its keys is left out",
    ]


class Config:
    """What only pickle knows to read."""


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def scripted(path):
    torch.jit.script(tiny()).save(str(path))


def exported(path):
    torch.export.save(torch.export.export(tiny(), (torch.zeros(1, 3, 32, 32),)), str(path))


def cut_short(path):
    torch.save(tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])


def damaged_directory(path):
    torch.save(tiny().state_dict(), path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02")] ^= 1
    path.write_bytes(content)


def damaged_pickle(path):
    torch.save({"state_dict": RAW.state_dict(), "config": Config()}, path)
    path.write_bytes(path.read_bytes().replace(b"state_dict", b"stave_dict"))


def other_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("params.npy", b"")


ALONE = r"torch\.save\(model\.state_dict\(\), path\)$"
BROKEN = {
    # what lies there: how it is written, what is said
    "nothing": (lambda path: None, r"no file .*; give the path of a state dict saved with torch\.save$"),
    "empty": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\); copy or download it again$"),
    "LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n"),
        r"is a Git LFS pointer, not the weights themselves; fetch them: git lfs pull$",
    ),
    "web page": (
        lambda path: path.write_text("<!DOCTYPE html><html>Sign in"),
        r"is a web page, not the file behind it",
    ),
    "Keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), r"is HDF5, as Keras writes it"),
    "ONNX": (
        lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xa0\x01onnx::Conv"),
        r"is ONNX or TFLite, which have no gradients; give the state dict of the PyTorch network that it came from$",
    ),
    "TorchScript": (
        scripted,
        r"is TorchScript, a program; save its weights: torch\.save\(torch\.jit\.load\('model\.pt'\)\.state_dict\(\), "
        r"'weights\.pt'\)$",
    ),
    "exported program": (exported, r"is an exported program; save its weights: torch\.save\(torch\.export\.load\("),
    "cut short": (cut_short, r"is cut short: its end is missing; copy or download it again$"),
    "damaged directory": (damaged_directory, r"is a damaged archive \(BadZipFile: .*\); copy or download it again$"),
    "damaged pickle": (damaged_pickle, r"does not load with weights_only=True \(.*" + ALONE),
    "another archive": (other_archive, r"is an archive of params\.npy, not a checkpoint"),
    "whole model": (
        lambda path: torch.save(TinyNet(), path),
        r"does not load with weights_only=True \(it holds a tests\.stages\.explain\.networks\.TinyNet\).*"
        r"model = torch\.load\('model\.pt', weights_only=False\); " + ALONE,
    ),
    "pickle that runs code": (
        lambda path: path.write_bytes(pickle.dumps(Payload())),
        r"does not load with weights_only=True \(.*\), and without that it could run code of its own.*" + ALONE,
    ),
    "text": (
        lambda path: path.write_text("weights"),
        r"does not load with weights_only=True \(torch\.save did not write it, or it is damaged\)",
    ),
    "a tensor": (lambda path: torch.save(torch.zeros(3), path), r"holds no weights but a Tensor; save the state dict"),
    "a list": (lambda path: torch.save([1, 2], path), r"holds no weights but a list; save the state dict"),
    "numbers": (
        lambda path: torch.save({"state_dict": {"head.bias": 1}, "epoch": 2}, path),
        r"holds no weights but a dict of state_dict, epoch; save the state dict",
    ),
    "the optimizer alone": (
        lambda path: torch.save(trained()[1].state_dict(), path),
        r"holds no weights but a dict of state, param_groups; save the state dict",
    ),
    "a key missing": (
        lambda path: torch.save({k: v for k, v in RAW.state_dict().items() if k != "head.bias"}, path),
        r"does not fit the network: 1 keys missing \(head\.bias\), 0 unknown \(\); check model\.source$",
    ),
    "a key too many": (
        lambda path: torch.save({**RAW.state_dict(), "extra": torch.zeros(1)}, path),
        r"0 keys missing \(\), 1 unknown \(extra\)",
    ),
    "another shape": (
        lambda path: torch.save({**RAW.state_dict(), "head.bias": torch.zeros(7)}, path),
        r"does not fit the network: its last layer, head, has 7 outputs, and the network's 5; list the checkpoint's "
        r"classes in model\.classes, one a line, in the order of its outputs$",
    ),
    "other shapes": (
        lambda path: torch.save({name: value[None] for name, value in RAW.state_dict().items()}, path),
        r"\d+ tensors have another shape, such as head\.bias, \(1, 5\) in the checkpoint and \(5,\) in the network; "
        r"check model\.source$",
    ),
    "another network": (
        lambda path: torch.save({"model": nn.Linear(3, 4).state_dict()}, path),
        r"\(at `model`\) does not fit the network: \d+ keys missing \(features\.0\.weight, .*\), 2 unknown "
        r"\(weight, bias\)",
    ),
}


class TwoHeads(TinyNet):
    """As a distilled transformer's: both heads have the classes' number of outputs."""

    def __init__(self, classes):
        super().__init__(classes)
        self.head_dist = nn.Linear(8, classes)


def test_several_heads_of_other_classes_ask_for_these(tmp_path):
    path = saved(tmp_path / "model.pt", TwoHeads(3).state_dict())
    with pytest.raises(UserError) as caught:
        load_checkpoint(TwoHeads(10), path)
    assert str(caught.value) == (
        f"model.checkpoint: {path} does not fit the network: its heads (head, head_dist) have 3 outputs, and the "
        "network's 10; list the checkpoint's classes in model.classes, one a line, in the order of its outputs"
    )


def test_tensors_of_other_lengths_that_are_no_heads_are_another_network_s(tmp_path):
    """As the position tables of a transformer for another size of images."""
    network = nn.ModuleDict({"first": nn.Embedding(9, 2), "last": nn.Linear(2, 3)})
    path = saved(tmp_path / "model.pt", network.state_dict() | {"first.weight": torch.zeros(4, 2)})
    with pytest.raises(UserError, match=r"1 tensors have another shape, such as first\.weight, \(4, 2\) in the check"):
        load_checkpoint(network, path)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize(("write", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_holds_no_weights_is_told_by_what_it_is_and_never_executed(tmp_path, write, message, capsys):
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(tiny(), str(path))
    assert str(caught.value).startswith("model.checkpoint: ")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def pickled(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [torch.save, legacy, pickled])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            lambda: {"epoch": 3, "config": Config(), "state_dict": RAW.state_dict()},
            "torch.save(content['state_dict'], ",
        ),
        (
            lambda: {**RAW.state_dict(), "config": Config()},
            "torch.save({name: torch.as_tensor(value) for name, value in ",
        ),
        (
            lambda: {name: value.numpy() for name, value in RAW.state_dict().items()},
            "torch.save({name: torch.as_tensor(",
        ),
        (lambda: OrderedDict(RAW.state_dict(), config=Config()), "torch.save({name: torch.as_tensor(value) for name, "),
        (lambda: RAW, "torch.save(model.state_dict(), "),
    ],
)
def test_the_line_that_saves_weights_alone_does_so(tmp_path, monkeypatch, write, content, line):
    monkeypatch.chdir(tmp_path)
    write(content(), tmp_path / "model.pt")
    with pytest.raises(UserError, match="does not load with weights_only=True") as caught:
        load_checkpoint(tiny(), "model.pt")
    code = str(caught.value).partition("save its weights alone: ")[2]
    assert line in code
    exec(code, {"torch": torch, "pickle": pickle, "pathlib": pathlib, "path": "weights.pt"})
    network = tiny()
    load_checkpoint(network, "weights.pt")
    assert equal(network, RAW)


def test_damaged_safetensors_are_told(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(RAW.state_dict(), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"is no whole safetensors file \(.*\); copy or download it again"):
        load_checkpoint(tiny(), str(path))
