"""FiftyOne's server behind the door: the process that :mod:`stages.review.app.serve` starts."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path

from stages.review.app.door import Door

TOKEN_VARIABLE = "SIGHTLINE_APP_TOKEN"
"""Environment variable with the token: unlike the command line, it is not shown to other users of the machine."""

COMMAND = ("-P", "-m", "stages.review.app.server")
"""Arguments of Python. FiftyOne starts its server in a folder with a ``stages.py``, which -P keeps off the path."""


def main() -> None:
    """Serve until the process is ended. Arguments: ``--address`` and ``--port``, as FiftyOne's own server has them."""
    parser = ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    # As FiftyOne's own entry does, before FiftyOne is imported.
    os.environ.pop("FIFTYONE_DISABLE_SERVICES", None)
    os.environ["FIFTYONE_SERVER"] = "1"
    from fiftyone.server import main as fiftyones

    token = os.environ[TOKEN_VARIABLE]
    fiftyones.app = Door(fiftyones.app, token=token, port=arguments.port, may_be_read=is_shown)
    fiftyones.start_server(port=arguments.port, address=arguments.address)


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
