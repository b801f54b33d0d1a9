"""Numbers as people write them, alone and in lists."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.amounts import read_number, split_values
from hardware.units import count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("1G", 10**9),
        ("1e9", 10**9),
        ("1,000,000,000", 10**9),
        ("1_000_000_000", 10**9),
        ("15T", 15 * 10**12),
        ("15t", 15 * 10**12),
        ("780B", 780 * 10**9),
        ("300 billion", 3 * 10**11),
        ("2.5 Million", 2_500_000),
        ("0.1T", 10**11),
        ("4k", 4000),
        ("1,024", 1024),
        ("1,024.5", 1024.5),
        ("10%", 0.1),
        ("-5", -5),
        (" +.5 ", 0.5),
        ("1e18", 1e18),
        ("123456789012345678", 123456789012345678),
    ],
)
def test_a_number_is_read(text: str, value: float) -> None:
    number = read_number(text)
    assert number == value
    assert type(number) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "many", "B", "k5", "--5", "+-5", "1,00", "1,0000", ",000", "1e", "1e400", "1e308T", "nan", "inf"),
        *("-inf", "0x10", "8 8", "80 GB", "$5", "5 USD", "1;2", "１２", "1\u00a0000", "1,000,00", "5%%", "true"),
        "9" * 10_000,
    ],
)
def test_what_is_no_number_is_nothing(text: str) -> None:
    assert read_number(text) is None


@given(st.text(max_size=90))
def test_any_text_is_a_finite_number_or_none(text: str) -> None:
    number = read_number(text)
    assert number is None or math.isfinite(number)


@given(st.floats(1.0, 1e15))
def test_what_is_written_is_read_back(value: float) -> None:
    number = read_number(count(value))
    assert number is not None
    assert number == pytest.approx(value, rel=6e-3)


@given(st.lists(st.integers(0, 10**7).map(str), min_size=1, max_size=6))
def test_numbers_of_a_list_stay_apart(values: list[str]) -> None:
    assert split_values(",".join(values)) == values


@given(st.text(alphabet="0123456789,.$ kBGx%", max_size=60))
def test_nothing_of_a_list_is_lost(text: str) -> None:
    values = split_values(text)
    assert "".join(",".join(values).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8,64,512", ["8", "64", "512"]),
        ("8,128", ["8", "128"]),
        (" 8 , 64 ", ["8", "64"]),
        ("1,000,000,000", ["1,000,000,000"]),
        ("1,000,2,000", ["1,000", "2,000"]),
        ("16,032 B,64,512 B", ["16,032 B", "64,512 B"]),
        ("1,500,000 USD,$1,234,567,$2k", ["1,500,000 USD", "$1,234,567", "$2k"]),
        ("1,300 billion,15T", ["1,300 billion", "15T"]),
        ("1,024.5 GB,2 GB", ["1,024.5 GB", "2 GB"]),
        ("100,200,300", ["100", "200", "300"]),
        ("100 GB/s,200 GB/s", ["100 GB/s", "200 GB/s"]),
        ("fp16,bf16", ["fp16", "bf16"]),
        ("1_234_567,2", ["1_234_567", "2"]),
        ("0.5x,+20%,100 GB/s", ["0.5x", "+20%", "100 GB/s"]),
        ("0,000", ["0,000"]),
        ("a,000", ["a", "000"]),
        ("8,0", ["8", "0"]),
        ("8,,64", ["8", "", "64"]),
        ("", [""]),
    ],
)
def test_a_list_is_split_between_its_values(text: str, values: list[str]) -> None:
    assert split_values(text) == values
