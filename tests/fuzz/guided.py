"""Fuzzing guided by coverage: bytes of a file that a stranger gives are changed so that other lines of the parsers run.

    python -m tests.fuzz.guided TARGET FOLDER [options of libFuzzer, such as -max_total_time=180]

It needs atheris, which no extra of ours installs: give it a virtual environment of its own (`pip install atheris`)
that sees the packages of yours by a ``.pth`` file. What may come of an input is what ``tests/fuzz/outcome.py`` says:
each is read into records, and each fifth becomes samples. A finding is printed with its traceback, once for each place
that raised, its bytes are kept in ``FOLDER/findings``, and the search goes on. ``FOLDER`` keeps the corpus, too.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stages.ingest", "storage", "pipeline.config"]):
    from stages.ingest.recognise import open_dataset
    from storage.errors import UserError
    from storage.integrity.damage import find_damage
    from storage.tables import encode
    from tests.fuzz import test_fuzz_config, test_fuzz_runs
    from tests.fuzz.outcome import Base, said_or_done
    from tests.fuzz.profile import ending
    from tests.fuzz.test_fuzz_datasets import BASES, only
    from tests.stages.ingest.written import WRITTEN
    from tests.stages.review.synthetic import Planted, make_run

Check = Callable[[bytes], object]
"""Takes the bytes of one file, and raises for what must not come of them."""

DATASETS = {
    "csv": ("csv", ".csv"),
    "json_lines": ("json lines", ".jsonl"),
    "voc": ("voc", ".xml"),
    "cvat": ("cvat", ".xml"),
    "coco": ("coco", ".json"),
    "yolo": ("yolo", ".txt"),
    "data_yaml": ("yolo", ".yaml"),
    "kitti": ("kitti", ".txt"),
    "tar": ("tar", ".tar"),
}
"""By target: a dataset, and which of its files is changed."""


def of_dataset(target: str, folder: Path) -> tuple[Check, bytes]:
    """The check of a target of ``DATASETS``, and the valid file."""
    name, extension = DATASETS[target]
    if name not in WRITTEN:
        folder.mkdir()
    base = Base(folder, BASES[name](folder))
    file = only(base, extension)

    def check(content: bytes) -> None:
        with base.having({file: content}):
            said_or_done(lambda: _records(base), "", (UserError,))
        if zlib.crc32(content) % 5 == 0:
            base.take({file: content})

    return check, base.files[file]


def _records(base: Base) -> None:
    reader = open_dataset(base.settings).reader
    for _ in reader.records():
        pass
    for _ in reader.remarks():
        pass


def of_config(folder: Path) -> tuple[Check, bytes]:
    """The check of pipeline.yaml, and one with every key."""
    folder.mkdir()
    return lambda content: test_fuzz_config.check(folder / "pipeline.yaml", content), test_fuzz_config.written(
        test_fuzz_config.WHOLE
    )


def of_info(folder: Path) -> tuple[Check, bytes]:
    """The check of run.json."""
    run = make_run(folder, [Planted("a.jpg")])

    def check(content: bytes) -> None:
        run.directory.write("run.json", content)
        test_fuzz_runs.check_info(run)

    return check, test_fuzz_runs.json.dumps(test_fuzz_runs.INFO).encode()


def of_part(folder: Path) -> tuple[Check, bytes]:
    """The check of what a part vouches for, given as lines of ``key=value``."""
    run, part = make_run(folder, [Planted("a.jpg")]), test_fuzz_runs.PART
    table = run.read_part(part)

    def check(content: bytes) -> None:
        pairs = (line.partition("=") for line in content.decode("utf-8", "replace").splitlines())
        vouched = {key: value for key, _, value in pairs if key}
        run.directory.write(part.path, encode(table, table.schema, vouched))
        with ending():
            found = {damage.path: damage.what for damage in find_damage(run)}
        assert set(found) <= {part.path, "run.json"}, found
        assert all("\n" not in what for what in found.values()), found
        assert run.read_part(part).equals(table)

    valid = {**(run.part_metadata(part) or {}), "rows": "0:1", "targets": "label", "maps_checksum": "0" * 64}
    return check, "\n".join(f"{key}={value}" for key, value in valid.items()).encode()


OTHERS = {"config": of_config, "run_json": of_info, "part": of_part}


def main() -> None:
    """Search until libFuzzer's options end it."""
    target, folder = sys.argv[1], Path(sys.argv[2])
    place = Path(tempfile.mkdtemp(prefix="guided-")) / "data"
    check, valid = OTHERS[target](place) if target in OTHERS else of_dataset(target, place)
    check(valid)
    corpus, findings = folder / "corpus", folder / "findings"
    for kept in (corpus, findings):
        kept.mkdir(parents=True, exist_ok=True)
    (corpus / "valid").write_bytes(valid)
    words = sorted(set(re.findall(rb"[\w.:/-]{2,30}", valid)))[:200]
    (folder / "words").write_bytes(b"".join(b'"' + word.replace(b"\\", b"") + b'"\n' for word in words))
    seen: set[str] = set()

    def run_one(content: bytes) -> None:
        try:
            check(content)
        except Exception as error:  # whatever it is, it is a finding
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{type(error).__name__} {frames[-1].filename}:{frames[-1].lineno}"
            if where not in seen:
                seen.add(where)
                (findings / f"{target}-{hashlib.sha256(content).hexdigest()[:12]}").write_bytes(content)
                print(f"FINDING {len(seen)} of {target}: {where}\n{traceback.format_exc()}", flush=True)

    atheris.Setup([sys.argv[0], str(corpus), f"-dict={folder / 'words'}", "-max_len=4096", *sys.argv[3:]], run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
