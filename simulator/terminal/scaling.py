"""How a run scales as a table for a terminal, and as rows for a spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.estimate import Estimate
from simulator.renting.scaling import Scaling
from simulator.renting.sweeping import Refused
from simulator.terminal.search import plan_words, reason_words, shared_fields, shared_words, software_words

_FIELDS = ("dp", "tp", "pp", "cp", "ep", "virtual_stages", "schedule", "micro_batch", "sharding", "recompute")
_WIDE = 110
"""Columns from which a line has room for a plan."""


def show(scaling: Scaling) -> None:
    """Print it to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(render(scaling, wide=console.width >= _WIDE))


def render(scaling: Scaling, *, wide: bool = True) -> RenderableType:
    """Lay it out: a line for each number of devices, and where efficiency halves.

    Parameters
    ----------
    found
        What there is.
    wide
        Whether each line has room for a plan; else plans are listed below.
    """
    batch = "the same batch" if scaling.kind == "strong" else "a batch that grows with the devices"
    parts: list[RenderableType] = [Text(f"{scaling.model} on {scaling.system}, {batch}", style="bold")]
    answers = [point.estimate for point in scaling.points]
    parts += [Text(shared_words(answers), style="dim")] if answers else []
    parts.append(Text(halved_words(scaling), style="dim"))
    if not scaling.whole:
        parts.append(Text("interrupted: only what was found so far", style="bold yellow"))
    if scaling.points:
        parts.append(Padding(_table(scaling, wide=wide), (1, 0, 0, 0)))
    if scaling.points and not wide:
        parts.append(Padding(_plans(scaling), (1, 0, 0, 0)))
    if scaling.refused:
        parts.append(Padding(_left_out(scaling.refused), (1, 0, 0, 0)))
    return Group(*parts, "")


def halved_words(scaling: Scaling) -> str:
    """Where efficiency halves, in a sentence."""
    if not scaling.points or scaling.reference is None:
        return "no number of devices has a plan"
    most, last = f"each device does most on {scaling.reference:,}", scaling.points[-1]
    if scaling.halved_at is not None:
        return f"{most}, and less than half of that beyond some {units.digits(scaling.halved_at, 2)}"
    if last.devices == scaling.reference:
        return f"{most}, the most that were looked at"
    return f"{most}, and {units.percent(last.efficiency)} of that on {last.devices:,}"


def refused_words(refused: Refused) -> str:
    """Why a number of devices has no plan."""
    return refused.reason if refused.rule is None else reason_words(refused.rule)


def _table(scaling: Scaling, *, wide: bool) -> Table:
    """One line for each number of devices."""
    table, weak = Table(box=None, padding=(0, 2, 0, 0)), scaling.kind == "weak"
    for name in ("devices", *(("batch",) if weak else ()), "step", "tokens/s", "efficiency", "MFU"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mostly", no_wrap=True)
    if wide:
        table.add_column("plan", overflow="fold")
    for point in scaling.points:
        answer = point.estimate
        table.add_row(
            f"{point.devices:,}",
            *((f"{answer.workload['global_batch']:,}",) if weak else ()),
            Text(units.duration(answer.step_time_s), style="cyan"),
            units.count(answer.tokens_per_s),
            units.percent(point.efficiency),
            units.percent(answer.mfu),
            f"{answer.limited_by} {100 * answer.limits[answer.limited_by]:.0f} %",
            *((_plan_words(point.estimate, scaling),) if wide else ()),
        )
    return table


def _plan_words(answer: Estimate, scaling: Scaling) -> str:
    """A plan, with number format, optimizer and software where other points have other ones."""
    apart = software_words(answer, without=shared_fields([point.estimate for point in scaling.points]))
    return f"{plan_words(answer)}{', ' if apart else ''}{apart}"


def _plans(scaling: Scaling) -> Table:
    """The plans alone."""
    table = Table(title="Plans", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.show_header = False
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for point in scaling.points:
        table.add_row(f"{point.devices:,}", _plan_words(point.estimate, scaling))
    return table


def _left_out(refused: Sequence[Refused]) -> Table:
    """Numbers of devices without a plan, by reason."""
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("Left out", style="bold"))
    for reason in dict.fromkeys(map(refused_words, refused)):
        numbers = ", ".join(f"{each.devices:,}" for each in refused if refused_words(each) == reason)
        table.add_row(f"  {numbers}", reason)
    return table


def rows(scaling: Scaling) -> list[dict[str, Any]]:
    """The points as rows of a table, with the share of every kind of work."""
    kinds = list(dict.fromkeys(kind for point in scaling.points for kind in point.estimate.limits))
    listing = []
    for point in scaling.points:
        values = point.to_dict()
        plan, limits, interval = values.pop("plan"), values.pop("limits"), values.pop("interval")
        shares = {f"share_of_{kind.replace(' ', '_')}": limits.get(kind, 0.0) for kind in kinds}
        bounds = {"step_time_low_s": interval["low_s"], "step_time_high_s": interval["high_s"]}
        listing.append({**values, **bounds, **shares, **{name: plan.get(name) for name in _FIELDS}})
    return listing
