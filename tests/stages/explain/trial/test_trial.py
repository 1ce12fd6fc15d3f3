from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image

from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD, Classifier
from stages.explain.network.outputs import Outputs
from stages.explain.network.view import ViewSettings
from stages.explain.trial.trial import Outcome, Shown, Trial, try_readings
from stages.explain.trial.trial import choose_images as choose_of_table
from tests.stages.explain.trial.pictures import COLOURS, GRAYS, BlueFirst, Brightness, colours, grays, sample

SQUASH = ViewSettings(size=32)
CENTRED = ((0.5,) * 3, (0.5,) * 3)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


def choose_images(samples: list[dict[str, Any]], count: int, seed: int = 0) -> list[Shown]:
    return choose_of_table(pa.Table.from_pylist(samples), count, seed)


def tried(
    samples: list[dict[str, Any]],
    normalization: Any = CENTRED,
    names: tuple[str, ...] = tuple(GRAYS),
    network: torch.nn.Module | None = None,
    view: ViewSettings = SQUASH,
) -> Trial:
    trial = try_readings(Classifier(network or Brightness(), names, *normalization), view, choose_images(samples, 200))
    assert trial is not None
    return trial


def better(trial: Trial) -> Outcome:
    assert trial.better is not None
    return trial.better


def test_a_classifier_that_is_fed_as_it_was_made_for_is_not_complained_about(tmp_path: Path) -> None:
    trial = tried(grays(tmp_path))
    assert (trial.configured.right, trial.configured.n) == (40, 40)
    assert trial.configured.chance == pytest.approx(1 / 4)
    assert trial.warning is None
    assert trial.others == ()  # nothing can be clearly better, so nothing else was computed


def test_a_wrong_normalisation_is_found_with_the_keys_that_set_the_right_one(tmp_path: Path) -> None:
    trial = tried(grays(tmp_path), IMAGENET)
    assert trial.configured.right < 40
    found = better(trial)
    assert (found.reading.name, found.right, found.lost) == ("pixels in [-1, 1]", 40, 0)
    assert "set model.mean: [0.5, 0.5, 0.5] and model.std: [0.5, 0.5, 0.5]" in str(trial.warning)


def test_pixels_that_should_be_bytes_or_not_scaled_are_found(tmp_path: Path) -> None:
    trial = tried(grays(tmp_path), ((0.0,) * 3, (1 / 255,) * 3))
    assert trial.configured.right == 10  # all are white
    assert trial.cannot_be_right
    assert better(trial).reading.name == "pixels in [-1, 1]"


def test_swapped_channels_are_found(tmp_path: Path) -> None:
    trial = tried(colours(tmp_path), names=tuple(COLOURS), network=BlueFirst())
    assert trial.configured.right == 10  # green alone is where it should be
    assert better(trial).reading.name == "blue first (BGR)"
    assert better(trial).right == 30
    assert "images.flip(1)" in str(trial.warning)


@pytest.mark.parametrize(
    ("outputs", "listed", "remedy"),
    [
        ("night dusk rain noon", "dusk rain noon night", "its last line moved to the top"),
        ("night dusk rain noon", "noon night dusk rain", "its first line moved to the end"),
        ("dusk night noon rain", "night rain dusk noon", "the same names in alphabetical order"),
    ],
)
def test_a_wrong_order_of_the_classes_is_found_and_stops_a_run(
    outputs: str, listed: str, remedy: str, tmp_path: Path
) -> None:
    samples, names = grays(tmp_path), tuple(listed.split())
    for row in samples:
        row["class_index"] = names.index(outputs.split()[row["class_index"]])
    trial = tried(samples, names=names)
    assert trial.configured.right == 0
    assert trial.cannot_be_right
    assert (better(trial).right, better(trial).p) == (40, pytest.approx(2 * 0.5**40))
    assert f"set model.classes: {remedy}" in str(trial.warning)


def test_a_view_that_shows_what_the_crop_did_not_is_found(tmp_path: Path) -> None:
    samples = []
    for index, gray in enumerate(GRAYS.values()):
        for number in range(10):
            # Twice as wide as high: the crop sees the middle, the whole view both sides, of the opposite brightness.
            picture = Image.new("RGB", (80, 40), (255 - gray,) * 3)
            picture.paste((gray + number,) * 3, (20, 0, 60, 40))
            samples.append(sample(tmp_path / f"{index}_{number}.png", picture, index))
    trial = tried(samples)
    assert better(trial).reading.view.geometry == "resize_crop"
    assert "view.geometry: resize_crop and view.resize: 37" in str(trial.warning)  # 32 / .875
    assert tried(samples, view=better(trial).reading.view).warning is None


def test_a_gain_that_chance_explains_is_not_told() -> None:
    usual = Outcome(None, 80, 100)  # type: ignore[arg-type]
    assert not Outcome(None, 87, 100, gained=7, lost=0).clearly_better  # type: ignore[arg-type]  # p = .016
    assert not Outcome(None, 88, 400, gained=30, lost=11).clearly_better  # type: ignore[arg-type]  # 4.75 points
    assert Outcome(None, 88, 100, gained=8, lost=0).clearly_better  # type: ignore[arg-type]  # p = .0078
    assert not usual.clearly_better


