"""SQL over a run: DuckDB with the run's tables as views."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import count
from threading import Event
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from storage.errors import DamagedFile, UserError, shortened
from storage.run import Run
from storage.tables import CUE_NAMES, PARTED, SCHEMAS, without_vectors

KEYS = ("sample_id", "row", "target", "method")
_ANSWERING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""Kinds of statement that a query may be; MULTI is a PIVOT."""

JOINED = ("samples", "explain", "scores")
"""Tables that the views ``audit_targets`` and ``audit`` are made of."""

DAMAGED = "damaged"
"""Table of a connection: name and reason of each view that it lacks because a file cannot be read."""

_JOINED = ", ".join(f"'{name}'" for name in JOINED)
_VERIFY = "`sightline verify RUN` names what is damaged, and a run makes it again"
_OF_THE_QUERY = (
    *(duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException),
    *(duckdb.InterruptException, duckdb.OutOfMemoryException),
)
"""What DuckDB raises of a statement, and not of the files that it reads."""

_BATCH = 100_000
"""Rows of an answer that are taken at once."""

LIST_HINT = "`sightline query RUN --list` shows the tables and the canned queries"


@dataclass(frozen=True)
class Limits:
    """What one query may take; it spills to a temporary folder before it takes more memory."""

    gigabytes: float = field(default_factory=lambda: psutil.virtual_memory().total / 2e9)
    """Memory, GB (10^9 bytes): of the work, and once more of its answer. Half of the machine's."""
    seconds: float = 600

    def __post_init__(self) -> None:
        for name in ("gigabytes", "seconds"):
            if not 0.05 <= getattr(self, name) <= 1e9:
                raise UserError(f"a query gets at least .05 s and .05 GB; {name} is {getattr(self, name):g}")


