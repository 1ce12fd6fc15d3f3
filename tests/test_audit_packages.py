"""`.ci/audit-packages`, with a program in pip-audit's place that prints what pip-audit 2.10 prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "audit-packages"

SOUND: dict[str, Any] = {"name": "numpy", "version": "2.4.6", "vulns": []}
OPEN: dict[str, Any] = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2022-10", "fix_versions": ["9.0.1"]}, {"id": "X-1", "fix_versions": []}],
}
UNASKED: dict[str, Any] = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited"}
OWN: dict[str, Any] = {"name": "sightline", "skip_reason": "distribution marked as editable"}


def said(tmp_path: Path, output: str, errors: str = "", status: int = 0) -> tuple[int, str]:
    """Status and output of the script."""
    (tmp_path / "venv/lib/python3.11/site-packages").mkdir(parents=True)
    program = tmp_path / "pip-audit"
    lines = ["import sys", f"sys.stdout.write({output!r})", f"sys.stderr.write({errors!r})", f"sys.exit({status})"]
    program.write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, SCRIPT, program, tmp_path / "venv"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("entries", "status", "told"),
    [
        ([SOUND, OWN], 0, "1 packages audited, 0 with known vulnerabilities"),
        ([SOUND, OPEN], 1, "pillow 9.0.0: PYSEC-2022-10, fixed in 9.0.1"),
        ([OPEN], 1, "pillow 9.0.0: X-1, fixed in no version yet"),
        ([SOUND, UNASKED], 2, "1 packages were not audited, of which nothing is known; the first: torch"),
        ([OPEN, UNASKED], 1, "1 packages were not audited"),
    ],
)
def test_what_is_known_and_what_is_not_are_told_apart(
    tmp_path: Path, entries: list[dict[str, Any]], status: int, told: str
) -> None:
    found, text = said(tmp_path, json.dumps({"dependencies": entries, "fixes": []}))
    assert (found, told in text) == (status, True), text


def test_data_that_cannot_be_reached_are_no_clean_bill(tmp_path: Path) -> None:
    found, text = said(tmp_path, "", "WARNING:x\nERROR:pip_audit._cli:Max retries exceeded\n", 1)
    assert found == 2
    assert text == (
        "[audit-packages] pip-audit could not ask for vulnerabilities, so nothing is known: "
        "ERROR:pip_audit._cli:Max retries exceeded\n"
    )
