from pathlib import Path

import pytest

from tests.stages.ingest.broken.corpus import picture


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one sound image."""
    picture(tmp_path / "data" / "a.jpg")
    return tmp_path / "data"
