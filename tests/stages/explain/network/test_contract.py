"""Small networks, each with a contract of its own: what is found of those that serve, and what the others get."""

import re

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from stages.explain import ModelSettings, load_classifier
from stages.explain.network.contract import refuse_unreachable
from stages.explain.network.outputs import Outputs
from storage.errors import UserError
from tests.stages.explain.network import contracts
from tests.stages.explain.networks import tiny

SIZE = 32
LEFT_OUT = "at the end is left out: the logits before it are maximised, and p is the same"
ONE = "one output: p is its sigmoid, and 1 - p is that of the complement"
IN_TRAINING = "what is for training must be off in eval mode (F.dropout needs training=self.training)"
IN_BATCH = "a batch norm left in training mode does that, or a softmax, mean or norm over the batch"
NO_GRADIENT = "look for torch.no_grad, inference_mode, .detach(), .data or numpy in a forward"
WEIGHTS = "check its weights (is model.checkpoint set?), model.mean and model.std"
SAY = "say what they are with model.outputs: logits, probabilities, log_probabilities or sigmoid"


def load(factory, **settings):
    source = f"python:tests.stages.explain.network.contracts:{factory}"
    return load_classifier(ModelSettings(source=source, **settings), SIZE)


def message_of(factory, **settings):
    """The message without the network's name, and without what the numbers are."""
    with pytest.raises(UserError) as caught:
        load(factory, **settings)
    named = str(caught.value).removeprefix(f"model.source: python:tests.stages.explain.network.contracts:{factory}")
    return re.sub(r"lie in \[\S+, \S+\]", "lie in [., .]", named)


SERVE = {
    # factory: what its outputs are, and what is said
    "logits": (Outputs(), []),
    "softmax_module": (Outputs(), [f"1 (Softmax) {LEFT_OUT}"]),
    "softmax_function": (
        Outputs("probabilities"),
        ["outputs are probabilities: they sum to 1; log p serves as the logit"],
    ),
    "log_softmax_module": (Outputs(), [f"1 (LogSoftmax) {LEFT_OUT}"]),
    "log_softmax_function": (
        Outputs("log_probabilities"),
        ["outputs are log-probabilities: their exp sums to 1"],
    ),
    "sigmoid_module": (Outputs(sigmoid=True), [f"1 (Sigmoid) {LEFT_OUT}"]),
    "sigmoid_function": (Outputs("probabilities", sigmoid=True), ["outputs are sigmoids, each class by itself"]),
    "one_logit": (Outputs(sigmoid=True), [ONE]),
    "one_logit_flat": (Outputs(sigmoid=True), [ONE]),
    "one_sigmoid": (Outputs(sigmoid=True), [f"1 (Sigmoid) {LEFT_OUT}"]),
    "one_sigmoid_flat": (Outputs("probabilities", sigmoid=True), ["outputs are sigmoids, each class by itself"]),
    "in_dict": (Outputs(), ["returns a dict of logits, features: `logits` is taken"]),
    "in_named_tuple": (Outputs(), ["returns a Pair of Tensor, NoneType: `logits` is taken"]),
    "in_tuple": (Outputs(), ["returns a tuple of Tensor, Tensor: the first is taken"]),
    "in_map": (Outputs(), []),
    "small_logits": (Outputs(), []),
    "in_place": (Outputs(), []),
    "compiled": (Outputs(), []),
}


@pytest.mark.parametrize(("factory", "outputs", "notes"), [(name, *found) for name, found in SERVE.items()], ids=SERVE)
def test_what_a_network_returns_is_recognised_and_said(factory, outputs, notes):
    classifier = load(factory)
    assert (classifier.outputs, list(classifier.notes)) == (outputs, notes)


