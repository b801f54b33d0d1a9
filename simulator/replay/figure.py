"""A timeline as a figure of plotly: stages or their lanes over time, and what they hold below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hardware import units
from hardware.errors import InputError
from simulator.replay.drawing import palette
from simulator.replay.drawing.bars import MOST_BARS, BarKind, Bars, Picture, picture_of
from simulator.replay.drawing.lines import MemoryLine, memory_lines
from simulator.replay.events import Detail
from simulator.replay.timeline import StageRun, Timeline

if TYPE_CHECKING:
    import plotly.graph_objects as go

_UNITS = ((1e-6, "us"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"))
_ROW, _LEAST_ROW, _MOST_ROWS = 26, 9, 420
"""Pixels of a row, of one among many, and of all rows of a timeline, about."""
_LABEL = 14
"""Pixels that the label of a row needs."""
_MEMORY = 170
"""Pixels of the memory of a timeline."""
_BETWEEN, _ABOVE, _LEGEND = 58, 64, 110
"""Pixels between panels, above the first and below the last."""
_WIDE = 0.014
"""Share of the window from which a bar has room for words."""
_DEGREES = ("dp", "tp", "pp", "cp", "ep")
_ENTRY = 84
"""Pixels of a word in the legend: two stand side by side on a narrow screen."""
_EVEN = 1e-6
"""Share of the window by which a bar may reach out of it."""
_PARTED = 0.01
"""Share of the window from which a bar has a line around it."""
_GIB = 2.0**30
_FONT = 12


@dataclass(frozen=True)
class _Panel:
    """A part of the figure with axes of its own: bars of a timeline, or its memory."""

    timeline: Timeline
    picture: Picture | None = None
    lines: tuple[MemoryLine, ...] = ()

    @property
    def height(self) -> float:
        """Pixels."""
        if self.picture is None:
            return _MEMORY
        rows = len(self.picture.labels)
        return rows * min(_ROW, max(_LEAST_ROW, _MOST_ROWS / rows)) + 6


def figure_of(
    timeline: Timeline,
    *,
    stages: Sequence[int] | None = None,
    start: float = 0.0,
    end: float | None = None,
    detail: Detail | None = None,
    memory: bool = True,
    other: Timeline | None = None,
    most: int = MOST_BARS,
) -> go.Figure:
    """Draw a timeline.

    Parameters
    ----------
    timeline
        Of a step.
    stages
        Stages of the pipeline to draw, from 0; all unless given.
    start, end
        Of the window that is drawn [s]; the whole step unless given.
    detail
        Whole passes, or the tasks in them on a lane of each resource; unless given tasks, where they are few enough.
    memory
        Whether to draw what the stages hold.
    other
        Another timeline, which is drawn below on the same axis.
    most
        Bars of each timeline, at most; beyond it neighbouring passes become one bar, and the subtitle says so.

    Raises
    ------
    InputError
        Where a stage does not exist, the window is empty, or plotly is not installed.
    """
    shown = [timeline, *([other] if other is not None else [])]
    until = max(each.step_time for each in shown) if end is None else end
    if not start < until:
        raise InputError(f"end={until:g}: the window starts at {start:g} s; give a later end", fields=("end",))
    chosen_of = [_chosen(each, stages, alone=other is None) for each in shown]
    pictures = _pictures(shown, chosen_of, start, until, detail, most)
    panels = []
    for each, chosen, picture in zip(shown, chosen_of, pictures, strict=True):
        panels.append(_Panel(each, picture))
        if memory:
            panels.append(_Panel(each, lines=tuple(memory_lines(each, chosen, start=start, end=until))))
    return _drawn(panels, start, until)


def _pictures(
    shown: Sequence[Timeline],
    chosen: Sequence[Sequence[StageRun]],
    start: float,
    end: float,
    detail: Detail | None,
    most: int,
) -> list[Picture]:
    """What is drawn of each timeline, all in the same detail."""

    def drawn(fine: Detail | None) -> list[Picture]:
        pairs = zip(shown, chosen, strict=True)
        return [picture_of(each, stages, start=start, end=end, detail=fine, most=most) for each, stages in pairs]

    pictures = drawn(detail)
    return pictures if len({picture.detail for picture in pictures}) == 1 else drawn("passes")


def _chosen(timeline: Timeline, stages: Sequence[int] | None, *, alone: bool) -> list[StageRun]:
    """The stages that are drawn; of two timelines each those that it has."""
    number = len(timeline.stages)
    wanted = list(range(number)) if stages is None else list(stages)
    within = [index for index in wanted if 0 <= index < number]
    if not within or (alone and len(within) < len(wanted)):
        wrong = next((index for index in wanted if not 0 <= index < number), "none")
        raise InputError(
            f"stages={wrong}: the pipeline has {units.plural(number, 'stage')}; give numbers from 0 to {number - 1}",
            fields=("stages",),
        )
    return [timeline.stages[index] for index in within]


def _drawn(panels: Sequence[_Panel], start: float, end: float) -> go.Figure:
    """Panels below one another on one axis of time."""
    try:
        from plotly.subplots import make_subplots
    except ModuleNotFoundError:
        raise InputError("a figure needs plotly, which is not installed; pip install 'capsim[dashboard]'") from None
    unit, name = next((each for each in reversed(_UNITS) if end - start >= 2.0 * each[0]), _UNITS[0])
    heights = [panel.height for panel in panels]
    inside = sum(heights) + _BETWEEN * (len(panels) - 1)
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=_BETWEEN / inside if len(panels) > 1 else 0.0,
    )
    named: set[str] = set()
    for row, panel in enumerate(panels, start=1):
        if panel.picture is not None:
            _draw_bars(figure, row, panel.picture, unit, (start, end), named)
        else:
            _draw_memory(figure, row, panel, unit, (start, end), named)
    _lay_out(figure, panels, inside)
    figure.update_xaxes(
        range=[start / unit, end / unit], ticksuffix=f" {name}", nticks=6, tickformat=",.7~g", ticks="outside"
    )
    figure.update_xaxes(showticklabels=True, row=len(panels), col=1)
    return figure


def _lay_out(figure: go.Figure, panels: Sequence[_Panel], inside: float) -> None:
    """Title, legend, and what is said of each timeline above its rows."""
    first = panels[0].timeline
    two = sum(panel.picture is not None for panel in panels) > 1
    notes = [panel.picture.note for panel in panels if panel.picture is not None and panel.picture.note]
    subtitle = "; ".join([_said(first), *notes]) if not two else "; ".join(dict.fromkeys(notes))
    title = "Two plans on one axis of time" if two else _name(first)
    figure.update_layout(
        meta={"notes": list(dict.fromkeys(notes))},
        title={"text": title, "subtitle": {"text": subtitle}, "x": 0, "xref": "paper", "font": {"size": _FONT + 4}},
        height=inside + _ABOVE + _LEGEND,
        margin={"l": 8, "r": 12, "t": _ABOVE, "b": _LEGEND},
        font={"size": _FONT},
        barmode="overlay",
        bargap=0.0,
        hoverlabel={"align": "left", "font": {"size": _FONT}},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "xref": "container"}
        | {"entrywidth": _ENTRY, "entrywidthmode": "pixels", "font": {"size": _FONT - 1}},
        uniformtext={"minsize": _FONT - 1, "mode": "hide"},
    )
    if two:
        for row, panel in enumerate(panels, start=1):
            if panel.picture is not None:
                _say_above(figure, row, f"<b>{_name(panel.timeline)}</b><br>{_said(panel.timeline)}")


def _say_above(figure: go.Figure, row: int, text: str) -> None:
    """Words above a panel."""
    axis = "" if row == 1 else str(row)
    figure.add_annotation(
        text=text,
        x=0.0,
        y=1.0,
        xref="paper",
        yref=f"y{axis} domain",
        xanchor="left",
        yanchor="bottom",
        align="left",
        showarrow=False,
        font={"size": _FONT},
    )


def _name(timeline: Timeline) -> str:
    """What is trained on what."""
    scenario = timeline.scenario
    return f"{scenario.model.id} on {scenario.system.id}, {units.plural(scenario.devices, 'device')}"


def _said(timeline: Timeline) -> str:
    """The step, and the plan in short."""
    plan = timeline.scenario.plan
    degrees = [
        f"{name} {getattr(plan, name)}" for name in ("dp", "tp", "pp", "cp", "ep") if (getattr(plan, name) or 1) > 1
    ]
    schedule = [f"{plan.schedule}"] if (plan.pp or 1) > 1 and plan.schedule else []
    chunks = [f"{timeline.pipeline.chunks} chunks each"] if timeline.pipeline.chunks > 1 else []
    return ", ".join([f"step of {units.duration(timeline.step_time)}", *degrees, *schedule, *chunks])


def _draw_bars(
    figure: go.Figure, row: int, picture: Picture, unit: float, window: tuple[float, float], named: set[str]
) -> None:
    """The rows of a timeline: one trace for each kind of bar."""
    for kind in palette.ORDER:
        if kind in picture.bars and picture.bars[kind].rows:
            _draw_kind(figure, row, kind, picture.bars[kind], unit, window, shown=kind not in named)
            named.add(kind)
    number = len(picture.labels)
    every = max(1, -(-number * _LABEL // _MOST_ROWS))
    figure.update_yaxes(
        range=[number - 0.5, -0.5],
        tickvals=list(range(0, number, every)),
        ticktext=list(picture.labels[::every]),
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        automargin=True,
        row=row,
        col=1,
    )


def _draw_kind(
    figure: go.Figure, row: int, kind: BarKind, bars: Bars, unit: float, window: tuple[float, float], *, shown: bool
) -> None:
    """Bars of one kind; those that reach out of the window have no words, which would be cut."""
    start, duration, width = np.array(bars.start), np.array(bars.duration), window[1] - window[0]
    whole = (start >= window[0] - _EVEN * width) & (start + duration <= window[1] + _EVEN * width)
    text = np.where(whole & (duration > _WIDE * width), np.array(bars.text, dtype=object), "")
    figure.add_bar(
        name=palette.NAMES[kind],
        legendgroup=kind,
        showlegend=shown,
        orientation="h",
        base=start / unit,
        x=duration / unit,
        y=np.array(bars.rows),
        width=0.86,
        marker=palette.marker(kind, bars.micro_batches, np.where(duration > _PARTED * width, 0.8, 0.0).tolist()),
        text=text if np.any(text != "") else None,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": _FONT - 1},
        hovertext=bars.hover,
        hoverinfo="text",
        row=row,
        col=1,
    )


def _draw_memory(
    figure: go.Figure, row: int, panel: _Panel, unit: float, window: tuple[float, float], named: set[str]
) -> None:
    """What stages of a timeline hold, what a device has, and the highest peak."""
    several = len(panel.lines) > 1
    for number, line in enumerate(panel.lines):
        label = f"held on stage {line.held.stage + 1}" if several else "held"
        figure.add_scatter(
            name=label,
            legendgroup=label,
            showlegend=label not in named,
            x=line.times / unit,
            y=line.total / _GIB,
            mode="lines",
            line=palette.line(number, len(panel.lines)),
            hovertext=[f"<b>stage {line.held.stage + 1}</b> holds {units.size(total)}" for total in line.total],
            hoverinfo="text",
            row=row,
            col=1,
        )
        named.add(label)
    capacity = panel.lines[0].held.capacity
    figure.add_scatter(
        name="device memory",
        legendgroup="capacity",
        showlegend="capacity" not in named,
        x=[end / unit for end in window],
        y=[capacity / _GIB] * 2,
        mode="lines",
        line={"color": palette.EXPOSED, "dash": "dash", "width": 1.5},
        hovertext=f"a device has {units.size(capacity)}",
        hoverinfo="text",
        row=row,
        col=1,
    )
    named.add("capacity")
    _say_peak(figure, row, panel, unit, window)
    _scale_memory(figure, row, panel, capacity)


def _scale_memory(figure: go.Figure, row: int, panel: _Panel, capacity: float) -> None:
    """Room for what stages hold, for what a device has, and for words above."""
    top = max(capacity, *(float(line.total.max()) for line in panel.lines)) / _GIB
    figure.update_yaxes(
        range=[0.0, 1.18 * top],
        ticksuffix=" GiB",
        nticks=4,
        ticks="outside",
        fixedrange=True,
        automargin=True,
        row=row,
        col=1,
    )


def _say_peak(figure: go.Figure, row: int, panel: _Panel, unit: float, window: tuple[float, float]) -> None:
    """The highest peak, where it is in the window."""
    peak, stage = max(((line.held.peak, line.held.stage) for line in panel.lines), key=lambda each: each[0].total)
    where = f" on stage {stage + 1}" if len(panel.lines) > 1 else ""
    largest = "<br>".join(f"{units.size(size)} {name}" for name, size in peak.tensors[:8])
    inside = window[0] <= peak.time <= window[1]
    if inside:
        figure.add_scatter(
            x=[peak.time / unit],
            y=[peak.total / _GIB],
            mode="markers",
            showlegend=False,
            marker={"color": palette.EXPOSED, "size": 9, "symbol": "diamond"},
            hovertext=f"<b>peak{where}</b> in the {peak.task}<br>{largest}",
            hoverinfo="text",
            row=row,
            col=1,
        )
    _say_above(figure, row, f"peak {units.size(peak.total)}{where}:<br>{peak.task}")
