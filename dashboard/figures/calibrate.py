"""Figures of what was measured beside what a profile says: each row, and how far off they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures.axes import TIME, Measure, logarithmic
from dashboard.figures.theme import BLUE, GREY, ORANGE, laid_out
from hardware import units
from simulator.profiling.comparison import SIZES, WORDS, PhaseRows

MOST = 500
"""Rows that are drawn of one kind of work: more hide each other, and take time to send."""
_HEIGHT = 400
_OFF = 0.6
"""Error at the ends of a histogram; larger ones are counted there."""
_BINS = 24
_RATIOS = (0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0)
_WIDEST, _NARROWEST = 10.0, 1.25
"""Ratios beyond which points are drawn at the edge, and that an axis shows at least."""
_SIDES = ("catalogue", "profile")
_COLOURS = {"catalogue": ORANGE, "profile": BLUE}
_SYMBOLS = {"catalogue": "square-open", "profile": "circle"}
_FEW = 100
"""Up to so many points are large."""
_MEASURES = {
    "FLOP": Measure(((1.0, "{}"), (1e3, "{}k"), (1e6, "{}M"), (1e9, "{}G"), (1e12, "{}T"), (1e15, "{}P"))),
    "B": Measure(
        ((1.0, "{} B"), (2.0**10, "{} KiB"), (2.0**20, "{} MiB"), (2.0**30, "{} GiB"), (2.0**40, "{} TiB")),
        tuple(2.0**power for power in range(0, 51, 5)),
    ),
}
"""Of sizes, by their unit."""


def drawn(part: PhaseRows, most: int = MOST) -> NDArray[np.intp]:
    """Which rows are drawn: all, or every second, third, ... by their size."""
    order = np.argsort(part.size, kind="stable")
    if len(order) <= most:
        return order
    return np.asarray(order[np.unique(np.linspace(0, len(order) - 1, most).astype(np.intp))])


def agreement(part: PhaseRows, predicted: str) -> go.Figure:
    """Predicted against measured times, by the catalogue and by the profile.

    Parameters
    ----------
    part
        The rows of one kind of work.
    predicted
        The column of the profile: ``after_s`` or ``form_s``.
    """
    rows, figure = drawn(part), go.Figure()
    low = float(min(part.measured_s[rows].min(), _columns(part, predicted)["profile"][rows].min())) * 0.8
    high = float(max(part.measured_s[rows].max(), _columns(part, predicted)["profile"][rows].max())) * 1.25
    figure.add_scatter(
        name="as measured", x=[low, high], y=[low, high], mode="lines", line={"color": GREY}, hoverinfo="skip"
    )
    _add_points(figure, part, predicted, part.measured_s, _columns(part, predicted))
    figure.update_xaxes(logarithmic((low, high), TIME), title="measured")
    figure.update_yaxes(logarithmic((low, high), TIME), title="predicted")
    return laid_out(figure, height=_HEIGHT, legend=True, bottom=80)


def _columns(part: PhaseRows, predicted: str) -> dict[str, NDArray[np.float64]]:
    """Predicted times by who says them."""
    return {"catalogue": part.before_s, "profile": getattr(part, predicted)}


def _add_points(
    figure: go.Figure,
    part: PhaseRows,
    predicted: str,
    across: NDArray[np.float64],
    up: Mapping[str, NDArray[np.float64]],
    **options: object,
) -> None:
    """Add the rows that are drawn, as points of each side; hovering tells a row."""
    rows = drawn(part)
    for side, column in _columns(part, predicted).items():
        figure.add_scatter(
            name=side,
            x=across[rows],
            y=up[side][rows],
            mode="markers",
            marker=_marker(side, len(rows)),
            hovertext=_told(part, column, rows, side),
            hoverinfo="text",
            **options,
        )


def _marker(side: str, points: int) -> dict[str, object]:
    """How points look."""
    few = points <= _FEW
    return {
        "color": _COLOURS[side],
        "symbol": _SYMBOLS[side],
        "size": 9 if few else 6,
        "opacity": 0.9 if few else 0.7,
    }


def _told(part: PhaseRows, column: NDArray[np.float64], rows: NDArray[np.intp], side: str) -> list[str]:
    """Rows in words."""
    return [
        f"<b>{escape(part.words[row])}</b><br>measured {units.duration(part.measured_s[row])}<br>{side}: "
        f"{units.duration(column[row])} ({100.0 * (column[row] / part.measured_s[row] - 1.0):+.1f} %)"
        for row in rows.tolist()
    ]


def by_size(part: PhaseRows, predicted: str) -> go.Figure:
    """How far off each row is, by its size.

    Parameters
    ----------
    part
        The rows of one kind of work.
    predicted
        The column of the profile: ``after_s`` or ``form_s``.
    """
    rows, figure = drawn(part), go.Figure()
    ratios = {side: column / part.measured_s for side, column in _columns(part, predicted).items()}
    shown = np.abs(np.log(np.concatenate([ratio[rows] for ratio in ratios.values()])))
    reach = float(np.clip(np.exp(np.quantile(shown, 0.99)) * 1.05, _NARROWEST, _WIDEST))
    inside = {side: np.clip(ratio, 1.0 / reach, reach) for side, ratio in ratios.items()}
    _add_points(figure, part, predicted, part.size, inside, cliponaxis=False)
    figure.add_hline(1.0, line_color=GREY)
    unit = SIZES[part.phase]
    figure.update_xaxes(logarithmic(part.size[rows].tolist(), _MEASURES[unit]), title=_size_words(part))
    figure.update_yaxes(_ratio_axis(reach), title="predicted over measured")
    return laid_out(figure, height=_HEIGHT, legend=True, bottom=80)


def _size_words(part: PhaseRows) -> str:
    """What sizes are, for the axis."""
    if part.phase in ("gemm", "attention", "step"):
        return "FLOP of one call" if part.phase != "step" else "FLOP of one step"
    return "bytes moved" if part.phase == "stream" else "bytes of the message"


def _ratio_axis(reach: float) -> dict[str, object]:
    """An axis of ratios about 1, with ticks at those that people use."""
    ticks = [tick for tick in (*_RATIOS, 0.9, 1.1) if 1.0 / reach <= tick <= reach]
    ticks = [tick for tick in ticks if reach < 2.0 or tick not in (0.9, 1.1)]
    high = float(np.log10(reach))
    return {"type": "log", "range": [-high, high], "tickvals": ticks, "ticktext": [f"x{tick:g}" for tick in ticks]}


def histogram(part: PhaseRows, predicted: str) -> go.Figure:
    """How many rows are how far off.

    Parameters
    ----------
    part
        The rows of one kind of work.
    predicted
        The column of the profile: ``after_s`` or ``form_s``.
    """
    edges, figure = np.linspace(-_OFF, _OFF, _BINS + 1), go.Figure()
    middles = 100.0 * (edges[:-1] + edges[1:]) / 2.0
    for side, column in _columns(part, predicted).items():
        off = column / part.measured_s - 1.0
        counts, _ = np.histogram(np.clip(off, -_OFF, _OFF), edges)
        figure.add_bar(
            name=side,
            x=middles,
            y=100.0 * counts / len(part),
            marker_color=_COLOURS[side],
            marker_pattern_shape="/" if side == "catalogue" else "",
            hovertext=_bins(edges, counts, side),
            hoverinfo="text",
        )
    figure.add_vline(0.0, line_color=GREY)
    figure.update_layout(barmode="group", bargap=0.1)
    ticks = [-60, -40, -20, 0, 20, 40, 60]
    texts = [f"{tick:+d} %" if tick else "0" for tick in ticks]
    figure.update_xaxes(title="predicted over measured, less 1", tickvals=ticks, ticktext=texts)
    figure.update_yaxes(title="share of the rows", ticksuffix=" %", rangemode="tozero")
    return laid_out(figure, height=_HEIGHT, legend=True, bottom=80)


def _bins(edges: NDArray[np.float64], counts: NDArray[np.intp], side: str) -> list[str]:
    """Bins in words; those at the ends hold all that is farther off."""
    words = [f"{100.0 * low:+.0f} to {100.0 * high:+.0f} %" for low, high in pairwise(edges)]
    words[0], words[-1] = f"below {100.0 * edges[1]:+.0f} %", f"above {100.0 * edges[-2]:+.0f} %"
    rows = [units.plural(count, "row") for count in counts.tolist()]
    return [f"<b>{bin_}</b><br>{side}: {number}" for bin_, number in zip(words, rows, strict=True)]


def alt(part: PhaseRows, predicted: str) -> str:
    """What the figures show, for those who do not see them."""
    errors = (part.errors(column) for column in _columns(part, predicted).values())
    medians: Sequence[str] = [
        f"{units.percent(each.median)} by the {side}" for side, each in zip(_SIDES, errors, strict=True)
    ]
    return f"{WORDS[part.phase]}: {units.plural(len(part), 'row')}, median error {' and '.join(medians)}"
