"""Figures and tables of the Search page hold the values of the API."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

import simulator
from dashboard.figures import search
from hardware import units
from simulator import Search
from simulator.terminal.search import plan_words

_WORK = {"sequence_length": 512, "global_batch": 8}


@cache
def _search(**wishes: Any) -> Search:
    return simulator.search(
        "bert-large",
        "dgx-1-v100",
        stack="megatron-lm",
        workload=_WORK,
        pareto="time,memory",
        by="tp,recompute",
        **wishes,
    )


@pytest.mark.parametrize("by", list(search.SPENT))
def test_what_memory_buys(by: str) -> None:
    outcome = _search()
    figure = search.against_memory(outcome, by)
    value = search.SPENT[by][2]
    for trace, plans in zip(figure.data, (outcome.pareto or (), outcome.best), strict=True):
        assert list(trace.x) == [value(one) for one in plans]
        assert list(trace.y) == [one.memory_bytes["total"] for one in plans]
        assert all(f"<b>{plan_words(one)}</b>" in text for one, text in zip(plans, trace.hovertext, strict=True))
    (line,) = figure.layout.shapes
    assert line.y0 == outcome.room_bytes < outcome.best[0].memory_bytes["capacity"]


def test_memory_that_stays_free_lowers_the_line() -> None:
    outcome = _search(headroom=0.25)
    (line,) = search.against_memory(outcome, "time").layout.shapes
    assert line.y0 == outcome.room_bytes < 0.75 * outcome.best[0].memory_bytes["capacity"]


def test_the_fastest_by_two_fields() -> None:
    table = _search().fastest
    assert table is not None
    (heat,) = search.by_two(table).data
    assert list(heat.y) == [str(value) for value in table.values[0]]
    assert list(heat.x) == [str(value) for value in table.values[1]]
    shown = {
        (table.values[0][row], table.values[1][column]): heat.z[row][column]
        for row in range(len(heat.y))
        for column in range(len(heat.x))
    }
    times = {cell.values: cell.step_time_s for cell in table.cells}
    assert shown == {pair: times.get(pair) for pair in shown}
    assert units.duration(min(filter(None, times.values()))) in {text for row in heat.text for text in row}


def test_where_nothing_fits_cells_are_empty() -> None:
    table = _search(deadline=1.05 * _search().best[0].run.time_s).fastest
    assert table is not None
    (heat,) = search.by_two(table).data
    assert any(cell.step_time_s is None for cell in table.cells)
    assert any(value is None for row in heat.z for value in row)
    assert all((value is None) == (text == "") for z, t in zip(heat.z, heat.text, strict=True)
               for value, text in zip(z, t, strict=True))  # fmt: skip


def test_plans_side_by_side() -> None:
    plans = [*_search().best, *(_search().pareto or ())]
    (lines,) = search.side_by_side(plans).data
    shown = {each.label: each for each in lines.dimensions}
    assert {"tp", "mb", "recompute", "memory", "step"} <= set(shown)
    assert list(shown["tp"].values) == [math.log2(one.plan["tp"]) for one in plans]
    assert [shown["recompute"].ticktext[int(place)] for place in shown["recompute"].values] == [
        one.plan["recompute"] for one in plans
    ]
    assert list(shown["step"].values) == pytest.approx([math.log10(one.step_time_s) for one in plans])
    assert all(len(set(each.values)) > 1 for each in lines.dimensions if each.label not in ("memory", "step"))
    fastest = min(range(len(plans)), key=lambda number: plans[number].step_time_s)
    assert lines.line.color[fastest] == 0


def test_plans_as_a_table() -> None:
    listed = [(one, "best") for one in _search().best]
    table, formats = search.rows(listed)
    assert [row["plan"] for row in table] == [plan_words(one) for one, _ in listed]
    assert formats["step"].endswith(" ms")
    assert [row["step"] for row in table] == pytest.approx([1e3 * one.step_time_s for one, _ in listed])
    assert set(formats) <= set(table[0])
    assert search.rows([]) == ([], {})
