"""Figures of what could be rented: time against money, and how long the options that suit may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from dashboard.figures import axes
from dashboard.figures.theme import BAD, BLUE, GREEN, GREY, ORANGE, PURPLE, laid_out
from hardware import units
from simulator import Option, Outlook
from simulator.terminal.search import plan_words

_POINTS = 200
"""Of a curve of chances."""
_ENDLESS = float("inf")


class OptionGroup(NamedTuple):
    """Options that look alike in a figure."""

    name: str
    options: tuple[Option, ...]
    look: dict[str, Any]


def groups(outlook: Outlook) -> list[OptionGroup]:
    """Options with a price by what they are worth, as they are drawn; those on top last."""
    known = [option for option in outlook.options if option.cost_usd < _ENDLESS and option.time_s < _ENDLESS]
    kept = [option for option in known if outlook.keeps(option)]
    other = [option for option in known if not outlook.keeps(option)]
    listed = [
        OptionGroup("misses a limit", tuple(other), _marks(GREY, "x-thin-open", 6)),
        OptionGroup("within the limits", tuple(kept), _marks(GREEN, "circle", 7)),
        OptionGroup(
            "not beaten in both",
            outlook.front,
            {
                "mode": "lines+markers",
                "line": {"color": BLUE, "width": 1.5, "shape": "hv"},
                "marker": {"color": BLUE, "size": 10, "symbol": "circle-open", "line": {"width": 2}},
            },
        ),
    ]
    for name, option, colour, symbol in (
        ("cheapest in time", outlook.cheapest, ORANGE, "star"),
        ("fastest in the budget", outlook.fastest, PURPLE, "triangle-up"),
    ):
        if option is not None and option.cost_usd < _ENDLESS:
            listed.append(OptionGroup(name, (option,), _marks(colour, symbol, 16)))
    return [group for group in listed if group.options]


def _marks(colour: str, symbol: str, size: int) -> dict[str, Any]:
    """Points."""
    return {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": size}}


def time_against_money(outlook: Outlook) -> go.Figure:
    """Every option by how long the run is expected to take and to cost, and the limits."""
    figure, shown = go.Figure(), groups(outlook)
    for group in shown:
        figure.add_scatter(
            name=group.name,
            x=[option.time_s for option in group.options],
            y=[option.cost_usd for option in group.options],
            hovertext=[told(option, outlook) for option in group.options],
            hoverinfo="text",
            **group.look,
        )
    times = [option.time_s for group in shown for option in group.options]
    costs = [option.cost_usd for group in shown for option in group.options]
    if outlook.deadline_s is not None:
        figure.add_vline(outlook.deadline_s, line_dash="dash", line_color=BAD)
    if outlook.budget_usd is not None:
        figure.add_hline(outlook.budget_usd, line_dash="dash", line_color=BAD)
    figure.update_xaxes(axes.logarithmic(times, axes.TIME), title="expected time")
    figure.update_yaxes(axes.logarithmic(costs, axes.MONEY), title="expected cost")
    figure.update_layout(hovermode="closest", clickmode="event+select")
    return laid_out(figure, height=460, legend=True, bottom=100)


def told(option: Option, outlook: Outlook) -> str:
    """An option in words, for tooltips."""
    run, chances = option.estimate.run, outlook.chances(option)
    names = {"chance_of_deadline": "in time", "chance_of_budget": "within the budget"}
    sure = ", ".join(f"{chance(value)} {names[name]}" for name, value in chances.items())
    return (
        f"<b>{option.devices:,} x {option.system}</b><br>{took(option)}, {cost(option)}, "
        f"{units.percent(run.goodput)} goodput<br>"
        f"{f'chance {sure}<br>' if sure else ''}{plan_words(option.estimate)}"
    )


def took(option: Option) -> str:
    """The expected time in words."""
    return units.duration(option.time_s) if option.time_s < _ENDLESS else "never ends"


def cost(option: Option) -> str:
    """The expected cost in words."""
    return units.money(option.cost_usd) if option.cost_usd < _ENDLESS else "cost not known"


def chance(value: float | None) -> str:
    """A probability; what lies beyond the shares that the evidence can tell is not certain."""
    if value is None:
        return "?"
    return {0.0: "<1 %", 1.0: ">99 %"}.get(value, f"{100 * value:.0f} %")


def chances(outlook: Outlook, options: Sequence[tuple[str, Option]]) -> go.Figure:
    """How likely options are to be done by when.

    Parameters
    ----------
    outlook
        Has the deadline.
    options
        Those to show, by what they are.
    """
    figure, ends = go.Figure(), [] if outlook.deadline_s is None else [outlook.deadline_s]
    looks = ((ORANGE, "solid"), (PURPLE, "dot"))
    for (name, option), (colour, dash) in zip(options, looks, strict=False):
        low, high = (option.time_s * option.factor(share) for share in (0.01, 0.99))
        times = np.linspace(0.9 * low, 1.05 * high, _POINTS)
        ends += [float(times[0]), float(times[-1])]
        told = f"<b>{option.devices:,} x {option.system}</b><br>"
        figure.add_scatter(
            name=name,
            x=times,
            y=[100.0 * option.chance(float(time)) for time in times],
            mode="lines",
            line={"color": colour, "dash": dash, "width": 2.5},
            hovertext=[
                f"{told}done within {units.duration(float(time))}: {chance(option.chance(float(time)))}"
                for time in times
            ],
            hoverinfo="text",
        )
    if outlook.deadline_s is not None:
        figure.add_vline(outlook.deadline_s, line_dash="dash", line_color=BAD)
    figure.add_hline(100.0 * outlook.confidence, line_dash="dash", line_color=GREY)
    figure.update_xaxes(axes.logarithmic(ends, axes.TIME), title="time from the start")
    figure.update_yaxes(title="chance to be done", range=[0.0, 103.0], ticksuffix=" %")
    return laid_out(figure, height=460, legend=True, bottom=100)


def rows(outlook: Outlook, options: Sequence[Option]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Options as a table whose columns are numbers, and how these are written."""
    times = [option.time_s for option in options if option.time_s < _ENDLESS]
    if not times:
        return [], {}
    scale, of_time = axes.TIME.unit(min(times))
    table = []
    for option in options:
        run, sure = option.estimate.run, outlook.chances(option)
        table.append(
            {
                "system": option.system,
                "devices": option.devices,
                "time": option.time_s / scale if option.time_s < _ENDLESS else None,
                "cost": option.cost_usd if option.cost_usd < _ENDLESS else None,
                **{name.removeprefix("chance_of_"): chance(value) for name, value in sure.items()},
                "goodput": 100.0 * run.goodput,
                "failures": run.failures,
                "CO2e": option.co2_kg / 1e3 if option.time_s < _ENDLESS else None,
                "MFU": 100.0 * option.estimate.mfu,
                "fits": 100.0 * option.estimate.fits_probability,
                "plan": plan_words(option.estimate),
            }
        )
    formats = {"devices": "localized", "time": axes.printed(of_time, [time / scale for time in times])}
    percents = dict.fromkeys(("goodput", "MFU"), "%.1f %%")
    return table, {**formats, **percents, "fits": "%.0f %%", "cost": "dollar", "failures": "%.1f", "CO2e": "%.2f t"}
