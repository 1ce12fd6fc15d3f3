"""From a dataset and a model on the command line to a run, and the config that it leaves for editing."""

import os
import shutil
from collections import Counter

import pytest
import yaml

from pipeline.config import load_config
from storage import Run
from tests.pipeline.datasets import MODEL
from tests.stages.explain.shards import picture

QUICK = (
    "view.size=32", "explain.steps=2", "explain.scan=false", "explain.batch_size=8", "explain.shard_size=32",
    "cluster={kind: local, workers: 1, threads: 1}",
)  # fmt: skip
SETS = [word for key in QUICK for word in ("--set", key)]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def flowers(tmp_path):
    """Class folders, named as two of the model's outputs."""
    for seed in range(6):
        folder = tmp_path / "flowers" / str(seed % 2)
        folder.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / f"{seed}.png")
    return tmp_path / "flowers"


@pytest.fixture
def cells(tmp_path):
    """YOLO: image 2 has objects of two classes."""
    root = tmp_path / "cells"
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for seed in range(4):
        picture(seed).save(root / f"images/val/{seed}.png")
        rows = [f"{seed % 2} .5 .5 .4 .4"] + ([f"{1 - seed % 2} .2 .2 .1 .1"] if seed == 2 else [])
        (root / f"labels/val/{seed}.txt").write_text("\n".join(rows) + "\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"path": ".", "val": "images/val", "names": ["0", "1"]}))
    return root


def test_class_folders_are_run_without_a_config_and_again_with_the_one_that_was_written(command, flowers, tmp_path):
    status, out, err = command("run", "--data", flowers, "--model", MODEL, *SETS)
    assert status == 0, err
    assert "config   runs/flowers-tiny.yaml (new; edit it" in out
    assert "dataset  folder: " in out
    assert Counter(Run.open("runs/flowers-tiny").table("samples")["status"].to_pylist()) == {"no_box": 6}
    written = tmp_path / "here/runs/flowers-tiny.yaml"
    edited = written.read_text() + "audit: {drop_outside: 0.4}\n"
    written.write_text(edited)
    status, out, err = command("run", "--data", flowers, "--model", MODEL, *SETS)
    assert status == 0, err
    assert "config   runs/flowers-tiny.yaml (as it is there)" in out
    assert "0 of 1 shards computed, 1 were done" in out
    assert written.read_text() == edited
    assert Run.open("runs/flowers-tiny").info.section("audit")["drop_outside"] == 0.4


def test_yolo_is_run_without_a_config_a_sample_for_each_class(command, cells):
    status, out, err = command("run", "--data", cells, "--model", MODEL, "--run", "mine", *SETS)
    assert status == 0, err
    assert "config   runs/mine.yaml (new" in out
    assert "dataset  yolo: " in out
    samples = Run.open("runs/mine").table("samples").to_pylist()
    assert {row["sample_id"].rpartition("/")[2] for row in samples} == {
        "0.png#0", "1.png#1", "2.png#0", "2.png#1", "3.png#1",
    }  # fmt: skip
    assert load_config("runs/mine.yaml").dataset.reader == "yolo"


def test_init_writes_a_config_and_computes_nothing(command, cells, tmp_path):
    status, out, _ = command("init", cells, "--model", "timm:resnet50")
    assert status == 0
    assert "sightline check runs/cells-resnet50.yaml, then sightline run runs/cells-resnet50.yaml" in out
    config = load_config("runs/cells-resnet50.yaml")
    assert config.run == str(tmp_path / "here/runs/cells-resnet50")
    assert (config.dataset.reader, config.dataset.path) == ("yolo", str(cells))
    assert (config.model.source, config.view.geometry) == ("timm:resnet50", "auto")
    assert [path.name for path in (tmp_path / "here/runs").iterdir()] == ["cells-resnet50.yaml"]


def test_paths_on_the_command_line_start_at_the_working_directory(command, cells, tmp_path):
    status, _, _ = command("init", "../cells", "--model", "python:nets/model.py:make")
    assert status == 0
    config = load_config("runs/cells-make.yaml")
    assert config.dataset.path == str(tmp_path / "here/../cells")
    assert config.model.source == f"python:{tmp_path}/here/nets/model.py:make"
    assert config.view.geometry == "squash"  # a factory does not say how its network was evaluated


def test_a_config_of_another_dataset_is_kept_and_told(command, cells, flowers, tmp_path):
    command("init", cells, "--run", "mine")
    before = (tmp_path / "here/runs/mine.yaml").read_text()
    status, _, err = command("run", "--data", flowers, "--model", MODEL, "--run", "mine")
    assert status == 2
    assert err.startswith(f"error: runs/mine.yaml exists, and its dataset.path is {cells}, not {flowers}; give")
    assert (tmp_path / "here/runs/mine.yaml").read_text() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", MODEL), "--model and --run go with --data"),
        (("--run", "mine"), "--model and --run go with --data"),
        (("mine.yaml", "--data", "x"), "give a config or --data, not both"),
        (("--data", "x"), "--data needs --model"),
        (("--data", "x", "--model", ""), "--data needs --model"),
        (("--data", "gone", "--model", MODEL), "there is no "),
        (("--data", "x", "--model", MODEL, "--run", "../mine"), "--run '../mine' is no name of a run"),
    ],
)
def test_what_does_not_go_together_is_told(command, tmp_path, words, told):
    status, _, err = command("run", *words)
    assert status == 2
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "here/runs").exists()


def test_a_model_without_its_source_leaves_no_config_in_the_way(command, flowers, tmp_path):
    for words in (("run", "--data", flowers, "--model", "resnet18"), ("init", flowers, "--model", "resnet18")):
        status, _, err = command(*words)
        assert status == 2
        assert err.startswith("error: model.source 'resnet18' is not understood; write torchvision:NAME, timm:NAME")
    assert not (tmp_path / "here/runs").exists()


def test_a_file_name_that_is_no_text_is_told(command, flowers):
    bad = os.path.join(os.fsencode(flowers), b"1", b"caf\xe9.png")
    shutil.copy(flowers / "1/1.png", bad)
    status, _, err = command("init", flowers)
    assert status == 2
    assert err == (
        f"error: the name of a file below {flowers} is not UTF-8: b'1/caf\\xe9.png'; rename it, "
        "`convmv -r -f latin1 -t utf8 --notest` does so for a whole folder\n"
    )
