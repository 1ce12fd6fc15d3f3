"""Damage that is done to real files is named, or changed nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage import Run
from storage.errors import DamagedFile, SightlineError, UserError
from storage.info import RunInfo
from storage.integrity.damage import discard, find_damage, find_unreadable
from storage.maps import MapAttributes, combined_checksum
from storage.run import ROWS_DIGEST, Part
from storage.sql import run_query
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
    run.write_table("samples", filled(SAMPLES, [{"status": "ok", **key} for key in keys]))
    run.write_table("classes", filled(CLASSES, [{"label": "mug", "n": 3}]))
    return run


def filled(schema: pa.Schema, rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def content(run: Run) -> tuple[object, ...]:
    return run.maps().read(slice(0, ROWS)).tobytes(), run.read_part(PART), run.table("scores")


def test_a_run_that_nobody_touched_is_whole(run: Run) -> None:
    seen = []
    assert list(find_damage(run, lambda done, total: seen.append((done, total)))) == []
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "vouched",
    [
        {"targets": "label", "maps_checksum": "0"},  # without rows
        {"rows": "0:", "targets": "label", "maps_checksum": "0"},
        {"rows": "a:b", "targets": "label", "maps_checksum": "0"},
        {"rows": "0:64", "targets": "label"},
    ],
)
def test_a_part_whose_metadata_are_broken_vouches_for_no_maps(run: Run, vouched: dict[str, str]) -> None:
    run.write_part(PART, run.read_part(PART), vouched)
    (damage,) = find_damage(run)
    assert (damage.path, damage.what) == (PART.path, "its maps are not those that were written")


def test_a_column_whose_name_is_no_utf_8_is_damage(run: Run) -> None:
    file = run.local_path("scores/opti_cam/part-00000.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"entropy", b"\xefntropy"))
    (damage,) = find_damage(run)
    assert damage.path == "scores/opti_cam/part-00000.parquet"
    assert damage.what.startswith("it cannot be read: 'utf-8' codec can't decode byte 0xef")


def test_a_table_that_duckdb_alone_refuses_is_damaged_and_others_are_answered(run: Run) -> None:
    earlier = encode(CLASSES.empty_table(), CLASSES, checksums=False)  # later versions notice it before DuckDB does
    run.directory.write("classes.parquet", earlier)
    file = run.local_path("classes.parquet")
    whole = file.read_bytes()
    assert whole.count(b"\x16\x00\x19") == 1  # the number of rows, then the list of row groups
    file.write_bytes(whole.replace(b"\x16\x00\x19", b"\x16\x01\x19"))  # -1
    assert run_query(run, "SELECT count(*) AS n FROM audit").to_pylist() == [{"n": ROWS}]
    with pytest.raises(UserError, match=r"classes\.parquet.* has negative number of rows; `sightline verify RUN`"):
        run_query(run, "SELECT * FROM classes")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "Input should be an object"),
        (b'"text"', "Input should be an object"),
        (b'{"config": 1}', "config: Input should be an object"),
        (b'{"explained": null}', "explained: Input should be an object"),
        (b'{"explained": {"seconds": "long"}}', "explained.seconds: Input should be a valid number"),
        (b'{"layer": ', "Invalid JSON: EOF while parsing a value"),
    ],
)
def test_a_run_json_of_another_shape_is_damaged(run: Run, content: bytes, why: str) -> None:
    run.directory.write("run.json", content)
    with pytest.raises(DamagedFile, match=rf"run\.json cannot be read: {why}") as caught:
        run.info  # noqa: B018
    assert "\n" not in str(caught.value)
    assert [damage.path for damage in find_unreadable(run)] == ["run.json"]


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


FILES = [
    "samples.parquet",
    "classes.parquet",
    "explain/opti_cam/part-00000.parquet",
    "scores/opti_cam/part-00000.parquet",
    "maps.zarr/opti_cam/label/zarr.json",
    "run.json",
]


@pytest.fixture
def cut(run: Run, request: pytest.FixtureRequest) -> str:
    """A file of the run, after it was cut off at a share of its length."""
    name, left = request.param
    run.write_info(RunInfo(dataset_digest="1234"))
    file = run.local_path(name)
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content))])
    return str(name)


@pytest.mark.parametrize("cut", [(name, left) for name in FILES for left in (0.0, 0.5, 0.98)], indirect=True)
def test_a_truncated_file_is_found_without_reading_every_file_and_goes(run: Run, cut: str) -> None:
    (damage,) = find_unreadable(run)
    assert damage.path == cut
    assert "cannot be read: " in damage.what
    assert cut in {found.path for found in find_damage(run)}
    discard(run, damage)
    assert not run.directory.exists(cut)
    assert list(find_unreadable(run)) == []


@pytest.mark.parametrize(
    ("cut", "read"),
    [
        (("samples.parquet", 0.5), lambda run: run.table("samples")),
        (("explain/opti_cam/part-00000.parquet", 0.5), lambda run: run.table("explain", ["p_full"])),
        (("explain/opti_cam/part-00000.parquet", 0.0), lambda run: run.read_part(PART)),
        (("explain/opti_cam/part-00000.parquet", 0.9), lambda run: run.part_metadata(PART)),
        (("maps.zarr/opti_cam/label/zarr.json", 0.5), lambda run: run.maps()),
        (("run.json", 0.5), lambda run: run.info),
    ],
    indirect=["cut"],
)
def test_who_reads_a_truncated_file_is_told_its_name_and_the_remedy(
    run: Run, cut: str, read: Callable[[Run], object]
) -> None:
    with pytest.raises(DamagedFile, match=r"cannot be read: .*; `sightline run CONFIG` makes it") as told:
        read(run)
    assert cut in str(told.value)
    assert "Buffer" not in str(told.value)


def test_without_the_description_of_an_array_no_part_vouches_for_its_maps(run: Run) -> None:
    run.local_path("maps.zarr/opti_cam/label/zarr.json").write_text("{")
    (damage,) = find_unreadable(run)
    discard(run, damage)
    assert list(run.parts("explain")) == []


def test_verdicts_stay_however_damaged(run: Run) -> None:
    reviews = run.local_path("reviews.parquet")
    reviews.write_bytes(b"cut")
    (damage,) = find_unreadable(run)
    discard(run, damage)
    assert reviews.read_bytes() == b"cut"
    assert "`sightline reviews RUN` names the copy" in damage.remedy


@pytest.mark.parametrize(
    "cut", [(f"{name}.parquet", left) for name in ("samples", "classes") for left in (0.0, 0.6)], indirect=True
)
def test_a_query_is_answered_unless_it_needs_the_damaged_table(run: Run, cut: str) -> None:
    table = cut.removesuffix(".parquet")
    whole = "classes" if table == "samples" else "samples"
    assert run_query(run, f"SELECT count(*) AS n FROM {whole}").to_pylist() != [{"n": 0}]
    for asked in {table, "audit"} if table == "samples" else {table}:
        with pytest.raises(UserError, match=f"{cut} cannot be read: .*`sightline run CONFIG` makes it again"):
            run_query(run, f"SELECT count(*) FROM {asked}")
    if table == "classes":
        assert run_query(run, "SELECT count(*) AS n FROM audit").to_pylist() == [{"n": ROWS}]


@pytest.mark.parametrize(
    "cut", [("scores/opti_cam/part-00000.parquet", 0.5), ("maps.zarr/opti_cam/label/zarr.json", 0.5)], indirect=True
)
def test_a_query_of_the_audit_names_the_damaged_part_or_array(run: Run, cut: str) -> None:
    assert run_query(run, "SELECT count(*) AS n FROM explain").to_pylist() == [{"n": ROWS}]
    with pytest.raises(UserError, match=f"{cut} cannot be read"):
        run_query(run, "SELECT count(*) FROM audit")


def test_a_query_names_a_damaged_part_between_others(run: Run) -> None:
    for index in (1, 2):
        run.local_path(f"scores/opti_cam/part-0000{index}.parquet").write_bytes(
            run.local_path("scores/opti_cam/part-00000.parquet").read_bytes()
        )
    run.local_path("scores/opti_cam/part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"part-00001\.parquet.*`sightline verify RUN`"):
        run_query(run, "SELECT max(ad) FROM scores")


@pytest.mark.parametrize(
    "name", ["classes.parquet", "explain/opti_cam/part-00000.parquet", "maps.zarr/opti_cam/label/c/0/0/0"]
)
def test_who_reads_a_flipped_bit_of_the_data_is_told(run: Run, name: str) -> None:
    file = run.local_path(name)
    whole, before = file.read_bytes(), (*content(run), run.table("classes"))
    rng, changed, refused = np.random.default_rng(3), 0, 0
    for place in rng.integers(len(whole) // 2, size=40):  # a footer, which has no checksum, is in the other half
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            changed += (*content(run), run.table("classes")) != before
        except (SightlineError, ValueError, RuntimeError):
            refused += 1
    assert changed == 0
    assert refused > 20


def test_maps_that_are_gone_are_named_by_the_part_that_vouches_for_them(run: Run) -> None:
    run.local_path("maps.zarr/opti_cam/label/c/0/0/0").unlink()
    (damage,) = find_damage(run)
    assert (damage.path, damage.what) == (PART.path, "its maps are not those that were written")


def test_parts_of_another_version_are_no_damage(run: Run) -> None:
    older = filled(EXPLAIN, [{"row": 0, "sample_id": "0.jpg", "target": "label", "method": "opti_cam"}])
    columns = [name for name in EXPLAIN.names if name != "p_box"]
    schema = pa.schema([EXPLAIN.field(name) for name in columns])
    # Its pages have no checksums either, and its digest is that of such a file.
    digest = hashlib.sha256(encode(older, schema, checksums=False)).hexdigest()
    content = encode(older, schema, {ROWS_DIGEST: digest}, checksums=False)
    run.directory.write(Part("explain", "opti_cam", 1).path, content)
    assert list(find_damage(run)) == []
