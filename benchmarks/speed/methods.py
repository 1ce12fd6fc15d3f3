"""Whole explanations to be timed: the authors' loop, Opti-CAM's profiles, and methods of other packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.speed.clock import Variant
from benchmarks.speed.ladder import LADDER, MEAN, STD, Iteration
from stages.explain.methods.baselines import load_package
from stages.explain.opticam.layer import TargetLayer
from stages.explain.opticam.opticam import OptiCam, OptiCamSettings
from stages.explain.settings import PROFILES

AUTHORS, GRAD_CAM = "authors' loop, 100 iterations", "Grad-CAM"
MISSING = "skipped: pip install -e '.[baselines]'"
WINDOW, STRIDE = 32, 16


@dataclass(frozen=True)
class Task:
    """The images (N, 3, H, W) in [0, 1] to explain for the classes ``targets`` (N,)."""

    network: nn.Module
    layer: TargetLayer
    images: Tensor
    targets: Tensor

    @property
    def inputs(self) -> Tensor:
        """Normalised images."""
        return (self.images - self.images.new_tensor(MEAN)[:, None, None]) / self.images.new_tensor(STD)[:, None, None]

    def first(self) -> Task:
        """The first image alone."""
        return replace(self, images=self.images[:1], targets=self.targets[:1])

    def opticam(self, settings: OptiCamSettings) -> OptiCam:
        """Opti-CAM of the network."""
        size = (self.images.shape[2], self.images.shape[3])
        return OptiCam(self.network, self.layer, mean=MEAN, std=STD, settings=settings, input_size=size)


def profiles(steps: int | None, compiled: bool) -> dict[str, OptiCamSettings]:
    """The profiles in each precision; no image stops early, so that every step is paid for."""
    found: dict[str, OptiCamSettings] = {}
    for compile in (False, True) if compiled else (False,):
        for name, profile in PROFILES.items():
            for precision in ("float32", "bfloat16"):
                words = [name, *["bf16"] * (precision == "bfloat16"), *["compiled"] * compile]
                found[", ".join(words)] = replace(
                    profile, steps=steps or profile.steps, tolerance=0.0, precision=precision, compile=compile
                )
    return found


def variants(task: Task, steps: int | None, compiled: bool, skip_slow: bool) -> tuple[list[Variant], list[str]]:
    """Everything to be timed, and the names of what is missing here."""
    loop = Iteration(LADDER["authors' loop"], task.network, task.layer, task.images, task.targets)
    authors = loop.variant(AUTHORS, steps=100)
    ours = [explained(name, task, settings) for name, settings in profiles(steps, compiled).items()]
    others: dict[str, Callable[[], Variant]] = {
        "Grad-CAM of grad-cam": lambda: package_cam("GradCAM", task, backward_cost=2.0),
        "Occlusion of captum": lambda: occlusion(task),
    }
    if not skip_slow:
        others["Score-CAM of grad-cam"] = lambda: package_cam("ScoreCAM", task.first(), batch=len(task.images))
        others["Ablation-CAM of grad-cam"] = lambda: package_cam(
            "AblationCAM", task.first(), batch=len(task.images), backward_cost=None
        )
    there = {name: find_spec("captum" if "captum" in name else "pytorch_grad_cam") is not None for name in others}
    found = [replace(make(), name=name) for name, make in others.items() if there[name]]
    return [authors, *ours, grad_cam(task), *found], [name for name in others if not there[name]]


def explained(name: str, task: Task, settings: OptiCamSettings) -> Variant:
    """Opti-CAM from the images to the maps."""
    opticam = task.opticam(settings)

    def work() -> None:
        opticam(task.images, task.targets).maps()

    def short() -> None:
        opticam.settings = replace(settings, steps=2)
        work()
        opticam.settings = settings

    networks = (opticam.network, opticam.iterated)
    return Variant(name, work, len(task.images), networks, short=short, bf16=settings.precision == "bfloat16")


def grad_cam(task: Task) -> Variant:
    """Our Grad-CAM: a forward pass, and a backward pass from the logit to the layer."""
    opticam = task.opticam(OptiCamSettings())

    def work() -> None:
        opticam.grad_cam(task.images, task.targets)

    return Variant(GRAD_CAM, work, len(task.images), (task.network,), short=work, backward_cost=0.0)


def package_cam(method: str, task: Task, batch: int = 0, backward_cost: float | None = 0.0) -> Variant:
    """A method of the package grad-cam as its documentation calls it, ``batch`` masked images at a time."""
    package = load_package()
    layout = task.layer.layout
    options = {}
    if layout != "nchw":
        options["reshape_transform"] = replace(task.layer, relu=False).to_maps
    if method == "AblationCAM":
        options["ablation_layer"] = package.AblationLayer() if layout == "nchw" else package.AblationLayerVit()
    targets = [package.utils.model_targets.ClassifierOutputTarget(int(target)) for target in task.targets]

    def work() -> None:
        with getattr(package, method)(task.network, [task.network.get_submodule(task.layer.path)], **options) as cam:
            cam.batch_size = batch
            cam(input_tensor=task.inputs, targets=targets)

    short = work if method == "GradCAM" else None
    return Variant(method, work, len(task.images), (task.network,), short=short, backward_cost=backward_cost)


def occlusion(task: Task) -> Variant:
    """Captum's Occlusion: a window of 32 x 32 px in the mean colour, at a stride of 16; a forward pass each."""
    from captum.attr import Occlusion

    def work() -> Tensor:
        maps: Tensor = Occlusion(task.network).attribute(
            task.inputs, (3, WINDOW, WINDOW), strides=(3, STRIDE, STRIDE), target=task.targets
        )
        return maps

    return Variant("", work, len(task.images), (task.network,), backward_cost=0.0)


def signal_carrying(network: nn.Module, images: Tensor) -> nn.Module:
    """The network in eval mode, its batch norms' statistics from ``images``: else an untrained one's logits vanish."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over what it sees
    with torch.no_grad():
        network.train()(images)
    return network.eval()
