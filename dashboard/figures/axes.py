"""Axes whose ticks are round numbers in units that people use: times, money, energy, memory, devices; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MOST = 6
"""Ticks of an axis at most, so that they do not touch on a narrow screen."""
_FEW = 3
"""Ticks that an axis needs to be read."""
_NARROW = 0.05
"""No logarithmic axis is narrower [decades]."""
_DAY, _YEAR = 86400.0, 365.25 * 86400.0


@dataclass(frozen=True)
class Measure:
    """What an axis measures: the units that its values are written in, the smallest first."""

    units: tuple[tuple[float, str], ...]
    marks: tuple[float, ...] = ()
    """Round values for logarithmic axes, where powers of ten are none."""

    def text(self, value: float) -> str:
        """A round value in the unit that suits it."""
        if value == 0:
            return "0"
        scale, words = self.unit(value)
        return words.format(f"{value / scale:,.4g}")

    def unit(self, value: float) -> tuple[float, str]:
        """The unit that suits a value: how much it is, and how numbers of it are written, such as ``{} ms``."""
        return next((each for each in reversed(self.units) if abs(value) >= 0.9999 * each[0]), self.units[0])


TIME = Measure(
    (
        *((1e-6, "{} us"), (1e-3, "{} ms"), (1.0, "{} s"), (60.0, "{} min")),
        *((3600.0, "{} h"), (_DAY, "{} d"), (_YEAR, "{} y")),
    ),
    (
        *(digit * 10.0**power for power in range(-6, 1) for digit in (1.0, 2.0, 5.0)),
        *(10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 10800.0, 21600.0, 43200.0),
        *(_DAY * days for days in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)),
        *(_YEAR * years for years in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1e3, 1e4)),
    ),
)  # fmt: skip
MONEY = Measure(((1.0, "${}"), (1e3, "${}k"), (1e6, "${}M"), (1e9, "${}B")))
ENERGY = Measure(((1e-3, "{} Wh"), (1.0, "{} kWh"), (1e3, "{} MWh"), (1e6, "{} GWh")))
"""Of kilowatt hours."""
MEMORY = Measure(
    ((2.0**10, "{} KiB"), (2.0**20, "{} MiB"), (2.0**30, "{} GiB"), (2.0**40, "{} TiB")),
    tuple(2.0**power for power in range(10, 50)),
)
COUNT = Measure(((1.0, "{}"), (1e3, "{}k"), (1e6, "{}M"), (1e9, "{}B"), (1e12, "{}T")))


def linear(values: Iterable[float], measure: Measure, *, room: float = 0.06, zero: bool = False) -> dict[str, object]:
    """An axis that holds some values, with round ticks.

    Parameters
    ----------
    values
        One at least.
    measure
        What they are.
    room
        Share of the axis that stays free on either side.
    zero
        Whether it begins at zero.
    """
    low, high = _ends(values)
    low = 0.0 if zero else low
    wide = (high - low) or abs(high) or 1.0
    low, high = (0.0 if zero else max(0.0, low - room * wide)), high + room * wide
    ticks = _round_between(low, high, measure)
    return {"range": [low, high], "tickvals": ticks, "ticktext": [measure.text(tick) for tick in ticks]}


def logarithmic(values: Iterable[float], measure: Measure, *, room: float = 0.06) -> dict[str, object]:
    """A logarithmic axis that holds some values, with round ticks.

    Parameters
    ----------
    values
        One at least, all of them positive.
    measure
        What they are.
    room
        Share of the axis that stays free on either side.
    """
    low, high = (math.log10(end) for end in _ends(values))
    room = max(room * max(high - low, _NARROW), (_NARROW - (high - low)) / 2.0)
    low, high = low - room, high + room
    powers = range(math.floor(low), math.ceil(high) + 1)
    decades, thirds = ([digit * 10.0**power for power in powers for digit in digits] for digits in ((1,), (1, 2, 5)))
    for marks in (measure.marks,) if measure.marks else (decades, thirds):
        ticks = _thin([mark for mark in marks if low <= math.log10(mark) <= high])
        if len(ticks) >= _FEW:
            break
    else:  # so narrow that a linear axis has rounder ones
        ticks = _round_between(10.0**low, 10.0**high, measure)
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [measure.text(tick) for tick in ticks],
    }


def doubling(counts: Sequence[int]) -> dict[str, object]:
    """A logarithmic axis of numbers such as 8, 16, 32, with some of them as ticks, the greatest among them."""
    low, high = math.log10(min(counts)), math.log10(max(counts))
    room = 0.04 * max(high - low, 0.3)
    ticks = _thin(sorted(counts, reverse=True))[::-1]
    return {
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
    }


def _round_between(low: float, high: float, measure: Measure) -> list[float]:
    """Round values between two others, equally far from each other."""
    scale = measure.unit(high)[0]
    step = scale * _step((high - low) / scale / (_MOST - 1))
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ends(values: Iterable[float]) -> tuple[float, float]:
    """The least and the greatest."""
    listed = list(values)
    return min(listed), max(listed)


def _step(least: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1.0, 2.0, 5.0, 10.0) if power * digit >= 0.9999 * least)


def _thin(ticks: Sequence[float]) -> list[float]:
    """Every tick, or every second, third, ... where there are too many."""
    return list(ticks[:: math.ceil(len(ticks) / _MOST)]) if ticks else []


def printed(words: str, values: Iterable[float]) -> str:
    """How a column of a table prints numbers: with as many decimals as give its least three digits, but few.

    Parameters
    ----------
    words
        A unit, such as ``{} ms``.
    values
        The numbers, one at least.

    Examples
    --------
    >>> printed("{} ms", [347.7, 412.0]), printed("{} GiB", [9.31, 47.2])
    ('%.0f ms', '%.2f GiB')
    """
    least = max(_ends(map(abs, values))[0], 1e-2)
    decimals = min(max(2 - math.floor(math.log10(least)), 0), 2)
    return words.replace("{}", f"%.{decimals}f")
