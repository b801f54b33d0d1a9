"""Quantities written with their unit, "80 GiB" or "312 TFLOP/s", parsed to SI floats.

A figure without a unit, or with the unit of something else, is refused: a factor of 8 between bit and byte or of
1.07 between GB and GiB is the commonest silent error of capacity planning. Only money may do without: it is in USD.
The numbers themselves are those of `hardware.amounts`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from hardware.amounts import LONGEST, SCALES, UNSIGNED, times
from hardware.errors import shown

_METRIC = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}


def _scaled(unit: str, scales: dict[str, float], factor: float = 1.0) -> dict[str, float]:
    """Prefix a unit with every scale."""
    return {prefix + unit: scale * factor for prefix, scale in scales.items()}


_BYTES = _scaled("B", _METRIC | _BINARY)
UNITS: dict[str, dict[str, float]] = {
    "memory size": _BYTES,
    "bandwidth": {f"{name}/s": scale for name, scale in (_BYTES | _scaled("b", _METRIC, 1 / 8)).items()},
    "compute rate": _scaled("FLOP/s", _METRIC),
    "integer rate": _scaled("OP/s", _METRIC),
    "time": {
        "s": 1.0,
        "ms": 1e-3,
        "us": 1e-6,
        "ns": 1e-9,
        "min": 60.0,
        "h": 3600.0,
        "d": 86400.0,
        "weeks": 604800.0,
    },
    "power": _scaled("W", _METRIC),
    "frequency": _scaled("Hz", _METRIC),
    "event rate": {"/h": 1 / 3600.0, "/d": 1 / 86400.0, "/year": 1 / 31557600.0},
    "lifetime": {"years": 31557600.0, "months": 2629800.0},
    "deadline": {
        "d": 86400.0,
        "weeks": 604800.0,
        "months": 2629800.0,
        "years": 31557600.0,
        "h": 3600.0,
        "min": 60.0,
        "s": 1.0,
    },
    "price": {"USD/h": 1 / 3600.0},
    "sum of money": {"USD": 1.0, "kUSD": 1e3},
    "energy price": {"USD/kWh": 1 / 3.6e6, "USD/MWh": 1 / 3.6e9},
    "carbon intensity": {"kgCO2e/kWh": 1 / 3.6e6, "gCO2e/kWh": 1e-3 / 3.6e6},
}
_TIMES = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "week": 604800.0,
    "month": 2629800.0,
    "year": 31557600.0,
}
_LONG_TIMES = UNITS["deadline"] | _TIMES | {f"{name}s": seconds for name, seconds in _TIMES.items()}
_OTHER_UNITS: dict[str, dict[str, float]] = {
    "memory size": {"KB": 1e3},
    "bandwidth": {"KB/s": 1e3},
    "time": {**_LONG_TIMES, "sec": 1.0, "m": 60.0},
    "deadline": _LONG_TIMES,
    "lifetime": _LONG_TIMES,
    "event rate": {f"/{name}": 1 / seconds for name, seconds in _TIMES.items()},
    "price": {"USD/hour": 1 / 3600.0},
    "sum of money": {
        f"{name}{dollars}": scale
        for word, scale in SCALES.items()
        for name in (word, word.upper())
        for dollars in ("", "USD")
    },
}
"""Other names of units, which are read like those above; m is no unit of a deadline, where it could be a month."""
_BARE = {"sum of money": "USD", "price": "USD/h"}
"""The unit of a figure that has none; there is no other currency to confuse it with."""
_IN_DOLLARS = ("sum of money", "price", "energy price")
_RANGES: dict[str, tuple[str, str]] = {
    "memory size": ("1 B", "1 EB"),
    "bandwidth": ("1 B/s", "1 EB/s"),
    "compute rate": ("1 FLOP/s", "1000 EFLOP/s"),
    "integer rate": ("1 OP/s", "1000 EOP/s"),
    "time": ("0 s", "52 weeks"),
    "power": ("0.001 W", "1 GW"),
    "frequency": ("1 Hz", "1 THz"),
    "event rate": ("0 /d", "1000 /d"),
    "deadline": ("1 s", "100 years"),
    "lifetime": ("1 months", "50 years"),
    "price": ("0.000001 USD/h", "1000000 USD/h"),
    "sum of money": ("0.01 USD", "1000000 kUSD"),
    "energy price": ("0.0001 USD/kWh", "100 USD/kWh"),
    "carbon intensity": ("0.001 gCO2e/kWh", "100 kgCO2e/kWh"),
}
"""What a figure lies between: beyond, it is a slip of the pen, and arithmetic with it would overflow."""
_WRITTEN = {
    "memory size": "a memory size is written like '{} GB'",
    "bandwidth": "a bandwidth is written like '{} GB/s'",
    "compute rate": "a compute rate is written like '{} TFLOP/s'",
    "integer rate": "an integer rate is written like '{} TOP/s'",
    "time": "a time is written like '{} s'",
    "power": "a power is written like '{} W'",
    "frequency": "a frequency is written like '{} MHz'",
    "event rate": "an event rate is written like '{} /d'",
    "deadline": "a deadline is written like '{} d'",
    "lifetime": "a lifetime is written like '{} years'",
    "price": "a price is written like '{} USD/h'",
    "sum of money": "a sum of money is written like '{} USD'",
    "energy price": "an energy price is written like '{} USD/kWh'",
    "carbon intensity": "a carbon intensity is written like '{} kgCO2e/kWh'",
}
SI = {
    "memory size": "B",
    "bandwidth": "B/s",
    "compute rate": "FLOP/s",
    "integer rate": "OP/s",
    "time": "s",
    "power": "W",
    "frequency": "Hz",
    "event rate": "1/s",
    "deadline": "s",
    "lifetime": "s",
    "price": "USD/s",
    "sum of money": "USD",
    "energy price": "USD/J",
    "carbon intensity": "kgCO2e/J",
}
"""The unit in which a figure of each dimension is held."""
EXAMPLES = {
    "memory size": "80 GB",
    "bandwidth": "300 GB/s",
    "compute rate": "312 TFLOP/s",
    "integer rate": "624 TOP/s",
    "time": "10 us",
    "power": "400 W",
    "frequency": "1410 MHz",
    "event rate": "0.0005 /d",
    "lifetime": "5 years",
    "price": "1.79 USD/h",
    "sum of money": "30000 USD",
    "energy price": "0.08 USD/kWh",
    "carbon intensity": "0.4 kgCO2e/kWh",
}
"""A figure of each dimension, as files have it."""
_SHOWN = {
    "event rate": "/d",
    "deadline": "d",
    "lifetime": "years",
    "price": "USD/h",
    "sum of money": "USD",
    "energy price": "USD/kWh",
    "carbon intensity": "kgCO2e/kWh",
}
"""Dimensions that are written in one unit wherever that means the same value."""
_QUANTITY = re.compile(
    rf"\s*(?P<dollar>\$?)\s*(?P<number>[-+]?{UNSIGNED})\s*(?P<unit>[A-Za-z/0-9$]*(?: USD)?)\s*\Z", re.ASCII
)


def parse(text: Any, dimension: str, *, none: bool = False) -> float:
    """Read a quantity with its unit and return it in SI.

    Parameters
    ----------
    text
        Such as ``"80 GiB"``.
    dimension
        A key of `UNITS`, such as ``"memory size"``.
    none
        Whether zero is valid where the dimension begins above it.

    Returns
    -------
    float
        In bytes, byte/s, FLOP/s, seconds, watts, hertz, 1/s, USD, USD/s, USD/J or kgCO2e/J.

    Raises
    ------
    ValueError
        Where the number, the unit or the sign is wrong; the message says which units are valid.

    Examples
    --------
    >>> parse("80 GiB", "memory size")
    85899345920.0
    >>> parse("200 Gb/s", "bandwidth") == parse("25 GB/s", "bandwidth")
    True
    >>> parse("$12k", "sum of money") == parse("12,000 USD", "sum of money") == parse("0.012M", "sum of money")
    True
    >>> parse("80", "memory size")
    Traceback (most recent call last):
    ValueError: '80' has no unit; a memory size is written like '80 GB' (B, kB, MB, GB, TB, KiB, MiB, GiB)
    """
    value = read_amount(text, dimension)
    least, most = _limits(dimension)
    if not least <= value <= most and not (none and value == 0.0):
        raise ValueError(f"{text!r} is out of range; valid: {' to '.join(_RANGES[dimension])}")
    return value


def read_amount(text: Any, dimension: str) -> float:
    """Read a quantity as `parse` does, however small or large it is.

    Raises
    ------
    ValueError
        Where the number or the unit is wrong.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = shown(text)
    match = _QUANTITY.match(text) if isinstance(text, str) and len(text) < LONGEST else None
    if match is None or (match["dollar"] and dimension not in _IN_DOLLARS):
        described = "a mapping without 'value'" if isinstance(text, Mapping) else shown(text)
        article = "an" if dimension[0] in "aeiou" else "a"
        raise ValueError(f"{described} is not {article} {dimension}; {_form(dimension, '80')}")
    number, unit = match["number"], match["unit"].replace("$", "USD").replace(" ", "") or _BARE.get(dimension, "")
    if not unit:
        raise ValueError(f"{number!r} has no unit; {_form(dimension, number)}")
    units = _units(dimension)
    scale = units.get(f"USD{unit}" if match["dollar"] else unit) or units.get(unit)
    if scale is None:
        raise ValueError(f"{text!r}: {unit!r} is not a unit of {dimension}; valid: {_examples(dimension)}")
    return times(number, scale)


