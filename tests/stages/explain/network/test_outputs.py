"""p is what the network means by it: of a softmax, a sigmoid, a single output, whatever form it returns it in."""

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import normalize, pil_to_tensor

from stages.explain import ModelSettings, OptiCam, load_classifier
from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD
from stages.explain.network.outputs import Outputs
from tests.stages.explain.network import contracts
from tests.stages.explain.networks import tiny
from tests.stages.explain.shards import VIEW, explain, model, rows_by_key, samples_of

HERE = "tests.stages.explain.network.contracts"
FEW = range(4)


def logits_of(network, folder, seed):
    """The logits of one picture of the shared dataset, without anything of ours between file and network."""
    squashed = Image.open(folder / f"{seed}.png").resize((VIEW.size, VIEW.size), Image.Resampling.BILINEAR)
    picture = normalize(pil_to_tensor(squashed).float() / 255, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        return network(picture[None])[0]


@pytest.fixture(scope="module")
def sharp_run(images, tmp_path_factory):
    """Four samples of a network that returns logits, and is sure of itself."""
    return explain(
        str(tmp_path_factory.mktemp("runs") / "sharp"), samples_of(images, FEW), source=model(f"{HERE}:sharp")
    )[0]


def test_a_softmax_module_at_the_end_changes_neither_a_map_nor_a_number(images, sharp_run, tmp_path):
    run, _ = explain(str(tmp_path / "run"), samples_of(images, FEW), source=model(f"{HERE}:sharp_softmax_module"))
    assert max(row["p_full"] for row in rows_by_key(run).values()) > 0.999
    assert rows_by_key(run) == rows_by_key(sharp_run)
    for target in ("label", "predicted"):
        assert run.maps(target).read([0, 1, 2, 3]).tobytes() == sharp_run.maps(target).read([0, 1, 2, 3]).tobytes()


def test_a_softmax_in_the_forward_leaves_p_and_what_hiding_costs(images, sharp_run, tmp_path):
    run, _ = explain(str(tmp_path / "run"), samples_of(images, FEW), source=model(f"{HERE}:sharp_softmax_function"))
    for key, row in rows_by_key(run).items():
        before = rows_by_key(sharp_run)[key]
        for name in ("p_full", "pred_prob", "p_box", "p_context", "p_hide_random", "p_hide_context"):
            assert row[name] == pytest.approx(before[name], abs=1e-5), name
        assert row["pred_index"] == before["pred_index"]


def test_p_of_a_sigmoid_network_is_that_of_the_class_s_own_logit(images, tmp_path):
    source = model(f"{HERE}:logits", outputs="sigmoid")
    run, _ = explain(str(tmp_path / "run"), samples_of(images, FEW), source=source)
    rows = rows_by_key(run)
    for seed in FEW:
        p = logits_of(tiny(), images, seed).sigmoid()
        label, predicted = rows[f"{seed}.png", "label"], rows[f"{seed}.png", "predicted"]
        assert label["p_full"] == pytest.approx(p[seed % 5].item(), abs=1e-5)
        assert predicted["pred_index"] == p.argmax().item()
        assert predicted["p_full"] == label["pred_prob"] == pytest.approx(p.max().item(), abs=1e-5)


@pytest.mark.parametrize("factory", ["one_logit", "one_logit_flat", "one_sigmoid", "one_sigmoid_flat"])
def test_a_single_output_is_a_class_and_its_complement(images, tmp_path, factory):
    """In the order of the usual names of two classes: the output speaks for the second."""
    samples = samples_of(images, FEW)
    rows = samples.to_pylist()
    for row in rows:
        row["class_index"] = row["row"] % 2
    samples = type(samples).from_pylist(rows, schema=samples.schema)
    run, _ = explain(str(tmp_path / "run"), samples, source=model(f"{HERE}:{factory}"))
    found = rows_by_key(run)
    for seed in FEW:
        p = logits_of(tiny(classes=1), images, seed).sigmoid().item()
        assert found[f"{seed}.png", "label"]["p_full"] == pytest.approx(p if seed % 2 else 1 - p, abs=1e-5)
        assert found[f"{seed}.png", "label"]["pred_index"] == int(p > 0.5)


@pytest.mark.parametrize(
    ("lines", "names"), [("cat\ndog\n", ("cat", "dog")), ("dog\n", ("not dog", "dog")), (None, ("0", "1"))]
)
def test_the_names_of_a_single_output(tmp_path, lines, names):
    classes = None
    if lines is not None:
        classes = str(tmp_path / "classes.txt")
        (tmp_path / "classes.txt").write_text(lines)
    classifier = load_classifier(ModelSettings(source=f"python:{HERE}:one_logit", classes=classes), VIEW.size)
    assert classifier.class_names == names


def test_other_outputs_are_other_weights_to_the_fingerprint():
    settings = [ModelSettings(source=f"python:{HERE}:logits", outputs=outputs) for outputs in ("auto", "sigmoid")]
    auto, sigmoid = (load_classifier(each, VIEW.size).digest() for each in settings)
    assert auto != sigmoid


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_probabilities_give_the_probabilities_back(dtype):
    p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], dtype=dtype)
    torch.testing.assert_close(Outputs("probabilities").logits(p).softmax(1), p)
    torch.testing.assert_close(Outputs("log_probabilities").logits(p[:1].log()).softmax(1), p[:1])
    torch.testing.assert_close(Outputs("probabilities", sigmoid=True).logits(p).sigmoid(), p, atol=1e-6, rtol=0)
    single = Outputs("probabilities", sigmoid=True).logits(p[:, :1]).sigmoid()
    torch.testing.assert_close(single, torch.tensor([[0.3, 0.7], [0.0, 1.0]], dtype=dtype), atol=1e-6, rtol=0)


def test_the_map_of_a_single_output_s_complement_climbs_the_other_way():
    """What speaks for the complement is what speaks against the class."""
    classifier = load_classifier(ModelSettings(source=f"python:{HERE}:one_logit"), VIEW.size)
    images = torch.rand(2, 3, VIEW.size, VIEW.size, generator=torch.Generator().manual_seed(1))
    opticam = OptiCam(classifier.network, input_size=(VIEW.size, VIEW.size), sigmoid=True)
    for target, sign in ((0, -1.0), (1, 1.0)):
        result = opticam(images, [target] * 2)
        assert bool((result.objective_best > result.objective_start).all())
        with torch.no_grad():
            masked = contracts.one_logit().eval()(images * result.maps()[:, None])[:, 0]
        torch.testing.assert_close(sign * masked, result.objective_best, atol=1e-4, rtol=1e-4)
