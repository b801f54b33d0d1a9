"""Figures of the Compare page hold the values of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

import simulator
from dashboard.content import comparing
from dashboard.content.answers import answer
from dashboard.figures import compare as figures
from dashboard.figures.theme import BAD, BLUE, OF_KIND, folded
from hardware import units
from simulator import Estimate

_Named = list[tuple[str, Estimate]]
_Drawn = Callable[[figures.Named], go.Figure]


@pytest.fixture(scope="module", name="named")
def _named() -> _Named:
    """The opening set, and a run that does not fit."""
    rows = comparing.begun_with()
    estimates = [answer(row).estimate for row in rows]
    estimates.append(simulator.estimate("palm-540b", "dgx-a100-320gb", devices=64))
    return [(f"{number} {each.system}", each) for number, each in enumerate(estimates, start=1)]


_AMOUNTS: dict[str, tuple[_Drawn, Callable[[Estimate], float], Callable[[float], str]]] = {
    "time": (figures.times, lambda each: each.run.time_s, units.duration),
    "energy": (figures.energies, lambda each: each.run.energy_kwh, units.energy),
    "cost": (figures.costs, lambda each: each.run.cost_usd or 0.0, units.money),
}


@pytest.mark.parametrize("what", _AMOUNTS)
def test_bars_are_the_amounts_and_lines_their_intervals(named: _Named, what: str) -> None:
    draw, amount, write = _AMOUNTS[what]
    bars, words = draw(named).data
    assert list(bars.y) == list(words.y) == [folded(label) for label, _ in named]
    assert list(bars.x) == [amount(each) for _, each in named]
    for row, (_, each) in enumerate(named):
        value = amount(each)
        low, high = each.likely(value) or (value, value)
        assert bars.x[row] + bars.error_x.array[row] == pytest.approx(high)
        assert bars.x[row] - bars.error_x.arrayminus[row] == pytest.approx(low)
        assert words.x[row] == pytest.approx(high)
        assert words.text[row].strip() == (write(value) if value else "no price")


def test_what_does_not_fit_is_hatched(named: _Named) -> None:
    bars = figures.times(named).data[0]
    assert list(bars.marker.pattern.shape) == ["", "", "", "", "/"]
    assert list(bars.marker.color) == [BLUE] * 4 + [BAD]
    assert bars.hovertext[-1].endswith("does not fit")


def test_memory_stands_beside_what_a_device_holds(named: _Named) -> None:
    bars, words, marks = figures.memories(named).data
    assert list(bars.x) == [each.memory_bytes["total"] for _, each in named]
    assert list(marks.x) == [each.memory_bytes["capacity"] for _, each in named]
    assert bars.error_x.visible is False
    capacity = units.size(named[0][1].memory_bytes["capacity"])
    assert bars.hovertext[0].endswith(f" of {capacity}")
    assert [text.strip() for text in words.text] == [units.size(each.memory_bytes["total"]) for _, each in named]


def test_shares_of_a_step_add_up(named: _Named) -> None:
    *kinds, words = figures.steps(named).data
    assert [trace.name for trace in kinds] == [
        kind for kind in OF_KIND if any(kind in each.limits for _, each in named)
    ]
    for row, (_, each) in enumerate(named):
        assert sum(trace.x[row] for trace in kinds) == pytest.approx(1.0)
        assert words.text[row].strip() == units.duration(each.step_time_s)
        assert {trace.name: trace.x[row] for trace in kinds if trace.x[row]} == each.limits


@pytest.mark.parametrize("draw", [figures.times, figures.costs, figures.energies, figures.memories, figures.steps])
def test_words_beside_bars_have_room(named: _Named, draw: _Drawn) -> None:
    drawn: Any = draw(named)
    end = drawn.layout.xaxis.range[1]
    words = next(trace for trace in drawn.data if trace.type == "scatter" and trace.mode == "text")
    assert all(place < 0.86 * end for place in words.x)


def test_one_scenario_without_any_figure_is_drawn() -> None:
    alone = [("1 x", simulator.estimate("bert-large", "mi250x", constants="none"))]
    bars = figures.costs(alone).data[0]
    assert list(bars.x) == [0.0]
    assert bars.error_x.visible is False