@cache
def _units(dimension: str) -> dict[str, float]:
    """Every name of a unit of a dimension."""
    return _OTHER_UNITS.get(dimension, {}) | UNITS[dimension]


@cache
def _limits(dimension: str) -> tuple[float, float]:
    """The smallest and the largest figure of a dimension in SI."""
    least, most = (limit.split() for limit in _RANGES[dimension])
    units = UNITS[dimension]
    return times(least[0], units[least[1]]), times(most[0], units[most[1]])


def _form(dimension: str, number: str) -> str:
    """Say how a figure is written."""
    return f"{_WRITTEN[dimension].format(number)} ({_examples(dimension)})"


def _examples(dimension: str) -> str:
    """Name the common units of a dimension."""
    names = [name for name in UNITS[dimension] if not name.startswith(("P", "E", "Pi", "Ti"))]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def show(value: float, dimension: str) -> str:
    """Write an SI value back with a readable unit; `parse` reads the same value again.

    >>> show(2.039e12, "bandwidth")
    '2.039 TB/s'
    >>> show(85899345920.0, "memory size"), show(80e9, "memory size")
    ('80 GiB', '80 GB')
    >>> show(parse("0.53 USD/h", "price"), "price")
    '0.53 USD/h'
    """
    if dimension in _SHOWN:
        usual, units = _SHOWN[dimension], UNITS[dimension]
        exact = (unit for unit in (usual, *units) if times(_digits(value, units[unit]), units[unit]) == value)
        unit = next(exact, usual)
        return f"{_digits(value, units[unit])} {unit}"
    if dimension == "time":
        prefix = next((u for u in ("s", "ms", "us") if value >= UNITS["time"][u]), "ns" if value else "s")
        return f"{_digits(value, UNITS['time'][prefix])} {prefix}"
    decimal = next((p for p in ("E", "P", "T", "G", "M", "k") if value >= _METRIC[p]), "")
    metric = f"{value / _METRIC[decimal]:.15g} {decimal}{SI[dimension]}"
    if dimension != "memory size":
        return metric
    binary = next((p for p in ("Ti", "Gi", "Mi", "Ki") if value >= _BINARY[p]), "Ki")
    return min(metric, f"{value / _BINARY[binary]:.15g} {binary}B", key=len)


