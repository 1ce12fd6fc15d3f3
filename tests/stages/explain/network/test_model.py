import pytest
import torch
from torch import nn

from stages.explain import ModelSettings, load_classifier
from storage.errors import UserError
from tests.stages.explain.networks import tiny

TINY = "python:tests.stages.explain.networks:tiny"


def refused(message, size=32, **settings):
    with pytest.raises(UserError, match=message) as caught:
        load_classifier(ModelSettings(**settings), size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(path, content):
    path.write_text(content)
    return str(path)


def saved(path, content):
    torch.save(content, path)
    return str(path)


# What a factory of a user may do


def flat_input():
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 32 * 32, 4))


def raises():
    raise FileNotFoundError("no weights at weights.bin")


def gives_no_module():
    return {"state": 1}


def gives_maps():
    return nn.Conv2d(3, 4, 3)


def test_a_python_factory_is_loaded_frozen_and_in_eval_mode():
    classifier = load_classifier(ModelSettings(source=TINY), 32)
    assert classifier.class_names == ("0", "1", "2", "3", "4")
    assert not classifier.network.training
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_the_classifier_normalises_its_input(tmp_path):
    classes = written(tmp_path / "classes.txt", "a\nb\nc\nd\ne\n")
    classifier = load_classifier(
        ModelSettings(source=TINY, classes=classes, mean=(0.5, 0.4, 0.3), std=(0.2, 0.1, 0.25)), 32
    )
    images = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.1, 0.25]).view(3, 1, 1)
    torch.testing.assert_close(classifier(images), tiny()((images - mean) / std))
    assert classifier.class_names == ("a", "b", "c", "d", "e")


def test_a_network_that_takes_one_size_only_is_loaded_at_the_view_s_size():
    factory = "python:tests.stages.explain.network.test_model:flat_input"
    assert load_classifier(ModelSettings(source=factory), 32).class_names == ("0", "1", "2", "3")
    refused(r"fails on an image of 64 x 64 px \(RuntimeError: .*\); set view\.size", 64, source=factory)


def test_torchvision_builds_a_head_for_the_listed_classes(tmp_path):
    import torchvision

    network = torchvision.models.squeezenet1_1(num_classes=3)
    path = saved(tmp_path / "model.pt", network.state_dict())
    classes = written(tmp_path / "classes.txt", "ant\nbee\nwasp\n")
    settings = ModelSettings(source="torchvision:squeezenet1_1", checkpoint=path, classes=classes)
    classifier = load_classifier(settings, 64)
    assert classifier.class_names == ("ant", "bee", "wasp")
    torch.testing.assert_close(classifier.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_a_checkpoint_of_googlenet_gets_its_input_as_the_weights_that_it_was_tuned_from(tmp_path):
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.googlenet(num_classes=3, init_weights=False)
    path = saved(tmp_path / "model.pt", network.state_dict())
    classes = written(tmp_path / "classes.txt", "ant\nbee\nwasp\n")
    settings = ModelSettings(source="torchvision:googlenet", checkpoint=path, classes=classes)
    classifier = load_classifier(settings, 64)
    assert any("transform_input" in note for note in classifier.notes)
    # torchvision: googlenet's own weights come with transform_input=True, and so does what is tuned from them.
    network.eval().transform_input = True
    images = torch.rand(2, 3, 64, 64)
    normalized = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), network(normalized))
        network.transform_input = False
        assert not torch.allclose(classifier(images), network(normalized))


def test_the_digest_tells_weights_and_normalisation_apart_and_nothing_else(tmp_path):
    path = saved(tmp_path / "model.pt", tiny(seed=7).state_dict())
    same = [load_classifier(ModelSettings(source=TINY), 32).digest() for _ in range(2)]
    assert same[0] == same[1]
    others = [ModelSettings(source=TINY, checkpoint=path), ModelSettings(source=TINY, std=(0.2, 0.2, 0.2))]
    assert len({same[0], *(load_classifier(settings, 32).digest() for settings in others)}) == 3


