"""A run's own files with other values and bytes than were written: run.json, parts and what they vouch for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config, stored_config
from stages.audit.settings import audit_settings
from stages.review.settings import review_settings
from storage import Run
from storage.errors import SightlineError
from storage.info import Explained, RunInfo
from storage.integrity.damage import find_damage, find_unreadable
from storage.maps import combined_checksum
from storage.run import Part
from storage.sql import run_query
from storage.tables import encode
from tests.fuzz.outcome import said_or_done
from tests.fuzz.profile import ending, fuzz
from tests.fuzz.strategies import TEXTS, altered, damaged
from tests.stages.review.synthetic import Planted, make_run

PART = Part("explain", "opti_cam", 0)
INFO = json.loads(
    RunInfo(
        config=Config.model_validate({"run": "runs/x", "dataset": {"path": "data"}}).model_dump(mode="json"),
        versions={"torch": "2.0", "fiftyone": None},
        weights_digest="0" * 64,
        timings={"explain": 1.5},
        explained=Explained(images=2, seconds=1.0, device="cpu", workers=2, made_with={"code": "abc"}, commit="a" * 40),
    ).to_json()
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("run"), [Planted("a.jpg"), Planted("b.jpg")])
    table = run.read_part(PART)
    vouched = {"rows": "0:2", "targets": "label,predicted", "basis": "abc"}
    maps = (run.maps(target, "opti_cam").read(slice(0, 2)) for target in ("label", "predicted"))
    vouched["maps_checksum"] = combined_checksum(maps)
    run.write_part(PART, table, vouched)
    return run


def check_info(run: Run) -> None:
    path = f"{run.url}/run.json"
    info = said_or_done(lambda: run.info, path)
    if info is None:
        assert any(damage.path == "run.json" for damage in find_unreadable(run))
        return
    RunInfo.of_json(info.to_json())
    for read in (audit_settings, review_settings):
        said_or_done(lambda read=read: read(info), "run.json")
    said_or_done(lambda: stored_config(run), run.url)


@fuzz(50)
@given(data=st.data())
def test_run_json_of_other_values(run: Run, data: st.DataObject) -> None:
    run.directory.write("run.json", json.dumps(data.draw(altered(INFO))).encode("utf-8", "surrogatepass"))
    check_info(run)


@fuzz(30)
@given(data=st.data())
def test_run_json_of_other_bytes(run: Run, data: st.DataObject) -> None:
    run.directory.write("run.json", data.draw(damaged(json.dumps(INFO).encode())))
    check_info(run)


@fuzz(25)
@given(data=st.data())
def test_what_a_part_vouches_for(run: Run, data: st.DataObject) -> None:
    """Whatever stands in its metadata, a part is found to be whole or damaged, and its rows are read."""
    whole = run.directory.read(PART.path)
    table, vouched = run.read_part(PART), dict(run.part_metadata(PART) or {})
    keys = st.sampled_from(sorted(vouched)) | st.sampled_from(["outside_checksum", "sightline", "x"])
    texts = TEXTS.filter(lambda text: "\ud800" not in text)
    values = texts | st.sampled_from(
        ["0:2:3", "2:0", "-1:5", "a:b", "0:99999999999", ":", "label", ",", "label,nobody"]
    )
    for key in data.draw(st.lists(keys, min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            vouched[key] = data.draw(values)
        else:
            vouched.pop(key, None)
    try:
        run.directory.write(PART.path, encode(table, table.schema, vouched))
        with ending():
            found = {damage.path: damage.what for damage in find_damage(run)}
        assert set(found) <= {PART.path, "run.json"}
        assert all("\n" not in what for what in found.values())
        assert run.read_part(PART).equals(table)
    finally:
        run.directory.write(PART.path, whole)


FILES = (PART.path, "scores/opti_cam/part-00000.parquet", "samples.parquet", "findings.parquet")


@pytest.mark.parametrize("name", FILES)
@fuzz(25)
@given(data=st.data())
def test_tables_of_other_bytes(run: Run, name: str, data: st.DataObject) -> None:
    """A table that was changed on the disk is read as it was, or found by ``verify`` and refused in a line."""
    whole = run.directory.read(name)
    other = data.draw(damaged(whole))
    try:
        run.directory.write(name, other)
        with ending():
            found = {damage.path for damage in find_damage(run)} - {"run.json"}
        assert found <= {name}
        table = said_or_done(lambda: run.table(name.partition("/")[0].removesuffix(".parquet")), run.url)
        if table is None:
            assert name in found
        said_or_done(lambda: run_query(run, "SELECT count(*), max(p_full) FROM audit"), "", (SightlineError,))
    finally:
        run.directory.write(name, whole)
