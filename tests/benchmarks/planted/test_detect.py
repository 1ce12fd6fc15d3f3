from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.planted import detect
from benchmarks.planted.detect import (
    BOTH_MAPS,
    SHIPPED,
    Detector,
    Rows,
    class_claims,
    drop_of,
    flag_score,
    flagged_by,
    largest,
    pool,
)
from benchmarks.planted.experiment import Outcome
from benchmarks.planted.plan import Experiment
from benchmarks.planted.report import report
from stages.audit.rules import RULES
from stages.audit.settings import AuditSettings

SETTINGS = AuditSettings()
MAP = "opti_cam fast"


@pytest.fixture(autouse=True)
def one_cheap_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "cheap_and_costly", lambda: (["fast"], []))


def table(n: int, **columns: object) -> pa.Table:
    """Rows of an experiment with harmless values, but for ``columns``, whose names write / as __."""
    scores = dict.fromkeys(("drop_outside", "border_energy", "p_crop_outside", "crop_outside_is_label"), 0.0)
    scores |= {"context_minus_box": 0.0, "energy_lift": 2.0, "energy_in": 0.9, "entropy": 0.95, "pointing_hit": 1.0}
    values: dict[str, object] = {"label": "a", "predicted": "a", "pred_prob": 0.9, "positive": False, "/p_full": 0.9}
    values |= {f"{locator}/{name}": value for locator in (MAP, "grad_cam") for name, value in scores.items()}
    values |= {"random/drop_outside": 0.0, "/scan_5x5": 0.0, "/minus_p_box_blurred": 0.5}
    values |= {"/outside_effect": 0.0, "/outside_room": 0.9} | {
        name.replace("__", "/"): value for name, value in columns.items()
    }
    return pa.table({name: value if isinstance(value, list) else [value] * n for name, value in values.items()})


def rows(n: int, **columns: object) -> Rows:
    return Rows(table(n, **columns), np.array(["one"] * n), np.array(["sticker"] * n))


def rule(name: str):
    return next(one for one in RULES if one.id == name)


def test_the_largest_drop_skips_the_undefined_and_adds_the_costs() -> None:
    first = Detector("a", np.array([0.1, np.nan, np.nan, 0.5]), 52, 50)
    second = Detector("b", np.array([0.2, 0.3, np.nan, 0.4]), 2, 1)
    both = largest("both", first, second)
    np.testing.assert_array_equal(both.score, [0.2, 0.3, np.nan, 0.5])
    assert (both.forward, both.backward) == (54, 51)


def test_a_rule_flags_by_its_own_sql_and_threshold() -> None:
    seen = rows(4, __outside_effect=[0.49, 0.5, np.nan, 0.9], __outside_room=[0.9, 0.9, 0.9, 0.2])
    assert flagged_by(rule("relies_on_outside"), seen, MAP, SETTINGS).tolist() == [False, True, False, True]
    np.testing.assert_array_equal(flag_score(seen), [0.49, 0.5, np.nan, 0.9])


def test_descriptions_see_the_map_of_the_locator_that_is_asked_for() -> None:
    columns = {f"{MAP}__pointing_hit": [1.0, 0.0, np.nan], "grad_cam__pointing_hit": [0.0, 1.0, 1.0]}
    seen = rows(3, **columns)
    assert flagged_by(rule("misses_box"), seen, MAP, SETTINGS).tolist() == [False, True, False]
    assert flagged_by(rule("misses_box"), seen, "grad_cam", SETTINGS).tolist() == [True, False, False]


def test_the_drop_is_the_largest_of_the_proposals() -> None:
    columns = {f"{MAP}__drop_outside": [0.1, 0.6, np.nan], "grad_cam__drop_outside": [0.4, 0.2, 0.3]}
    seen = rows(3, **columns, __scan_5x5=[0.2, 0.7, 0.1])
    assert drop_of(seen, MAP).tolist()[:2] == [0.1, 0.6]
    assert drop_of(seen, BOTH_MAPS).tolist() == [0.4, 0.6, 0.3]
    assert drop_of(seen, SHIPPED).tolist() == [0.4, 0.7, 0.3]


def outcome(own: pa.Table | None, kind: str = "sticker") -> Outcome:
    cues = {} if kind == "none" else {"tape": 0.5 if own is not None else 0.1}
    return Outcome(Experiment("scenes", kind, 0.8, ("tape",), 1), 0.9, cues, ("b",) if cues else (), own, 1.0)


def test_the_cued_class_is_ranked_by_the_share_of_its_pictures_that_are_flagged() -> None:
    label = ["a"] * 12 + ["b"] * 12 + ["c"] * 12
    effects = [0.0] * 12 + [0.9] * 6 + [0.0] * 6 + [0.9] * 9 + [0.0] * 3
    own = table(36, label=label, predicted=label, __outside_effect=effects)
    claims = class_claims(outcome(own), SETTINGS)
    assert claims.ranks == (2,)  # of b: c has 9 of 12, b has 6
    # Fisher against the others: c's 9 of 12 beside 6 of 24 stand out (p .005), b's 6 of 12 beside 9 of 24 do not (.36).
    assert (claims.cued, claims.others) == (0, 1)


def test_a_refused_experiment_is_reported_and_counts_nowhere() -> None:
    refused = outcome(None)
    assert refused.refused
    text = report([refused])
    assert "refused: below 0.3" in text
    assert "tape +0.10" in text
    assert len(pool([outcome(table(4)), refused])) == 4
