"""pipeline.yaml with other values, keys and bytes than it should have."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config, load_config
from tests.fuzz.outcome import said_or_done
from tests.fuzz.profile import fuzz
from tests.fuzz.strategies import VALUES, altered, damaged

WHOLE = Config.model_validate({"run": "runs/x", "dataset": {"path": "data", "labels": "crop"}}).model_dump(mode="json")
"""Every key there is."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "pipeline.yaml"


def check(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    config = said_or_done(lambda: load_config(file), str(file))
    if config is not None:
        # What was accepted is said again in the same words, as run.json keeps it.
        assert Config.model_validate(config.model_dump(mode="json")) == config
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def written(document: object) -> bytes:
    """As YAML; what YAML does not write, as Python does."""
    try:
        text = yaml.safe_dump(document, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        text = repr(document)
    return text.encode("utf-8", "surrogatepass")


@fuzz(50)
@given(data=st.data())
def test_other_values(file: Path, data: st.DataObject) -> None:
    document = data.draw(altered(WHOLE))
    check(file, written(document))


@fuzz(50)
@given(data=st.data())
def test_a_value_of_one_key(file: Path, data: st.DataObject) -> None:
    section = data.draw(st.sampled_from([name for name, value in WHOLE.items() if isinstance(value, dict)]))
    key = data.draw(st.sampled_from(sorted(WHOLE[section])))
    document = {"run": "runs/x", "dataset": {"path": "data"}}
    document[section] = {**WHOLE[section], key: data.draw(VALUES)}
    check(file, written(document))


@fuzz(25)
@given(data=st.data())
def test_other_bytes(file: Path, data: st.DataObject) -> None:
    check(file, data.draw(damaged(yaml.safe_dump(WHOLE).encode())))
