import re
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage import Run
from storage.errors import SightlineError, UserError
from storage.info import Explained, RunInfo
from storage.maps import MapAttributes
from storage.run import Part, default_method
from storage.tables import EXPLAIN, REVIEWS, SAMPLES

GRID = (2, 2)


@pytest.fixture(params=["path", "file url", "memory url", "memory url with a slash at its end"])
def url(request, tmp_path):
    name = uuid.uuid4().hex
    urls = {
        "path": str(tmp_path / name),
        "file url": f"file://{tmp_path / name}",
        "memory url": f"memory://{name}/run",
        "memory url with a slash at its end": f"memory://{name}/run/",
    }
    return urls[request.param]


def table(schema, rows):
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], schema=schema)


def explained(rows, method="opti_cam", targets=("label",)):
    return table(
        EXPLAIN,
        [
            {"sample_id": f"{row}.jpg", "row": row, "target": t, "method": method, "status": "ok"}
            for row in rows
            for t in targets
        ],
    )


def test_a_new_run_is_empty_and_says_what_makes_its_tables(url):
    run = Run.create(url)
    assert run.info == RunInfo()
    assert not run.has_table("samples")
    assert not run.has_table("explain")
    assert run.table("explain").num_rows == 0
    assert run.methods() == []
    with pytest.raises(UserError, match=r"no samples table yet; `sightline run CONFIG` makes it"):
        run.table("samples")


def test_a_run_opens_by_its_url_once_there_is_something_in_it(url):
    with pytest.raises(UserError, match="no run at"):
        Run.open(url)
    run = Run.create(url)
    run.write_table("samples", table(SAMPLES, [{"sample_id": "a.jpg", "row": 0, "status": "ok"}]))
    opened = Run.open(url)
    assert opened.url == url
    assert opened.name == run.name
    assert opened.table("samples", ["sample_id", "status"]).to_pylist() == [{"sample_id": "a.jpg", "status": "ok"}]


def test_the_error_for_a_missing_run_names_the_runs_beside_it_as_they_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Run.create("runs/demo").write_info(RunInfo())
    Run.create("runs/my own").write_info(RunInfo())
    (tmp_path / "runs" / "labels").mkdir()
    runs = re.escape("there are: runs/demo, 'runs/my own'; `sightline run CONFIG` makes one")
    for mistaken in ("runs/labels", "runs/dmo", "runs"):
        with pytest.raises(UserError, match=f"no run at {mistaken}; {runs}"):
            Run.open(mistaken)


def test_a_run_cannot_be_made_where_a_file_is(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"cannot make the run directory .*taken: File exists; set `run` elsewhere"):
        Run.create(str(tmp_path / "taken"))


def test_run_json_reads_back_as_written(url):
    explained = Explained(images=3, seconds=1.25, device="cpu", workers=2)
    info = RunInfo(config={"run": "é", "targets": ["label", None]}, timings={"explain": 1.25}, explained=explained)
    Run.create(url).write_info(info)
    assert Run.open(url).info == info


def test_keys_of_another_version_s_run_json_are_left_out():
    info = RunInfo.of_json(
        b'{"layer": "features.18", "colour": "red", "explained": {"images": 2, "seconds": 4.0, "mood": "good"}}'
    )
    assert info == RunInfo(layer="features.18", explained=Explained(images=2, seconds=4.0))
    assert info.section("audit") == {}


def test_the_audited_method_is_the_config_s_else_opti_cam_else_the_first(url):
    run = Run.create(url)
    assert run.audited_method() == "opti_cam"
    for method in ("uniform", "grad_cam"):
        run.write_part(Part("explain", method, 0), explained([0], method), {})
    assert run.audited_method() == default_method(["uniform", "grad_cam"]) == "grad_cam"
    run.write_part(Part("explain", "opti_cam", 0), explained([0]), {})
    assert run.audited_method() == "opti_cam"
    run.write_info(RunInfo(config={"audit": {"method": "uniform"}}))
    assert run.audited_method() == "uniform"


def test_class_names_are_those_that_the_maps_record(url):
    run = Run.create(url)
    run.create_maps(MapAttributes("opti_cam", "label", size=8, class_names=("crane", "é")), rows=1, grid=GRID)
    assert run.class_names() == ()  # no part vouches for these maps
    run.write_part(Part("explain", "opti_cam", 0), explained([0]), {})
    assert run.class_names() == ("crane", "é")


