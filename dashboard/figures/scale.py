"""Figures of a scaling: what more devices bring, how well each is used, and what the step goes to."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from dashboard.figures import axes
from dashboard.figures.theme import BAD, BLUE, GREY, OF_KIND, laid_out
from hardware import units
from simulator import Scaling
from simulator.renting.scaling import ScalePoint
from simulator.terminal.search import plan_words

_VISIBLE = 0.0005
"""Share of a step below which a kind of work is not shown."""


def rate(scaling: Scaling) -> go.Figure:
    """Tokens per second on each number of devices, beside what they would be if each device always did as much."""
    counts = [point.devices for point in scaling.points]
    rates = [point.estimate.tokens_per_s for point in scaling.points]
    ideal = [point.ideal_tokens_per_s for point in scaling.points]
    figure = go.Figure()
    figure.add_scatter(
        name="if each device did as much as it can",
        x=counts,
        y=ideal,
        mode="lines",
        line={"color": GREY, "dash": "dash"},
        hoverinfo="skip",
    )
    _curve(figure, scaling, rates, "predicted")
    figure.update_xaxes(axes.doubling(counts), title="devices")
    figure.update_yaxes(axes.logarithmic([*rates, *ideal], axes.COUNT), title="tokens/s")
    return laid_out(figure, height=380, legend=True, bottom=80)


def efficiency(scaling: Scaling) -> go.Figure:
    """How much of the most that a device does it does on each number of them, and where that halves."""
    counts = [point.devices for point in scaling.points]
    figure = go.Figure()
    _curve(figure, scaling, [100.0 * point.efficiency for point in scaling.points], "efficiency")
    figure.add_hline(50.0, line_dash="dash", line_color=GREY)
    if scaling.halved_at is not None:
        about = units.digits(scaling.halved_at, 2)
        figure.add_vline(scaling.halved_at, line_dash="dash", line_color=BAD)
        figure.add_annotation(
            x=0.0, xref="paper", xanchor="left", y=50.0, yanchor="bottom", showarrow=False, text=f"half at some {about}"
        )
    figure.update_xaxes(axes.doubling(counts), title="devices")
    figure.update_yaxes(title="efficiency", range=[0.0, 105.0], ticksuffix=" %")
    return laid_out(figure, height=380, bottom=80)


def _curve(figure: go.Figure, scaling: Scaling, values: list[float], name: str) -> None:
    """Values over the numbers of devices."""
    figure.add_scatter(
        name=name,
        x=[point.devices for point in scaling.points],
        y=values,
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        marker={"color": BLUE, "size": 9},
        hovertext=[told(point) for point in scaling.points],
        hoverinfo="text",
    )


def told(point: ScalePoint) -> str:
    """A number of devices in words, for tooltips."""
    answer = point.estimate
    low, high = answer.step_time_low_s, answer.step_time_high_s
    interval = f" ({units.span(low, high)})" if low is not None and high is not None else ""
    return (
        f"<b>{point.devices:,} device{'s' if point.devices > 1 else ''}</b>: {units.percent(point.efficiency)} "
        f"efficiency<br>{units.duration(answer.step_time_s)} per step{interval}<br>"
        f"{units.count(answer.tokens_per_s)} tokens/s, {units.percent(answer.mfu)} MFU<br>{plan_words(answer)}"
    )


def shares(scaling: Scaling) -> go.Figure:
    """What the step goes to on each number of devices, by kind of work."""
    names = [f"{point.devices:,}" for point in scaling.points]
    figure = go.Figure()
    for kind, colour in OF_KIND.items():
        shares = [point.estimate.limits.get(kind, 0.0) for point in scaling.points]
        if max(shares, default=0.0) < _VISIBLE:
            continue
        figure.add_bar(
            name=kind,
            x=names,
            y=[100.0 * share for share in shares],
            marker_color=colour,
            hovertext=[
                f"<b>{kind}</b>: {units.percent(share)} of the step on {name} devices<br>"
                f"{units.duration(share * point.estimate.step_time_s)}"
                for share, name, point in zip(shares, names, scaling.points, strict=True)
            ],
            hoverinfo="text",
        )
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(title="devices", type="category", tickangle=-45 if len(names) > 6 else 0)
    figure.update_yaxes(title="share of the step", range=[0.0, 100.0], ticksuffix=" %")
    return laid_out(figure, height=420, legend=True, bottom=120)


def rows(scaling: Scaling) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The points as a table whose columns are numbers, and how these are written."""
    points = scaling.points
    step, of_step = axes.TIME.unit(min(point.estimate.step_time_s for point in points))
    run, of_run = axes.TIME.unit(min(point.estimate.run.time_s for point in points))
    table = [
        {
            "devices": point.devices,
            "batch": point.estimate.workload["global_batch"],
            "step": point.estimate.step_time_s / step,
            "tokens/s": round(point.estimate.tokens_per_s),
            "speed-up": point.speedup,
            "efficiency": 100.0 * point.efficiency,
            "MFU": 100.0 * point.estimate.mfu,
            "run": point.estimate.run.time_s / run,
            "cost": point.estimate.run.cost_usd,
            "plan": plan_words(point.estimate),
        }
        for point in points
    ]
    times = {"step": of_step, "run": of_run}
    formats = {name: axes.printed(words, [row[name] for row in table]) for name, words in times.items()}
    numbers = {"devices": "localized", "batch": "localized", "tokens/s": "compact", "speed-up": "%.1fx"}
    return table, {**formats, **numbers, "efficiency": "%.1f %%", "MFU": "%.1f %%", "cost": "dollar"}
