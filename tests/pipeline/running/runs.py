"""A run of the whole pipeline in this process, and what became of its samples."""

import io
from collections import Counter

from pipeline import runner
from pipeline.config import load_config
from pipeline.show.console import plain_console
from pipeline.show.run import print_summary


def run(config, *overrides, **options):
    """The run, and what was printed on the way."""
    console = plain_console(io.StringIO())
    done = runner.run_pipeline(load_config(config, overrides), console, **options)
    print_summary(done, console, "run")
    return done, console.file.getvalue()


def statuses(done, table="explain"):
    return Counter(done.table(table, ["status"])["status"].to_pylist())
