"""`sightline reproduce`: shards of a real run made again, from one real Dask worker."""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from pipeline import run_info, runner
from pipeline.config import load_config, stored_config
from pipeline.reproduce import Reproduction, reproduce
from pipeline.show.console import plain_console
from pipeline.show.reproduction import print_reproduction, said_in_short
from pipeline.workers import environment
from pipeline.workers.cluster import ClusterSettings, connect
from pipeline.workers.environment import Checkout
from storage import Run
from storage.errors import UserError
from storage.run import Part
from tests.pipeline.datasets import contents, write_config, write_images, write_manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 70 images in three shards."""
    folder = tmp_path_factory.mktemp("made")
    manifest = write_manifest(folder, write_images(folder, range(70)))
    config = load_config(write_config(folder, manifest, cluster={"workers": 1}))
    with (
        pytest.MonkeyPatch.context() as patch,
        connect(ClusterSettings(kind="local", workers=1, threads=1), print) as one,
    ):

        @contextmanager
        def shared(*_: object):
            yield one

        patch.setattr(runner, "connect", shared)
        runner.run_pipeline(config, plain_console(io.StringIO()))
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    """A copy of it that a test may change."""
    shutil.copytree(made, tmp_path / "run")
    return Run.open(str(tmp_path / "run"))


def again(run: Run, shards: int = 3, seed: int = 0) -> Reproduction:
    return reproduce(run, shards, seed, lambda done, total: None)


def printed(found: Reproduction) -> str:
    console = plain_console(io.StringIO(), width=120)
    print_reproduction(found, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_run_is_made_again_to_the_byte_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    before, threads = contents(tmp_path / "run"), torch.get_num_threads()
    found = again(run)
    assert (found.differing, found.changed, found.shards, found.of) == ((), {}, (0, 1, 2), 3)
    assert {one.name: one.rows for one in found.compared} == {
        "maps.zarr/opti_cam/label": 70,
        "maps.zarr/opti_cam.outside/label": 70,
        "maps.zarr/opti_cam/predicted": 70,
        "maps.zarr/opti_cam.outside/predicted": 70,
        "explain": 140,
        "scores": 140,
    }
    assert "nothing that the run records has changed" in printed(found)
    assert contents(tmp_path / "run") == before
    assert torch.get_num_threads() == threads


def test_the_choice_of_shards_is_seeded(run: Run) -> None:
    chosen = {seed: again(run, 1, seed).shards for seed in (0, 1)}
    assert chosen == {0: (1,), 1: (0,)}  # random.Random(seed).sample of three
    with pytest.raises(UserError, match="--shards is 0; take at least 1"):
        again(run, 0)


def test_a_map_of_other_bytes_is_told_by_how_much_and_as_damage(run: Run) -> None:
    store = run.maps("label", "opti_cam", mode="r+")
    maps = store.read(slice(0, 32))
    maps[3, 0, 0] += 0.25
    store.write(0, maps)
    found = again(run)
    (one,) = found.differing
    assert (one.name, one.rows, one.different, one.largest) == ("maps.zarr/opti_cam/label", 70, 1, 0.25)
    assert found.changed["stored maps"] == ("whole", "damaged: `sightline verify` names and removes them")
    assert "1 row differs, by at most 0.25" in printed(found)


def test_a_column_of_other_numbers_is_named(run: Run) -> None:
    part = Part("scores", "opti_cam", 1)
    table = run.read_part(part)
    other = pc.add(table["entropy"], pa.scalar(0.5, table["entropy"].type))
    place = table.schema.get_field_index("entropy")
    run.write_part(part, table.set_column(place, "entropy", other), run.part_metadata(part) or {})
    found = again(run)
    assert [one.name for one in found.differing] == ["scores.entropy"]
    assert found.differing[0].different == 64
    assert found.differing[0].largest == pytest.approx(0.5, abs=1e-6)


def test_what_the_run_records_is_compared_with_today(run: Run) -> None:
    info = run.info
    made_with = {**info.explained.made_with, "torch": "1.0.0", "threads": "3"}
    run.write_info(replace(info, explained=replace(info.explained, made_with=made_with), weights_digest="0" * 64))
    found = again(run, 1)
    assert found.changed["torch"] == ("1.0.0", info.explained.made_with["torch"])
    assert found.changed["weights and code"][0] == "0" * 12
    assert "threads" not in found.changed  # it computed with three, too
    assert "changed  torch: 1.0.0, now " in printed(found)


@pytest.mark.parametrize("checkout", [None, Checkout("b" * 40, changed=True)])
def test_the_commits_of_then_and_now_are_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, checkout: Checkout | None
) -> None:
    info = run.info
    monkeypatch.setattr("pipeline.reproduce.checkout", lambda: checkout)
    run.write_info(replace(info, explained=replace(info.explained, commit="a" * 40, commit_changed=False)))
    found = again(run, 1)
    now = "of no git checkout" if checkout is None else "bbbbbbbbbbbb, with changes"
    assert f"commit   of the run: aaaaaaaaaaaa; now: {now}" in printed(found)
    assert (found.differing, found.changed) == ((), {})  # a commit alone changes nothing


def test_a_run_records_the_commit_and_another_one_makes_nothing_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = run.info.explained
    now = environment.checkout()  # of the code that is tested
    assert explained.commit == (now.commit if now else None)
    assert explained.commit_changed == (now.changed if now else None)
    monkeypatch.setattr(run_info, "checkout", lambda: Checkout("b" * 40, changed=True))
    console = plain_console(io.StringIO())
    runner.run_pipeline(stored_config(run).model_copy(update={"run": run.url}), console)
    assert "0 of 3 shards computed, 3 were done" in console.file.getvalue()  # type: ignore[attr-defined]
    assert run.info.explained == explained  # it made no maps


def test_other_labels_of_the_samples_are_a_circumstance(run: Run) -> None:
    samples = run.table("samples")
    place = samples.schema.get_field_index("class_index")
    turned = pc.subtract(pa.scalar(4, samples["class_index"].type), samples["class_index"])
    run.write_table("samples", samples.set_column(place, "class_index", turned))
    found = again(run, 1)
    assert "images, classes or model" in found.changed
    assert said_in_short(found).startswith("not reproduced: maps.zarr/opti_cam/label, ")
    assert "images, classes or model" in said_in_short(found)


def test_the_command_exits_with_0_where_all_bytes_agree_and_with_1_where_not(run: Run, command) -> None:  # type: ignore[no-untyped-def]
    status, said, _ = command("reproduce", run.url, "--shards", 1)
    assert status == 0
    assert "Made again: shards 1 of 3, opti_cam" in said
    run.maps("label", "opti_cam", mode="r+").write(32, run.maps("label", "opti_cam").read(slice(32, 64)) / 2)
    status, _, err = command("reproduce", run.url, "--shards", 1)
    assert status == 1
    assert err.startswith("fault: not reproduced: maps.zarr/opti_cam/label differ; what changed since: stored maps")
