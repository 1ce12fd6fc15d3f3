"""Classifiers that timm's and Hugging Face's own code downloads, from a hub on loopback, with random weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.hub import hub_of

pytest.importorskip("transformers", reason="needs the extra `transformers`")
pytest.importorskip("timm", reason="needs the extra `timm`")

ROOT = Path(__file__).parents[4]
LOAD = """
import sys
from pathlib import Path
from stages.explain import ModelSettings, load_classifier
from storage.errors import UserError
for source in sys.argv[1:]:
    try:
        network = load_classifier(ModelSettings(source=source), None if source.startswith("timm") else 32)
    except UserError as error:
        print(error)
    else:
        mean = [round(number, 3) for number in network.mean.flatten().tolist()]
        print(*network.class_names, network.view, mean, network.digest())
"""
IMAGE_PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.fixture
def models(tmp_path):
    """Folders as both libraries save them for a hub; the classifier of transformers lacks its image processor."""
    import timm
    import transformers

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    names = ["ant", "bee", "wasp"]
    timm.models.save_for_hf(network.eval(), str(tmp_path / "hub/some/timm"), model_config={"label_names": names})
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "hub/some/resnet")
    return tmp_path / "hub"


def python(code, *arguments, **variables):
    """The lines that a new process prints; libraries read the address of their hub when they are imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**kept, "HF_HUB_DISABLE_TELEMETRY": "1", **{name: str(value) for name, value in variables.items()}},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_models_of_a_hub_are_those_of_their_folders_and_need_it_once(models, tmp_path):
    (models / "some/resnet/preprocessor_config.json").write_text(json.dumps(IMAGE_PROCESSOR))
    wanted = python(LOAD, f"timm:{models}/some/timm", f"huggingface:{models}/some/resnet")
    assert wanted[0].startswith("ant bee wasp resize_crop 160 px after 168 px")
    assert wanted[1].startswith("ant bee wasp squash 32 px, bilinear [0.5, 0.4, 0.3] ")
    named = ("timm:hf-hub:some/timm", "huggingface:some/resnet")
    with hub_of(models) as address:
        assert python(LOAD, *named, HF_ENDPOINT=address, HF_HOME=tmp_path / "home") == wanted
    assert python(LOAD, *named, HF_HUB_OFFLINE=1, HF_HOME=tmp_path / "home") == wanted


@pytest.mark.parametrize("cut", ["offline", "dead"])
def test_an_image_processor_out_of_reach_is_not_taken_for_none(models, tmp_path, cut):
    """The weights alone are in the cache: ImageNet's mean and std would be taken, and nothing would say so."""
    home = tmp_path / "home"
    with hub_of(models) as address:
        fetch = "import transformers; transformers.AutoModelForImageClassification.from_pretrained('some/resnet')"
        python(fetch, HF_ENDPOINT=address, HF_HOME=home)
    gone = {"HF_HUB_OFFLINE": 1} if cut == "offline" else {"HF_ENDPOINT": address}
    (line,) = python(LOAD, "huggingface:some/resnet", HF_HOME=home, **gone)
    assert line.startswith("model.source: huggingface:some/resnet: whether it has an image processor cannot be asked (")
    assert line.endswith("; load it once with a network, or name a folder that holds all of its files")


def test_that_there_is_no_image_processor_is_remembered(models, tmp_path):
    wanted = python(LOAD, f"huggingface:{models}/some/resnet")
    assert "[0.485, 0.456, 0.406]" in wanted[0]
    with hub_of(models) as address:
        assert python(LOAD, "huggingface:some/resnet", HF_ENDPOINT=address, HF_HOME=tmp_path / "home") == wanted
    assert python(LOAD, "huggingface:some/resnet", HF_HUB_OFFLINE=1, HF_HOME=tmp_path / "home") == wanted


def test_a_name_that_the_hub_does_not_have_is_no_missing_network(models, tmp_path):
    with hub_of(models) as address:
        told = python(LOAD, "timm:hf-hub:some/none", "huggingface:some/none", HF_ENDPOINT=address, HF_HOME=tmp_path)
    remedy = "the hub has no such model, or only for those who may see it: correct the name, or set HF_TOKEN"
    assert [line.rpartition("; ")[2] for line in told] == [remedy, remedy]


def test_an_image_processor_that_cannot_be_read_is_told(models):
    path = models / "some/resnet/preprocessor_config.json"
    path.write_text(json.dumps(IMAGE_PROCESSOR)[:-9])
    (line,) = python(LOAD, f"huggingface:{path.parent}")
    assert line.startswith(f"model.source: huggingface:{path.parent}: its image processor cannot be read (OSError: ")
    assert line.endswith("; correct the file")
