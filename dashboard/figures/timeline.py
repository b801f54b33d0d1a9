"""The figure of the Timeline page: that of `simulator.Timeline`, for a page that says itself what it is of."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.content.timelines import LookedAt
from simulator import Timeline

_ABOVE, _ABOVE_TWO = 34, 62
"""Pixels above the rows: for the buttons, and for the words above each of two timelines."""


def picture(timeline: Timeline, view: LookedAt, other: Timeline | None = None) -> tuple[go.Figure, str]:
    """The part of a step that is looked at, and what was left out of it, in words.

    Parameters
    ----------
    timeline
        Of a step.
    view
        The part of it.
    other
        Another timeline, below on the same axis.
    """
    drawn = timeline.figure(
        stages=view.stages, start=view.start, end=view.end, detail=view.detail, memory=view.memory, other=other
    )
    notes = "; ".join(drawn.layout.meta["notes"])
    above = _ABOVE if other is None else _ABOVE_TWO
    drawn.update_layout(
        title={"text": "", "subtitle": {"text": ""}},
        height=drawn.layout.height - drawn.layout.margin.t + above,
        separators=".,",
        modebar={"orientation": "h"},
        margin={"t": above},
    )
    return drawn, f"{notes[0].upper()}{notes[1:]}." if notes else ""