@pytest.mark.parametrize("source", ["mobilenet_v2", "keras:vgg16", "torchvision:", ""])
def test_a_source_that_is_not_understood_is_told_with_those_there_are(source):
    refused(
        rf"model\.source '{source}' is not understood; write torchvision:NAME, timm:NAME, huggingface:FOLDER_OR_NAME, "
        r"python:package\.module:factory or python:path/to/file\.py:factory$",
        source=source,
    )


def test_near_names_of_torchvision_are_suggested():
    assert "mobilenet_v2" in refused(r"no classifier 'mobilnet_v2'; did you mean", source="torchvision:mobilnet_v2")
    refused(r"no classifier 'xyzzy'; it has alexnet", source="torchvision:xyzzy")


def test_a_detector_of_torchvision_is_no_classifier():
    refused("no classifier 'fasterrcnn_resnet50_fpn'", source="torchvision:fasterrcnn_resnet50_fpn")


def test_unknown_weights_are_told_with_those_there_are():
    refused(
        r"no weights 'IMAGENET1K_V9' for mobilenet_v2; it has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT; a file is named "
        "by model.checkpoint",
        source="torchvision:mobilenet_v2",
        weights="IMAGENET1K_V9",
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.module:make", r"ModuleNotFoundError: No module named 'no'.*importable from"),
        ("tests.stages.explain.networks:huge", r"has no attribute 'huge'.*write python:package\.module:factory"),
        ("tests.stages.explain.networks", r"write python:package\.module:factory"),
        (
            "tests.stages.explain.network.test_model:raises",
            r"the factory raised FileNotFoundError: no weights at weights\.bin",
        ),
        ("tests.stages.explain.network.test_model:gives_no_module", r"returned dict; return a torch\.nn\.Module"),
        (
            "tests.stages.explain.network.test_model:gives_maps",
            r"does not return logits \(N, C\) for images \(N, 3, 32, 32\)",
        ),
    ],
)
def test_a_factory_that_does_not_serve_is_told(path, message):
    refused(message, source=f"python:{path}")


def test_a_module_that_does_not_even_import_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken_model.py").write_text("def make(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    refused(r"python:broken_model:make: SyntaxError", source="python:broken_model:make")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\nc\n", r"model\.classes lists 3 classes but python:.* has 5 outputs; give one class a line"),
        ("\n \n", r"is empty; give one class a line"),
    ],
)
def test_a_class_list_that_does_not_fit_is_told(tmp_path, content, message):
    refused(message, source=TINY, classes=written(tmp_path / "classes.txt", content))


def test_two_classes_of_one_name_are_said(tmp_path):
    classes = written(tmp_path / "classes.txt", "crane\nb\nc\ncrane\ne\n")
    classifier = load_classifier(ModelSettings(source=TINY, classes=classes), 32)
    assert classifier.class_names == ("crane", "b", "c", "crane", "e")
    assert classifier.notes == ("outputs 0 and 3 are both named 'crane': a label of that name alone is neither",)


def test_a_byte_order_mark_is_no_part_of_the_first_class(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeffköter\r\nb\r\nc\r\nd\r\ne\r\n".encode())
    classifier = load_classifier(ModelSettings(source=TINY, classes=str(tmp_path / "classes.txt")), 32)
    assert classifier.class_names == ("köter", "b", "c", "d", "e")


def test_a_missing_class_list_is_named(tmp_path):
    refused(r"model\.classes: cannot read .*nothing\.txt", source=TINY, classes=str(tmp_path / "nothing.txt"))


def test_a_class_list_that_is_no_text_is_told(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00bytes")
    refused(r"model\.classes: cannot read", source=TINY, classes=str(tmp_path / "classes.txt"))


def test_timm_without_its_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    refused(r"needs the extra `timm`: pip install -e '.\[timm\]'", source="timm:efficientnet_lite0")
