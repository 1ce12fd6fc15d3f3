"""What makes a run doubtful is said, with its numbers and what to do; a sound run has no doubts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stages.audit.audit import audit
from stages.audit.settings import AuditSettings
from stages.audit.summary.doubts import doubts
from storage.info import RunInfo
from storage.maps import MapAttributes
from storage.run import Run
from tests.stages.audit.conftest import Build

CAT = {"label": "cat", "class_index": 1, "pred_index": 1}
WRONG = {"pred_index": 2}


@pytest.fixture
def said(build: Build) -> Iterator[Any]:
    """The doubts about a run of rows, with maps of 7 x 7 cells unless a ``grid`` is given."""

    def of(*rows: dict[str, Any], grid: tuple[int, int] = (7, 7)) -> tuple[str, ...]:
        run: Run = build(*rows)
        run.create_maps(MapAttributes("opti_cam", "label", size=64), rows=len(rows), grid=grid)
        audit(run, AuditSettings())
        return doubts(run, "opti_cam")

    return of


SOUND = [{}] * 20 + [CAT] * 20


def test_a_sound_run_has_no_doubts(said) -> None:
    assert said(*SOUND) == ()


def test_an_accuracy_that_naming_the_most_frequent_label_reaches_is_told_first(said) -> None:
    (doubt,) = said(*[{}] * 5, *[WRONG] * 15, *[CAT | WRONG] * 20)
    # 5 of 40 right; mug, and as often cat, is the label of 20 of 40.
    assert doubt.startswith("The model is right on 12.5% of 40 images, and naming mug for each would be on 50.0%")


def test_an_accuracy_whose_interval_lies_above_the_guess_is_no_doubt(said) -> None:
    # 30 of 40: the 95% Wilson interval begins at .598, above the guess of .500. 25 of 40 begins at .470.
    assert said(*[{}] * 20, *[CAT] * 10, *[CAT | WRONG] * 10) == ()
    assert len(said(*[{}] * 20, *[CAT] * 5, *[CAT | WRONG] * 15)) == 1


def test_what_the_passes_before_the_first_map_found_wrong_is_told_first(build: Build) -> None:
    run = build(*[{}] * 5, *[WRONG] * 15, *[CAT | WRONG] * 20)
    run.create_maps(MapAttributes("opti_cam", "label", size=64), rows=40, grid=(2, 2))
    run.write_info(RunInfo(misfed="accuracy is 12% as configured, and 90% with std .5: set model.std"))
    audit(run, AuditSettings())
    first, second, *_ = doubts(run, "opti_cam")
    assert first == "Accuracy is 12% as configured, and 90% with std .5: set model.std"
    assert second.startswith("The model is right on")


def test_maps_of_fewer_than_five_cells_a_side_are_told(said) -> None:
    (doubt,) = said(*SOUND, grid=(2, 2))
    assert doubt.startswith("A map has 2x2 cells")
    assert said(*SOUND, grid=(5, 5)) == ()


def test_more_than_a_tenth_without_a_measurement_is_told_with_the_reasons(said) -> None:
    large = {"scores_status": "box_uninformative", "evaluable": False}
    gone = {"samples_status": "no_box", "scores_status": "no_box", "evaluable": False}
    assert said(*SOUND, *[large] * 3, gone) == (), "4 of 44 are less than a tenth"
    assert said(*SOUND, *[large] * 4, gone) == (
        "5 of 45 images are not measured: 4 with boxes over more than 80% of the view, 1 without a box of their label",
    )


def test_images_without_a_label_are_told_apart_from_labels_that_the_model_lacks(said) -> None:
    lacks = {"class_index": None, "samples_status": "no_class", "scores_status": "no_class", "evaluable": False}
    unlabelled, unknown = lacks | {"label": None}, lacks | {"label": "dodo"}
    assert said(*SOUND, unlabelled) == ("1 of 41 images has no label, and so no class",)
    assert said(*SOUND, unlabelled, unlabelled, unknown) == (
        "The model has no class for 1 label of 1 image (dodo): dataset.mapping names the class of a label",
        "2 of 43 images have no label, and so no class",
    )


def test_a_run_without_the_maps_of_labels_says_what_it_cannot_say(build: Build) -> None:
    run = build(*(row | {"target": "predicted"} for row in SOUND))
    run.discard_maps("label", "opti_cam")
    run.create_maps(MapAttributes("opti_cam", "predicted", size=64), rows=40, grid=(7, 7))
    audit(run, AuditSettings())
    (doubt,) = doubts(run, "opti_cam")
    assert doubt.startswith("The maps are of predicted classes alone")
    assert doubt.endswith("add label to explain.targets")


def test_images_without_any_object_are_not_called_unknown_labels(said) -> None:
    empty = {
        "label": None,
        "class_index": None,
        "samples_status": "no_box",
        "scores_status": "no_class",
        "evaluable": False,
    }
    (doubt,) = said(*SOUND, *[empty] * 5)
    assert doubt == "5 of 45 images are not measured: 5 without a box of their label"


def test_more_than_one_duplicate_in_a_hundred_is_told_with_those_of_another_label(said) -> None:
    again = {"duplicate_of": "0.jpg"}
    assert said(*SOUND, *SOUND, *SOUND[:19], again) == (), "1 of 100 is no more than one in a hundred"
    (doubt,) = said(*SOUND, again, CAT | again)
    assert doubt == (
        "2 of 42 samples show the same file as another, 1 of them with another label: each counts in every rate, and "
        "intervals take them for independent; samples.duplicate_of names them"
    )


def test_files_that_cannot_be_read_are_no_duplicates(said) -> None:
    broken = {"samples_status": "unreadable", "duplicate_of": "x.jpg", "evaluable": False, "pred_index": None}
    doubts = said(*SOUND, *SOUND, *SOUND, *[broken] * 3)
    assert not [doubt for doubt in doubts if "the same file" in doubt]


def test_predictions_of_another_class_of_the_image_are_told_where_most_are(said) -> None:
    shared = {"other_classes": [2], "pred_index": 2}
    assert said(*SOUND, *[shared] * 40) == (), "40 of 80 are no more than half"
    (doubt,) = said(*SOUND, *[shared] * 41)
    assert doubt.startswith(
        "For 41 of 81 samples the prediction is another class of the same image, and accuracy leaves"
    )


def test_labels_without_a_class_of_the_model_are_named(said) -> None:
    unknown = {
        "label": "wolf", "class_index": None, "samples_status": "no_class", "explain_status": "no_class",
        "scores_status": "no_class", "evaluable": False,
    }  # fmt: skip
    (doubt,) = said(*SOUND, *[unknown] * 2)
    assert doubt == "The model has no class for 1 label of 2 images (wolf): dataset.mapping names the class of a label"


def test_classes_of_fewer_measured_images_than_a_claim_needs_are_named(said) -> None:
    dog = {"label": "dog", "class_index": 2, "pred_index": 2}
    (doubt,) = said(*SOUND, *[dog] * 9)
    assert doubt == (
        "1 of 3 classes cannot be compared with the others, for fewer than 10 of their images are measured: dog"
    )


def test_images_of_another_size_than_their_annotation_says_are_told_from_one_in_a_hundred_on(said) -> None:
    other = {"reason": "a box is cut; the image, 60 x 40, is of another size than the annotation says, 40 x 60"}
    assert said(*SOUND[:20], *[CAT] * 79, CAT | other) == ()
    (doubt,) = said(*SOUND[:20], *[CAT] * 78, *[CAT | other] * 2)
    assert doubt == (
        "2 of 100 samples are of another size than the annotation says: the boxes may be of a picture before it was "
        "resized, or of one on its side; see samples.reason"
    )
