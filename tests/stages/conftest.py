from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from stages.review.app.database import database


@pytest.fixture(scope="session", autouse=True)
def no_server_of_fiftyone() -> Iterator[None]:
    """FiftyOne starts a server of its own, in the user's home, where a test lacks ``mongo``: such a test fails."""
    with pytest.MonkeyPatch.context() as patch:
        if "fiftyone" in sys.modules:
            patch.setattr("fiftyone.core.service.DatabaseService.start", _refuse)
        yield


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a running private MongoDB, and a home of the tests' own."""
    directory = tmp_path_factory.mktemp("mongo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("FIFTYONE_DATABASE_URI", raising=False)
        with database(directory):
            patch.setattr("fiftyone.core.service.DatabaseService.start", _refuse)
            yield directory


def _refuse(service: Any) -> NoReturn:
    pytest.fail("FiftyOne starts a server of its own: the test lacks the fixture `mongo`, or another one ended it")
