"""A bit that flips at rest in a file of a run changes no answer in silence, whoever reads it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import Run
from storage.errors import DamagedFile, SightlineError
from storage.integrity import seals
from storage.integrity.damage import find_damage, find_unreadable
from storage.run import Part
from storage.sql import connect, run_query, tables_in
from storage.tables import CLASSES, EXPLAIN, REVIEWS, SAMPLES, SCHEMAS, SCORES, encode, without_vectors

ROWS = 64
VECTORS = ["class_probabilities", "image_features", "outside_features"]
SQL = {
    "samples.parquet": "SELECT * FROM samples ORDER BY row",
    "classes.parquet": "SELECT * FROM classes ORDER BY label",
    "explain/opti_cam/part-00000.parquet": "SELECT * FROM explain WHERE p_full > .2 ORDER BY row",
    "scores/opti_cam/part-00001.parquet": "SELECT * FROM audit ORDER BY row",
}


@pytest.fixture(params=["disk", "memory"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two shards with numbers, text and vectors, on a disk or where pyarrow reads for DuckDB."""
    folder = tmp_path_factory.mktemp("rot")
    run = Run.create(str(folder / "run") if request.param == "disk" else f"memory://{folder.name}/run")
    rng = np.random.default_rng(0)
    for index in range(2):
        for table, schema in (("explain", EXPLAIN), ("scores", SCORES)):
            keys = [{**key(index * ROWS + row), "target": "label", "method": "opti_cam"} for row in range(ROWS)]
            run.write_part(Part(table, "opti_cam", index), numbers(schema, keys, rng), {"rows": "0"})
    samples = [{**key(row), "status": "ok", "label": f"class {row % 7}"} for row in range(2 * ROWS)]
    run.write_table("samples", numbers(SAMPLES, samples, rng))
    run.write_table("classes", numbers(CLASSES, [{"label": f"class {row}"} for row in range(7)], rng))
    return run


def key(row: int) -> dict[str, object]:
    return {"row": row, "sample_id": f"{row}.jpg"}


def numbers(schema: pa.Schema, rows: list[dict[str, object]], rng: np.random.Generator) -> pa.Table:
    """Rows of a table; columns of reals and of vectors of halves that they lack are random."""
    vectors = pa.list_(pa.float16())
    for field in schema:
        for row in rows:
            if field.name not in row and field.type in (pa.float32(), vectors):
                row[field.name] = float(rng.random()) if field.type == pa.float32() else rng.random(16).astype("f2")
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def flips(content: bytes, count: int, start: int = 0) -> list[bytes]:
    """``content`` with one bit of it flipped from ``start`` on, ``count`` times at random."""
    rng, found = np.random.default_rng(1), []
    for place in rng.integers(start, len(content), count):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        found.append(bytes(flipped))
    return found