def test_labels_that_have_nothing_to_do_with_the_pictures_are_told_and_do_not_stop_a_run(tmp_path: Path) -> None:
    samples = grays(tmp_path)
    for number, row in enumerate(samples):
        row["class_index"] = number % 4
    trial = tried(samples)
    assert trial.configured.right == 10  # 0 4 8, 13 17, 22 26, 31 35 39
    assert trial.configured.by_chance
    assert not trial.cannot_be_right
    assert "are these the weights, and these the labels?" in str(trial.warning)


def test_a_network_that_gives_one_class_alone_is_not_mended_by_naming_it_after_the_most_frequent(
    tmp_path: Path,
) -> None:
    network = Brightness()
    network.head.weight.data.zero_()
    network.head.bias.data.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    samples = grays(tmp_path)[:15]  # ten are class 0, five class 1, and all are taken for class 1
    trial = tried(samples, names=("night", "dusk", "rain", "noon"), network=network)
    assert max(outcome.right for outcome in trial.others) == 10
    assert trial.better is None
    assert "chance gives 33.3%" in str(trial.warning)


def test_images_of_one_class_say_nothing_of_chance(tmp_path: Path) -> None:
    trial = tried(grays(tmp_path, shown=("dim",)))
    assert trial.configured.chance is None
    assert trial.warning is None


def test_an_image_with_several_classes_is_right_with_any_of_them_and_counts_once(tmp_path: Path) -> None:
    samples = grays(tmp_path, each=2)
    twice = [row | {"class_index": (row["class_index"] + 1) % 4} for row in samples]
    chosen = choose_images([*samples, *twice], 200)
    assert len(chosen) == 8
    pairs = sorted(map(sorted, (shown.classes for shown in chosen)))
    assert pairs == [[0, 1], [0, 1], [0, 3], [0, 3], [1, 2], [1, 2], [2, 3], [2, 3]]
    assert tried([*twice, *samples]).configured.right == 8


def test_only_images_with_a_class_are_tried_and_one_that_is_gone_is_left_out(tmp_path: Path) -> None:
    samples = grays(tmp_path, each=3)
    samples[0]["class_index"] = None
    samples[1]["status"] = "unreadable"
    Path(samples[2]["uri"]).unlink()
    assert tried(samples).configured.n == 9
    assert try_readings(Classifier(Brightness(), tuple(GRAYS), *CENTRED), SQUASH, []) is None


def test_the_choice_is_seeded_and_does_not_depend_on_the_order(tmp_path: Path) -> None:
    samples = grays(tmp_path)
    chosen = [shown.sample["uri"] for shown in choose_images(samples, 7)]
    assert [shown.sample["uri"] for shown in choose_images(samples[::-1], 7)] == chosen
    assert [shown.sample["uri"] for shown in choose_images(samples, 7, seed=1)] != chosen


def shared(tmp_path: Path) -> list[dict[str, Any]]:
    """The gray pictures, each fifth of them also of the next class, as ``labels: each`` makes them."""
    rows = grays(tmp_path)
    more = [row | {"class_index": (row["class_index"] + 1) % 4} for row in rows[::5]]
    return [*rows, *more]


def test_images_of_several_classes_ask_whether_a_network_of_logits_was_trained_class_by_class(tmp_path: Path) -> None:
    rows = shared(tmp_path)
    hint = tried(rows).hint
    assert hint is not None
    assert hint.startswith(
        "8 of 40 images have several classes: if the network was trained class by class (multi-label"
    )
    assert "model.outputs: sigmoid" in hint
    assert tried(grays(tmp_path)).hint is None
    classifier = Classifier(Brightness(), tuple(GRAYS), *CENTRED)
    told = try_readings(classifier, SQUASH, choose_images(rows, 200), outputs_are_set=True)
    assert told is not None
    assert told.hint is None


def test_a_classifier_of_sigmoids_gives_its_logits_beside_the_classes_of_each_image(tmp_path: Path) -> None:
    images = choose_images(shared(tmp_path), 200)
    classifier = Classifier(Brightness(), tuple(GRAYS), *CENTRED, outputs=Outputs(sigmoid=True))
    trial = try_readings(classifier, SQUASH, images)
    assert trial is not None
    assert trial.hint is None
    assert trial.logits is not None
    assert trial.truth is not None
    assert [set(row.nonzero()[0]) for row in trial.truth] == [set(image.classes) for image in images]
    assert trial.truth.sum() == 48
    for row, image in zip(trial.logits, images, strict=True):
        level = 2 * Image.open(image.sample["uri"]).getpixel((0, 0))[0] / 255 - 1
        centres = [2 * value / 255 - 1 for value in GRAYS.values()]
        assert row.tolist() == pytest.approx([2 * c * level - c * c for c in centres], abs=1e-4)