REFUSED = {
    "detector": " does not return logits (N, C) for images (N, 3, 32, 32) but a list of dict; "
    "wrap it in a module that does",
    "segmenter": " does not return logits (N, C) for images (N, 3, 32, 32) but a tensor (1, 4, 30, 30); "
    "wrap it in a module that does",
    "other_dict": " does not return logits (N, C) for images (N, 3, 32, 32) but a dict of prediction, features; "
    "wrap it in a module that does",
    "squeezed": " does not return logits (N, C) for images (N, 3, 32, 32) but (5, 1) for 1 image; "
    "wrap it in a module that does",
    "shares": f" returns numbers that lie in [., .], which may be probabilities or not; {SAY}",
    "tanh": f" returns the result of a tanh, which may be probabilities or not; {SAY}",
    "no_grad": ": no gradient gets from its output to its input; the first module without one is inner.features.0 "
    f"(Conv2d); {NO_GRADIENT}",
    "FrozenFeatures": ": no gradient gets from its output to its input; the first module without one is backbone.0 "
    f"(Conv2d); {NO_GRADIENT}",
    "detached": ": no gradient gets from its output to its input; the first module without one is inner.pool "
    f"(AdaptiveAvgPool2d); {NO_GRADIENT}",
    "inference": ": no gradient gets from its output to its input; the first module without one is inner.features.0 "
    f"(Conv2d); {NO_GRADIENT}",
    "numpy_inside": ": no gradient gets from its output to its input; the first module without one is the network's "
    f"own forward (Wrapped); {NO_GRADIENT}",
    "mean_of_sigmoids": f" returns numbers that lie in [., .], which may be probabilities or not; {SAY}",
    "no_backward": ": its gradient cannot be computed (NotImplementedError: You must implement either the backward or "
    "vjp method for your custom autograd.Function to use it with backward mode AD.)",
    "only_without_gradients": " fails where a gradient is wanted (RuntimeError: call me in evaluation only)",
    "rounded": ": the gradient of its output with respect to the image is 0; an argmax, a rounding or a comparison in "
    "a forward has none",
    "dropout_module": f" gives the same image another output each time, first in 1.inner (Dropout); {IN_TRAINING}",
    "FunctionalDropout": " gives the same image another output each time, first in the network's own forward "
    f"(FunctionalDropout); {IN_TRAINING}",
    "noise": " gives the same image another output each time, first in the network's own forward (Wrapped); "
    f"{IN_TRAINING}",
    "batch_norm_training": " gives an image another output in a batch than alone, first in features.1.inner "
    f"(BatchNorm2d); {IN_BATCH}",
    "softmax_over_batch": f" gives an image another output in a batch than alone, first in 1 (Softmax); {IN_BATCH}",
    "centred_on_batch": " gives an image another output in a batch than alone, first in the network's own forward "
    f"(Wrapped); {IN_BATCH}",
    "fixed_batch": " takes one image but not two at a time (RuntimeError: shape '[1, 3, 32, 32]' is invalid for input "
    "of size 6144): its batch size is fixed; write x.flatten(1) in place of a view or reshape to one row",
    "TwoInputs": " takes 2 inputs (image, metadata); only the image is given to it: wrap it in a module that fills in "
    "the others",
    "KeywordInput": " takes 2 inputs (image, age); only the image is given to it: wrap it in a module that fills in "
    "the others",
    "zeros": f" gives two different images the same output; head (Linear) no longer tells them apart: {WEIGHTS}",
    "dead": f" gives two different images the same output; features.4 (ReLU) no longer tells them apart: {WEIGHTS}",
    "nan_weights": " gives NaN or infinity on an ordinary image, first in features.3 (Conv2d); check its weights, "
    "model.mean and model.std",
    "overflowing": " gives NaN or infinity on an ordinary image, first in the network's own forward (Wrapped); check "
    "its weights, model.mean and model.std",
    "lazy": ": 4 (LazyLinear) has no weights before its first input; pass an image through it in the factory, and load "
    "its weights then",
    "on_meta": ": 0 (Conv2d) is on the device meta, without data; build it on the CPU",
    "one_size": " fails on an image of 32 x 32 px (RuntimeError: mat1 and mat2 shapes cannot be multiplied "
    "(1x2048 and 8192x4)); set view.size to 64, which it takes",
    "raising": " fails on an image of 32 x 32 px (ValueError: the tokenizer is missing); it takes no other usual size "
    "either",
    "four_channels": " takes images of 4 channels; an image has three here (red, green, blue), or one (gray): wrap the "
    "network in a module that makes the others of these",
}