def footer(content: bytes) -> int:
    """Where the footer of a Parquet file begins."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def answered_or_named(ask: Callable[[], pa.Table], named: str, expected: pa.Table) -> bool:
    """Whether the flip is told; if it is not, the answer is the undamaged one."""
    said, answer = "", None
    try:
        answer = ask()
    except SightlineError as error:
        said = str(error)
    if answer is not None:
        assert answer.equals(expected)
        return False
    assert "\n" not in said
    assert named in said
    assert "`sightline verify RUN`" in said or "`sightline run CONFIG` makes it again" in said
    return True


@pytest.mark.parametrize("name", SQL)
def test_a_query_of_a_file_with_a_flipped_bit_ends_in_one_line_or_answers_the_same(run: Run, name: str) -> None:
    whole, expected = run.directory.read(name), run_query(run, SQL[name])
    told = 0
    local = run.directory.is_local
    for flipped in flips(whole, 60) if local else flips(whole[: footer(whole)], 60):
        run.directory.write(name, flipped if local else flipped + whole[footer(whole) :])
        # Of what pyarrow reads for DuckDB, the message names the table alone.
        named = name if local else name.partition("/")[0]
        told += answered_or_named(lambda: run_query(run, SQL[name]), named, expected)
    assert told >= (55 if "explain" not in name else 20)  # what is left are vectors, and magic numbers


@pytest.mark.parametrize("run", ["disk"], indirect=True)
def test_what_reads_the_whole_audit_refuses_a_flipped_bit(run: Run) -> None:
    name = "scores/opti_cam/part-00001.parquet"
    whole = run.directory.read(name)
    for flipped in flips(whole[: footer(whole)], 20):
        run.directory.write(name, flipped + whole[footer(whole) :])
        with pytest.raises(DamagedFile, match=rf"{name}: its bytes are not .*`sightline verify RUN` removes it"):
            connect(run).__enter__()
        assert run_query(run, "SELECT count(*) AS n FROM samples").to_pylist() == [{"n": 2 * ROWS}]


@pytest.mark.parametrize("run", ["disk"], indirect=True)
def test_a_process_compares_a_file_once_for_each_time_that_it_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    reader = seals._reader
    monkeypatch.setattr(seals, "_reader", lambda file: looked_at.append(file.name) or reader(file))
    for _ in range(3):
        with connect(run):
            pass
    assert len(looked_at) == 5  # samples, and two parts of explain and of scores
    name = "scores/opti_cam/part-00001.parquet"
    whole = run.directory.read(name)
    run.directory.write(name, whole)
    with connect(run):
        pass
    assert len(looked_at) == 6
    run.directory.write(name, flips(whole[: footer(whole)], 1)[0] + whole[footer(whole) :])
    for _ in range(2):  # what was refused is not taken for held
        with pytest.raises(DamagedFile, match=name):
            connect(run).__enter__()


@pytest.mark.parametrize("run", ["disk"], indirect=True)
def test_a_part_that_was_cut_off_is_named_to_who_reads_the_whole_audit(run: Run) -> None:
    """The report and the summary, that is."""
    middle = Part("scores", "opti_cam", 1)
    run.write_part(Part("scores", "opti_cam", 2), run.read_part(middle), {})
    run.directory.write(middle.path, run.directory.read(middle.path)[:3000])
    with pytest.raises(DamagedFile, match=r"part-00001\.parquet.*`sightline verify RUN`"), connect(run) as connection:
        connection.execute("SELECT max(ad) FROM scores").fetchall()


@pytest.mark.parametrize("run", ["disk"], indirect=True)
def test_a_mistake_in_a_statement_is_no_damage(run: Run) -> None:
    with pytest.raises(duckdb.BinderException), connect(run) as connection:
        connection.execute("SELECT nothing FROM scores")


@pytest.mark.parametrize("name", SQL)
def test_verify_finds_each_flip_of_a_footer_and_a_start_finds_those_of_a_disk(run: Run, name: str) -> None:
    """Its statistics decide which rows a query reads, and no page has a checksum of them."""
    whole = run.directory.read(name)
    missed = 0
    for flipped in flips(whole, 60, footer(whole)):
        run.directory.write(name, flipped)
        found = {damage.path for damage in find_damage(run)}
        if run.directory.is_local:
            assert {damage.path for damage in find_unreadable(run)} == found
        assert found <= {name}
        missed += not found
    assert missed <= 2  # of the entry's own name: then the file has no CRC32, and is whole but for that


@pytest.mark.parametrize("run", ["disk"], indirect=True)
def test_damaged_verdicts_are_refused_with_the_way_to_their_copy(run: Run) -> None:
    run.write_table("reviews", numbers(REVIEWS, [{**key(0), "verdict": "confirmed"}], np.random.default_rng(0)))
    whole = run.directory.read("reviews.parquet")
    run.directory.write("reviews.parquet", whole.replace(b"confirmed", b"confirmee"))
    with pytest.raises(DamagedFile, match=r"reviews\.parquet: its bytes .*; `sightline reviews RUN` names the copy"):
        run_query(run, "SELECT verdict FROM reviews")
    with pytest.raises(DamagedFile, match=r"reviews\.parquet cannot be read: its bytes .*`sightline reviews RUN`"):
        run.table("reviews")
    with connect(run) as connection:  # the audit needs no verdicts
        assert connection.execute("SELECT count(*) FROM audit").fetchall() == [(2 * ROWS,)]


@pytest.mark.parametrize("groups", [1, 3])
def test_the_crc32_is_of_all_bytes_but_vectors_and_itself(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "GROUP", ROWS // groups + 1)
    monkeypatch.setattr(seals, "_AT_ONCE", 1000)
    rows = [{**key(row), "target": "label"} for row in range(ROWS)]
    content = encode(numbers(EXPLAIN, rows, np.random.default_rng(3)), EXPLAIN, {"rows": "0:64"})
    metadata = pq.read_metadata(io.BytesIO(content))
    assert metadata.num_row_groups == groups
    entry = metadata.metadata[seals.KEY.encode()]
    left = content.replace(entry, b"0" * 8 + entry[8:])
    for group in reversed(range(groups)):
        for index in reversed(range(metadata.num_columns)):
            column = metadata.row_group(group).column(index)
            if column.path_in_schema.split(".")[0] in VECTORS:
                first = column.dictionary_page_offset or column.data_page_offset
                left = left[:first] + left[first + column.total_compressed_size :]
    assert int(entry[:8], 16) == zlib.crc32(left)
    for tail in (20, 3000, len(content) + 9):  # a footer that is longer than what is read first, and a short file
        monkeypatch.setattr(seals, "_TAIL", tail)
        assert seals.holds(content) is True
        assert [seals.holds(flipped) for flipped in flips(content, 9, footer(content) - 40)].count(True) == 0


def test_the_vectors_are_those_that_no_query_reads() -> None:
    assert sorted(set(EXPLAIN.names) - set(without_vectors(EXPLAIN))) == VECTORS


def test_an_empty_table_holds_and_one_of_an_earlier_version_has_nothing_to_hold() -> None:
    assert seals.holds(encode(CLASSES.empty_table(), CLASSES)) is True
    assert seals.holds(encode(CLASSES.empty_table(), CLASSES, checksums=False)) is None
    assert seals.holds(b"PAR1") is None


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ('SELECT * FROM Findings JOIN "samples" USING (row)', ["samples", "findings"]),
        ("FROM audit", ["samples", "explain", "scores"]),
        ("SELECT * FROM query_table('clas' || 'ses')", list(SCHEMAS)),
        ("FROM query /* by its text */ ('FROM clas' || 'ses')", list(SCHEMAS)),
        ("FROM \"query\"('FROM clas' || 'ses')", list(SCHEMAS)),
        ("SELECT 1", []),
    ],
)
def test_a_query_reads_the_tables_that_it_names(sql: str, tables: list[str]) -> None:
    assert tables_in(sql) == tables
