"""Runs of the real command line that are killed or interrupted at the worst point, and started again."""

import os
import shutil
import signal
import time

import numpy as np
import pytest

from storage import Run
from tests.pipeline.datasets import contents, sightline, write_config, write_images, write_manifest
from tests.pipeline.schedulers import dask_cluster

COUNT = 70
MODEL = {"source": "python:tests.pipeline.killing:tiny"}


def finished(process, status=0):
    said, _ = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert "Traceback" not in said
    return said


def group_is_gone(process):
    """Whether no process of the group is left, given a moment to end."""
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("reference")
    manifest = write_manifest(folder, write_images(folder, range(COUNT)))
    config = write_config(folder, manifest, model=MODEL)
    said = finished(sightline("run", config))
    assert "3 of 3 shards computed, 0 were done" in said
    return folder


@pytest.fixture
def config(reference, tmp_path):
    return write_config(tmp_path, reference / "audit.csv", model=MODEL)


def test_kill_9_between_maps_and_part_costs_that_shard_alone_and_ends_in_the_same_bytes(reference, tmp_path, config):
    process = sightline("run", config, END_AT_SHARD="1", END_BY="kill")
    finished(process, -signal.SIGKILL)
    assert group_is_gone(process)
    run = Run.open(str(tmp_path / "run"))
    committed = [part.index for part in run.parts("explain")]
    assert 1 not in committed
    assert np.isfinite(run.maps("label").read(slice(32, 64))).all()  # the worst point indeed

    said = finished(sightline("run", config))
    assert f"{3 - len(committed)} of 3 shards computed, {len(committed)} were done" in said
    resumed = contents(tmp_path / "run")
    assert {name for name in resumed if name.startswith("maps.zarr")} >= {
        f"maps.zarr/opti_cam/{target}/c/{chunk}/0/0" for target in ("label", "predicted") for chunk in range(3)
    }
    assert resumed == contents(reference / "run")


def test_settings_a_then_b_killed_then_a_end_in_the_bytes_of_a(reference, tmp_path, config):
    shutil.copytree(reference / "run", tmp_path / "run")
    finished(sightline("run", config, "--set", "explain.steps=2", END_AT_SHARD="1", END_BY="kill"), -signal.SIGKILL)
    others = contents(tmp_path / "run")
    assert others["maps.zarr/opti_cam/label/c/1/0/0"] != contents(reference / "run")["maps.zarr/opti_cam/label/c/1/0/0"]
    finished(sightline("run", config))
    assert contents(tmp_path / "run") == contents(reference / "run")


def until(holds, process):
    """Wait for a condition on what another process does, as long as it runs."""
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def test_a_second_writer_is_refused_naming_the_first_and_kill_9_of_the_first_frees_the_run(reference, tmp_path, config):
    first = sightline("run", config, END_AT_SHARD="1", END_BY="stop")
    lock = tmp_path / "run" / ".lock"
    until(lambda: lock.exists() and lock.read_text(), first)
    before = finished(sightline("run", config, "--set", "explain.steps=2"), 2).splitlines()[-1]
    assert before.startswith(f"error: {tmp_path / 'run'} is written by process {first.pid} on ")
    assert before.endswith("; wait until it ends, or end it")

    os.killpg(first.pid, signal.SIGKILL)
    finished(first, -signal.SIGKILL)
    said = finished(sightline("run", config))
    assert "3 of 3 shards computed" in said or "2 of 3 shards computed, 1 were done" in said
    assert contents(tmp_path / "run") == contents(reference / "run")


@pytest.mark.parametrize("end", ["interrupt", "hang"])
def test_ctrl_c_ends_with_130_says_what_is_done_and_leaves_no_process(reference, tmp_path, config, end):
    process = sightline("run", config, END_AT_SHARD="2", END_BY=end)
    said = finished(process, 130)
    assert group_is_gone(process)
    assert "of 3 shards of this run are committed; the same command goes on from there" in " ".join(said.split())
    left = [path.name for path in (tmp_path / "run").rglob("*.tmp")]
    assert left == []
    finished(sightline("run", config))
    assert contents(tmp_path / "run") == contents(reference / "run")


def test_a_scheduler_that_dies_ends_the_run_in_one_line_and_the_same_command_goes_on(reference, tmp_path, config):
    with dask_cluster(tmp_path / "first", END_AT_SHARD="1", END_BY="scheduler") as (address, _):
        cluster = ["--set", "cluster={kind: address, address: '%s'}"]
        said = finished(sightline("run", config, cluster[0], cluster[1] % address), 1)
    assert said.splitlines()[-1].startswith(f"fault: cluster: the scheduler at {address} ended or does not answer")
    with dask_cluster(tmp_path / "second") as (address, _):
        said = finished(sightline("run", config, cluster[0], cluster[1] % address))
    assert "2 of 3 shards computed, 1 were done" in said
    assert contents(tmp_path / "run") == contents(reference / "run")