def test_rows_and_columns_are_read_where_a_condition_holds_and_a_column_that_a_part_lacks_is_null(url):
    run = Run.create(url)
    run.write_part(Part("explain", "opti_cam", 0), explained([0, 1]), {})
    older = explained([2, 3]).drop_columns(["p_full"])
    sink = pa.BufferOutputStream()
    pq.write_table(older, sink)
    run.directory.write(Part("explain", "opti_cam", 1).path, sink.getvalue().to_pybytes())
    rows = run.table("explain", ["sample_id", "p_full"], pc.field("row") >= 1)
    assert rows.to_pylist() == [{"sample_id": f"{row}.jpg", "p_full": None} for row in (1, 2, 3)]


def test_a_column_that_a_whole_table_of_an_earlier_version_lacks_is_null(url):
    run = Run.create(url)
    sink = pa.BufferOutputStream()
    pq.write_table(table(SAMPLES, [{"sample_id": "a", "row": 0}]).drop_columns(["split"]), sink)
    run.directory.write("samples.parquet", sink.getvalue().to_pybytes())
    assert run.table("samples", ["sample_id", "split"]).to_pylist() == [{"sample_id": "a", "split": None}]
    assert run.table("samples").schema.names == SAMPLES.names


def test_whole_tables_are_replaced(url):
    run = Run.create(url)
    run.write_table("reviews", table(REVIEWS, [{"sample_id": "a"}, {"sample_id": "b"}]))
    run.write_table("reviews", table(REVIEWS, [{"sample_id": "c"}]))
    assert run.table("reviews")["sample_id"].to_pylist() == ["c"]


def test_an_unknown_table_is_named_with_the_tables_there_are(url):
    with pytest.raises(UserError, match=r"no table 'smples'; tables are samples, explain"):
        Run.create(url).table("smples")


def test_a_table_in_parts_cannot_be_written_whole(url):
    with pytest.raises(SightlineError, match="write_part"):
        Run.create(url).write_table("scores", table(SAMPLES, []))


def test_parts_come_together_sorted_by_method_row_and_target(url):
    run = Run.create(url)
    run.write_part(Part("explain", "opti_cam", 10), explained([20, 21]), {})
    run.write_part(Part("explain", "opti_cam", 9), explained([19, 18], targets=("predicted", "label")), {})
    run.write_part(Part("explain", "grad_cam", 0), explained([30], "grad_cam"), {})
    rows = run.table("explain", ["method", "row", "target"]).to_pylist()
    assert [(row["method"], row["row"], row["target"]) for row in rows] == [
        ("grad_cam", 30, "label"),
        ("opti_cam", 18, "label"),
        ("opti_cam", 18, "predicted"),
        ("opti_cam", 19, "label"),
        ("opti_cam", 19, "predicted"),
        ("opti_cam", 20, "label"),
        ("opti_cam", 21, "label"),
    ]
    assert run.methods() == ["grad_cam", "opti_cam"]
    assert [part.index for part in run.parts("explain", "opti_cam")] == [9, 10]


def test_what_is_no_part_does_not_count_as_one(url):
    run = Run.create(url)
    run.write_part(Part("explain", "opti_cam", 3), explained([1]), {})
    for name in (".part-00004.parquet.5f3a.tmp", "part-five.parquet", "notes.txt"):
        run.directory.write(f"explain/opti_cam/{name}", b"not a table")
    assert list(run.parts("explain")) == [Part("explain", "opti_cam", 3)]
    assert run.table("explain").num_rows == 1


def test_a_discarded_part_is_not_committed_any_more(url):
    run, part = Run.create(url), Part("explain", "opti_cam", 0)
    run.write_part(part, explained([0]), {"maps_checksum": "ab"})
    assert run.part_metadata(part)["maps_checksum"] == "ab"
    run.discard_part(part)
    run.discard_part(part)
    assert run.part_metadata(part) is None
    assert run.table("explain").num_rows == 0


