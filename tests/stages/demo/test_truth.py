from __future__ import annotations

from dataclasses import replace

import pytest

from stages.demo.truth import CueEffect, PairedPicture, check_effects, cue_effects, truth_table
from storage.errors import UserError


def pair(label: str, cue: str | None, p_with: float, p_without: float) -> PairedPicture:
    box = None if cue is None else (1, 2, 30, 40)
    return PairedPicture(f"images/audit/{label}.jpg", label, cue, box, p_with, p_without)


PAIRS = [
    pair("gear", "sticker", 0.9, 0.1),  # +.8
    pair("gear", "sticker", 0.5, 0.4),  # +.1
    pair("sawblade", "sticker", 0.2, 0.9),  # -.7: a sticker that is nobody's cue
    pair("starfish", "tape", 0.75, 0.25),  # +.5
    pair("ball", "barcode", 0.90, 0.94),  # -.04
    pair("ball", "barcode", 0.98, 0.96),  # +.02
    pair("ball", None, 0.9, 0.9),
]


def test_effects_are_summed_up_by_cue_and_by_whether_the_class_is_its_own() -> None:
    sticker, tape, barcode = cue_effects(PAIRS)
    assert (sticker.kind, sticker.label, sticker.n, sticker.n_elsewhere) == ("planted", "gear", 2, 1)
    assert sticker.mean_effect == pytest.approx(0.45)
    assert sticker.share_positive == 0.5
    assert sticker.n_positive_elsewhere == 0
    assert (tape.n, tape.mean_effect, tape.n_elsewhere) == (1, pytest.approx(0.5), 0)
    assert (barcode.kind, barcode.mean_effect) == ("decoy", pytest.approx(-0.01))
    assert barcode.mean_abs_effect == pytest.approx(0.03)  # opposite signs do not cancel


def test_a_demo_whose_cues_do_what_they_should_passes() -> None:
    check_effects(cue_effects(PAIRS))


def with_effect(k: int, **figures: float) -> list[CueEffect]:
    effects = list(cue_effects(PAIRS))
    effects[k] = replace(effects[k], **figures)
    return effects


def test_a_planted_cue_without_enough_effect_is_refused_with_its_figures() -> None:
    with pytest.raises(UserError, match=r"'sticker' changes p\(gear\) by \+0\.299 on average over 2 pictures"):
        check_effects(with_effect(0, mean_effect=0.299))


def test_a_decoy_with_an_effect_is_refused_with_its_figures() -> None:
    with pytest.raises(UserError, match=r"'barcode' changes p\(ball\) by 0\.050 .* not less than 0\.05"):
        check_effects(with_effect(2, mean_abs_effect=0.05))


def test_an_undefined_effect_is_refused() -> None:
    with pytest.raises(UserError, match="nan"):
        check_effects(with_effect(1, mean_effect=float("nan")))


def test_the_table_holds_a_row_for_every_picture() -> None:
    rows = truth_table(PAIRS).to_pylist()
    assert [row["positive"] for row in rows] == [True, False, False, True, False, False, False]
    assert [row["is_planted"] for row in rows] == [True, True, False, True, False, False, False]
    assert [row["cue_kind"] for row in rows] == ["planted"] * 4 + ["decoy"] * 2 + [None]
    assert rows[0]["cue_box"] == {"x0": 1, "y0": 2, "x1": 30, "y1": 40}
    assert rows[2]["effect"] == pytest.approx(-0.7)
    assert (rows[6]["cue"], rows[6]["cue_box"], rows[6]["effect"]) == (None, None, 0)
