"""Figures of a search: time against memory, the fastest step by two fields, the fields of plans side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from dashboard.content.glossary import words
from dashboard.figures import axes
from dashboard.figures.theme import BAD, BLUE, ORANGE, SCALE, laid_out
from hardware import units
from simulator import Estimate, Search
from simulator.plan_search.table import Cell, Fastest
from simulator.terminal.search import in_words, plan_words

_ROW = 34
"""Pixels of a row of a heat map."""
_LINES = {
    **dict.fromkeys(("dp", "tp", "pp", "cp", "ep", "micro_batch", "virtual_stages"), "number"),
    **dict.fromkeys(("sharding", "recompute", "schedule"), "name"),
}
"""Fields of a plan that are set side by side."""
_APART = 0.06
"""Share of an axis that lies between two of its labels at least."""
_SHORT = {"micro_batch": "mb", "virtual_stages": "v"}
SPENT = {
    "time": ("time of a step", axes.TIME, lambda one: one.step_time_s),
    "cost": ("cost of the run", axes.MONEY, lambda one: one.run.cost_usd),
    "energy": ("energy of the run", axes.ENERGY, lambda one: one.run.energy_kwh),
}
"""What memory is weighed against: its words, its unit, and where an estimate has it."""


def against_memory(search: Search, by: str) -> go.Figure:
    """The best plans and those that no other beats, by what they take and the memory that they need.

    Parameters
    ----------
    search
        What was found.
    by
        A name of `SPENT`.
    """
    title, measure, value = SPENT[by]
    figure = go.Figure()
    for name, plans, look in _groups(search):
        figure.add_scatter(
            name=name,
            x=[value(one) for one in plans],
            y=[one.memory_bytes["total"] for one in plans],
            hovertext=[told(one) for one in plans],
            hoverinfo="text",
            **look,
        )
    every = [*(search.pareto or ()), *search.best]
    sizes = [one.memory_bytes["total"] for one in every]
    capacity = search.room_bytes
    figure.add_hline(
        capacity,
        line_dash="dash",
        line_color=BAD,
        annotation_text=f"may hold {units.size(capacity)}",
        annotation_position="bottom right",
    )
    figure.update_xaxes(axes.logarithmic([value(one) for one in every], measure), title=title)
    figure.update_yaxes(axes.linear([*sizes, capacity], axes.MEMORY, zero=True), title="memory per device")
    figure.update_layout(hovermode="closest", clickmode="event+select")
    return laid_out(figure, height=400, legend=True, bottom=80)


def _groups(search: Search) -> list[tuple[str, Sequence[Estimate], dict[str, Any]]]:
    """The lists of a search with what they look like."""
    front = {
        "mode": "lines+markers",
        "line": {"color": BLUE, "width": 1.5, "shape": "hv"},
        "marker": {"color": BLUE, "size": 9},
    }
    best = {
        "mode": "markers",
        "marker": {"color": ORANGE, "size": 12, "symbol": "diamond-open", "line": {"width": 2}},
    }
    return [
        ("not beaten in both", search.pareto or (), front),
        (f"best by {search.objective}", search.best, best),
    ]


def told(one: Estimate) -> str:
    """A plan in words, for tooltips."""
    interval = f" ({_interval(one)})" if _interval(one) else ""
    cost = f", {units.money(one.run.cost_usd)}" if one.run.cost_usd is not None else ""
    return (
        f"<b>{plan_words(one)}</b><br>{units.duration(one.step_time_s)} per step{interval}<br>"
        f"{units.duration(one.run.time_s)} {'the run' if one.run.of == 'run' else 'per 1B tokens'}{cost}<br>"
        f"{units.size(one.memory_bytes['total'])}, {units.percent(one.mfu)} MFU, {one.limited_by}"
    )


def by_two(fastest: Fastest) -> go.Figure:
    """The fastest step for each pair of values of two fields; light where nothing of it fits."""
    down, across = fastest.by
    cells = {cell.values: cell for cell in fastest.cells}
    grid = [[cells.get((one, other)) for other in fastest.values[1]] for one in fastest.values[0]]
    figure = go.Figure()
    figure.add_heatmap(
        x=[str(value) for value in fastest.values[1]],
        y=[str(value) for value in fastest.values[0]],
        z=[[None if cell is None else cell.step_time_s for cell in row] for row in grid],
        text=[[_written(cell) for cell in row] for row in grid],
        hovertext=[[_cell(cell, fastest.by) for cell in row] for row in grid],
        texttemplate="%{text}",
        hoverinfo="text",
        hoverongaps=False,
        colorscale=SCALE,
        reversescale=True,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    figure.update_xaxes(title=words(across), type="category", showgrid=False)
    figure.update_yaxes(title=words(down), type="category", showgrid=False, autorange="reversed")
    return laid_out(figure, height=max(240, 120 + _ROW * len(fastest.values[0])), bottom=60)


def _written(cell: Cell | None) -> str:
    """What stands in a cell."""
    return "" if cell is None or cell.step_time_s is None else units.duration(cell.step_time_s)


def _cell(cell: Cell | None, by: tuple[str, str]) -> str:
    """A cell in words."""
    if cell is None or cell.step_time_s is None or cell.plan is None or cell.memory_bytes is None:
        return ""
    where = ", ".join(f"{name}={value}" for name, value in zip(by, cell.values, strict=True))
    size = units.size(cell.memory_bytes)
    return f"<b>{where}</b>: {units.duration(cell.step_time_s)}<br>{in_words(cell.plan)}<br>{size}"


def side_by_side(plans: Sequence[Estimate]) -> go.Figure:
    """Each plan as a line over the fields in which plans differ, coloured by its place among them by time."""
    times = [one.step_time_s for one in plans]
    dimensions = [_dimension(name, kind, [one.plan.get(name) for one in plans]) for name, kind in _LINES.items()]
    dimensions.append(_amount("memory", [one.memory_bytes["total"] for one in plans], axes.MEMORY))
    dimensions.append(_amount("step", times, axes.TIME))
    figure = go.Figure()
    order = sorted(times)
    figure.add_parcoords(
        dimensions=[each for each in dimensions if each is not None],
        line={"color": [order.index(time) for time in times], "colorscale": [[0.0, BLUE], [1.0, ORANGE]]},
    )
    laid_out(figure, height=380, bottom=24)
    return figure.update_layout(margin={"l": 40, "r": 40, "t": 84})


def rows(
    listed: Sequence[tuple[Estimate, str]], chance: float | None = None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Plans as a table whose columns are numbers, and how these are written.

    Parameters
    ----------
    listed
        Plans, and the lists in which they stand.
    chance
        With which plans stay below the time that they are ranked by, where that is not the expected one.
    """
    if not listed:
        return [], {}
    first = listed[0][0]
    step, of_step = axes.TIME.unit(first.step_time_s)
    run, of_run = axes.TIME.unit(first.run.time_s)
    table = [
        {
            "step": one.step_time_s / step,
            **_within(one, chance, step),
            "90 % interval": _interval(one),
            "MFU": 100.0 * one.mfu,
            "memory": one.memory_bytes["total"] / 2.0**30,
            "fits": 100.0 * one.fits_probability,
            "run": one.run.time_s / run,
            "cost": one.run.cost_usd,
            "plan": plan_words(one),
            "limited by": one.limited_by,
            "list": lists,
        }
        for one, lists in listed
    ]
    numbers = {"step": of_step, **dict.fromkeys(_within(first, chance, step), of_step)}
    numbers |= {"run": of_run, "memory": "{} GiB"}
    formats = {name: axes.printed(words, [float(row[name] or 0.0) for row in table]) for name, words in numbers.items()}
    return table, {**formats, "MFU": "%.1f %%", "fits": "%.0f %%", "cost": "dollar"}


