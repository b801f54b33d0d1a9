"""Figures of several scenarios side by side: what each takes, with its interval, and where its step goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dashboard.figures.theme import BAD, BLUE, GREY, OF_KIND, folded, laid_out
from hardware import units
from simulator import Estimate
from simulator.terminal.estimate import of_run

_ROW = 34
"""Pixels of one bar with what is around it."""
_LETTER = 0.036
"""Share of an axis that a letter beside a bar takes on a narrow screen."""

Named = Sequence[tuple[str, Estimate]]


@dataclass(frozen=True)
class Amount:
    """What one scenario takes of something."""

    label: str
    value: float
    text: str
    limits: tuple[float, float] | None = None
    fits: bool = True
    more: str = ""
    """What is said besides where the bar is pointed at."""


def times(rows: Named) -> go.Figure:
    """How long each run takes, with its interval."""
    return _bars([_amount(label, each, each.run.time_s, units.duration, whole=True) for label, each in rows])


def costs(rows: Named) -> go.Figure:
    """What each run costs, with its interval; nothing where no price is known."""
    return _bars(
        [
            Amount(label, 0.0, "no price", fits=each.fits)
            if each.run.cost_usd is None
            else _amount(label, each, each.run.cost_usd, units.money, whole=True)
            for label, each in rows
        ]
    )


def energies(rows: Named) -> go.Figure:
    """What each run consumes, with its interval."""
    return _bars([_amount(label, each, each.run.energy_kwh, units.energy, whole=True) for label, each in rows])


def memories(rows: Named) -> go.Figure:
    """Memory that each scenario needs on a device, beside what the device has."""
    amounts, limits = [], []
    for label, each in rows:
        total, capacity = each.memory_bytes["total"], each.memory_bytes["capacity"]
        amounts.append(Amount(label, total, units.size(total), fits=each.fits, more=f" of {units.size(capacity)}"))
        limits.append(capacity)
    return _bars(amounts, ends=limits)


def _amount(
    label: str, estimate: Estimate, value: float, write: Callable[[float], str], *, whole: bool = False
) -> Amount:
    """Something that grows with the time of a step; of the whole run, or of a step."""
    words = of_run(estimate.run, write(value)) if whole else write(value)
    return Amount(label, value, words, estimate.likely(value), estimate.fits)


def _bars(rows: Sequence[Amount], ends: Sequence[float] | None = None) -> go.Figure:
    """One bar for each scenario from the top, its value beside it; hatched where the model does not fit.

    Parameters
    ----------
    rows
        What to draw.
    ends
        How far each bar may reach, drawn as a line across it.
    """
    names = [folded(row.label) for row in rows]
    highs = [row.limits[1] if row.limits else row.value for row in rows]
    reach = [max(pair) for pair in zip(highs, ends or highs, strict=True)]
    figure = go.Figure()
    figure.add_bar(
        name="value",
        y=names,
        x=[row.value for row in rows],
        orientation="h",
        marker={
            "color": [BLUE if row.fits else BAD for row in rows],
            "pattern": {"shape": ["" if row.fits else "/" for row in rows]},
        },
        error_x=_lines(rows),
        hovertext=[_told(row) for row in rows],
        hoverinfo="text",
    )
    figure.add_scatter(
        name="words",
        y=names,
        x=reach,
        mode="text",
        text=[f"  {row.text}" for row in rows],
        textposition="middle right",
        hoverinfo="skip",
        cliponaxis=False,
    )
    if ends is not None:
        line = {"symbol": "line-ns-open", "size": 22, "color": GREY, "line": {"width": 3}}
        figure.add_scatter(name="capacity", y=names, x=list(ends), mode="markers", marker=line, hoverinfo="skip")
    figure.update_xaxes(range=[0.0, _end(rows, reach)], showticklabels=False, showgrid=False, zeroline=True)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(bargap=0.35)
    return laid_out(figure, height=60 + _ROW * len(rows), bottom=8)


def _lines(rows: Sequence[Amount]) -> dict[str, object]:
    """The intervals as error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [row.limits[1] - row.value if row.limits else 0.0 for row in rows],
        "arrayminus": [row.value - row.limits[0] if row.limits else 0.0 for row in rows],
        "color": GREY,
        "visible": any(row.limits for row in rows),
    }


def _end(rows: Sequence[Amount], reach: Sequence[float]) -> float:
    """Where the axis ends, so that there is room for the words beside every bar."""
    rooms = [end / (1.0 - min(_LETTER * (len(row.text) + 2), 0.7)) for row, end in zip(rows, reach, strict=True)]
    return max([*rooms, max(reach) * 1.1]) or 1.0


def _told(row: Amount) -> str:
    """One bar in words."""
    return f"<b>{row.label}</b>: {row.text}{row.more}{'' if row.fits else '<br>does not fit'}"


def steps(rows: Named) -> go.Figure:
    """Where the steps go: the share of each kind of work, and how long each step is."""
    names = [folded(label) for label, _ in rows]
    figure = go.Figure()
    for kind, colour in OF_KIND.items():
        shares = [each.limits.get(kind, 0.0) for _, each in rows]
        if any(shares):
            figure.add_bar(
                name=kind,
                y=names,
                x=shares,
                orientation="h",
                marker_color=colour,
                hovertext=[
                    f"<b>{label}</b>: {kind} {units.percent(share)} of {units.duration(each.step_time_s)}"
                    for (label, each), share in zip(rows, shares, strict=True)
                ],
                hoverinfo="text",
            )
    figure.add_scatter(
        name="step",
        y=names,
        x=[1.0 for _ in rows],
        mode="text",
        text=[f"  {units.duration(each.step_time_s)}" for _, each in rows],
        textposition="middle right",
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
    figure.update_xaxes(range=[0.0, 1.3], tickvals=[0.0, 0.5, 1.0], tickformat=".0%", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(barmode="stack", bargap=0.35, legend_traceorder="normal")
    return laid_out(figure, height=190 + _ROW * len(rows), legend=True, bottom=30)
