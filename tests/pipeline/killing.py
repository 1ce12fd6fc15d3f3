"""A model whose worker ends at the worst point: the maps of a shard are written, its part is not.

A worker imports the factory, and with it what the environment asks for: ``END_AT_SHARD=1``, and ``END_BY=kill`` (-9, of
the process group), ``interrupt`` (Ctrl-C), ``hang`` (Ctrl-C, and the worker stops), ``stop`` (the worker stops) or
``scheduler`` (-9 of the process ``SCHEDULER``).
"""

import os
import signal
import time

from storage import Run
from tests.stages.explain.networks import tiny as tiny

_commit = Run.write_part


def _end(run, part, table, metadata):
    if part.table != "explain" or part.index != int(os.environ["END_AT_SHARD"]):
        _commit(run, part, table, metadata)
        return
    if os.environ["END_BY"] == "kill":
        os.killpg(0, signal.SIGKILL)
    if os.environ["END_BY"] == "scheduler":
        os.kill(int(os.environ["SCHEDULER"]), signal.SIGKILL)
    elif os.environ["END_BY"] != "stop":
        os.killpg(0, signal.SIGINT)  # a terminal sends Ctrl-C to every process of the group
    if os.environ["END_BY"] in ("hang", "stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)  # who waits for this worker waits too long


if "END_AT_SHARD" in os.environ:
    Run.write_part = _end
