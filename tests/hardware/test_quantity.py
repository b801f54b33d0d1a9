"""Quantities: every unit, every slip of the pen, and the way back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.quantity import UNITS, parse, show

_LIMITS = {
    "memory size": (1.0, 1e18),
    "bandwidth": (1.0, 1e18),
    "compute rate": (1.0, 1e21),
    "integer rate": (1.0, 1e21),
    "time": (0.0, 52 * 604800.0),
    "power": (1e-3, 1e9),
    "frequency": (1.0, 1e12),
    "event rate": (0.0, 1000 / 86400),
    "deadline": (1.0, 100 * 31557600.0),
    "lifetime": (2629800.0, 50 * 31557600.0),
    "price": (1e-6 / 3600, 1e6 / 3600),
    "sum of money": (0.01, 1e9),
    "energy price": (1e-4 / 3.6e6, 100 / 3.6e6),
    "carbon intensity": (1e-6 / 3.6e6, 100 / 3.6e6),
}


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("80 GB", "memory size", 80e9),
        ("80 GiB", "memory size", 80 * 2**30),
        ("79.35 GiB", "memory size", 79.35 * 2**30),
        ("40 MiB", "memory size", 40 * 2**20),
        ("512 B", "memory size", 512.0),
        ("1 kB", "memory size", 1000.0),
        ("1 KiB", "memory size", 1024.0),
        ("1.5 TB", "memory size", 1.5e12),
        ("3.35 TB/s", "bandwidth", 3.35e12),
        ("2039 GB/s", "bandwidth", 2.039e12),
        ("200 Gb/s", "bandwidth", 25e9),
        ("400 Gb/s", "bandwidth", 50e9),
        ("8 b/s", "bandwidth", 1.0),
        ("1 GiB/s", "bandwidth", 2.0**30),
        ("312 TFLOP/s", "compute rate", 312e12),
        ("989.4 TFLOP/s", "compute rate", 989.4e12),
        ("66.9 TFLOP/s", "compute rate", 66.9e12),
        ("1.1 EFLOP/s", "compute rate", 1.1e18),
        ("624 TOP/s", "integer rate", 624e12),
        ("0 s", "time", 0.0),
        ("2.5 us", "time", 2.5e-6),
        ("4 ms", "time", 4e-3),
        ("7 ns", "time", 7e-9),
        ("54 d", "time", 54 * 86400.0),
        ("2 weeks", "time", 2 * 604800.0),
        ("90 min", "time", 5400.0),
        ("6.5 kW", "power", 6500.0),
        ("1410 MHz", "frequency", 1.41e9),
        ("2.5 USD/h", "price", 2.5 / 3600),
        ("6.5e-3 /d", "event rate", 6.5e-3 / 86400),
        ("0 /h", "event rate", 0.0),
        ("2/year", "event rate", 2 / (365.25 * 86400)),
        ("5 years", "lifetime", 5 * 365.25 * 86400),
        ("18 months", "lifetime", 1.5 * 365.25 * 86400),
        ("30 kUSD", "sum of money", 30e3),
        ("0.08 USD/kWh", "energy price", 0.08 / 3.6e6),
        ("80 USD/MWh", "energy price", 0.08 / 3.6e6),
        ("475 gCO2e/kWh", "carbon intensity", 0.475 / 3.6e6),
        ("0.475 kgCO2e/kWh", "carbon intensity", 0.475 / 3.6e6),
        ("  1e3   GB  ", "memory size", 1e12),
        ("1_000 GB", "memory size", 1e12),
        (".5 GB", "memory size", 5e8),
        ("5. GB", "memory size", 5e9),
        ("+5 GB", "memory size", 5e9),
        ("80GB", "memory size", 80e9),
    ],
)
def test_a_quantity_is_read_in_si(text: str, dimension: str, value: float) -> None:
    assert parse(text, dimension) == pytest.approx(value, rel=1e-14)


def test_a_byte_is_eight_bits_and_a_gibibyte_more_than_a_gigabyte() -> None:
    assert parse("1 GB/s", "bandwidth") == 8 * parse("1 Gb/s", "bandwidth")
    assert parse("1 GiB", "memory size") / parse("1 GB", "memory size") == 1.073741824


@pytest.mark.parametrize("dimension", UNITS)
def test_every_dimension_reads_every_unit_of_its_own(dimension: str) -> None:
    least, most = _LIMITS[dimension]
    for unit, scale in UNITS[dimension].items():
        number = max(1.0, least / scale) if scale <= most else most / scale
        assert parse(f"{number!r} {unit}", dimension) == pytest.approx(number * scale, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "dimension", "fragments"),
    [
        ("80", "memory size", ["'80' has no unit", "'80 GB'", "GiB"]),
        (80, "memory size", ["'80' has no unit", "'80 GB'"]),
        (1.5e12, "bandwidth", ["has no unit", "GB/s"]),
        ("312e12", "compute rate", ["has no unit", "TFLOP/s"]),
        ("312 TFLOPS", "compute rate", ["'TFLOPS' is not a unit of compute rate", "TFLOP/s"]),
        ("312 TOP/s", "compute rate", ["'TOP/s' is not a unit of compute rate"]),
        ("624 TFLOP/s", "integer rate", ["'TFLOP/s' is not a unit of integer rate", "TOP/s"]),
        ("80 Gb", "memory size", ["'Gb' is not a unit of memory size", "GB"]),
        ("80 gb", "memory size", ["'gb'"]),
        ("80 GB", "bandwidth", ["'GB' is not a unit of bandwidth", "GB/s"]),
        ("300 GB/s", "memory size", ["'GB/s' is not a unit of memory size"]),
        ("1410 Mhz", "frequency", ["'Mhz'", "MHz"]),
        ("5 EUR/h", "price", ["'EUR/h'", "USD/h"]),
        ("5 USD", "price", ["'USD' is not a unit of price", "USD/h"]),
        ("6 moons", "time", ["'moons'", "h, d"]),
        ("6m", "deadline", ["'m' is not a unit of deadline", "months", "min"]),
        ("-80 GB", "memory size", ["'-80 GB' is out of range", "1 B to 1 EB"]),
        ("0 GB", "memory size", ["'0 GB' is out of range"]),
        ("-1 s", "time", ["'-1 s' is out of range", "0 s"]),
        ("1e-9 B", "memory size", ["out of range"]),
        ("1e300 TB", "memory size", ["'1e300 TB' is out of range"]),
        ("1e400 GB/s", "bandwidth", ["out of range"]),
        ("nan GB", "memory size", ["'nan GB' is not a memory size"]),
        ("inf GB", "memory size", ["'inf GB' is not a memory size"]),
        (math.nan, "memory size", ["'nan' is not a memory size"]),
        (-math.inf, "memory size", ["'-inf' is not a memory size"]),
        ("", "memory size", ["'' is not a memory size"]),
        ("GB", "memory size", ["'GB' is not a memory size", "'80 GB'"]),
        ("eighty GB", "memory size", ["'eighty GB' is not"]),
        ("80 80 GB", "memory size", ["is not a memory size"]),
        ("80 GB GB", "memory size", ["is not a memory size"]),
        ("80,5 GB", "memory size", ["is not a memory size"]),
        ("0x50 GB", "memory size", ["is not a"]),
        ("８０ GB", "memory size", ["is not a memory size"]),
        ("80 ＧＢ", "memory size", ["is not a memory size"]),
        ("80\u00a0GB", "memory size", ["is not a memory size"]),
        ("80 µs", "time", ["is not a time"]),
        ("9" * 100 + " GB", "memory size", ["is not a memory size", "..."]),
        (10**400, "memory size", ["is not a memory size", "..."]),
        (True, "memory size", ["true is not a memory size"]),
        (None, "memory size", ["null is not a memory size"]),
        ([80, "GB"], "memory size", ["is not a memory size"]),
        ({"source": ["x"]}, "memory size", ["a mapping without 'value' is not a memory size"]),
        ("often", "event rate", ["'often' is not an event rate", "'80 /d'"]),
        ("-1 /d", "event rate", ["out of range", "0 /d to 1000 /d"]),
        ("5 d", "event rate", ["'d' is not a unit of event rate", "/d"]),
        ("30000 EUR", "sum of money", ["'EUR' is not a unit of sum of money", "USD"]),
        ("0.08 USD", "energy price", ["'USD' is not a unit of energy price", "USD/kWh"]),
        ("80", "integer rate", ["an integer rate is written like '80 TOP/s'"]),
    ],
)
def test_a_wrong_quantity_says_what_would_be_valid(text: Any, dimension: str, fragments: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  pydantic turns it into a validation error
        parse(text, dimension)
    sentence = str(caught.value)
    assert all(fragment in sentence for fragment in fragments), sentence
    assert len(sentence) < 300
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (2.039e12, "bandwidth", "2.039 TB/s"),
        (25e9, "bandwidth", "25 GB/s"),
        (80e9, "memory size", "80 GB"),
        (80 * 2.0**30, "memory size", "80 GiB"),
        (312e12, "compute rate", "312 TFLOP/s"),
        (1.1e18, "compute rate", "1.1 EFLOP/s"),
        (0.0, "time", "0 s"),
        (2.5e-6, "time", "2.5 us"),
        (0.004, "time", "4 ms"),
        (350.0, "power", "350 W"),
        (1.41e9, "frequency", "1.41 GHz"),
        (1.39 / 3600, "price", "1.39 USD/h"),
        (0.475 / 3.6e6, "carbon intensity", "0.475 kgCO2e/kWh"),
        (6.5e-3 / 86400, "event rate", "0.0065 /d"),
        (5.5 * 31557600.0, "lifetime", "5.5 years"),
        (30e3, "sum of money", "30000 USD"),
        (0.0806 / 3.6e6, "energy price", "0.0806 USD/kWh"),
    ],
)
def test_a_quantity_is_written_readably(value: float, dimension: str, text: str) -> None:
    assert show(value, dimension) == text


@pytest.mark.parametrize("dimension", UNITS)
@settings(derandomize=True, database=None, max_examples=200)
@given(share=st.floats(0.0, 1.0))
def test_what_is_written_is_read_back(dimension: str, share: float) -> None:
    least, most = _LIMITS[dimension]
    least = max(least, 1e-12)
    value = math.exp(math.log(least) + share * (math.log(most) - math.log(least)))
    value = min(max(value, least), most)
    assert parse(show(value, dimension), dimension) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("dimension", UNITS)
@settings(derandomize=True, database=None, max_examples=200)
@given(text=st.one_of(st.text(max_size=20), st.from_regex(r"-?\d{1,3}(\.\d{1,3})? ?[kMGT]?i?[BbWsH/a-z]{0,6}")))
def test_any_text_is_a_figure_within_the_limits_or_one_sentence(dimension: str, text: str) -> None:
    least, most = _LIMITS[dimension]
    try:
        value = parse(text, dimension)
    except ValueError as error:
        complaint = str(error)
    else:
        complaint = "none"
        assert least * (1 - 1e-12) <= value <= most * (1 + 1e-12)
    assert complaint.isprintable()
