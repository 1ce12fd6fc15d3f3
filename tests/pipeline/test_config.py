import dataclasses
import json

import pytest

from pipeline.config import Config, load_config, stored_config
from stages.audit.settings import AuditSettings, CustomRule, audit_settings
from stages.explain import OptiCamSettings
from stages.review.settings import review_settings
from storage import Run
from storage.errors import UserError
from storage.info import RunInfo

MINIMAL = "run: runs/mine\ndataset: {reader: manifest, path: data/audit.csv}\n"


@pytest.fixture
def write(tmp_path):
    def write(text=MINIMAL, name="pipeline.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(path, message, *overrides):
    with pytest.raises(UserError, match=message) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_a_minimal_config_has_the_fast_profile_and_the_design_s_defaults(write):
    config = load_config(write())
    assert config.explain.opticam == OptiCamSettings(steps=16, learning_rate=0.3, optimizer="projected")
    assert config.explain.targets == ("label", "predicted")
    assert (config.view.geometry, config.view.size) == ("squash", 224)
    assert config.model.source == "torchvision:mobilenet_v2"
    assert config.cluster.kind == "auto"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run: a\x0b\n", "unacceptable character #x000b"),
        ('"\\r": 1\n', r"unknown key '\\r'; "),
        (f"? {'x' * 5000}\n: 1\n", r"unknown key 'x{57}'\.\.\.; "),
        ('dataset: {path: d, "a\\nb": 1}\nrun: r\n', r"unknown key dataset\.'a\\nb'; "),
    ],
)
def test_control_characters_are_told_in_one_line(write, text, told):
    for line in refused(write(text), told).splitlines():
        assert line.startswith(str(write(text)))


def test_relative_paths_are_taken_from_the_config_s_folder_whatever_the_working_directory(write, tmp_path, monkeypatch):
    path = write(
        "run: runs/mine\n"
        "dataset: {reader: manifest, path: data/audit.csv, images: ../images, truth: /elsewhere/truth.parquet}\n"
        "model: {checkpoint: model.pt, classes: classes.txt}\n"
    )
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(folder)
        config = load_config(path)
        assert config.run == str(tmp_path / "runs/mine")
        assert config.dataset.path == str(tmp_path / "data/audit.csv")
        assert config.dataset.images == str(tmp_path / "../images")
        assert config.dataset.truth == "/elsewhere/truth.parquet"
        assert config.model.checkpoint == str(tmp_path / "model.pt")
        assert config.model.classes == str(tmp_path / "classes.txt")
        assert config.dataset.synsets is None


def test_urls_are_left_as_they_are(write):
    config = load_config(write("run: s3://bucket/run\ndataset: {reader: manifest, path: memory://data/audit.csv}\n"))
    assert config.run == "s3://bucket/run"
    assert config.dataset.path == "memory://data/audit.csv"


