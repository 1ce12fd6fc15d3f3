"""Numbers as people read them."""

from __future__ import annotations

import pytest

from stages.words import counted, in_words, interval, number, p, percent, q, visible, with_interval


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.934, ".93"), (1.0, "1.00"), (0.0, ".00"), (0.001, "<.01"), (0.999, ">.99"), (-0.12, "-.12"), (2.5, "2.50")],
)
def test_numbers_read_as_in_a_sentence_and_are_not_rounded_onto_certainty(value: float, words: str) -> None:
    assert in_words(value) == words


@pytest.mark.parametrize(
    ("n", "words", "text"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (2, ("class",), "2 classes"),
        (1, ("box has", "boxes have"), "1 box has"),
        (12, ("box has", "boxes have"), "12 boxes have"),
    ],
)
def test_one_thing_is_told_in_the_singular(n: int, words: tuple[str, ...], text: str) -> None:
    assert counted(n, *words) == text


def test_a_share_reads_in_percent_and_null_as_unknown() -> None:
    assert in_words(0.424, percent=True) == "42%"
    assert in_words(None) == "unknown"
    assert in_words("cat") == "cat"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, ".00"),
        (0.004, "<.01"),
        (0.005, ".01"),
        (0.125, ".12"),
        (0.994, ".99"),
        (0.996, ">.99"),
        (1.0, "1.00"),
    ],
)
def test_what_is_not_quite_0_or_1_is_not_rounded_onto_it(value: float | None, text: str) -> None:
    assert p(value) == text


def test_numbers_percents_and_intervals_show_null_as_a_dash() -> None:
    assert (number(1.725), number(0.5, 1), number(None)) == ("1.73", "0.5", "–")
    assert (percent(0.9062), percent(0.5, 0), percent(None)) == ("90.6%", "50%", "–")
    assert (interval((0.1, 0.25)), interval((0.1, 0.25), 100, 1), interval(None)) == (
        "[0.10, 0.25]",
        "[10.0, 25.0]",
        "",
    )
    assert interval((None, 0.25)) == ""
    assert with_interval(0.94, (0.8, 0.98)) == "0.94 [0.80, 0.98]"
    assert with_interval(0.94, None) == "0.94"
    assert with_interval(None, (0.8, 0.98)) == with_interval(None, None) == "–"


def test_a_q_that_is_not_zero_is_not_shown_as_zero() -> None:
    assert (q(0.0004), q(0.0), q(0.0312), q(None)) == ("<0.001", "<0.001", "0.031", "–")


def test_marks_that_turn_the_text_are_visible_and_joiners_stay() -> None:
    assert visible("cat\u202egod\x1b[2J\u2066") == "cat\\u202egod\\x1b[2J\\u2066"
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c\n\tline"
    assert visible(joined) == joined
