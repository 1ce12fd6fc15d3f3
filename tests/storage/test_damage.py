"""Damage that is done to real files is named, or changed nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage import Run
from storage.damage import find_damage
from storage.maps import MapAttributes, combined_checksum
from storage.run import ROWS_DIGEST, Part
from storage.tables import CLASSES, EXPLAIN, SAMPLES, SCORES, encode

ROWS, GRID = 64, (7, 7)
PART = Part("explain", "opti_cam", 0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of one shard: 64 maps of noise in one object, its part of explain and of scores, two whole tables."""
    run = Run.create(str(tmp_path / "run"))
    maps = np.random.default_rng(0).random((ROWS, *GRID), dtype=np.float32)
    run.create_maps(MapAttributes("opti_cam", "label", size=224), rows=ROWS, grid=GRID, shard=ROWS).write(0, maps)
    keys = [{"row": row, "sample_id": f"{row}.jpg", "target": "label", "method": "opti_cam"} for row in range(ROWS)]
    p = np.random.default_rng(1).random(ROWS)
    vouched = {"rows": f"0:{ROWS}", "targets": "label", "maps_checksum": combined_checksum([maps])}
    run.write_part(PART, filled(EXPLAIN, [key | {"p_full": one} for key, one in zip(keys, p, strict=True)]), vouched)
    run.write_part(Part("scores", "opti_cam", 0), filled(SCORES, [key | {"ad": 0.5} for key in keys]), {})
    run.write_table("samples", filled(SAMPLES, [{"row": key["row"], "sample_id": key["sample_id"]} for key in keys]))
    run.write_table("classes", filled(CLASSES, [{"label": "mug", "n": 3}]))
    return run


def filled(schema: pa.Schema, rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def content(run: Run) -> tuple[object, ...]:
    return run.maps().read(slice(0, ROWS)).tobytes(), run.read_part(PART), run.table("scores")


def test_a_run_that_nobody_touched_is_whole(run: Run) -> None:
    seen = []
    assert list(find_damage(run, lambda done, total: seen.append((done, total)))) == []
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "name",
    ["maps.zarr/opti_cam/label/c/0/0/0", "explain/opti_cam/part-00000.parquet", "scores/opti_cam/part-00000.parquet"],
)
def test_each_flipped_bit_is_found_or_changed_nothing(run: Run, name: str) -> None:
    file, before = run.local_path(name), content(run)
    whole, rng, found = file.read_bytes(), np.random.default_rng(2), 0
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        damage = list(find_damage(run))
        found += bool(damage)
        assert damage or content(run) == before
    assert found > 30


@pytest.mark.parametrize("name", ["explain/opti_cam/part-00000.parquet", "samples.parquet", "classes.parquet"])
def test_a_truncated_file_is_named_and_only_what_can_be_made_again_may_go(run: Run, name: str) -> None:
    file = run.local_path(name)
    file.write_bytes(file.read_bytes()[:-9])
    (damage,) = find_damage(run)
    assert (damage.path, damage.remade) == (name, name != "samples.parquet")
    assert damage.what.startswith("it cannot be read: ")


def test_maps_that_are_gone_are_named_by_the_part_that_vouches_for_them(run: Run) -> None:
    run.local_path("maps.zarr/opti_cam/label/c/0/0/0").unlink()
    (damage,) = find_damage(run)
    assert (damage.path, damage.what) == (PART.path, "its maps are not those that were written")


def test_parts_of_another_version_are_no_damage(run: Run) -> None:
    older = filled(EXPLAIN, [{"row": 0, "sample_id": "0.jpg", "target": "label", "method": "opti_cam"}])
    columns = [name for name in EXPLAIN.names if name != "p_box"]
    schema = pa.schema([EXPLAIN.field(name) for name in columns])
    content = encode(older, schema, {ROWS_DIGEST: hashlib.sha256(encode(older, schema)).hexdigest()})
    run.directory.write(Part("explain", "opti_cam", 1).path, content)
    assert list(find_damage(run)) == []
