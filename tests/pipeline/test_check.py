"""`sightline check`, and the trial before a run's first map."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline import runner
from storage import Run
from tests.pipeline.datasets import write_config, write_manifest
from tests.stages.explain.trial.pictures import GRAYS, grays

NETWORK = "python:tests.stages.explain.trial.pictures:brightness"


@pytest.fixture
def configured(tmp_path):
    """Writes a config of a network that sees four brightnesses of pixels in [-1, 1]."""

    def configured(classes=tuple(GRAYS), mean=0.5, **sections):
        rows = grays(tmp_path / "images", each=4)
        names = [f"images/{row['uri'].rpartition('/')[2]}" for row in rows]
        manifest = write_manifest(tmp_path, names, [name[7:].partition("_")[0] for name in names])
        (tmp_path / "classes.txt").write_text("\n".join(classes) + "\n")
        model = {"source": NETWORK, "classes": "classes.txt", "mean": [mean] * 3, "std": [0.5] * 3}
        return write_config(tmp_path, manifest, model=model, cluster={"workers": 1}, **sections)

    return configured


SHIFTED = (*tuple(GRAYS)[1:], "dark")


def test_a_sound_config_is_shown_with_its_classes_boxes_and_cost_and_leaves_nothing(command, configured, tmp_path):
    config = configured()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    status, out, err = command("check", config)
    assert status == 0, err
    said = " ".join(out.split())
    assert "Look at this first" not in said
    assert "manifest: dataset.reader says so 16 images; 16 were read, 16 ok" in said
    assert "4 labels in the sample, 4 classes of the model" in said
    assert "dark 0: dark 4" in said
    assert "100.0% [80.6, 100.0] (16 of 16) as configured" in said
    # A box of 20 x 15 in 40 x 30; the crop of 32 after 37 px sees columns 5.7 to 34.3 and rows 2.0 to 28.0 of it.
    assert "16 boxes of the samples' own classes; together they cover 25% of their image" in said
    assert "would cut away more than half of 0.0% of them" in said
    assert "of explain for 16 samples with 1 worker" in said
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_page_of_a_check_has_the_warning_and_the_pictures_and_asks_no_server(command, configured, tmp_path):
    status, out, err = command("check", configured(classes=SHIFTED), "--html", tmp_path / "check.html")
    assert status == 0, err
    assert "Look at this first" in out
    page = (tmp_path / "check.html").read_text()
    assert "set model.classes: the same names in alphabetical order" in page
    assert page.count('src="data:image/jpeg;base64,') == 12
    assert "labelled dark, taken for dim" in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_accuracy_that_chance_gives_as_well_is_told(command, tmp_path):
    rows = grays(tmp_path / "images", each=3)
    boxes = [{"x0": 1, "y0": 1, "x1": 9, "y1": 9, "label": name} for name in GRAYS]
    lines = [json.dumps({"path": row["uri"], "label": None, "boxes": boxes}) for row in rows]
    (tmp_path / "audit.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "classes.txt").write_text("\n".join(GRAYS) + "\n")
    model = {"source": NETWORK, "classes": "classes.txt", "mean": [0.5] * 3, "std": [0.5] * 3}
    status, out, err = command("check", write_config(tmp_path, tmp_path / "audit.jsonl", model=model))
    assert status == 0, err
    said = " ".join(out.split())
    # All four classes are labels of each of the 12 images: whatever is predicted is one of them.
    assert "12 of 12 images have several classes" in said
    assert "the same predictions, dealt to the images at random, would be right on 100.0%" in said
    assert "so this accuracy says little of the classifier" in said


def test_a_run_that_cannot_be_right_stops_before_its_first_map_and_force_overrules(command, configured, tmp_path):
    config = configured(classes=SHIFTED)
    status, _, err = command("run", config)
    assert status == 2
    assert err.startswith("error: accuracy is 0.0% [0.0, 19.4] (0 of 16) as configured, and 100.0%")
    assert "--force runs it as it is" in err
    assert err.count("\n") == 1
    assert not Run.open(str(tmp_path / "run")).methods()
    status, out, err = command("run", config, "--force")
    assert status == 0, err
    assert "check    accuracy is 0.0%" in out
    told = "doubt       Accuracy is 0.0% [0.0, 19.4] (0 of 16) as configured, and 100.0%"
    assert told in out
    status, out, _ = command("run", config)  # it has maps now, and nothing is tried again
    assert status == 0
    assert "check    " not in out
    assert told in out
    status, out, err = command("run", configured())  # with the order of classes that it was told to set
    assert status == 0, err
    assert told not in out


def test_a_run_with_maps_is_tried_again_when_its_model_is_fed_another_way(command, configured, tmp_path):
    assert command("run", configured())[0] == 0
    run = Run.open(str(tmp_path / "run"))
    made, findings = run.info, run.table("findings")
    status, _, err = command("run", configured(classes=SHIFTED))
    assert status == 2
    assert err.startswith("error: accuracy is 0.0% [0.0, 19.4] (0 of 16) as configured, and 100.0%")
    assert (run.info, run.table("findings")) == (made, findings)
    status, out, _ = command("run", configured())
    assert status == 0
    assert "0 of 1 shards computed" in out
    assert run.info.tried == made.tried


def test_what_a_trial_doubted_is_told_by_the_run_that_goes_on_after_an_interrupted_one(
    command, configured, tmp_path, monkeypatch
):
    config = configured(classes=SHIFTED)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_explain", interrupted)
        assert command("run", config, "--force")[0] == 130
    status, out, err = command("run", config)
    assert status == 0, err
    assert "check    " not in out, "the same was tried"
    assert "doubt       Accuracy is 0.0% [0.0, 19.4] (0 of 16) as configured, and 100.0%" in out


def test_a_run_is_quiet_about_a_config_that_is_right(command, configured):
    status, out, err = command("run", configured())
    assert status == 0, err
    assert "check    " not in out


def test_what_cannot_be_run_cannot_be_checked(command, configured, tmp_path):
    config = configured()
    shutil.rmtree(tmp_path / "images")
    status, _, err = command("check", config)
    assert status == 2
    assert "none of the 16 images" in err


@pytest.mark.parametrize("words", [["check"], ["run", "--force"]])
def test_outputs_that_are_taken_by_the_order_of_the_classes_are_told(command, tmp_path, words):
    for row in grays(tmp_path / "images", each=1):
        path = Path(row["uri"])
        folder = tmp_path / "set" / path.name.partition("_")[0]
        folder.mkdir(parents=True)
        path.rename(folder / path.name)
    model = {"source": NETWORK, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = write_config(tmp_path, tmp_path / "set", model=model, dataset={"reader": "folder"})
    first, second, third, _ = sorted(GRAYS)
    status, out, err = command(*words[:1], config, *words[1:])
    assert status == 0, err
    assert (
        "the model's outputs have no names: they are taken in the order of the dataset's classes "
        f"(0 '{first}', 1 '{second}', 2 '{third}', ...); model.classes says otherwise"
    ) in " ".join(out.split())
