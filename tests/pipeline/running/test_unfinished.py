"""What a run leaves that was refused, or that ended before its end."""

import pytest
import yaml

from pipeline import runner
from storage import Run
from storage.errors import UserError
from tests.pipeline.datasets import contents, write_config, write_images, write_manifest
from tests.pipeline.running.runs import run

COUNT = 40

pytestmark = pytest.mark.usefixtures("shared_cluster")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_manifest(folder, write_images(folder, range(COUNT)))
    return folder


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"when": "p_ful > 0.5"}, r"audit\.rules, rule 'own': .*p_ful"),
        ({"when": "p_full > 0.5", "reason": "{p_ful}"}, r"audit\.rules, rule 'own': `reason` names the column 'p_ful'"),
    ],
)
def test_a_mistake_in_a_rule_is_told_before_any_work(dataset, tmp_path, rule, message):
    config = write_config(tmp_path, dataset / "audit.csv")
    config.write_text(config.read_text() + yaml.safe_dump({"audit": {"rules": [{"id": "own", "title": "Own"} | rule]}}))
    with pytest.raises(UserError, match=message):
        run(config)
    assert not (tmp_path / "run").exists()


def refused(*_, **__):
    raise UserError("refused")


@pytest.mark.parametrize("refuses", ["_check", "make_plan"])
def test_a_run_that_is_refused_leaves_a_finished_one_as_it_was(dataset, tmp_path, monkeypatch, refuses):
    """Labels beside findings of other labels would be believed."""
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    before = contents(tmp_path / "run")
    monkeypatch.setattr(runner, refuses, refused)
    with pytest.raises(UserError, match="refused"):
        run(config, "dataset.limit=20")
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("ends", ["create_map_arrays", "make_shards"])
def test_a_run_that_ends_once_its_samples_stand_has_no_findings_of_the_former_ones(
    dataset, tmp_path, monkeypatch, ends, command
):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    monkeypatch.setattr(runner, ends, refused)
    with pytest.raises(UserError, match="refused"):
        run(config, "dataset.limit=20", "explain.steps=4")
    for name in ("findings", "classes", "metrics"):
        assert not (tmp_path / f"run/{name}.parquet").exists()
    status, _, err = command("report", tmp_path / "run")
    assert (status, "Traceback" in err) == (2, False)


def test_what_maps_were_made_with_stands_though_the_run_ended_before_its_end(dataset, tmp_path, monkeypatch):
    config = write_config(tmp_path, dataset / "audit.csv")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "audit", refused)
        with pytest.raises(UserError, match="refused"):
            run(config)
    ended = Run.open(str(tmp_path / "run")).info
    assert (ended.explained.images, ended.explained.device, ended.finished) == (COUNT, "cpu", "")
    done, said = run(config)
    assert "0 of 2 shards computed, 2 were done" in said
    assert done.info.explained == ended.explained
    assert done.info.finished != ""
    with monkeypatch.context() as patch:
        patch.setattr(runner, "make_shards", refused)
        with pytest.raises(UserError, match="refused"):
            run(config, "explain.steps=4")
    begun = done.info
    assert begun.config["explain"]["steps"] == 4
    assert (begun.explained.images, begun.explained.made_with) == (0, ended.explained.made_with)
