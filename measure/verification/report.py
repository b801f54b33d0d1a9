"""A verification as a table for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from measure.verification.rows import Row, Verification

_STYLES = {"equal": "green", "differs": "bold red", "not counted": "yellow"}
_DEGREES = ("dp", "tp", "pp", "virtual_stages", "cp", "ep")


def show(verification: Verification, *, title: str | None = None) -> None:
    """Print a verification to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(render(verification, title=title, width=console.width))


def render(verification: Verification, *, title: str | None = None, width: int = 80) -> RenderableType:
    """Lay a verification out: each quantity in its group, then notes, then the sum.

    Parameters
    ----------
    found
        What was counted.
    title
        In the place of model and system.
    width
        Characters of a line.
    """
    devices = f"{verification.devices:,} device{'s' if verification.devices > 1 else ''}"
    head = Text(title or f"{verification.model} on {verification.system}, {devices}", style="bold")
    parts: list[RenderableType] = [head, Text(_split(verification), style="dim")]
    notes = list(dict.fromkeys(words for one in verification.rows if (words := one.reason or one.note) is not None))
    cells = [_cells(one, notes) for one in verification.rows]
    widths = [max(len(cell.plain) for cell in column) for column in zip(*cells, _header(), strict=True)]
    widths[0] = min(widths[0], width - sum(widths[1:]) - 2 * (len(widths) - 1))
    groups = {
        one.group: [cell for cell, other in zip(cells, verification.rows, strict=True) if other.group == one.group]
        for one in verification.rows
    }
    parts += ["", _table([_header()], widths)]
    for name, rows in groups.items():
        parts += [Text(name, style="bold"), _table(rows, widths)]
    if notes:
        parts.append(Padding(_listed({f"[{index}]": words for index, words in enumerate(notes, 1)}), (1, 0, 0, 0)))
    parts += [Padding(_listed({"Assumed": line}), (0, 0, 0, 0)) for line in verification.assumed]
    return Group(*parts, "", Text(_sum(verification), style="bold"), "")


def _split(verification: Verification) -> str:
    """The plan in one line."""
    plan, work = verification.plan, verification.workload
    degrees = " ".join(f"{name}={plan[name]}" for name in _DEGREES if plan.get(name, 1) > 1) or "dp=1"
    shares = ", sequence parallel" if plan.get("sequence_parallel") else ""
    target = f" + {work['target_length']}" if "target_length" in work else ""
    return (
        f"{degrees}{shares}, micro-batch {plan['micro_batch']}, sharding {plan['sharding']}, "
        f"recompute {plan['recompute']}, {plan['precision']}, {plan['optimizer']}, stack {verification.stack}; "
        f"batch {work['global_batch']:,} x {work['sequence_length']:,}{target} tokens"
    )


def _header() -> list[Text]:
    """Names of the columns."""
    return [Text(name, style="bold") for name in ("", "formula", "torch", "")]


def _cells(one: Row, notes: list[str]) -> list[Text]:
    """A quantity, with the number of its note."""
    words = one.reason or one.note
    mark = f" [{notes.index(words) + 1}]" if words is not None else ""
    counted = "-" if one.torch is None else _digits(one.torch)
    unit = f" [{one.unit}]" if one.unit in ("B", "FLOP") else ""
    quantity = Text(f"  {one.quantity}{unit}")
    return [quantity, Text(_digits(one.formula)), Text(counted), Text(_verdict(one) + mark, _STYLES[one.verdict])]


def _table(rows: list[list[Text]], widths: list[int]) -> Table:
    """Lines whose columns are as wide as those of the other groups."""
    table = Table.grid(padding=(0, 2))
    for index, width in enumerate(widths):
        table.add_column(width=width, justify="right" if index in (1, 2) else "left")
    for cells in rows:
        table.add_row(*cells)
    return table


def _digits(value: float) -> str:
    """A number in full where it has few digits, else in four."""
    if value.is_integer():
        return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.8g}"
    return f"{value:,.3f}"


def _verdict(one: Row) -> str:
    """Equal or not, and by how much."""
    if one.verdict != "differs":
        return one.verdict
    return "differs" if one.error is None else f"differs {100 * one.error:+.2g} %"


def _listed(lines: dict[str, str]) -> Table:
    """Lines with what stands before them."""
    table = Table.grid(padding=(0, 2))
    for mark, words in lines.items():
        table.add_row(Text(mark, style="bold"), Text(words))
    return table


def _sum(verification: Verification) -> str:
    """How many rows came out how."""
    equal, differ, left = (verification.number(verdict) for verdict in ("equal", "differs", "not counted"))
    return (
        f"{equal} equal, {differ} differ{'s' if differ == 1 else ''}, {left} not counted; "
        f"torch {verification.torch_version}, {verification.time_s:.1f} s"
    )
