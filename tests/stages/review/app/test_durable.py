"""What was acknowledged is on the disk: verdicts outlive a database that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stages.review.synthetic import Planted, make_run

NAMES = ["a.png", "b.png", "c.png"]

GIVE_AND_KILL = """
import json, os, signal, sys
from pathlib import Path
import psutil
from stages.review.app.database import database
from storage.run import Run

run, mongo, *names = sys.argv[1:]
with database(Path(mongo)):
    from stages.review.dataset.verdict_fields import give
    from stages.review.review import load

    dataset = load(Run.open(run))
    for name in names:
        give(dataset, name, rule="misses_box", verdict="confirmed", reviewer="ann")
    server = psutil.Process(json.loads((Path(mongo) / "server.json").read_text())["pid"])
    os.kill(server.pid, signal.SIGKILL)
    psutil.wait_procs([server], timeout=20)
"""

READ = """
import json, sys
from pathlib import Path
from stages.review.app.database import database

with database(Path(sys.argv[1])):
    import fiftyone as fo

    samples = fo.load_dataset(fo.list_datasets()[0])
    kept = {sample["sample_key"]: [said.verdict for said in sample["verdicts"] or ()] for sample in samples}
    print(json.dumps(kept))
"""


def python(script: str, *arguments: str, home: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "FIFTYONE_DATABASE_URI"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {"HOME": str(home)}, check=True)
    return done.stdout


def test_three_verdicts_outlive_the_kill_of_their_database(tmp_path: Path) -> None:
    run = make_run(tmp_path, [Planted(name, rules=(("misses_box", "description", 0.5),)) for name in NAMES])
    python(GIVE_AND_KILL, run.url, str(tmp_path / "mongo"), *NAMES, home=tmp_path)
    kept = json.loads(python(READ, str(tmp_path / "mongo"), home=tmp_path).splitlines()[-1])
    assert kept == {name: ["confirmed"] for name in NAMES}
