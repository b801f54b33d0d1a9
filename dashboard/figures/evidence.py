"""Figures of the evidence: predicted against measured, errors by group, and how often intervals hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import plotly.graph_objects as go

from dashboard.content.evidence import OTHERS, GroupScore, told
from dashboard.figures.theme import BLUE, GREY, ORANGE, colour, folded, laid_out, marker
from hardware import units
from simulator.corpus.runs import Run
from simulator.evidence.scores import Outcome, Scheme, Score

_ROW = 26
"""Pixels of one group."""
_FEWEST = 3
"""Runs of the smallest group that is drawn, as `capsim validate` lists them."""
_LISTED = 14
"""Groups that are drawn; tables have all of them."""
_TICKS = {
    "1 us": 1e-6, "10 us": 1e-5, "100 us": 1e-4, "1 ms": 1e-3, "10 ms": 0.01, "100 ms": 0.1, "1 s": 1.0, "10 s": 10.0,
    "1 min": 60.0, "10 min": 600.0, "2 h": 7200.0, "1 day": 86400.0, "10 days": 864000.0,
}  # fmt: skip
"""Times at the axes."""
_LEVEL = 90.0
"""Percent of runs that an interval is meant to hold."""


def agreement(
    groups: Mapping[str, Sequence[Outcome]],
    scheme: Scheme,
    score: Score,
    runs: Mapping[str, Run],
    near: Collection[str] = (),
) -> go.Figure:
    """Predicted against measured times of a step, both logarithmic; runs outside their interval are hollow.

    Parameters
    ----------
    groups
        Runs by group, which have colours and shapes of their own; others stay grey.
    scheme
        What the constants had seen.
    score
        Of all of them, whose typical interval is drawn.
    runs
        The published runs by id, for what is said of each point.
    near
        Ids of runs that are like the scenario at hand, which are ringed.
    """
    every = [each for members in groups.values() for each in members]
    times = [time for each in every for time in (each.measured_s, each.by(scheme).predicted_s)]
    low, high = min(times) / 1.5, max(times) * 1.5
    figure = go.Figure()
    _lines(figure, low, high, score, sure=scheme != "nothing fitted")
    order = sorted(groups, key=lambda name: name != OTHERS)  # others lie below
    for name in order:
        number = list(groups).index(name)
        _points(figure, name, groups[name], scheme, runs, number)
    ringed = [each for each in every if each.id in near]
    if ringed:
        figure.add_scatter(
            name="like this scenario",
            x=[each.measured_s for each in ringed],
            y=[each.by(scheme).predicted_s for each in ringed],
            mode="markers",
            marker={"symbol": "circle-open", "size": 17, "color": ORANGE, "line": {"width": 3}},
            hoverinfo="skip",
        )
    ticks = {words: tick for words, tick in _TICKS.items() if low <= tick <= high}
    axis = {"type": "log", "tickvals": list(ticks.values()), "ticktext": list(ticks)}
    axis["range"] = [math.log10(low), math.log10(high)]
    figure.update_xaxes(axis, title="measured time of a step")
    figure.update_yaxes(axis, title="predicted")
    return laid_out(figure, height=560, legend=True)


def _points(
    figure: go.Figure, name: str, members: Sequence[Outcome], scheme: Scheme, runs: Mapping[str, Run], number: int
) -> None:
    """The runs of one group."""
    weighed = [each.by(scheme) for each in members]
    shape = "circle" if name == OTHERS else marker(number)
    sure = scheme != "nothing fitted"
    figure.add_scatter(
        name=name,
        x=[each.measured_s for each in weighed],
        y=[each.predicted_s for each in weighed],
        mode="markers",
        marker={
            "color": GREY if name == OTHERS else colour(number),
            "symbol": [shape if each.covered or not sure else f"{shape}-open" for each in weighed],
            "size": 6,
            "opacity": 0.65,
        },
        hovertext=[told(each, scheme, runs.get(each.id)) for each in members],
        hoverinfo="text",
        legendrank=2000 if name == OTHERS else 1000,
    )


def _lines(figure: go.Figure, low: float, high: float, score: Score, *, sure: bool) -> None:
    """Where predictions equal measurements, and the interval that is typical."""
    ends = [low, high]
    figure.add_scatter(
        name="equal", x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip", showlegend=False
    )
    for factor in (score.low, score.high) if sure else ():
        figure.add_scatter(
            name="typical interval",
            x=[end * factor for end in ends],
            y=ends,
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )


def errors(groups: Sequence[GroupScore]) -> go.Figure:
    """Median errors of groups, with lines to the 90th percentile."""
    listed = _listed(groups)
    figure = go.Figure()
    medians = [100.0 * each.score.median_abs_error for each in listed]
    tails = [100.0 * (each.score.p90_abs_error - each.score.median_abs_error) for each in listed]
    figure.add_bar(
        name="median error",
        y=[folded(each.name) for each in listed],
        x=medians,
        orientation="h",
        marker_color=BLUE,
        error_x={"type": "data", "symmetric": False, "array": tails, "arrayminus": [0.0] * len(tails), "color": GREY},
        hovertext=[_errors_told(each) for each in listed],
        hoverinfo="text",
    )
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero", nticks=6)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(bargap=0.35)
    return laid_out(figure, height=90 + _ROW * len(listed))


def _listed(groups: Sequence[GroupScore]) -> list[GroupScore]:
    """The largest groups, without those of too few runs to say anything where there are others."""
    well_known = [each for each in groups if each.score.rows >= _FEWEST]
    return (well_known or list(groups))[:_LISTED]


def _errors_told(each: GroupScore) -> str:
    """The errors of a group in words."""
    score = each.score
    return (
        f"<b>{each.name}</b>: {units.plural(score.rows, 'run')}<br>"
        f"median error {units.percent(score.median_abs_error)}, "
        f"90th percentile {units.percent(score.p90_abs_error)}<br>bias {100.0 * score.bias:+.1f} %"
    )


def coverage(groups: Sequence[GroupScore]) -> go.Figure:
    """Share of the runs of each group that lie inside their interval, beside the share that should."""
    listed = _listed(groups)
    figure = go.Figure()
    figure.add_scatter(
        name="inside",
        y=[folded(each.name) for each in listed],
        x=[100.0 * each.score.coverage_90 for each in listed],
        mode="markers",
        marker={"color": BLUE, "size": 11, "symbol": "diamond"},
        hovertext=[
            f"<b>{each.name}</b>: {units.percent(each.score.coverage_90)} of "
            f"{units.plural(each.score.rows, 'run')} inside"
            f"<br>typical interval x{each.score.low:.2f} to {each.score.high:.2f}"
            for each in listed
        ],
        hoverinfo="text",
        cliponaxis=False,
    )
    figure.add_vline(_LEVEL, line_dash="dash", line_color=GREY)
    lowest = min((100.0 * each.score.coverage_90 for each in listed), default=_LEVEL)
    figure.update_xaxes(range=[min(50.0, lowest) - 3.0, 103.0], ticksuffix=" %", dtick=10.0 if lowest > 40.0 else 20.0)
    figure.update_yaxes(autorange="reversed", showgrid=True)
    return laid_out(figure, height=90 + _ROW * len(listed))
