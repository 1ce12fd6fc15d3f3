"""FiftyOne's server behind the door: the process that :mod:`stages.review.app.serve` starts."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from argparse import ArgumentParser
from pathlib import Path

from stages.review.app.door import Door

TOKEN_VARIABLE = "SIGHTLINE_APP_TOKEN"
"""Environment variable with the token: unlike the command line, it is not shown to other users of the machine."""

COMMAND = ("-P", "-m", "stages.review.app.server")
"""Arguments of Python. The server's working folder is the user's, who may have a ``stages.py`` there: -P keeps it off
the path."""


def main() -> None:
    """Serve until the process is ended, or its standard input, which ends with the process that started it.

    Arguments: ``--address`` and ``--port``, as FiftyOne's own server has them.
    """
    parser = ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    threading.Thread(target=_end_with_input, daemon=True).start()
    # As FiftyOne's own entry does, before FiftyOne is imported.
    os.environ.pop("FIFTYONE_DISABLE_SERVICES", None)
    os.environ["FIFTYONE_SERVER"] = "1"
    try:
        _serve(arguments.port, arguments.address, os.environ[TOKEN_VARIABLE])
    except Exception:
        traceback.print_exc()
        # At once: threads of FiftyOne's complain of an interpreter that ends, and the last words are to be the cause.
        os._exit(1)


def _serve(port: int, address: str, token: str) -> None:
    from fiftyone.server import main as fiftyones

    fiftyones.app = Door(fiftyones.app, token=token, port=port, may_be_read=is_shown)
    fiftyones.start_server(port=port, address=address)


def _end_with_input() -> None:
    # Not sys.stdin: Python would wait for a thread that reads it before it ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def is_shown(path: str) -> bool:
    """Whether a file is the image of a sample of the database, or a heatmap of a run that was loaded into it."""
    from fiftyone.core.odm import get_db_conn

    from stages.review.review import RUN

    database, place = get_db_conn(), f"info.{RUN}"
    real = Path(path).resolve()
    for dataset in database.datasets.find({}, ["sample_collection_name", place]):
        run = (dataset.get("info") or {}).get(RUN)
        if run and real.parent == (Path(run) / "heatmaps").resolve():
            return True
        # FiftyOne keeps an index of these.
        if database[dataset["sample_collection_name"]].find_one({"filepath": path}, ["_id"]):
            return True
    return False


if __name__ == "__main__":
    main()
