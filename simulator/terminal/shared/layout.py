"""What tables of answers share: grids, bars of parts, and lists of sentences."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from hardware import units

_BAR = 24
"""Characters of the longest bar."""


def grid() -> Table:
    """A table without lines."""
    return Table.grid(padding=(0, 2))


def bars(title: str, values: dict[str, float], whole: float, show: Callable[[float], str]) -> Table:
    """A table of parts with bars, longest first; what is less than a two-thousandth of the whole is left out."""
    table = grid()
    table.add_row(Text(title, style="bold"))
    longest = max(values.values(), default=0.0)
    for name, value in sorted(values.items(), key=lambda item: -item[1]):
        if value < 0.0005 * whole:
            continue
        bar = "█" * max(round(_BAR * value / longest), 1)
        words = f"  {name.replace('_', ' ')}"
        table.add_row(words, Text(show(value), justify="right"), units.percent(value / whole), bar)
    return table


def sentences(name: str, lines: tuple[str, ...]) -> Table:
    """A list of sentences, each behind what they are."""
    table = grid()
    for line in lines:
        table.add_row(Text(name, style="bold yellow" if name == "Warning" else "bold"), Text(line))
    return table
