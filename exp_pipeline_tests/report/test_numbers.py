# ruff: noqa: RUF001
"""Numbers as words: digits, signs, units, and what cannot be a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.report import numbers
from exp_pipeline.report.numbers import Display

DISPLAYS: tuple[Display, ...] = ("share", "number", "ms", "usd", "minutes")


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (numbers.change(0.102, "share", 1), "+10.2 pp"),
        (numbers.level(0.451, "share", 1), "45.1 %"),
        (numbers.interval(0.051, 0.152, "share", 1), "5.1 to 15.2"),
        (numbers.change(-0.0004, "share", 1), "0.0 pp"),
        (numbers.change(-0.003, "share", 1), "−0.3 pp"),
        (numbers.change(80.0, "ms", 0), "+80 ms"),
        (numbers.level(1260.0, "ms", 0), "1,260 ms"),
        (numbers.change(-0.012, "usd", 3), "−$0.012"),
        (numbers.change(-0.0001, "usd", 2), "$0.00"),
        (numbers.level(41.3, "minutes", 1), "41.3 min"),
        (numbers.interval(-math.inf, 0.02, "share", 1), "−∞ to 2.0"),
        (numbers.level(math.nan, "usd", 2), "n/a"),
        (numbers.p_value(0.0000001), "< 0.0001"),
        (numbers.p_value(0.00042), "0.0004"),
        (numbers.p_value(0.0421), "0.042"),
        (numbers.p_value(1.0), "> 0.999"),
        (numbers.p_value(None), "none"),
        (numbers.money(154_224.0, "USD", signed=True), "+USD 154,000"),
        (numbers.money(-0.004, "EUR"), "EUR 0"),
        (numbers.money(-12.345, "EUR"), "−EUR 12.3"),
        (numbers.money(999_600.0, "USD"), "USD 1,000,000"),
        (numbers.round_percent(0.95), "95 %"),
        (numbers.round_percent(0.999), "99.9 %"),
        (numbers.plain(8103), "8,103"),
        (numbers.plain(0.41), "0.41"),
        (numbers.plain(-3.2e-7), "−3.2e−07"),
    ],
)
def test_numbers_read_as_people_write_them(written: str, wanted: str) -> None:
    assert written == wanted


def test_digits_follow_the_width_of_the_interval() -> None:
    assert numbers.decimals_for("share", 0.101) == 1
    assert numbers.decimals_for("share", 0.002) == 2
    assert numbers.decimals_for("ms", 400.0) == 0
    assert numbers.decimals_for("usd", 0.0012) == 4
    assert numbers.decimals_for("number", None, 3.1) == 1
    assert numbers.decimals_for("number", math.inf, None) == 0
    assert numbers.exact_decimals("share", 0.005) == 1
    assert numbers.exact_decimals("share", 0.00125) == 3


@given(
    value=st.floats(allow_nan=True, allow_infinity=True),
    decimals=st.integers(0, 6),
    display=st.sampled_from(DISPLAYS),
)
def test_no_number_has_a_hyphen_or_a_signed_zero(value: float, decimals: int, display: Display) -> None:
    for text in (
        numbers.change(value, display, decimals),
        numbers.level(value, display, decimals),
        numbers.relative(value, decimals),
    ):
        assert "-" not in text
        if not text.strip("−+$0., %pmsin"):
            assert text[0] not in "−+"


@given(value=st.floats(-1e6, 1e6), decimals=st.integers(0, 6))
def test_a_written_number_is_within_half_a_last_digit(value: float, decimals: int) -> None:
    read = float(numbers.decimal(value, decimals, signed=True).replace("−", "-").replace(",", ""))
    # Half a unit of the last place, and what a double of that size cannot hold.
    assert abs(read - value) <= 0.5 * 10**-decimals + 1e-9 * max(abs(value), 1)
