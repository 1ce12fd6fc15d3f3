"""Classifiers of timm and of Hugging Face, in folders that these libraries write, with random weights."""

import json

import pytest
import torch
from PIL import Image

from stages.explain import ModelSettings, ViewSettings, load_classifier
from stages.explain.network.outputs import Outputs
from stages.explain.network.view import render_view
from stages.explain.plan import make_opticam
from storage.errors import UserError
from tests.stages.explain.shards import picture

IMAGE = picture(3, (60, 44))


def refused(source, **settings):
    with pytest.raises(UserError) as caught:
        load_classifier(ModelSettings(source=source, **settings), None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and nothing in the cache."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra `timm` or `transformers`")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


class TestTimm:
    @pytest.fixture(autouse=True)
    def timm(self):
        return pytest.importorskip("timm", reason="needs the extra `timm`")

    @pytest.fixture
    def folder(self, tmp_path, timm):
        """A classifier of four classes, saved as timm saves one for a hub."""
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", num_classes=4)
        network.pretrained_cfg |= {"crop_pct": 0.8, "interpolation": "bicubic", "mean": (0.1, 0.2, 0.3)}
        names = ["ant", "bee", "fly", "wasp"]
        timm.models.save_for_hf(network.eval(), str(tmp_path / "mine"), model_config={"label_names": names})
        return tmp_path / "mine", network

    def test_a_folder_is_loaded_with_its_names_normalisation_and_view(self, folder, timm):
        path, network = folder
        classifier = load_classifier(ModelSettings(source=f"timm:{path}"), None)
        assert classifier.class_names == ("ant", "bee", "fly", "wasp")
        assert classifier.view == ViewSettings("resize_crop", size=160, resize=200, interpolation="bicubic")
        config = timm.data.resolve_model_data_config(network)
        wanted = network(timm.data.create_transform(**config)(IMAGE)[None])
        view = torch.from_numpy(render_view(IMAGE, classifier.view))[None] / 255
        torch.testing.assert_close(classifier(view), wanted, atol=1e-4, rtol=1e-4)

    def test_a_name_with_a_checkpoint_has_imagenet_s_classes(self, timm, tmp_path):
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "model.pt")
        settings = ModelSettings(source="timm:test_resnet", checkpoint=str(tmp_path / "model.pt"))
        classifier = load_classifier(settings, 64)
        assert len(classifier.class_names) == 1000
        assert classifier.class_names[281] == "tabby, tabby cat"

    def test_another_number_of_classes_than_the_weights_have_makes_no_random_head(self, folder, tmp_path):
        (tmp_path / "classes.txt").write_text("a\nb\n")
        assert refused(f"timm:{folder[0]}", classes=str(tmp_path / "classes.txt")) == (
            f"model.classes lists 2 classes but timm:{folder[0]} has 4 outputs; give one class a line, in the order "
            "of the outputs"
        )

    @pytest.mark.parametrize("source", ["timm:resnet18.a1_in1k", "timm:hf-hub:somebody/a-net"])
    def test_weights_that_cannot_be_had_offline_are_no_traceback(self, offline, source):
        message = refused(source)
        assert message.startswith(f"model.source: {source} cannot be had (")
        assert message.endswith(
            "; without a network, name a folder that holds it, fill the library's cache beforehand (HF_HOME, "
            "TORCH_HOME), or give model.checkpoint"
        )

    def test_a_network_of_one_channel_has_its_mean_thrice(self, timm, tmp_path):
        network = timm.create_model("test_resnet", num_classes=4, in_chans=1)
        network.pretrained_cfg |= {"mean": (0.4,), "std": (0.2,), "input_size": (1, 160, 160)}
        timm.models.save_for_hf(network.eval(), str(tmp_path / "mine"), model_config={"num_classes": 4})
        config = json.loads((tmp_path / "mine" / "config.json").read_text())
        config["model_args"] = {"in_chans": 1}
        (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
        classifier = load_classifier(ModelSettings(source=f"timm:{tmp_path / 'mine'}"), None)
        assert (classifier.gray, classifier.mean.flatten().tolist()) == (True, pytest.approx([0.4] * 3))

    def test_a_missing_folder_and_an_unknown_name_are_told(self, tmp_path):
        assert refused(f"timm:{tmp_path}/none") == (
            f"model.source: timm:{tmp_path}/none: no such folder; give the one that holds config.json"
        )
        assert refused("timm:resnet1").startswith("model.source: timm has no model 'resnet1'; did you mean resnet18")

    def test_features_without_a_classifier_are_refused(self, timm, tmp_path):
        network = timm.create_model("test_resnet", num_classes=0)
        timm.models.save_for_hf(network, str(tmp_path / "mine"))
        assert "has no classifier, it gives features alone" in refused(f"timm:{tmp_path / 'mine'}")

    @pytest.mark.parametrize(
        ("config", "view"),
        [
            ({"crop_mode": "squash", "crop_pct": 1.0}, ViewSettings("squash", 160)),
            ({"crop_mode": "center", "crop_pct": 1.0}, ViewSettings("resize_crop", 160, 160)),
        ],
    )
    def test_the_crop_modes_that_a_view_can_be(self, timm, tmp_path, config, view):
        network = timm.create_model("test_resnet", num_classes=4)
        network.pretrained_cfg |= config
        timm.models.save_for_hf(network, str(tmp_path / "mine"))
        assert load_classifier(ModelSettings(source=f"timm:{tmp_path / 'mine'}"), None).view == view

    def test_a_crop_mode_that_no_view_can_be_asks(self, timm, tmp_path):
        network = timm.create_model("test_resnet", num_classes=4)
        network.pretrained_cfg |= {"crop_mode": "border"}
        timm.models.save_for_hf(network, str(tmp_path / "mine"))
        assert refused(f"timm:{tmp_path / 'mine'}").startswith("view.geometry is auto, but ")


class TestHuggingFace:
    @pytest.fixture(autouse=True)
    def transformers(self):
        return pytest.importorskip("transformers", reason="needs the extra `transformers`")

    @pytest.fixture
    def resnet(self, tmp_path, transformers):
        """A folder with a classifier of three classes, without its image processor."""
        torch.manual_seed(0)
        names = {0: "ant", 1: "bee", 2: "wasp"}
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=names, label2id={}
        )
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "mine")
        return tmp_path / "mine"

    @pytest.mark.parametrize(
        ("kind", "processor", "view"),
        [
            ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}, ViewSettings("squash", 32)),
            (
                "BitImageProcessor",
                {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
                ViewSettings("resize_crop", 32, 40, "bicubic"),
            ),
            (
                "ConvNextImageProcessor",
                {"size": {"shortest_edge": 32}, "crop_pct": 0.8},
                ViewSettings("resize_crop", 32, 40),
            ),
        ],
    )
    def test_a_folder_is_loaded_with_names_normalisation_and_view(self, resnet, transformers, kind, processor, view):
        made = getattr(transformers, kind)(**processor, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.4, 0.3])
        made.save_pretrained(resnet)
        classifier = load_classifier(ModelSettings(source=f"huggingface:{resnet}"), None)
        assert classifier.class_names == ("ant", "bee", "wasp")
        assert classifier.notes == ("returns a dict of logits: `logits` is taken",)
        assert (classifier.view.geometry, classifier.view.size) == (view.geometry, view.size)
        assert view.geometry == "squash" or classifier.view.resize == view.resize
        network = transformers.AutoModelForImageClassification.from_pretrained(resnet)
        square = IMAGE.resize((32, 32), Image.Resampling.BICUBIC)
        inputs = made(square, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            wanted = network(inputs)
        pixels = torch.from_numpy(render_view(square, ViewSettings(size=32)))[None] / 255
        torch.testing.assert_close(classifier(pixels), wanted.logits, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("kind", "settings", "view", "notes"),
        [
            # Reversed channels and no normalisation.
            (
                "MobileViTImageProcessor",
                {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
                "resize_crop 32 px after 36 px, bicubic",
                ("gets blue, green, red: MobileViTImageProcessor reverses the channels",),
            ),
            # A short side 8/7 as long as the size that it names.
            (
                "LevitImageProcessor",
                {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
                "resize_crop 32 px after 36 px, bicubic",
                (),
            ),
            # A second division by std.
            (
                "EfficientNetImageProcessor",
                {"size": {"height": 32, "width": 32}, "include_top": True},
                "squash 32 px, bicubic",
                (),
            ),
            ("PoolFormerImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8}, None, ()),
        ],
    )
    def test_a_network_gets_what_its_image_processor_would_give_it(
        self, resnet, transformers, kind, settings, view, notes
    ):
        made = getattr(transformers, kind)(**settings)
        made.save_pretrained(resnet)
        classifier = load_classifier(ModelSettings(source=f"huggingface:{resnet}"), None if view else 32)
        assert view is None or str(classifier.view) == view
        assert tuple(note for note in classifier.notes if "dict" not in note) == notes
        network = transformers.AutoModelForImageClassification.from_pretrained(resnet)
        picture = IMAGE if view else IMAGE.resize((32, 32))
        inputs = made(picture, return_tensors="pt", **({} if view else {"do_resize": False, "do_center_crop": False}))
        with torch.no_grad():
            wanted = network(inputs["pixel_values"]).logits
        shown = render_view(picture, classifier.view) if view else render_view(picture, ViewSettings(size=32))
        torch.testing.assert_close(classifier(torch.from_numpy(shown)[None] / 255), wanted, atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize(
        ("kind", "settings"),
        [
            # 36 x 36 px whatever the shape, then the middle of it.
            ("DeiTImageProcessor", {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}}),
            # A crop beyond the image: black around it.
            (
                "MobileViTImageProcessor",
                {"size": {"shortest_edge": 28}, "crop_size": {"height": 32, "width": 32}},
            ),
        ],
    )
    def test_an_image_processor_that_does_what_no_view_does_asks(self, resnet, transformers, kind, settings):
        getattr(transformers, kind)(**settings).save_pretrained(resnet)
        message = refused(f"huggingface:{resnet}")
        source = f"huggingface:{resnet}"
        size = ", ".join(f"{name} {side}" for name, side in settings["size"].items())
        assert message == (
            f"view.geometry is auto, but {source} has an image processor, {kind} ({size} px, then a crop of height 32, "
            "width 32 px), which makes of an image what no view is; set view.geometry and view.size"
        )
        assert load_classifier(ModelSettings(source=f"huggingface:{resnet}"), 32).view is None

    @pytest.mark.parametrize("settings", [{"image_mean": None}, {"rescale_factor": 0}, {"image_mean": "half"}])
    def test_an_image_processor_that_cannot_be_followed_is_no_traceback(self, resnet, transformers, settings):
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(resnet)
        path = resnet / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        message = refused(f"huggingface:{resnet}")
        assert "its image processor" in message
        assert "factory (python:...)" in message

    def test_reversed_channels_are_another_network(self, resnet, transformers):
        sizes = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}
        digests = set()
        for turned in (True, False):
            transformers.MobileViTImageProcessor(**sizes, do_flip_channel_order=turned).save_pretrained(resnet)
            digests.add(load_classifier(ModelSettings(source=f"huggingface:{resnet}"), 32).digest())
        assert len(digests) == 2

    def test_a_transformer_of_several_labels_is_a_sigmoid_network_with_a_layer(self, tmp_path, transformers):
        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
            num_labels=4,
            problem_type="multi_label_classification",
        )
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "mine")
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "mine")
        classifier = load_classifier(ModelSettings(source=f"huggingface:{tmp_path / 'mine'}"), None)
        assert classifier.outputs == Outputs(sigmoid=True)
        assert classifier.class_names == ("0", "1", "2", "3")
        assert make_opticam(classifier, "auto", classifier.view).layer.grid == (4, 4)

    def test_a_folder_without_a_processor_says_whose_mean_is_taken(self, resnet):
        classifier = load_classifier(ModelSettings(source=f"huggingface:{resnet}"), 32)
        assert classifier.notes[0] == "has no preprocessor_config.json: ImageNet's mean and std are taken"
        assert "view.geometry is auto" in refused(f"huggingface:{resnet}")

    def test_a_model_that_timm_saved_gets_what_timm_would_give_it(self, tmp_path):
        """Its config.json says it, and there is no preprocessor_config.json."""
        timm = pytest.importorskip("timm", reason="needs the extra `timm`")
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", num_classes=3)
        network.pretrained_cfg |= {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.125), "crop_pct": 0.8}
        names = {"label_names": ["ant", "bee", "wasp"]}
        timm.models.save_for_hf(network.eval(), str(tmp_path / "mine"), model_config=names)
        ours = load_classifier(ModelSettings(source=f"huggingface:{tmp_path / 'mine'}"), None)
        theirs = load_classifier(ModelSettings(source=f"timm:{tmp_path / 'mine'}"), None)
        assert ours.class_names == ("ant", "bee", "wasp")
        assert ours.notes == ("returns a dict of logits: `logits` is taken",)
        assert (ours.mean.flatten().tolist(), ours.std.flatten().tolist()) == (
            pytest.approx([0.5, 0.4, 0.3]),
            [0.5, 0.25, 0.125],
        )
        assert str(ours.view) == str(theirs.view) == "resize_crop 160 px after 200 px, bilinear"
        pixels = torch.rand(1, 3, 160, 160)
        torch.testing.assert_close(ours(pixels), theirs(pixels))

    def test_a_crop_of_timm_that_no_view_can_be_asks(self, tmp_path):
        timm = pytest.importorskip("timm", reason="needs the extra `timm`")
        network = timm.create_model("test_resnet", num_classes=3)
        network.pretrained_cfg |= {"crop_mode": "border"}
        timm.models.save_for_hf(network, str(tmp_path / "mine"))
        source = f"huggingface:{tmp_path / 'mine'}"
        assert refused(source) == (
            f"view.geometry is auto, but {source} has an image processor, TimmWrapperImageProcessor (160 x 160 px, "
            "crop_pct 0.95, crop_mode border), which makes of an image what no view is; set view.geometry and view.size"
        )

    def test_an_output_without_a_name_is_called_by_its_number(self, resnet, tmp_path):
        config = json.loads((resnet / "config.json").read_text()) | {"id2label": {"0": "ant", "2": "bee", "7": "wasp"}}
        (resnet / "config.json").write_text(json.dumps(config))
        classifier = load_classifier(ModelSettings(source=f"huggingface:{resnet}"), 32)
        assert classifier.class_names == ("ant", "1", "bee")
        assert classifier.notes[0] == (
            "id2label of config.json has no name for output 1: a number is taken for it; model.classes names all"
        )
        (tmp_path / "classes.txt").write_text("ant\nbee\nwasp\n")
        listed = ModelSettings(source=f"huggingface:{resnet}", classes=str(tmp_path / "classes.txt"))
        assert load_classifier(listed, 32).class_names == ("ant", "bee", "wasp")

    def test_a_backbone_without_a_head_is_no_classifier(self, tmp_path, transformers):
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        transformers.ResNetModel(config).save_pretrained(tmp_path / "mine")
        assert refused(f"huggingface:{tmp_path / 'mine'}") == (
            f"model.source: huggingface:{tmp_path / 'mine'} has no weights for classifier.1.bias, classifier.1.weight, "
            "which would be random: it is no trained classifier; name one, or give model.checkpoint"
        )

    def test_a_checkpoint_and_classes_give_the_architecture_another_head(self, resnet, tmp_path, transformers):
        config = transformers.AutoConfig.from_pretrained(resnet, num_labels=2)
        network = transformers.AutoModelForImageClassification.from_config(config)
        torch.save({"model": network.state_dict()}, tmp_path / "tuned.pt")
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        files = {"checkpoint": str(tmp_path / "tuned.pt"), "classes": str(tmp_path / "classes.txt")}
        classifier = load_classifier(ModelSettings(source=f"huggingface:{resnet}", **files), 32)
        assert classifier.class_names == ("cat", "dog")
        assert classifier.notes[1] == "checkpoint: weights at `model`"

    def test_what_is_no_image_classifier_is_told(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        assert refused(f"huggingface:{tmp_path}").startswith(f"model.source: huggingface:{tmp_path} cannot be had (")

    def test_a_name_offline_and_a_missing_folder_are_told(self, offline, tmp_path):
        assert "cannot be had (OSError: " in refused("huggingface:microsoft/resnet-18")
        assert "no such folder; give the one that holds config.json" in refused(f"huggingface:{tmp_path}/none")

    def test_without_its_extra_it_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        assert refused("huggingface:x") == (
            "model.source huggingface:x needs the extra `transformers`: pip install -e '.[transformers]'"
        )


def test_torchscript_is_refused_with_the_reason_and_the_way_back():
    assert refused("torchscript:model.pt").startswith(
        "model.source: torchscript:model.pt is TorchScript, whose layers cannot be watched as it runs"
    )


@pytest.mark.parametrize(
    ("name", "weights", "view"),
    [
        ("squeezenet1_1", "DEFAULT", ViewSettings("resize_crop", 224, 256)),
        ("swin_v2_t", "DEFAULT", ViewSettings("resize_crop", 256, 260, "bicubic")),
    ],
)
def test_the_view_of_torchvision_is_that_of_its_weights(name, weights, view, tmp_path):
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(name, weights=None).state_dict(), tmp_path / "model.pt")
    settings = ModelSettings(source=f"torchvision:{name}", checkpoint=str(tmp_path / "model.pt"))
    assert load_classifier(settings, None).view == view