def test_maps_are_found_by_target_and_method(url):
    run = Run.create(url)
    run.create_maps(MapAttributes("opti_cam", "predicted", size=8), rows=4, grid=GRID)
    run.create_maps(MapAttributes("opti_cam", "label", size=8), rows=4, grid=GRID).write(
        0, np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    )
    assert run.targets("opti_cam") == ["label", "predicted"]
    assert run.targets("grad_cam") == []
    np.testing.assert_array_equal(run.maps("label").read([2])[0], [[8, 9], [10, 11]])
    assert run.maps("label").read([3], size=(16, 16)).shape == (1, 16, 16)


class Commits(RuleBasedStateMachine):
    """Parts and maps of a run against a plain dictionary; whoever reads opens the run afresh, as another process."""

    shards = st.integers(0, 3)

    def __init__(self):
        super().__init__()
        self.url = f"memory://{uuid.uuid4().hex}"
        self.parts = {}
        self.maps = {}
        self.rows = 0

    @initialize(rows=st.integers(1, 128))
    def begin(self, rows):
        run = Run.create(self.url)
        run.write_info(RunInfo())
        self.grow(rows)

    @rule(more=st.integers(0, 64))
    def grow(self, more):
        self.rows = min(128, self.rows + more)
        Run.create(self.url).create_maps(MapAttributes("opti_cam", "label", size=8), rows=self.rows, grid=GRID)

    @rule(shard=shards, value=st.floats(-8, 8, width=32) | st.just(float("nan")), committed=st.booleans())
    def explain(self, shard, value, committed):
        """A task, which may be killed after the map region is written and before the part."""
        rows = range(shard * 32, min((shard + 1) * 32, self.rows))
        if not rows:
            return
        run, part = Run.open(self.url), Part("explain", "opti_cam", shard)
        run.discard_part(part)
        self.parts.pop(shard, None)
        store = run.maps(mode="r+")
        store.write(rows.start, np.full((len(rows), *GRID), value, np.float32))
        self.maps |= dict.fromkeys(rows, value)
        if committed:
            checksum = store.checksum(rows.start, rows.stop)
            run.write_part(part, explained(rows), {"checksum": checksum, "stop": str(rows.stop)})
            self.parts[shard] = rows

    @rule(shard=shards)
    def discard(self, shard):
        Run.open(self.url).discard_part(Part("explain", "opti_cam", shard))
        self.parts.pop(shard, None)

    @invariant()
    def the_committed_parts_are_the_table(self):
        run = Run.open(self.url)
        wanted = sorted(row for rows in self.parts.values() for row in rows)
        assert run.table("explain")["row"].to_pylist() == wanted
        assert [part.index for part in run.parts("explain")] == sorted(self.parts)
        assert run.methods() == (["opti_cam"] if self.parts else [])

    @invariant()
    def every_part_vouches_for_the_maps_that_are_there(self):
        run = Run.open(self.url)
        for shard in self.parts:
            metadata = run.part_metadata(Part("explain", "opti_cam", shard))
            assert run.maps().checksum(shard * 32, int(metadata["stop"])) == metadata["checksum"]

    @invariant()
    def maps_are_what_was_written_last(self):
        wanted = np.array([self.maps.get(row, np.nan) for row in range(self.rows)], np.float32)
        read = Run.open(self.url).maps().read(slice(0, self.rows))
        np.testing.assert_array_equal(read, np.broadcast_to(wanted[:, None, None], (self.rows, *GRID)))


TestCommits = Commits.TestCase
TestCommits.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_shard_killed_before_its_commit_leaves_no_row_of_it(tmp_path, monkeypatch):
    run, part = Run.create(str(tmp_path)), Part("explain", "opti_cam", 0)
    run.write_part(part, explained([0, 1]), {})
    run.discard_part(part)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.write_part(part, explained([0, 1]), {})
    assert not run.has_table("explain")
    assert list((tmp_path / "explain" / "opti_cam").iterdir()) == []


def test_null_columns_of_one_part_and_values_of_another_make_one_table(url):
    run = Run.create(url)
    run.write_part(Part("explain", "opti_cam", 0), explained([0]), {"a": "1"})
    filled = explained([1]).to_pylist()[0] | {"p_full": 0.5, "class_index": 3}
    run.write_part(Part("explain", "opti_cam", 1), table(EXPLAIN, [filled]), {"b": "2"})
    both = run.table("explain")
    assert both["p_full"].to_pylist() == [None, 0.5]
    assert pc.sum(both["class_index"]).as_py() == 3
