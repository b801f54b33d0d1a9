"""Figures of one scenario: where a step goes, what stages hold, operators under the roofline, levers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.content.glossary import explain, words
from dashboard.figures.theme import (
    BAD,
    BLUE,
    DARK,
    GOOD,
    GREEN,
    GREY,
    INK,
    LIGHT,
    OF_KIND,
    OF_MEMORY,
    laid_out,
    log_axis,
    time_axis,
)
from hardware import units
from simulator import Estimate, Roofline, Sensitivity, Stage, Work

_ROW = 26
"""Pixels of one horizontal bar."""
_ROOM = 1.45
"""Of an axis over its longest bar, for the words beside it."""
_VISIBLE = 0.0005
"""Share of a step below which a part is not shown."""
_FEW_STAGES = 4
"""Up to so many stages have their sizes written into them."""
_LISTED = 10
"""Levers that are shown."""
_GIB = 2.0**30


def waterfall(estimate: Estimate) -> go.Figure:
    """The parts of a step, each beginning where the one before ends, and the whole with its interval."""
    rows = [
        (kind, part, time)
        for kind, parts in estimate.breakdown_by_kind.items()
        for part, time in parts.items()
        if time >= _VISIBLE * estimate.step_time_s
    ]
    times = [time for _, _, time in rows]
    shares = [f"{units.duration(time)}, {units.percent(time / estimate.step_time_s)}" for time in times]
    figure = go.Figure()
    figure.add_bar(
        name="parts",
        y=[words(part) for _, part, _ in rows],
        x=times,
        base=[sum(times[:number]) for number in range(len(times))],
        orientation="h",
        marker_color=[OF_KIND[kind] for kind, _, _ in rows],
        text=shares,
        hovertext=[_part(kind, part, share) for (kind, part, _), share in zip(rows, shares, strict=True)],
    )
    figure.add_bar(
        name="step",
        y=["<b>step</b>"],
        x=[estimate.step_time_s],
        orientation="h",
        marker_color=LIGHT,
        text=[f"<b>{units.duration(estimate.step_time_s)}</b>"],
        textposition="inside",
        insidetextanchor="start",
        insidetextfont_color=INK,
        hovertext=[f"<b>step</b>: {units.duration(estimate.step_time_s)}<br>{_interval(estimate)}"],
        error_x=_error(estimate),
    )
    figure.update_traces(hoverinfo="text", cliponaxis=False)
    figure.update_traces(textposition="outside", selector={"name": "parts"})
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(time_axis(max(estimate.step_time_s * _ROOM, (estimate.step_time_high_s or 0.0) * 1.05)))
    figure.update_layout(barmode="overlay", bargap=0.25)
    return laid_out(figure, height=90 + _ROW * (len(rows) + 1))


def _part(kind: str, part: str, share: str) -> str:
    """A part of a step in words."""
    return f"<b>{words(part)}</b>: {share}<br>{kind}<br>{_folded(explain(f'part.{part}'))}"


def _interval(estimate: Estimate) -> str:
    """The interval in words."""
    if estimate.step_time_low_s is None or estimate.step_time_high_s is None:
        return "interval not known"
    level = units.percent(estimate.interval_level or 0.0).replace(".0", "")
    return f"{level} interval: {units.span(estimate.step_time_low_s, estimate.step_time_high_s)}"


def _error(estimate: Estimate) -> dict[str, object]:
    """The interval as an error bar."""
    if estimate.step_time_low_s is None or estimate.step_time_high_s is None:
        return {"visible": False}
    return {
        "type": "data",
        "color": DARK,
        "symmetric": False,
        "array": [estimate.step_time_high_s - estimate.step_time_s],
        "arrayminus": [estimate.step_time_s - estimate.step_time_low_s],
    }


def _folded(text: str, width: int = 48) -> str:
    """A sentence on several lines, for a tooltip."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def stage_memory(stages: Sequence[Stage]) -> go.Figure:
    """What each stage of the pipeline holds, part by part, beside what a device can."""
    few = len(stages) <= _FEW_STAGES
    names = [f"stage {stage.index + 1}" if few else str(stage.index + 1) for stage in stages]
    figure = go.Figure()
    for part, colour in OF_MEMORY.items():
        figure.add_bar(
            name=part,
            x=names if len(stages) > 1 else ["every device"],
            y=[stage.memory_bytes[part] / _GIB for stage in stages],
            marker_color=colour,
            text=[f"{part} {units.size(stage.memory_bytes[part])}" for stage in stages] if few else None,
            hovertext=[f"<b>{part}</b>: {units.size(stage.memory_bytes[part])}<br>{_whole(stage)}" for stage in stages],
        )
    capacity = stages[0].memory_bytes["capacity"]
    most = max(capacity, *(stage.memory_bytes["total"] for stage in stages)) / _GIB
    figure.add_hline(
        capacity / _GIB,
        line_dash="dash",
        line_color=BAD,
        name=f"capacity {units.size(capacity)}",
        showlegend=True,
    )
    figure.update_traces(hoverinfo="text", textposition="inside", insidetextanchor="middle", textangle=0)
    figure.update_layout(barmode="stack", bargap=0.25, uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_yaxes(title="GiB", range=[0.0, most * 1.1])
    figure.update_xaxes(title="stage of the pipeline" if not few else None, type="category")
    return laid_out(figure, height=400, legend=True)


def _whole(stage: Stage) -> str:
    """A stage in words."""
    layers = f"{stage.layers:g} layer{'s' if stage.layers != 1 else ''}"
    total, capacity = stage.memory_bytes["total"], stage.memory_bytes["capacity"]
    room = f"{units.size(capacity - total)} free" if stage.fits else f"{units.size(total - capacity)} too much"
    return f"{layers}, {units.size(total)} in all, {room}"


def roofline(roof: Roofline) -> go.Figure:
    """The matrix products by arithmetic for each byte and rate; the larger a point, the more of the step it takes."""
    whole = sum(work.time_s for work in roof.work)
    shown = [work for work in roof.work if work.flops > 0.0 and work.time_s >= _VISIBLE * whole]
    figure = go.Figure()
    low = min([roof.ridge / 4.0, *(work.intensity / 2.0 for work in shown)])
    high = max([roof.ridge * 4.0, *(work.intensity * 2.0 for work in shown)])
    slowest = min([low * roof.bandwidth, *(work.rate / 1.5 for work in shown)]) / 1e12
    figure.add_scatter(
        name="roof of the data sheet",
        x=[low, roof.ridge, high],
        y=[low * roof.bandwidth / 1e12, roof.peak / 1e12, roof.peak / 1e12],
        mode="lines",
        line={"color": GREY, "width": 2},
        hoverinfo="skip",
    )
    longest = max((work.time_s for work in shown), default=1.0)
    kinds = (
        ("compute", "could be limited by arithmetic", BLUE, "circle"),
        ("memory", "limited by memory", GREEN, "diamond"),
    )
    for bound, words_of, colour, symbol in kinds:
        group = [work for work in shown if work.bound == bound]
        figure.add_scatter(
            name=words_of,
            x=[work.intensity for work in group],
            y=[work.rate / 1e12 for work in group],
            mode="markers",
            marker={
                "color": colour,
                "symbol": symbol,
                "size": [8.0 + 20.0 * math.sqrt(work.time_s / longest) for work in group],
                "opacity": 0.75,
            },
            hovertext=[_told(work) for work in group],
            hoverinfo="text",
        )
    figure.update_xaxes(log_axis(low, high), title="FLOP for each byte of memory traffic")
    figure.update_yaxes(log_axis(slowest, roof.peak / 1e12 * 1.5), title="TFLOP/s")
    return laid_out(figure, height=400, legend=True)


def _told(work: Work) -> str:
    """An operator in words."""
    return (
        f"<b>{work.operator}</b>, {work.direction}<br>{units.duration(work.time_s)} per step, "
        f"{work.rate / 1e12:,.3g} TFLOP/s<br>{work.intensity:,.3g} FLOP/B, "
        f"{units.percent(work.reached)} of what the data sheet allows"
    )


def operator_rows(roof: Roofline) -> list[dict[str, str | float]]:
    """The operators as a table: time of a step, arithmetic, bytes, and what they reach of the data sheet."""
    return [
        {
            "operator": work.operator,
            "pass": work.direction,
            "ms per step": round(work.time_s * 1e3, 3),
            "GFLOP": round(work.flops / 1e9, 1),
            "GB moved": round(work.moved_bytes / 1e9, 2),
            "FLOP/B": round(work.intensity, 1),
            "TFLOP/s": round(work.rate / 1e12, 1),
            "limited by": "arithmetic" if work.bound == "compute" else "memory",
            "% of data sheet": round(100.0 * work.reached, 1),
        }
        for work in roof.work
    ]


def levers(sensitivity: Sensitivity) -> go.Figure:
    """How far each lever moves the time of a token when it is halved and doubled, the strongest first."""
    listed = [lever for lever in sensitivity.levers if lever.span > 0.001][:_LISTED]
    figure = go.Figure()
    for name, colour in (("faster", GOOD), ("slower", BAD)):
        rows = [
            (lever.name, variation.changes[0].text, ratio)
            for lever in listed
            for ratio, variation in lever.answers
            if (ratio < 1.0) == (name == "faster")
        ]
        figure.add_bar(
            name=name,
            y=[row[0] for row in rows],
            x=[100.0 * (row[2] - 1.0) for row in rows],
            orientation="h",
            marker_color=colour,
            text=[row[1] for row in rows],
            hovertext=[f"{row[0]} {row[1]}: a token takes {_change(row[2])}" for row in rows],
            hoverinfo="text",
        )
    figure.add_vline(0.0, line_color=GREY)
    figure.update_traces(textposition="outside", textangle=0, cliponaxis=False)
    figure.update_yaxes(categoryorder="array", categoryarray=[lever.name for lever in reversed(listed)])
    figure.update_xaxes(title="change of the time of a token", ticksuffix=" %")
    figure.update_layout(barmode="relative", bargap=0.25)
    return laid_out(figure, height=130 + _ROW * max(len(listed), 1), legend=True)


def _change(ratio: float) -> str:
    """A ratio of times in words."""
    return f"{units.percent(abs(1.0 - ratio))} {'less' if ratio < 1.0 else 'more'}"