def _digits(value: float, unit: float) -> str:
    """A value in a unit, by the fewest digits that mean the same value."""
    for digits in (6, 9, 12):
        text = f"{value / unit:.{digits}g}"
        if "e" not in text and times(text, unit) == value:
            return text
    return f"{value / unit:.15g}"


@dataclass(frozen=True)
class Quantity:
    """Annotation of a float field that is written with a unit of one dimension and held in SI.

    Parameters
    ----------
    dimension
        A key of `UNITS`.
    none
        Whether nothing of it, such as "0 B", is meant where the dimension begins above zero.
    """

    dimension: str
    none: bool = False

    @property
    def unit(self) -> str:
        """The unit in which the figure is held."""
        return SI[self.dimension]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate from a string with a unit; write one back to JSON."""
        return core_schema.no_info_plain_validator_function(
            partial(parse, dimension=self.dimension, none=self.none),
            serialization=core_schema.plain_serializer_function_ser_schema(
                partial(show, dimension=self.dimension), when_used="json"
            ),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Describe the text that it is written as."""
        units = "|".join(map(re.escape, UNITS[self.dimension]))
        return {
            "type": "string",
            "pattern": rf"^\s*[-+]?{UNSIGNED}\s*({units})\s*$",
            "examples": [EXAMPLES[self.dimension]],
            "x-dimension": self.dimension,
            "x-units": list(UNITS[self.dimension]),
        }


Bytes = Annotated[float, Quantity("memory size")]
"""A memory size [B]."""
BytesOrNone = Annotated[float, Quantity("memory size", none=True)]
"""A memory size, or none of it [B]."""
Bandwidth = Annotated[float, Quantity("bandwidth")]
"""A transfer rate [B/s]."""
ComputeRate = Annotated[float, Quantity("compute rate")]
"""A rate of arithmetic [FLOP/s]."""
IntegerRate = Annotated[float, Quantity("integer rate")]
"""A rate of integer arithmetic [OP/s]."""
Seconds = Annotated[float, Quantity("time")]
"""A duration [s]."""
Watts = Annotated[float, Quantity("power")]
"""A power [W]."""
Hertz = Annotated[float, Quantity("frequency")]
"""A clock [Hz]."""
EventRate = Annotated[float, Quantity("event rate")]
"""How often something happens [1/s]."""
Lifetime = Annotated[float, Quantity("lifetime")]
"""How long something is used [s]."""
PriceRate = Annotated[float, Quantity("price")]
"""A price over time [USD/s]."""
Money = Annotated[float, Quantity("sum of money")]
"""A sum of money [USD]."""
EnergyPrice = Annotated[float, Quantity("energy price")]
"""A price of energy [USD/J]."""
CarbonIntensity = Annotated[float, Quantity("carbon intensity")]
"""Emissions of energy [kgCO2e/J]."""
