from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.planted import detect
from benchmarks.planted.experiment import Outcome
from benchmarks.planted.isolate import isolations
from benchmarks.planted.plan import Experiment
from stages.audit.settings import AuditSettings

MAP = "opti_cam fast"
SHOWN, OTHERS = 12, 60


@pytest.fixture(autouse=True)
def one_cheap_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "cheap_and_costly", lambda: (["fast"], []))


def outcome(drops: list[float]) -> Outcome:
    """Pictures with a tape, of which the scan finds a common direction of the features, and others without one."""
    generator = np.random.default_rng(0)
    n = SHOWN + OTHERS
    noise = generator.normal(size=(3, n, 16)).astype(np.float16)
    noise[2, :SHOWN] = np.eye(16)[3] * 5 + generator.normal(size=(SHOWN, 16)) * 0.1

    def column(vectors: np.ndarray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16)

    table = pa.table(
        {
            "cue": ["tape"] * SHOWN + [""] * OTHERS,
            "positive": [True] * 10 + [False] * (n - 10),
            f"{MAP}/drop_outside": [0.0] * n,
            "grad_cam/drop_outside": [-0.1] * n,
            "/scan_5x5": drops,
            f"{MAP}/features": column(noise[0]),
            "grad_cam/features": column(noise[1]),
            "/scan_features": column(noise[2]),
        }
    )
    return Outcome(Experiment("scenes", "sticker", 0.8, ("tape",), 1), 0.9, {"tape": 0.5}, ("a",), table, 1.0)


def test_a_cue_that_looks_the_same_where_it_was_hidden_is_isolated() -> None:
    (found,) = isolations(outcome([0.8] * SHOWN + [0.01] * OTHERS), AuditSettings())
    assert found.purity == 1
    assert found.held >= 0.8
    assert "tape: isolated" in str(found)


def test_a_cue_whose_hiding_costs_nothing_is_in_no_cluster() -> None:
    (found,) = isolations(outcome([0.01] * (SHOWN + OTHERS)), AuditSettings())
    assert (found.purity, found.held) == (None, 0)
    assert str(found) == "tape: no cluster"
