"""The basis of a step, where a measured profile prices it."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.figures.theme import BLUE, GREEN, GREY, ORANGE, SKY, folded, laid_out
from hardware import units
from simulator import Estimate
from simulator.answers.basis import WORDS, Basis

_COLOURS: dict[Basis, str] = {"measured": BLUE, "near": SKY, "fitted": GREEN, "catalogue": GREY, "stack": ORANGE}
_ROW, _AROUND = 34, 62
"""Height of one bar, and of what is around all of them [pixels]."""
_ROOM = 1.25
"""Of the axis over the longest bar, for the share beside it."""
_LEAST = 0.0005


def basis(estimate: Estimate) -> go.Figure:
    """Share of the step by its basis: measured shapes, forms fitted to measurements, or the catalogue."""
    shares = {tier: share for tier, share in (estimate.basis or {}).items() if share >= _LEAST}
    figure = go.Figure()
    figure.add_bar(
        y=[folded(WORDS[tier], 18) for tier in shares],
        x=[100.0 * share for share in shares.values()],
        orientation="h",
        marker_color=[_COLOURS[tier] for tier in shares],
        text=[units.percent(share) for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        hovertext=[
            f"<b>{WORDS[tier]}</b>: {units.percent(share)} of the step grow with these times"
            for tier, share in shares.items()
        ],
        hoverinfo="text",
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=[0.0, 100.0 * _ROOM * max(shares.values(), default=1.0)], visible=False)
    figure.update_layout(bargap=0.25)
    return laid_out(figure, height=_AROUND + _ROW * len(shares), bottom=8)
