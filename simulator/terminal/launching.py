"""What was read from a launch file and what one does not say, for a terminal; and a scenario file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hardware.writing import yaml_text
from simulator.launch.record import LaunchFile, WrittenLaunch


def print_read(launched: LaunchFile) -> None:
    """Print what a launch file says: read, assumed and ignored."""
    _print(Text(f"{launched.path}, of {launched.framework}", style="bold"))
    for name, lines in (("Read", launched.read), ("Assumed", launched.assumed), ("Ignored", launched.ignored)):
        if lines:
            _print(_block(name, lines))


def print_written(made: WrittenLaunch, output: str) -> None:
    """Print how to start what was written, and what it does not say."""
    where = f" {made.where}" if made.where else ""
    _print(Text(f"{output}: written for {made.framework}; start it{where}:"))
    _print(Text(f"  {made.command}"), whole=True)
    if not made.fits:
        _print(Text("The plan does not fit in memory; capsim estimate says what would make it fit.", style="bold"))
    if made.unsaid:
        _print(_block("Not said", made.unsaid, apart=True))


def _block(name: str, lines: Sequence[str], *, apart: bool = False) -> RenderableType:
    """A name, and beside it its lines: one after the other, or each in a line of its own."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=8)
    table.add_column()
    for index, line in enumerate(lines if apart else [", ".join(lines)]):
        table.add_row("" if index else name, Text(line))
    return table


def _print(part: RenderableType, *, whole: bool = False) -> None:
    """Print a part; a line that is to be copied is whole, however long."""
    Console(highlight=False, markup=False, emoji=False).print(part, soft_wrap=whole)


def _headline(model: Any, system: str | None) -> str:
    """A model, and what it runs on where somebody says."""
    name = model.get("id", "a model") if isinstance(model, Mapping) else str(model)
    return name if system is None else f"{name} on {system}"


def scenario_text(launched: LaunchFile, system: str | None, devices: int | None = None) -> str:
    """A scenario file, with what was read, assumed and ignored as comments.

    Parameters
    ----------
    launched
        What a launch file says.
    system
        What it runs on; left open where nobody says.
    devices
        Devices of the run, in the place of those that the file says.
    """
    document = launched.document(devices)
    ordered = {
        "title": f"{_headline(document['model'], system)}, from {launched.path} of {launched.framework}",
        "model": document["model"],
        **({"system": system} if system is not None else {}),
        **{name: value for name, value in document.items() if name != "model"},
    }
    comments = [f"# Read from {launched.path}, a launch file of {launched.framework}."]
    if system is None:
        comments.append("# It names no system: add one, such as system: dgx-h100, or use --system.")
    for name, lines in (("Assumed", launched.assumed), ("Ignored", launched.ignored)):
        comments += [f"# {name}: {line}" for line in lines]
    plain = "".join(f"{''.join(c if c.isprintable() else ' ' for c in line)}\n" for line in comments)
    return plain + yaml_text(ordered)
