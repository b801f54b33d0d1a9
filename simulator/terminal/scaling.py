"""How a run scales as a table for a terminal, and as rows for a spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.renting.scaling import Scaling
from simulator.renting.sweeping import Refused
from simulator.terminal.search import plan_words, reason_words

_FIELDS = ("dp", "tp", "pp", "cp", "ep", "virtual_stages", "schedule", "micro_batch", "sharding", "recompute")
_WIDE = 110
"""Columns from which a line has room for a plan."""


def show(found: Scaling) -> None:
    """Print it to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(render(found, wide=console.width >= _WIDE))


def render(found: Scaling, *, wide: bool = True) -> RenderableType:
    """Lay it out: a line for each number of devices, and where efficiency halves.

    Parameters
    ----------
    found
        What there is.
    wide
        Whether each line has room for a plan; else plans are listed below.
    """
    batch = "the same batch" if found.kind == "strong" else "a batch that grows with the devices"
    parts: list[RenderableType] = [Text(f"{found.model} on {found.system}, {batch}", style="bold")]
    parts.append(Text(halved_words(found), style="dim"))
    if not found.whole:
        parts.append(Text("interrupted: only what was found so far", style="bold yellow"))
    if found.points:
        parts.append(Padding(_table(found, wide=wide), (1, 0, 0, 0)))
    if found.points and not wide:
        parts.append(Padding(_plans(found), (1, 0, 0, 0)))
    if found.refused:
        parts.append(Padding(_left_out(found.refused), (1, 0, 0, 0)))
    return Group(*parts, "")


def halved_words(found: Scaling) -> str:
    """Where efficiency halves, in a sentence."""
    if not found.points or found.reference is None:
        return "no number of devices has a plan"
    most, last = f"each device does most on {found.reference:,}", found.points[-1]
    if found.halved_at is not None:
        return f"{most}, and less than half of that beyond some {units.digits(found.halved_at, 2)}"
    if last.devices == found.reference:
        return f"{most}, the most that were looked at"
    return f"{most}, and {units.percent(last.efficiency)} of that on {last.devices:,}"


def refused_words(refused: Refused) -> str:
    """Why a number of devices has no plan."""
    return refused.reason if refused.rule is None else reason_words(refused.rule)


def _table(found: Scaling, *, wide: bool) -> Table:
    """One line for each number of devices."""
    table, weak = Table(box=None, padding=(0, 2, 0, 0)), found.kind == "weak"
    for name in ("devices", *(("batch",) if weak else ()), "step", "tokens/s", "efficiency", "MFU"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mostly", no_wrap=True)
    if wide:
        table.add_column("plan", overflow="fold")
    for point in found.points:
        answer = point.estimate
        table.add_row(
            f"{point.devices:,}",
            *((f"{answer.workload['global_batch']:,}",) if weak else ()),
            Text(units.duration(answer.step_time_s), style="cyan"),
            units.count(answer.tokens_per_s),
            units.percent(point.efficiency),
            units.percent(answer.mfu),
            f"{answer.limited_by} {100 * answer.limits[answer.limited_by]:.0f} %",
            *((plan_words(answer),) if wide else ()),
        )
    return table


def _plans(found: Scaling) -> Table:
    """The plans alone."""
    table = Table(title="Plans", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.show_header = False
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for point in found.points:
        table.add_row(f"{point.devices:,}", plan_words(point.estimate))
    return table


def _left_out(refused: Sequence[Refused]) -> Table:
    """Numbers of devices without a plan, by reason."""
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("Left out", style="bold"))
    for reason in dict.fromkeys(map(refused_words, refused)):
        numbers = ", ".join(f"{each.devices:,}" for each in refused if refused_words(each) == reason)
        table.add_row(f"  {numbers}", reason)
    return table


def rows(found: Scaling) -> list[dict[str, Any]]:
    """The points as rows of a table, with the share of every kind of work."""
    kinds = list(dict.fromkeys(kind for point in found.points for kind in point.estimate.limits))
    listing = []
    for point in found.points:
        values = point.to_dict()
        plan, limits, interval = values.pop("plan"), values.pop("limits"), values.pop("interval")
        shares = {f"share_of_{kind.replace(' ', '_')}": limits.get(kind, 0.0) for kind in kinds}
        bounds = {"step_time_low_s": interval["low_s"], "step_time_high_s": interval["high_s"]}
        listing.append({**values, **bounds, **shares, **{name: plan.get(name) for name in _FIELDS}})
    return listing
