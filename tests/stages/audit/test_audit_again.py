"""An audit of what was audited before: its tables stay, until anything differs that they are made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stages.audit import cues
from stages.audit.audit import AuditReport, audit
from stages.audit.settings import AuditSettings
from storage.maps import MapAttributes
from storage.run import ROWS_DIGEST, Part, Run
from storage.tables import SCHEMAS, encode
from tests.stages.audit.test_audit_cues import PLAIN, STICKERS

TABLES = ("findings", "classes", "cues")
VERSIONS = {"sightline": "a1", "scipy": "1.0"}
SETTINGS = AuditSettings()


def again(run: Run, settings: AuditSettings = SETTINGS) -> AuditReport:
    return audit(run, settings, VERSIONS)


@pytest.fixture
def audited(build) -> Run:
    run = build(*STICKERS, *PLAIN)
    assert not again(run).was_done
    return run


def times(run: Run) -> list[int]:
    return [run.local_path(f"{name}.parquet").stat().st_mtime_ns for name in TABLES]


def test_the_tables_of_the_same_audit_stay_and_are_its_report(audited) -> None:
    made, before = {name: audited.table(name) for name in TABLES}, times(audited)
    report = again(audited)
    assert report.was_done
    assert times(audited) == before
    assert {name: getattr(report, name) for name in TABLES} == made
    assert (report.method, report.findings.num_rows, report.cues.num_rows) == ("opti_cam", 9, 1)


def test_that_cues_were_looked_for_in_some_samples_is_told_again(build, monkeypatch) -> None:
    monkeypatch.setattr(cues, "MOST", 8)
    run = build(*STICKERS, *PLAIN)
    first, second = again(run), again(run)
    assert (first.was_done, second.was_done) == (False, True)
    assert first.sampled == second.sampled == "cues were looked for in the 8 samples with the largest drops, of 9"


def test_without_versions_an_audit_is_always_made(audited) -> None:
    before = times(audited)
    assert not audit(audited, SETTINGS).was_done
    assert times(audited) != before
    assert not again(audited).was_done, "tables that do not say what they were made from"


def relabel(run: Run) -> None:
    table = run.table("samples")
    place = table.schema.get_field_index("label")
    run.write_table("samples", table.set_column(place, "label", pa.array(["dog"] * table.num_rows)))


def rescore(run: Run) -> None:
    part = Part("scores", "opti_cam", 0)
    rows = run.read_part(part)
    place = rows.schema.get_field_index("outside_effect")
    lower = pc.multiply(rows["outside_effect"], pa.scalar(0.5, pa.float32()))
    run.write_part(part, rows.set_column(place, "outside_effect", lower), run.part_metadata(part) or {})


def look_elsewhere(run: Run) -> None:
    """Vectors are of no view of SQL, and make the cues."""
    part = Part("explain", "opti_cam", 0)
    rows = run.read_part(part)
    place = rows.schema.get_field_index("outside_features")
    run.write_part(
        part, rows.set_column(place, "outside_features", rows["outside_features"][::-1]), run.part_metadata(part) or {}
    )


def lose_a_part(run: Run) -> None:
    for table in ("scores", "explain"):
        rows = run.read_part(Part(table, "opti_cam", 0))
        run.write_part(Part(table, "opti_cam", 0), rows.slice(0, 20), {})
        run.write_part(Part(table, "opti_cam", 1), rows.slice(20), {})
    again(run)
    for table in ("scores", "explain"):
        run.discard_part(Part(table, "opti_cam", 1))


def name_classes(run: Run) -> None:
    attributes = MapAttributes(
        method="opti_cam",
        target="label",
        model="m",
        weights_digest="w",
        layer="l",
        geometry="squash",
        size=224,
        resize=224,
        interpolation="bilinear",
        normalization="max",
        class_names=("mug", "feline", "dog"),
    )
    run.create_maps(attributes, rows=64, grid=(7, 7))
    run.name_classes(attributes.class_names)


CHANGES: dict[str, Callable[[Run], Any]] = {
    "labels": relabel,
    "scores": rescore,
    "vectors": look_elsewhere,
    "fewer parts": lose_a_part,
    "names of classes": name_classes,
    **{f"no {name}": lambda run, name=name: run.discard_table(name) for name in TABLES},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_is_made_again_after_a_change_of_what_it_is_made_from(audited, change) -> None:
    change(audited)
    report = again(audited)
    assert not report.was_done
    kept = {name: getattr(report, name) for name in TABLES}
    afresh = audit(audited, SETTINGS)
    assert kept == {name: getattr(afresh, name) for name in TABLES}
    assert not again(audited).was_done
    assert again(audited).was_done


def test_it_is_made_again_with_other_settings_or_versions(audited) -> None:
    assert not again(audited, AuditSettings(min_class_size=2)).was_done
    assert not audit(audited, AuditSettings(min_class_size=2), VERSIONS | {"scipy": "1.1"}).was_done
    assert not again(audited).was_done
    assert again(audited).was_done


def test_an_audit_that_ended_between_two_tables_is_made_again(audited) -> None:
    others = AuditSettings(outside_effect=0.95)
    findings = audited.directory.read("findings.parquet")
    again(audited, others)
    audited.directory.write("findings.parquet", findings)  # as if the process had ended before it wrote them
    assert not again(audited, others).was_done
    assert set(audited.table("findings")["rule"].to_pylist()) == {"may_rely_on_outside"}


def test_parts_that_do_not_say_what_they_hold_make_the_audit_anew(audited) -> None:
    part = Part("scores", "opti_cam", 0)
    audited.directory.write(part.path, encode(audited.read_part(part), SCHEMAS["scores"], {}))  # as versions before did
    assert ROWS_DIGEST not in (audited.part_metadata(part) or {})
    assert [again(audited).was_done for _ in range(2)] == [False, False]
    assert "made_from" not in audited.table_metadata("findings")
