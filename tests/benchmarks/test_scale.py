from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale import STAGES, Stages, write_dataset

SAMPLES = 130


def test_every_stage_of_the_benchmark_does_its_part_of_a_run(tmp_path: Path) -> None:
    write_dataset(tmp_path, SAMPLES)
    stages = Stages(tmp_path, SAMPLES, shard=64, channels=16)
    for stage in STAGES.values():
        stage(stages)
    run = stages.run
    assert set(run.table("samples", ["status"])["status"].to_pylist()) == {"ok"}
    assert [len(list(run.parts(table))) for table in ("explain", "scores")] == [3, 3]
    assert sum(run.read_part(part, ["row"]).num_rows for part in run.parts("scores")) == 2 * SAMPLES
    assert set(run.table("metrics", ["target"])["target"].to_pylist()) == {"label", "predicted"}


def test_pending_shards_of_a_finished_run_are_told(tmp_path: Path) -> None:
    write_dataset(tmp_path, SAMPLES)
    stages = Stages(tmp_path, SAMPLES, shard=64, channels=16)
    stages.ingest()
    assert stages.plan() == [0, 1, 2]
    with pytest.raises(SystemExit, match="shards are pending in a finished run"):
        stages.restart()
