"""Figures of the Evidence page hold the values of the comparison."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.content import evidence
from dashboard.content.evidence import OTHERS, SCHEMES
from dashboard.figures import evidence as figures
from dashboard.figures.theme import GREY, folded
from simulator.evidence import scores
from simulator.evidence.scores import Scheme
from tests.dashboard.published import small_validation

_OUTCOMES = small_validation().outcomes
_GROUPS = evidence.grouped(_OUTCOMES, "device class", 5)


def _drawn(scheme: Scheme, near: tuple[str, ...] = ()) -> dict[str, Any]:
    """The traces by name."""
    figure = figures.agreement(_GROUPS, scheme, scores.scored(_OUTCOMES, scheme), evidence.by_id(_OUTCOMES), near)
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_run_is_a_point(scheme: Scheme) -> None:
    traces = _drawn(scheme)
    for name, members in _GROUPS.items():
        points = traces[name]
        assert list(points.x) == [each.measured_s for each in members]
        assert list(points.y) == [each.by(scheme).predicted_s for each in members]
        assert all(each.id in text for each, text in zip(members, points.hovertext, strict=True))
    assert traces[OTHERS].marker.color == GREY
    shapes = {trace.marker.symbol[0].removesuffix("-open") for name, trace in traces.items() if name in _GROUPS}
    assert len(shapes) == len({*_GROUPS} - {OTHERS}), "colour is not the only difference; others are circles too"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_lies_outside_its_interval_is_hollow(scheme: Scheme) -> None:
    traces = _drawn(scheme)
    for name, members in _GROUPS.items():
        hollow = [symbol.endswith("-open") for symbol in traces[name].marker.symbol]
        sure = scheme != "nothing fitted"
        assert hollow == [sure and not each.by(scheme).covered for each in members]
    assert ("typical interval" in traces) == (scheme != "nothing fitted")


def test_lines_are_where_predictions_hold() -> None:
    traces = _drawn("new source")
    score = scores.scored(_OUTCOMES, "new source")
    assert list(traces["equal"].x) == list(traces["equal"].y)
    line = traces["typical interval"]  # the upper one is drawn last
    assert line.x[0] / line.y[0] == pytest.approx(score.high)


def test_runs_like_the_scenario_are_ringed() -> None:
    near = _OUTCOMES[3]
    ring = _drawn("new source", (near.id, "not here"))["like this scenario"]
    assert (list(ring.x), list(ring.y)) == ([near.measured_s], [near.predicted_s])
    assert "like this scenario" not in _drawn("new source", ("not here",))


def test_axes_are_alike_and_hold_every_point() -> None:
    figure = figures.agreement(_GROUPS, "new source", scores.headline(_OUTCOMES), {})
    layout: Any = figure.layout
    assert list(layout.xaxis.range) == list(layout.yaxis.range)
    low, high = (10.0**end for end in layout.xaxis.range)
    assert all(low < time < high for each in _OUTCOMES for time in (each.measured_s, each.predicted_s))
    assert all(low <= tick <= high for tick in layout.xaxis.tickvals)
    assert len(layout.xaxis.tickvals) >= 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_errors_reach_from_the_median_to_the_90th_percentile(scheme: Scheme) -> None:
    groups = [each for each in evidence.scored(_OUTCOMES, "stack", scheme) if each.score.rows >= 3]
    bars: Any = figures.errors(groups).data[0]
    shown = groups[: len(bars.y)]
    assert list(bars.y) == [folded(each.name) for each in shown]
    assert list(bars.x) == [pytest.approx(100.0 * each.score.median_abs_error) for each in shown]
    ends = [start + more for start, more in zip(bars.x, bars.error_x.array, strict=True)]
    assert ends == [pytest.approx(100.0 * each.score.p90_abs_error) for each in shown]


def test_coverage_is_drawn_where_it_is() -> None:
    groups = [each for each in evidence.scored(_OUTCOMES, "task", "new source") if each.score.rows >= 3]
    points: Any = figures.coverage(groups).data[0]
    assert list(points.x) == [pytest.approx(100.0 * each.score.coverage_90) for each in groups]
    layout: Any = figures.coverage(groups).layout
    assert layout.shapes[0].x0 == 90.0
    assert layout.xaxis.range[0] < min(points.x)


def test_a_few_runs_are_drawn_where_there_are_no_more() -> None:
    few = evidence.scored(_OUTCOMES[:1], "stack", "new source")
    bars: Any = figures.errors(few).data[0]
    assert list(bars.y) == [few[0].name]
