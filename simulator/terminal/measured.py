"""A predicted step beside a measured one, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.replay.measured.comparison import KindComparison, StepComparison
from simulator.replay.measured.exchanges import Exchange
from simulator.replay.measured.kinds import names
from simulator.replay.measured.touched import in_words

_TOLD = 0.01
"""Share of the measured step from which a difference has its constants told."""
_MOST_TOLD = 4
_MOST_EXCHANGES = 8
_NOT_NAMED = 0.005
"""Share of the measured step from which it is told what no rule names."""


def print_comparison(comparison: StepComparison, *, title: str | None = None) -> None:
    """Print it to the terminal."""
    Console(highlight=False, markup=False, emoji=False).print(render(comparison, title=title))


def render(comparison: StepComparison, *, title: str | None = None) -> RenderableType:
    """Lay it out: time by kind, collectives by size, and the constants behind what differs most."""
    step, scenario = comparison.measured, comparison.scenario
    name = title or f"{scenario.model.id} on {scenario.system.id}, {units.plural(scenario.devices, 'device')}"
    among = f", {step.name} of {units.plural(len(step.steps), 'step')}" if len(step.steps) > 1 else f", {step.name}"
    parts: list[RenderableType] = [
        Text(f"{name}, beside {step.trace}", style="bold"),
        Text(f"measured on {step.device}{among}; {_verdict(comparison)}", style="dim"),
        Padding(_kinds(comparison), (1, 0, 0, 0)),
    ]
    if comparison.exchanges or step.exchanges:
        parts.append(Padding(_exchanges(comparison), (1, 0, 0, 0)))
        parts.append(Text(_hidden(comparison), style="dim"))
    parts += [Padding(each, (1, 0, 0, 0)) for each in (_constants(comparison), _not_named(comparison)) if each]
    parts += [Padding(Text(f"Note: {note}", style="yellow"), (1, 0, 0, 0)) for note in comparison.notes]
    return Group(*parts, "")


def _verdict(comparison: StepComparison) -> str:
    """The whole step in words."""
    predicted, measured = comparison.step_time, comparison.measured.duration
    error = f" ({100.0 * (comparison.ratio - 1.0):+.1f} %)" if 0.1 < comparison.ratio < 10.0 else ""
    return f"predicted {units.duration(predicted)}, measured {units.duration(measured)}{error}"


def _kinds(comparison: StepComparison) -> Table:
    """One row for each kind of time, the largest differences first."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("time of the step", no_wrap=True)
    for name in ("predicted", "share", "measured", "share", "difference", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row, comparison))
    table.add_row(
        "step",
        units.duration(comparison.step_time),
        "",
        units.duration(comparison.measured.duration),
        "",
        _signed(comparison.step_time - comparison.measured.duration),
        _ratio(comparison.ratio),
        style="bold",
    )
    return table


def _cells(row: KindComparison, comparison: StepComparison) -> Iterator[str]:
    """One kind: its name, its times with their shares of the step, and how they differ."""
    yield row.kind.label
    for seconds, whole in (
        (row.predicted.seconds, comparison.step_time),
        (row.measured.seconds, comparison.measured.duration),
    ):
        yield units.duration(seconds) if seconds else "-"
        yield units.percent(seconds / whole) if seconds else ""
    yield _signed(row.difference)
    yield _ratio(row.ratio) if row.predicted.seconds else ""


def _signed(seconds: float) -> str:
    """A difference of times."""
    return f"{'+' if seconds >= 0 else '-'}{units.duration(abs(seconds))}" if seconds else "-"


def _ratio(ratio: float | None) -> str:
    """Predicted over measured time."""
    return "" if ratio is None else f"{ratio:.2f}" if ratio < 100 else ">100"


def _exchanges(comparison: StepComparison) -> Table:
    """Collectives by kind and size, predicted and measured."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("exchanges", no_wrap=True)
    for name in ("message", "ranks", "calls", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for words, rows in (("predicted", comparison.exchanges), ("measured", comparison.measured.exchanges)):
        for row in rows[:_MOST_EXCHANGES]:
            table.add_row(f"{words} {names().kinds[row.kind].label}", *_of_exchange(row))
        if len(rows) > _MOST_EXCHANGES:
            seconds = sum(row.seconds for row in rows[_MOST_EXCHANGES:])
            calls = sum(row.calls for row in rows[_MOST_EXCHANGES:])
            table.add_row(f"{words}, other sizes", "", "", f"{calls:,.0f}", units.duration(seconds))
    return table


def _hidden(comparison: StepComparison) -> str:
    """How much of exchanges and copies runs beside compute."""
    said = []
    for name in ("predicted", "measured"):
        times = [getattr(row, name) for row in comparison.rows if row.kind.is_link]
        busy, shown = sum(each.busy for each in times), sum(each.seconds for each in times)
        if busy > 0.0:
            said.append(f"{name} {units.duration(max(busy - shown, 0.0))} of {units.duration(busy)}")
    return f"hidden beside compute: {', '.join(said)}"


def _of_exchange(row: Exchange) -> Sequence[str]:
    """Size, ranks, calls and time of collectives."""
    message = "not said" if row.message_bytes is None else units.size(row.message_bytes)
    ranks = "" if row.ranks is None else f"{row.ranks:,.0f}"
    return message, ranks, f"{row.calls:,.0f}", units.duration(row.seconds)


def _constants(comparison: StepComparison) -> Table | None:
    """The constants that the largest differences touch."""
    least = _TOLD * comparison.measured.duration
    rows = [row for row in comparison.rows if abs(row.difference) >= least and row.constants][:_MOST_TOLD]
    if not rows:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("what differs most", no_wrap=True)
    table.add_column("rests on", overflow="fold")
    for row in rows:
        table.add_row(row.kind.label, in_words(row.constants))
    return table


def _not_named(comparison: StepComparison) -> Text | None:
    """What others are, where they are many."""
    step = comparison.measured
    if sum(seconds for _, seconds in step.unnamed) < _NOT_NAMED * step.duration:
        return None
    told = ", ".join(f"{name[:60]} {units.duration(seconds)}" for name, seconds in step.unnamed[:_MOST_TOLD])
    return Text(f"Others are {told}", style="dim")