def test_a_config_is_frozen(write):
    config = load_config(write())
    with pytest.raises(Exception, match="frozen"):
        config.run = "elsewhere"
    with pytest.raises(Exception, match="cannot assign"):
        config.explain.steps = 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("explian: {steps: 4}", r"pipeline\.yaml: unknown key explian; did you mean explain\?"),
        ("explain: {step: 4}", r"pipeline\.yaml: unknown key explain\.step; did you mean steps\?"),
        ("view: {sise: 64}", r"unknown key view\.sise; did you mean size\?"),
        ("model: {checkpont: a.pt}", r"unknown key model\.checkpont; did you mean checkpoint\?"),
        ("cluster: {colour: red}", r"unknown key cluster\.colour; keys here are kind, address, workers, threads"),
        ("audit: {scan: true}", r"unknown key audit\.scan; did you mean explain\.scan\?"),
        ("steps: 4", r"unknown key steps; did you mean explain\.steps\?"),
        ("zzz: 1", r"unknown key zzz; keys here are run, dataset, model"),
        (f"? {'z' * 5000}\n: 1", r"unknown key 'z{57}'\.\.\.; keys here are run, dataset, model"),
        ("explain: {steps: many}", r"explain\.steps: .*integer.* \(it is 'many'\)"),
        ("explain: {steps: 0}", r"explain: steps .*[^)]$"),
        ("explain: {shard_size: 50}", r"shard_size is 50; take a multiple of 32"),
        ("explain: {targets: [label, label]}", r"targets are \['label', 'label'\]"),
        ("explain: {targets: [labels]}", r"targets .*labels"),
        ("explain: 4", r"explain: .*\(it is 4\)"),
        ("view: {geometry: crop}", r"view\.geometry: .*'squash', 'resize_crop' or 'auto'.* \(it is 'crop'\)"),
        ("view: {geometry: resize_crop, size: 64, resize: 32}", r"smaller than the crop of 64 px"),
        ("model: {mean: [0.5, 0.5]}", r"model\.mean"),
        ("cluster: {kind: address}", r"kind address and the key address go together"),
        ("cluster: {workers: 0}", r"workers and threads must be at least 1"),
        ("cluster: {retries: -1}", r"retries is -1; take 0 or more"),
        ("model: {std: [0, 0.5, 0.5]}", r"std is \[0\.0, 0\.5, 0\.5\]; give three numbers above 0"),
        ("model: {std: [0.5, -1, 0.5]}", r"give three numbers above 0"),
        ("model: {mean: [.nan, 0, 0]}", r"give three finite numbers"),
        ("audit: {outside_effect: 50}", r"outside_effect is 50; give a fraction from 0 to 1, 0\.5 for 50%"),
        ("audit: {confident: -1}", r"confident is -1; give a fraction from 0 to 1"),
        ("audit: {missing_box: .nan}", r"missing_box is nan; give a fraction from 0 to 1"),
        ("audit: {on_box_lift: .inf}", r"on_box_lift is inf; give a number from 0 on"),
        ("audit: {min_class_size: 0}", r"min_class_size is 0; take at least 1"),
        ("explain: {steps: true}", r"explain\.steps: true and false are no numbers \(it is true\)"),
        ("model: {mean: [0.5, no, 0.5]}", r"model\.mean\[1\]: true and false are no numbers \(it is false\)"),
        ("1: one", r"unknown key 1"),
    ],
)
def test_what_does_not_fit_is_told_with_file_key_and_remedy(write, line, message):
    path = write(MINIMAL + line + "\n")
    told = refused(path, message)
    assert told.startswith(str(path))
    assert "\n" not in told


@pytest.mark.parametrize(
    ("section", "name"),
    [
        (section, field.name)
        for section, part in Config.model_fields.items()
        if dataclasses.is_dataclass(part.annotation)
        for field in dataclasses.fields(part.annotation)
    ],
)
@pytest.mark.parametrize("truth", [True, False])
def test_no_setting_takes_true_or_false_for_a_number(write, section, name, truth):
    content = {"run": "runs/mine", "dataset": {"reader": "manifest", "path": "audit.csv"}}
    content.setdefault(section, {})[name] = truth
    path = write(json.dumps(content))
    try:
        taken = getattr(getattr(load_config(path), section), name)
    except UserError:
        return
    assert taken is truth


def test_several_mistakes_are_told_line_by_line(write):
    told = refused(write("runs: mine\nexplain: {step: 4}\n"), "unknown key runs; did you mean run").splitlines()
    assert len(told) == 4
    assert any("the key run is missing" in line for line in told)
    assert any("the key dataset is missing" in line for line in told)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"holds no keys; copy pipeline\.yaml"),
        ("- a\n- b\n", r"holds no keys"),
        ("run: [unclosed\n", r"is not YAML: .*line 2"),
        ("run: a\n\trun: b\n", r"is not YAML"),
        ("a: &a [1]\nb: &b [*a, *b]\n", r"is not YAML: its aliases stand for more than"),
    ],
)
def test_a_file_that_is_no_config_is_told_in_one_line(write, text, message):
    assert "\n" not in refused(write(text), message)


def test_a_missing_config_is_named(tmp_path):
    refused(tmp_path / "mine.yaml", r"cannot read the config .*mine\.yaml: No such file")


def test_a_folder_is_no_config(tmp_path):
    refused(tmp_path, r"cannot read the config .*: Is a directory")


