"""Colours that colour-blind readers can tell apart, on light and on dark ground, the same on every page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.content.glossary import words

# Okabe and Ito's palette; its black is left out, which dark ground hides, and its yellow is darkened for white ground.
BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
RED, PURPLE, YELLOW, GREY = "#D55E00", "#CC79A7", "#C9B800", "#8C8C8C"
LIGHT, DARK, INK = "#BBBBBB", "#6B6B6B", "#1A1A1A"

SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY)
"""Colours of things that have none of their own, such as scenarios side by side."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hexagon")
"""Shapes that go with `SERIES`, so that colour is never the only difference."""
OF_KIND = {
    "matrix products": BLUE,
    "recomputation": SKY,
    "memory bandwidth": GREEN,
    "communication": RED,
    "frozen model": DARK,
    "pipeline idle": PURPLE,
    "host": ORANGE,
}
"""By kind of work, as `Estimate.limits` calls them."""
OF_MEMORY = {
    "activations": ORANGE,
    "optimizer": GREEN,
    "parameters": BLUE,
    "gradients": SKY,
    "buffers": PURPLE,
    "reserved": LIGHT,
}
"""By part of memory, as `Estimate.memory_bytes` calls them, from the bottom of a bar."""
GOOD, BAD = GREEN, RED
"""What fits or is faster, and what does not or is slower."""
SCALE = "Cividis"
"""Of heat maps: it reads the same with every kind of colour vision."""
FONT_SIZE = 13
_FEW_DECADES = 2.5


def laid_out(figure: go.Figure, *, height: int, legend: bool = False, bottom: int = 40) -> go.Figure:
    """Give a figure what all share: room for the buttons above, labels that are never cut; the page gives the ground.

    Parameters
    ----------
    figure
        Changed in place.
    height
        In pixels.
    legend
        Whether to say what colours mean, below the figure.
    bottom
        Room below, in pixels.
    """
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 32, "b": bottom},
        font={"size": FONT_SIZE},
        showlegend=legend,
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "title": None},
        hoverlabel={"font": {"size": FONT_SIZE}},
        separators=".,",
        modebar={"orientation": "h"},
    )
    figure.update_xaxes(automargin=True, fixedrange=False)
    figure.update_yaxes(automargin=True, fixedrange=False)
    return figure


_UNITS = ((1e-6, "us"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "days"))
_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
_TICKS = 5


def time_axis(end: float) -> dict[str, object]:
    """An axis of times from 0 to an end [s], with few ticks at round numbers of a unit that suits them."""
    unit, name = next((each for each in reversed(_UNITS) if end >= 2.0 * each[0]), _UNITS[0])
    step = next((step for step in _STEPS if end / (step * unit) <= _TICKS), 10.0 ** math.ceil(math.log10(end / unit)))
    ticks = [step * number for number in range(int(end / unit / step) + 1)]
    return {
        "range": [0.0, end],
        "tickvals": [tick * unit for tick in ticks],
        "ticktext": [f"{tick:g} {name}" if tick else "0" for tick in ticks],
    }


def log_axis(low: float, high: float) -> dict[str, object]:
    """A logarithmic axis with ticks that are written out: decades, or 1, 2 and 5 where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1.0,) if math.log10(high / low) > _FEW_DECADES else (1.0, 2.0, 5.0)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:,.15g}" for tick in ticks],
    }


def colour(number: int) -> str:
    """The colour of one of several things."""
    return SERIES[number % len(SERIES)]


def marker(number: int) -> str:
    """The shape of one of several things."""
    return MARKERS[number % len(MARKERS)]


def folded(label: str, width: int = 22) -> str:
    """A long label on several lines, so that it leaves room for what it labels.

    >>> folded("bert_mlperf_v1.1_open_google"), folded("3 server, devices 16", 12)
    ('bert_mlperf_v1.1_open_<br>google', '3 server,<br>devices 16')
    """
    lines = [""]
    for part in re.split(r"(?<=[ _/-])", label):
        if len(lines[-1]) + len(part.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "<br>".join(line.rstrip() for line in lines)


def labels(names: Sequence[str]) -> list[str]:
    """The names of parts as words."""
    return [words(name) for name in names]
