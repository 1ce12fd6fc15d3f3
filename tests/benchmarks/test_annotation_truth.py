"""Confident learning by hand, and the tables from a case that is known."""

from __future__ import annotations

import numpy as np

from benchmarks.annotation_truth import COLUMNS, RULES, Case, confident_joint, decisions, pooled


def case(seed: int, label: list[int], probabilities: list[list[float]], suspect: list[bool]) -> Case:
    n = len(label)
    return Case(
        seed=np.full(n, seed),
        fault=np.array(["label_any" if one else "" for one in suspect]),
        shortcut=np.zeros(n, dtype=bool),
        columns={name: np.zeros(n) for name in COLUMNS},
        found={rule: np.array(suspect) for rule in RULES},
        label=np.array(label),
        probabilities=np.array(probabilities),
    )


# Class 0 has .9 and .5 on its own label's samples: .7 in the mean; class 1 has .8 and .4: .6 in the mean.
LABEL = [0, 0, 1, 1]
PROBABILITIES = [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.6, 0.4]]


def test_a_label_is_suspect_where_another_class_reaches_what_it_usually_has() -> None:
    # The last has .6 of class 0, which is below its .7; raised to .75 the mean is the same, and it is reached.
    assert confident_joint(case(1, LABEL, PROBABILITIES, [False] * 4)).tolist() == [False] * 4
    raised = [*PROBABILITIES[:3], [0.75, 0.25]]
    assert confident_joint(case(1, LABEL, raised, [False] * 4)).tolist() == [False, False, False, True]


def test_each_seed_has_its_own_usual_probabilities() -> None:
    sure = [[0.99, 0.01], [0.99, 0.01], [0.01, 0.99], [0.75, 0.25]]
    both = pooled([case(1, LABEL, sure, [False] * 4), case(2, LABEL, PROBABILITIES, [False, True, False, False])])
    # .75 of class 0 is less than its .99 with the first seed, though more than its .7 with the second.
    assert confident_joint(both).tolist() == [False] * 8
    assert both.clean.tolist() == [True] * 5 + [False] + [True] * 2
    assert [named.tolist() for title, _, named in decisions(both) if title == "`label_suspect`"] == [
        [False] * 5 + [True] + [False] * 2
    ]
