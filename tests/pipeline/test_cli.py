"""What a user sees of mistakes: exit status 2, one line that names the place and the remedy, no traceback."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from storage import Run
from storage.info import RunInfo
from tests.pipeline.datasets import ROOT, sightline, write_config, write_images, write_manifest


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, write_manifest(tmp_path, write_images(tmp_path, range(2))))


def mistaken(outcome, *parts):
    status, out, err = outcome
    assert status == 2, (out, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err
    assert "Traceback" not in out + err


def test_the_version_is_that_of_the_package(command):
    assert command("--version") == (0, f"sightline {version('sightline')}\n", "")


@pytest.mark.parametrize("asked", ["query run SELECT", "compare a b --format json", "reviews run", "run", "--version"])
def test_a_closed_standard_output_is_told(asked):
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "pipeline", *asked.split()]
    ended = subprocess.run(closed, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    told = "fault: standard output is closed; send it to a file or to /dev/null\n"
    assert (ended.returncode, ended.stderr) == (1, told)


def test_a_missing_config_is_told(command, tmp_path):
    mistaken(command("run", tmp_path / "mine.yaml"), "mine.yaml: No such file", "copy pipeline.yaml")


def test_an_unknown_key_is_told_with_the_nearest(command, config):
    mistaken(command("run", config, "--set", "explain.stepps=3"), "unknown key explain.stepps; did you mean steps?")


def test_a_missing_dataset_folder_is_told(command, config, tmp_path):
    mistaken(command("run", config, "--set", "dataset.path=gone/audit.csv"), str(tmp_path / "gone/audit.csv"))
    imagenet = command("run", config, "--set", "dataset.reader=imagenet", "--set", "dataset.path=gone")
    mistaken(imagenet, str(tmp_path / "gone"))


def test_a_folder_without_its_images_is_told(command, config, tmp_path):
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    mistaken(command("run", config), "none of the 2 images", "check dataset.path and dataset.images")


def test_an_unknown_model_is_told_with_near_names(command, config):
    mistaken(command("run", config, "--set", "model.source=torchvision:mobilenet_v4"), "did you mean mobilenet_v")
    mistaken(command("run", config, "--set", "model.source=python:nowhere:make"), "No module named 'nowhere'")


def test_an_unknown_layer_is_told_with_near_names(command, config):
    mistaken(command("run", config, "--set", "model.target_layer=feature"), "target_layer", "features")


def test_labels_of_which_the_model_knows_none_are_told(command, tmp_path):
    names = write_images(tmp_path, range(2))
    config = write_config(tmp_path, write_manifest(tmp_path, names, ["zebra", "gnu"]))
    mistaken(command("run", config), "'gnu', 'zebra'", "model.classes")


def test_a_target_that_the_network_has_no_class_for_is_told(command, config):
    more = command("run", config, "--set", "explain.targets=[label, top6]")
    mistaken(more, "explain.targets: top6, but the network has 5 classes")


def test_a_file_to_write_is_no_url_and_no_folder(command, config, tmp_path):
    mistaken(command("report", tmp_path, "--out", tmp_path), f"{tmp_path} is a folder; name a file in it")
    mistaken(command("check", config, "--html", tmp_path), f"{tmp_path} is a folder; name a file in it")
    for words in (["report", tmp_path, "--out"], ["export", tmp_path, "--format", "coco"], ["demo"]):
        mistaken(command(*words, "s3://bucket/x"), "s3://bucket/x is a URL; this is written to a local disk")


def test_a_run_directory_that_cannot_be_is_told(command, config, tmp_path):
    (tmp_path / "taken").write_text("a file")
    mistaken(command("run", config, "--set", "run=taken"), "cannot make the run directory", "set `run` elsewhere")
    mistaken(command("run", config, "--set", "run=nonsense://bucket/run"), "cannot open nonsense://bucket/run")


def test_a_scheduler_that_does_not_answer_is_told(command, config):
    sets = ["--set", "cluster={kind: address, address: 'tcp://127.0.0.1:9'}"]
    mistaken(command("run", config, *sets), "cluster.address: no Dask scheduler answers at tcp://127.0.0.1:9")


def test_a_mistake_leaves_no_run_behind(command, config, tmp_path):
    command("run", config, "--set", "model.source=torchvision:mobilenet_v4")
    assert not (tmp_path / "run").exists()


def test_a_limit_of_nothing_is_told(command, config):
    mistaken(command("run", config, "--limit", "0"), "limit is 0; take at least 1")


@pytest.mark.parametrize("name", ["app", "query"])
def test_a_missing_run_is_told_with_its_neighbours(command, tmp_path, name):
    Run.create(str(tmp_path / "demo")).write_info(RunInfo())
    arguments = [tmp_path / "dmo", *(["SELECT 1"] if name == "query" else [])]
    mistaken(command(name, *arguments), "no run at", f"there are: {tmp_path}/demo", "`sightline run CONFIG` makes one")


def test_query_wants_sql_or_a_name(command, tmp_path):
    mistaken(command("query", tmp_path), "give SQL or --name")


def test_the_list_of_queries_needs_no_run(command):
    status, out, _ = command("query", "any", "--list")
    assert status == 0
    assert "worst_classes" in out


def test_rules_are_listed_with_the_run_s_own_and_its_thresholds(command, tmp_path):
    own = {
        "id": "tiny",
        "title": "A tiny box",
        "when": "box_area_frac < .05",
        "reason": "{box_area_frac:%} of the view",
    }
    run = Run.create(str(tmp_path / "run"))
    run.write_info(RunInfo(config={"audit": {"outside_effect": 0.45, "rules": [own]}}))
    status, out, _ = command("query", tmp_path / "run", "--rules")
    assert status == 0
    assert "outside_effect >= 0.45 OR" in out
    assert "tiny (description)  A tiny box" in out
    assert "box_area_frac < .05" in out
    mistaken(command("query", tmp_path / "rum", "--rules"), "no run at")


def test_an_unknown_option_exits_with_2_and_a_fault_with_1(command, config, monkeypatch):
    status, _, err = command("run", config, "--stepps", "3")
    assert status == 2
    assert "--stepps" in err
    from storage.errors import SightlineError

    def fault(*_, **__):
        raise SightlineError("explain: 1 of 3 shards failed")

    monkeypatch.setattr("pipeline.runner.run_pipeline", fault)
    assert command("run", config) == (1, "", "fault: explain: 1 of 3 shards failed\n")


def test_a_disk_that_is_full_or_closed_is_told_in_one_line(command, config, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/runs/demo/samples.parquet")

    monkeypatch.setattr("pipeline.runner.run_pipeline", full)
    status, _, err = command("run", config)
    assert status == 1
    assert err == "fault: No space left on device: /runs/demo/samples.parquet\n"


def test_ctrl_c_exits_with_130(command, config, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.runner.run_pipeline", interrupted)
    status, _, err = command("run", config)
    assert status == 130
    assert "Traceback" not in err


def test_square_brackets_in_a_path_are_printed_as_they_are(command, tmp_path):
    mistaken(command("run", tmp_path / "a[b]c.yaml"), "a[b]c.yaml")


def test_help_lists_the_commands():
    process = sightline("--help")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    for name in ("run", "query", "compare", "sanity", "app", "reviews", "export", "annotate", "demo", "doctor"):
        assert f"  {name}" in out
    assert (ROOT / "pipeline.yaml").exists()


def test_doctor_says_what_the_machine_has(command):
    status, out, _ = command("doctor")
    assert status == 0
    words = [line.split()[0] for line in out.splitlines()]
    assert words[:2] == ["python", "packages"]
    assert {"devices", "database", "browser", "weights"} <= set(words)


def test_doctor_prints_the_extra_that_a_missing_package_needs(command, monkeypatch):
    monkeypatch.setattr("pipeline.doctor.version", lambda name: None if name == "s3fs" else "1.0")
    status, out, _ = command("doctor")
    assert status == 0
    assert "s3fs is not installed: pip install -e '.[s3]' where you need it" in out