@pytest.mark.parametrize(("factory", "message"), REFUSED.items(), ids=REFUSED)
def test_a_network_that_cannot_be_explained_is_refused_with_the_module_and_the_remedy(factory, message):
    assert message_of(factory).replace("addmm: ", "") == message  # which a newer torch than 2.11 says first


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.jit.script(tiny()), "net is TorchScript, whose layers cannot be watched as it runs"),
        (
            lambda: torch.jit.trace(tiny(), torch.zeros(1, 3, SIZE, SIZE)),
            "net is TorchScript, whose layers cannot be watched as it runs",
        ),
        (lambda: torch.export.export(tiny(), (torch.zeros(1, 3, SIZE, SIZE),)), "net is an exported program"),
        (lambda: torch.export.export(tiny(), (torch.zeros(1, 3, SIZE, SIZE),)).module(), "net is an exported program"),
        (
            lambda: quantize_dynamic(tiny(), {nn.Linear}),
            r"net is quantised, first in head \(Linear\), and no gradient passes through whole numbers; give the "
            "float32 network that it was made from",
        ),
        (lambda: tiny().state_dict(), r"net returned OrderedDict; return a torch\.nn\.Module"),
        (lambda: tiny, r"net returned function; return a torch\.nn\.Module"),
    ],
    ids=["scripted", "traced", "exported", "module of an export", "quantised", "state dict", "function"],
)
def test_what_has_no_layers_to_watch_is_refused_with_the_way_back(make, message):
    with pytest.raises(UserError, match=message):
        refuse_unreachable(make(), "net")


def test_what_is_given_is_believed_where_it_is_possible_and_doubts_are_said():
    assert load("logits", outputs="sigmoid").outputs == Outputs(sigmoid=True)
    assert load("sigmoid_function", outputs="sigmoid").outputs == Outputs("probabilities", sigmoid=True)
    assert load("shares", outputs="sigmoid").outputs == Outputs("probabilities", sigmoid=True)
    assert load("mean_of_sigmoids", outputs="sigmoid").outputs == Outputs("probabilities", sigmoid=True)
    assert load("one_logit", outputs="logits").outputs == Outputs(sigmoid=True)
    given = load("softmax_function", outputs="logits")
    assert given.outputs == Outputs()
    assert given.notes == (
        "model.outputs says logits, although they look otherwise: outputs are probabilities: they sum to 1; log p "
        "serves as the logit",
    )


@pytest.mark.parametrize(
    ("factory", "outputs", "message"),
    [
        ("logits", "probabilities", r"^model\.outputs is probabilities, but .*do not sum to 1; perhaps it is logits$"),
        ("sigmoid_function", "probabilities", r"lie in \[0\.\d+, 0\.\d+\] and do not sum to 1; perhaps it is sigmoid$"),
        ("softmax_module", "sigmoid", r"numbers that sum to 1, as a softmax's do; perhaps it is probabilities$"),
        ("logits", "log_probabilities", r"their exp does not sum to 1; perhaps it is logits$"),
    ],
)
def test_what_is_given_and_cannot_be_is_refused(factory, outputs, message):
    with pytest.raises(UserError, match=message):
        load(factory, outputs=outputs)


def test_the_network_s_modules_keep_their_names():
    assert set(dict(load("softmax_function").network.named_modules())) == set(
        dict(contracts.softmax_function().named_modules())
    )