@pytest.mark.parametrize(
    ("overrides", "read", "wanted"),
    [
        (["explain.steps=7"], lambda c: c.explain.steps, 7),
        (["explain.steps=7", "explain.steps=9"], lambda c: c.explain.steps, 9),
        (["explain.targets=[predicted]"], lambda c: c.explain.targets, ("predicted",)),
        (["view.geometry=resize_crop", "view.size=32"], lambda c: (c.view.geometry, c.view.size), ("resize_crop", 32)),
        (["explain.learning_rate=1e-1"], lambda c: c.explain.learning_rate, 0.1),
        (["dataset.limit=null"], lambda c: c.dataset.limit, None),
        (["run=s3://bucket/a=b"], lambda c: c.run, "s3://bucket/a=b"),
    ],
)
def test_set_overrides_a_key(write, overrides, read, wanted):
    assert read(load_config(write(), overrides)) == wanted


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("explain.steps", r"--set 'explain\.steps' is not understood; write --set explain\.steps=40"),
        ("=4", r"--set '=4' is not understood"),
        ("explain.stepps=4", r"unknown key explain\.stepps; did you mean steps\?"),
        ("explain.targets=[label", r"--set 'explain\.targets=\[label': the value is not YAML; quote it"),
        ("run.name=x", r"run: .*string"),
        ("explain.steps=", r"explain\.steps"),
    ],
)
def test_an_override_that_does_not_fit_is_told(write, override, message):
    if override == "explain.steps=":
        assert load_config(write(), [override]).explain.steps is None  # as in YAML: nothing is null
    else:
        assert "\n" not in refused(write(), message, override)


def test_the_project_s_own_pipeline_yaml_is_valid():
    from pathlib import Path

    root = Path(__file__).parents[2]
    config = load_config(root / "pipeline.yaml")
    assert config.run == str(root / "runs/demo")


@pytest.mark.parametrize(
    ("section", "stored", "told"),
    [
        ("audit", {"drop": 0.5}, r"config\.audit: drop: Unexpected keyword argument"),
        ("audit", {"a\rb": 0.5}, r"config\.audit: 'a\\rb': Unexpected keyword argument"),
        ("audit", {"x" * 5000: 0.5}, r"config\.audit: 'x{57}'\.\.\.: Unexpected keyword argument"),
        ("audit", {"cue_min_size": 0}, r"config\.audit: cue_min_size is 0; take at least 2, or leave it out"),
        ("audit", {"rules": 7}, r"config\.audit: rules: Input should be a valid tuple"),
        ("audit", 7, r"config\.audit: Input should be a dictionary or an instance of AuditSettings"),
        ("review", {"heatmap_opacity": -1}, r"config\.review: heatmap_opacity is -1\.0; give a fraction from 0 to 1"),
    ],
)
def test_settings_that_a_run_keeps_and_no_stage_takes_are_told_in_one_line(section, stored, told):
    read = {"audit": audit_settings, "review": review_settings}[section]
    with pytest.raises(UserError, match=rf"^run\.json: {told}") as caught:
        read(RunInfo(config={section: stored}))
    assert str(caught.value).endswith("; it is of another version, run the pipeline again")
    assert str(caught.value).isprintable()


def test_settings_that_a_run_keeps_are_read_as_they_were_written():
    rule = {"id": "own", "title": "Own", "when": "entropy > 0.5"}
    info = RunInfo(config={"audit": {"drop_outside": 0.25, "rules": [rule]}, "review": {"threads": 3}})
    audit = audit_settings(info)
    assert (audit.drop_outside, audit.rules) == (0.25, (CustomRule(**rule),))
    assert review_settings(info).threads == 3
    assert audit_settings(RunInfo()) == AuditSettings()


def test_a_stored_config_that_no_version_takes_is_told_in_one_line(tmp_path):
    run = Run.create(str(tmp_path / "run"))
    run.write_info(RunInfo(config={"run": "r", "dataset": {"path": "d"}, "a\rb": 1}))
    with pytest.raises(
        UserError, match=r"run/run\.json: 'a\\rb': Extra inputs are not permitted; run the pipeline"
    ) as it:
        stored_config(run)
    assert str(it.value).isprintable()


def test_of_a_thousand_problems_twenty_are_told(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("".join(f"z{number}: 1\n" for number in range(1000)))
    with pytest.raises(UserError) as caught:
        load_config(path)
    lines = str(caught.value).split("\n")
    missing = 2  # dataset and model
    assert len(lines) == 21
    assert lines[-1] == f"{path}: ... and {1000 + missing - 20} more"
