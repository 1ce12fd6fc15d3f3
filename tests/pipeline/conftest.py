from __future__ import annotations

import sys

import pytest

from pipeline import cli


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs a command line in this process; its exit status, output and errors."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return command
