"""Numbers as people read them: sensible digits and units."""

from __future__ import annotations

_TIMES = ((86400.0 * 365.25, "years"), (86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
_LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def digits(value: float, significant: int = 3) -> str:
    """Round to significant digits, without an exponent, with separated thousands.

    >>> digits(0.28168), digits(1234567), digits(99.96), digits(0.99988)
    ('0.282', '1,234,567', '100', '1.00')
    """
    rounded = float(f"{value:.{significant}g}")
    if rounded == 0:
        return "0"
    if abs(rounded) < 1:
        return f"{rounded:.10f}".rstrip("0")
    return f"{value:,.{max(significant - len(str(int(abs(rounded)))), 0)}f}"


def duration(seconds: float) -> str:
    """Write a duration in the unit that suits it.

    >>> duration(17.6), duration(3056556.7), duration(0.28168)
    ('17.6 s', '35.4 days', '282 ms')
    """
    if seconds >= 2 * _TIMES[0][0]:
        return f"{digits(seconds / _TIMES[0][0])} years"
    unit, name = next(((unit, name) for unit, name in _TIMES[1:] if seconds >= unit * 0.9995), (1e-6, "us"))
    return f"{digits(seconds / unit)} {name}"


def span(shortest: float, longest: float) -> str:
    """Write two durations, with one unit where they share it.

    >>> span(4.78, 11.9), span(0.9, 1.4)
    ('4.78 to 11.9 s', '900 ms to 1.40 s')
    """
    low, high = duration(shortest), duration(longest)
    (number, unit), (_, other) = low.rsplit(" ", 1), high.rsplit(" ", 1)
    return f"{number} to {high}" if unit == other else f"{low} to {high}"


def sizes(least: float, most: float) -> str:
    """Write two sizes, with one unit where they share it.

    >>> sizes(62e9, 80e9), sizes(0.5 * 2**30, 3 * 2**30)
    ('57.7 to 74.5 GiB', '512 MiB to 3.00 GiB')
    """
    low, high = size(least), size(most)
    (number, unit), (_, other) = low.rsplit(" ", 1), high.rsplit(" ", 1)
    return f"{number} to {high}" if unit == other else f"{low} to {high}"


def count(number: float) -> str:
    """Write a large count: parameters, tokens, steps.

    >>> count(540356474880), count(185967), count(512)
    ('540B', '186k', '512')
    """
    for scale, name in _LARGE:
        if number >= scale * 0.9995:
            return f"{digits(number / scale)}{name}"
    return digits(number)


def plural(number: float, noun: str, many: str = "") -> str:
    """Write a number of things, with the noun in the plural unless there is exactly one.

    >>> plural(1, "device"), plural(1024, "device"), plural(2, "entry", "entries")
    ('1 device', '1,024 devices', '2 entries')
    """
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"


def size(number: float) -> str:
    """Write a memory size.

    >>> size(85198045184)
    '79.3 GiB'
    """
    for scale, name in _BINARY:
        if number >= scale:
            return f"{digits(number / scale)} {name}"
    return f"{digits(number)} B"


def money(dollars: float) -> str:
    """Write an amount of money.

    >>> money(16797205.5), money(41234), money(870.06)
    ('$16.8M', '$41.2k', '$870')
    """
    if dollars >= 1e4:
        return f"${count(dollars)}"
    return f"${dollars:,.2f}" if dollars < 100 else f"${dollars:,.0f}"


def energy(kilowatt_hours: float) -> str:
    """Write an amount of energy.

    >>> energy(1201887.0), energy(610.3)
    ('1.20 GWh', '610 kWh')
    """
    for scale, name in ((1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh")):
        if kilowatt_hours >= scale:
            return f"{digits(kilowatt_hours / scale)} {name}"
    return f"{digits(kilowatt_hours * 1e3)} Wh"


def mass(kilograms: float) -> str:
    """Write a mass of emissions.

    >>> mass(570896.3), mass(289.9)
    ('571 t', '290 kg')
    """
    return f"{digits(kilograms / 1e3)} t" if kilograms >= 1e3 else f"{digits(kilograms)} kg"


def chance(share: float) -> str:
    """Write a probability; none is certain, and none is rounded up to a round figure that it does not reach.

    >>> chance(0.834), chance(0.0), chance(0.999)
    ('83 %', '<1 %', '>99 %')
    >>> chance(0.796), chance(0.7999), chance(0.804)
    ('79.6 %', '79.9 %', '80 %')
    """
    if not 0.005 <= share <= 0.995:
        return "<1 %" if share < 0.005 else ">99 %"
    whole = round(100 * share)
    if whole % 5 == 0 and 100 * share < whole - 1e-6:  # people ask for 80, 90 or 95 %
        return f"{int(1000 * share) / 10:.1f} %"
    return f"{whole} %"


def percent(share: float) -> str:
    """Write a share.

    >>> percent(0.4951), percent(0.0004)
    ('49.5 %', '0.0 %')
    """
    return f"{100 * share:.1f} %"
