"""A disk that is full, which is a real one of 64 kB: a tmpfs in a mount namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

WRITES = {
    "maps": (
        """
import numpy as np
from storage.maps import MapAttributes
from storage.run import Run
run = Run.create(RUN)
attributes = MapAttributes("opti_cam", "label", "m", "d", "l", "squash", 224, 256, "bilinear", "range", None, None)
maps = run.create_maps(attributes, rows=32, grid=(64, 64))
maps.write(0, np.random.default_rng(0).random((32, 64, 64), dtype=np.float32))
""",
        "maps.zarr/opti_cam/label",
    ),
    "a table": (
        """
from storage.files import Directory
Directory(RUN).write("reviews.parquet", os.urandom(80_000))
""",
        "reviews.parquet",
    ),
}


def on_a_small_disk(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python code that runs while a disk of 64 kB is at ``folder``; skips where nobody may mount one."""
    mount = f"mount -t tmpfs -o size=64k tmpfs {folder}"
    try:
        allowed = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no unshare here, so no disk of a size of its own")
    if allowed.returncode:
        pytest.skip(f"no mounts here, so no disk of a size of its own: {allowed.stderr.strip()}")
    script = 'exec "$0" -c "$1"'
    return subprocess.run(
        [
            "unshare",
            "-rm",
            "sh",
            "-c",
            f"{mount} && {script}",
            sys.executable,
            f"import os\nRUN = {str(folder)!r}\n{code}",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_names_the_path_that_was_written(what: str, tmp_path: Path) -> None:
    code, path = WRITES[what]
    ended = on_a_small_disk(tmp_path, code)
    assert ended.stderr.splitlines()[-1] == f"OSError: [Errno 28] No space left on device: '{tmp_path}/{path}'"
