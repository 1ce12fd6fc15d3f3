"""Names with line breaks and control characters, in all that the command line says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cli import main
from stages.words import CONTROL
from storage import Run
from storage.info import RunInfo
from storage.tables import CLASSES, SAMPLES
from tests.pipeline.datasets import sightline, write_config, write_images, write_manifest

NAMES = ["a\nb", "a\rb", "a\x1b[31mb", "a\u202eb", "a\u2028b"]
SHOWN = [r"a\nb", r"a\rb", r"a\x1b[31mb", r"a\u202eb", r"a\u2028b"]


def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object, count: int = 1) -> str:
    """What a command that fails says, which has ``count`` lines."""
    monkeypatch.setattr("sys.argv", ["sightline", *map(str, words)])
    with pytest.raises(SystemExit):
        main()
    printed, errors = capfd.readouterr()
    lines = errors.split("\n")
    assert lines.pop() == ""
    assert re.match("error|fault", lines[0])
    assert len(lines) == count
    assert not CONTROL.search(printed + errors)
    return "\n".join(lines)


@pytest.fixture(params=zip(NAMES, SHOWN, strict=True), ids=SHOWN)
def names(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A name, and how it is to be printed."""
    return request.param  # type: ignore[no-any-return]


def test_a_config_a_run_and_a_dataset_are_named_on_one_line(
    names: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, shown = names
    folder = tmp_path / name
    assert f"{tmp_path}/{shown}.yaml" in said(capfd, monkeypatch, "run", f"{folder}.yaml")
    assert f"no run at {tmp_path}/{shown}" in said(capfd, monkeypatch, "query", folder, "SELECT 1")
    config = write_config(tmp_path, folder / "audit.csv")
    assert f"{tmp_path}/{shown}/audit.csv" in said(capfd, monkeypatch, "run", config)
    images = write_images(folder, range(2))
    manifest = write_manifest(folder, [f"not {image}" for image in images])
    line = said(capfd, monkeypatch, "run", write_config(tmp_path, manifest))
    assert f"{tmp_path}/{shown}/not images/000.png" in line or f"{tmp_path}/{shown}/audit.csv" in line


def test_a_damaged_table_is_named_on_one_line(
    names: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, shown = names
    run = Run.create(str(tmp_path / name))
    run.write_info(RunInfo())
    run.write_table("samples", SAMPLES.empty_table())
    run.directory.write("classes.parquet", b"cut")
    line = said(capfd, monkeypatch, "query", run.url, "SELECT * FROM classes")
    assert f"{tmp_path}/{shown}/classes.parquet cannot be read" in line
    run.write_table("classes", CLASSES.empty_table())
    content = bytearray(run.directory.read("classes.parquet"))
    content[9] ^= 1
    run.directory.write("classes.parquet", bytes(content))
    line = said(capfd, monkeypatch, "query", run.url, "SELECT * FROM classes")
    assert line.startswith(f"fault: {tmp_path}/{shown}/classes.parquet: its bytes are not those that were written")


def test_a_config_with_several_mistakes_has_a_line_for_each(
    names: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, shown = names
    config = write_config(tmp_path, tmp_path / "a.csv", view={name: 1}, explain={"steps": "x"})
    assert shown in said(capfd, monkeypatch, "run", config, count=2).partition("\n")[0]


def test_a_name_that_the_terminal_s_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    run = Run.create(str(tmp_path / "run"))
    run.write_table("samples", SAMPLES.empty_table())
    process = sightline(
        "query", run.url, "SELECT 'b\N{LATIN SMALL LETTER U WITH DIAERESIS}' AS x", PYTHONIOENCODING="ascii"
    )
    said, _ = process.communicate()
    assert process.returncode == 0
    assert "b\\xfc" in said.split()