@contextmanager
def connect(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with a view for each table that ``run`` has, and ``audit_targets`` and ``audit``.

    ``audit_targets`` has a row a sample, target and method: samples, explain and scores joined, without removed
    samples. A column that several of them have is prefixed by its table. It adds ``target_label`` and ``pred_label``
    (class names), ``correct`` (the prediction is the label; null without a class, and where another sample of the image
    has the predicted class) and ``p_label`` (p of the label's class, also beside other targets). ``audit`` has a row a
    sample: of these rows, those of the audited method and the target ``label``. Tables in parts are read where they
    are, column by column, as a query asks for them. The connection cannot touch other files, or settings. Columns of
    vectors are left out: nobody reads a thousand channels, and DuckDB has no half-precision numbers. ``cue_names`` is
    there wherever ``cues`` is, without rows where no cue has a name.

    Raises DamagedFile if samples, explain or scores are damaged, by :meth:`Run.refuse_changed` or as DuckDB finds them,
    and NoAnswer for what fails because an object store stops giving the run's files.
    """
    with run.directory.answering(), _connection(run) as connection:
        run.refuse_changed(path for name in JOINED for path in run.files(name))
        why = connection.execute(f"SELECT reason FROM {DAMAGED} WHERE name IN ('audit', {_JOINED})").fetchone()
        if why is not None:
            raise DamagedFile(why[0])
        try:
            yield connection
        except duckdb.Error as error:
            if isinstance(error, _OF_THE_QUERY):
                raise
            raise DamagedFile(
                f"{run.url}: a table cannot be read: {shortened(_short(str(error)))}; {_VERIFY}"
            ) from None


def tables_in(sql: str) -> list[str]:
    """The tables whose files a query may read: those that it names, even in a comment, and those of a view of them.

    All tables where it may put a name together, for DuckDB's functions ``query`` and ``query_table``.
    """
    text = sql.lower()
    if "query" in text:
        return list(SCHEMAS)
    return [name for name in SCHEMAS if name in text or (name in JOINED and "audit" in text)]


def _connection(run: Run, settings: Mapping[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    """The connection; a table that cannot be read has no view, and why stands in the table ``damaged``, so that queries
    of others are answered."""
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": "false", **(settings or {})})
    columns = {name: without_vectors(schema) for name, schema in SCHEMAS.items() if run.has_table(name)}
    if "findings" not in columns:
        columns.pop("cues", None)  # of the previous audit; the table is kept only to reuse its ids
    damaged: dict[str, str] = {}
    for name, names in columns.items():
        try:
            _register(connection, run, name, names)
        except DamagedFile as error:
            damaged[name] = str(error)
    if "cues" in columns and "cue_names" not in columns:
        connection.register("cue_names", CUE_NAMES.empty_table())
    if set(JOINED) <= columns.keys():
        try:
            _make_audit_views(connection, run, {name: columns[name] for name in JOINED}, damaged)
        except DamagedFile as error:
            damaged |= dict.fromkeys(("audit", "audit_targets"), str(error))
    connection.execute(f"CREATE TABLE {DAMAGED} (name VARCHAR, reason VARCHAR)")
    for pair in damaged.items():
        connection.execute(f"INSERT INTO {DAMAGED} VALUES (?, ?)", pair)
    if run.directory.is_local:
        folder = str(run.local_path())
        connection.execute("SET allowed_directories = [?, ?]", [folder, glob.escape(folder)])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _make_audit_views(
    connection: duckdb.DuckDBPyConnection, run: Run, columns: dict[str, list[str]], damaged: Mapping[str, str]
) -> None:
    """The views of the joined tables; raises DamagedFile if one of these, or what says their names, is damaged."""
    for name in JOINED:
        if name in damaged:
            raise DamagedFile(damaged[name])
    connection.register("class_names", class_names(run))
    for statement in audit_views(run, columns):
        connection.execute(statement)


def _register(connection: duckdb.DuckDBPyConnection, run: Run, name: str, columns: list[str]) -> None:
    """Make a view of a table's columns.

    DuckDB reads the files of a local run itself. pyarrow reads those of other file systems, and parts of an earlier
    version, whose missing columns become null.
    """
    parted = name in PARTED
    if run.directory.is_local and _has_columns(run, name, columns):
        files = f"{name}/*/part-[0-9]*.parquet" if parted else f"{name}.parquet"
        path = f"{glob.escape(str(run.local_path()))}/{files}".replace("'", "''")
        quoted = ", ".join(f'"{column}"' for column in columns)
        try:
            connection.execute(f"CREATE VIEW {name} AS SELECT {quoted} FROM read_parquet('{path}')")
        except duckdb.Error as error:  # of a footer that pyarrow reads
            why = shortened(re.split(r"\n\s*\n", str(error))[0])
            raise DamagedFile(f"{why}; {_VERIFY}") from None
        return
    fields = pa.schema([SCHEMAS[name].field(column) for column in columns])
    connection.register(name, _Parts.of(run.dataset(name, schema=fields)) if parted else run.table(name, columns))


class _Parts(pads.FileSystemDataset):  # type: ignore[misc]
    """A dataset whose scans begin without Python's lock.

    pyarrow's ``Scanner.to_reader`` (26.0), which DuckDB calls, keeps the lock while Arrow's threads begin to read. One
    that has to say why a store did not give a file needs the lock, and both wait for ever. ``to_batches`` does not.
    """

    @classmethod
    def of(cls, dataset: pads.FileSystemDataset) -> _Parts:
        """The same files."""
        return cls([*dataset.get_fragments()], dataset.schema, dataset.format, dataset.filesystem)

    def scanner(self, **options: Any) -> _Batches:
        """What DuckDB asks for a reader."""
        return _Batches(super().scanner(**options))


@dataclass(frozen=True)
class _Batches:
    scanner: pads.Scanner

    def to_reader(self) -> pa.RecordBatchReader:
        """A reader of the batches."""
        return pa.RecordBatchReader.from_batches(self.scanner.projected_schema, self.scanner.to_batches())


def _has_columns(run: Run, name: str, columns: list[str]) -> bool:
    """Whether the first and the last part of each method have the columns; shards are made again in order."""
    ends: dict[str, list[str]] = {}
    for part in run.parts(name) if name in PARTED else ():
        ends.setdefault(part.method, [part.path])[1:] = [part.path]
    paths = {path for pair in ends.values() for path in pair} or {f"{name}.parquet"}
    has_all = True
    for path in sorted(paths):
        with run.naming(path):
            has_all &= set(columns) <= set(pq.read_schema(path, filesystem=run.directory.arrow).names)
    return has_all


def audit_views(run: Run, columns: dict[str, list[str]]) -> list[str]:
    """The statements that make the views ``audit_targets`` and ``audit`` of tables with these columns."""
    method = run.audited_method()
    targets = run.targets(method)
    target = "label" if "label" in targets or not targets else targets[0]
    method, target = (name.replace("'", "''") for name in (method, target))
    chosen = f"method = '{method}' AND target = '{target}'"
    return [
        _audit_targets(columns),
        f"CREATE VIEW audit AS SELECT * FROM audit_targets WHERE target IS NULL OR {chosen}",
    ]


def _audit_targets(columns: dict[str, list[str]]) -> str:
    owners: dict[str, list[str]] = {}
    for table, names in columns.items():
        for name in names:
            owners.setdefault(name, []).append(table)
    selected = ["samples.sample_id", "samples.row", "explain.target", "explain.method"]
    for name, tables in owners.items():
        if name not in KEYS:
            alias = "{table}_{name}" if len(tables) > 1 else "{name}"
            selected += [f'{table}."{name}" AS "{alias.format(table=table, name=name)}"' for table in tables]
    return f"""
        CREATE VIEW audit_targets AS
        SELECT {", ".join(selected)},
            coalesce(target_names.name, 'class ' || explain.class_index) AS target_label,
            coalesce(pred_names.name, 'class ' || explain.pred_index) AS pred_label,
            CASE WHEN list_contains(samples.other_classes, explain.pred_index) THEN NULL
                ELSE explain.pred_index = samples.class_index END AS correct,
            max(explain.p_full) FILTER (explain.target = 'label')
                OVER (PARTITION BY samples.sample_id, explain.method) AS p_label
        FROM samples
        LEFT JOIN explain ON explain.sample_id = samples.sample_id AND explain.row = samples.row
        LEFT JOIN scores ON scores.sample_id = explain.sample_id AND scores.row = explain.row
            AND scores.target = explain.target AND scores.method = explain.method
        LEFT JOIN class_names AS target_names ON target_names.class_index = explain.class_index
        LEFT JOIN class_names AS pred_names ON pred_names.class_index = explain.pred_index
        WHERE samples.status <> 'removed'
    """


def class_names(run: Run) -> pa.Table:
    """Table class_index, name: the model's classes as the maps record them, else the samples' labels."""
    if names := run.class_names():
        return _names(enumerate(names))
    samples = run.table("samples", ["class_index", "label"])
    pairs = zip(samples["class_index"].to_pylist(), samples["label"].to_pylist(), strict=True)
    return _names({index: label for index, label in pairs if index is not None}.items())


def _names(pairs: Iterable[tuple[int, str]]) -> pa.Table:
    rows = list(pairs)
    return pa.table(
        {
            "class_index": pa.array([index for index, _ in rows], pa.int32()),
            "name": pa.array([name for _, name in rows], pa.string()),
        }
    )


def run_query(run: Run, sql: str, limits: Limits | None = None) -> pa.Table:
    """Rows that ``sql`` answers; raises UserError for a mistake in it, and for one that takes more than its limits.

    Ctrl-C, and its time, end it at once, whatever it is at. Before it is answered the files of the tables that it names
    are compared with their CRC32, by :meth:`Run.refuse_changed`; raises DamagedFile for one that was changed.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="sightline-query-") as folder:
        settings = {"memory_limit": f"{limits.gigabytes * 1000:.0f}MB", "temp_directory": folder}
        # The connection outlives the pool, whose thread may still be at work on it.
        with (
            run.directory.answering(),
            _connection(run, settings) as connection,
            ThreadPoolExecutor(1, thread_name_prefix="query") as pool,
        ):
            over = Event()
            answer = pool.submit(_checked, run, connection, sql, int(limits.gigabytes * 1e9), over)
            try:
                return answer.result(limits.seconds)
            except TimeoutError:
                raise UserError(f"SQL: stopped after {limits.seconds:g} s; --timeout gives a query more") from None
            finally:
                over.set()
                # Again and again: an interrupt before DuckDB has begun is forgotten.
                while not answer.done():
                    connection.interrupt()
                    wait([answer], timeout=0.05)


def _checked(run: Run, connection: duckdb.DuckDBPyConnection, sql: str, most_bytes: int, over: Event) -> pa.Table:
    run.refuse_changed((path for name in tables_in(sql) for path in run.files(name)), over.is_set)
    if over.is_set():
        raise UserError("SQL: stopped")
    return execute(connection, sql, most_bytes=most_bytes)


def execute(
    connection: duckdb.DuckDBPyConnection, sql: str, where: str = "SQL", most_bytes: int | None = None
) -> pa.Table:
    """Rows that ``sql`` answers, of ``most_bytes`` at most; a mistake in it raises UserError that begins with
    ``where``."""
    try:
        # A COPY could write into the run, whose files the connection reads.
        if any(statement.type not in _ANSWERING for statement in connection.extract_statements(sql)):
            raise UserError(f"{where}: only statements that answer rows are allowed; write a SELECT. {LIST_HINT}")
        relation = connection.sql(sql)
        if relation is not None:
            return _rows(relation, where, most_bytes)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: {_mistake(connection, str(error))}; {LIST_HINT}") from None
    raise UserError(f"{where}: the statement answers no rows; write a SELECT. {LIST_HINT}")


def _rows(relation: duckdb.DuckDBPyRelation, where: str, most_bytes: int | None) -> pa.Table:
    """The rows of an answer, each column with a name of its own."""
    table = _collected(relation, where, most_bytes)
    return table.rename_columns(_distinct(table.column_names))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that came before: a, a_1. DuckDB names a subquery's columns so."""
    given: list[str] = []
    taken = set(names)
    for name in names:
        free = (f"{name}_{number}" for number in count(1))
        given.append(name if name not in given else next(new for new in free if new not in taken))
        taken.add(given[-1])
    return given


def _collected(relation: duckdb.DuckDBPyRelation, where: str, most_bytes: int | None) -> pa.Table:
    if most_bytes is None:
        return relation.to_arrow_table()
    # DuckDB's limit is of its own memory, and not of the answer's.
    reader, batches, size = relation.to_arrow_reader(_BATCH), [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > most_bytes:
            raise UserError(
                f"{where}: its answer takes more than {most_bytes / 1e9:g} GB; write a LIMIT, or --memory gives it more"
            )
    return pa.Table.from_batches(batches, reader.schema)


def _short(message: str) -> str:
    return " ".join(re.split(r"\n\s*\n|\nLINE \d+:|\nCandidate bindings|\nDid you mean", message)[0].split())


def _mistake(connection: duckdb.DuckDBPyConnection, message: str) -> str:
    """DuckDB's message in one line, with the nearest names that exist."""
    short = _short(message).removesuffix("!").removeprefix("Catalog Error: ").removeprefix("Binder Error: ")
    if "Out of Memory" in short:
        return f"{short}; --memory gives a query more"
    if ".parquet'" in short or "reading the stream registered as" in short:
        return f"{short}; {_VERIFY}"
    if "disabled by configuration" in short:
        return f"{short}. A query sees the run's own tables only"
    unknown = re.search(r'[Cc]olumn "([^"]+)" not found|Table with name "?(\w+)"? does not exist', short)
    if unknown is None:
        return short
    name = unknown[1] or unknown[2]
    why = connection.execute(f"SELECT reason FROM {DAMAGED} WHERE name = ?", [name]).fetchone()
    if why is not None:
        return str(why[0])
    if name in SCHEMAS:
        return f"this run has no table {name} yet, the stage that writes it has not run"
    known = connection.sql(
        "SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal"
        if unknown[1]
        else "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    near = get_close_matches(name, [row[0] for row in known], n=3, cutoff=0.5)
    return f"{short}; nearest: {', '.join(near)}" if near else short