def _within(one: Estimate, chance: float | None, unit: float) -> dict[str, float | None]:
    """What a plan is ranked by, where that is not its expected time."""
    if chance is None:
        return {}
    within = one.step_time_within(chance)
    return {f"{100 * chance:g} % below": None if within is None else within / unit}


def _interval(one: Estimate) -> str:
    """The interval of a step, where it is known."""
    low, high = one.step_time_low_s, one.step_time_high_s
    return "" if low is None or high is None else units.span(low, high)


def _dimension(name: str, kind: str, values: Sequence[Any]) -> dict[str, Any] | None:
    """A field of plans as an axis; nothing where it is the same in all."""
    if kind == "name":
        listed = sorted(set(map(str, values)))
        places = [listed.index(str(value)) for value in values]
        ticks: Sequence[float] = range(len(listed))
        texts = listed
    else:
        numbers = sorted({int(value or 1) for value in values})
        places = [math.log2(int(value or 1)) for value in values]  # type: ignore[misc]
        apart = _APART * math.log2(numbers[-1] / numbers[0])
        told = [n for n, before in zip(numbers, [0.5, *numbers], strict=False) if math.log2(n / before) >= apart]
        ticks, texts = [math.log2(number) for number in told], [f"{number:,}" for number in told]
    if len(set(places)) < 2:
        return None
    return {"label": _SHORT.get(name, name), "values": places, "tickvals": list(ticks), "ticktext": texts}


def _amount(label: str, values: Sequence[float], measure: axes.Measure) -> dict[str, Any]:
    """Something measured as a logarithmic axis."""
    axis: Any = axes.logarithmic(values, measure, room=0.0)
    return {
        "label": label,
        "values": [math.log10(value) for value in values],
        "range": axis["range"],
        "tickvals": [math.log10(tick) for tick in axis["tickvals"]],
        "ticktext": axis["ticktext"],
    }
