"""Numbers as commands print them."""

import pytest

from latbench.wording import count_of, milliseconds, percent


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("entry", "entries"), "0 entries"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
        (1, ("round",), "1 round"),
        (12, ("round",), "12 rounds"),
    ],
)
def test_nouns_agree_with_their_count(count: int, words: tuple[str, ...], text: str) -> None:
    assert count_of(count, *words) == text


@pytest.mark.parametrize(
    ("share", "digits", "plain", "signed"),
    [
        (0.1234, 1, "12.3%", "+12.3%"),
        (-0.1234, 1, "-12.3%", "-12.3%"),
        (-0.0004, 1, "0.0%", "0.0%"),
        (0.0004, 1, "0.0%", "0.0%"),
        (-0.0006, 1, "-0.1%", "-0.1%"),
        (-0.004, 0, "0%", "0%"),
        (1.0, 0, "100%", "+100%"),
    ],
)
def test_percentages_have_no_negative_zero(
    share: float, digits: int, plain: str, signed: str
) -> None:
    assert percent(share, digits) == plain
    assert percent(share, digits, signed=True) == signed


def test_milliseconds_resolve_a_microsecond_and_less_for_short_ops() -> None:
    assert (milliseconds(12.3456), milliseconds(0.1), milliseconds(0.09876)) == (
        "12.346",
        "0.100",
        "0.0988",
    )
