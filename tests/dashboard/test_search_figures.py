"""Figures and tables of Search, Rent and Scale hold the values of the API."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

import simulator
from dashboard.figures import rent, scale, search
from dashboard.theme import OF_KIND
from simulator import Outlook, Scaling, Search
from simulator.plan_search.report import plan_words

_WORK = {"sequence_length": 512, "global_batch": 8}


@cache
def _search(**wishes: Any) -> Search:
    return simulator.search(
        "bert-large", "dgx-1-v100", workload=_WORK, pareto="time,memory", by="tp,recompute", **wishes
    )


@cache
def _outlook(**limits: Any) -> Outlook:
    found = simulator.plan("bert-large", systems="workstation-rtx-3090,dgx-2", max_devices=4, processes=1)
    return found.within(**limits)


@cache
def _scaling(**wishes: Any) -> Scaling:
    return simulator.scale("bert-large", "dgx-a100-640gb", workload={"global_batch": 64}, max_devices=256, **wishes)


# Search


@pytest.mark.parametrize("by", list(search.SPENT))
def test_what_memory_buys(by: str) -> None:
    found = _search()
    figure = search.against_memory(found, by)
    value = search.SPENT[by][2]
    for trace, plans in zip(figure.data, (found.pareto or (), found.best), strict=True):
        assert list(trace.x) == [value(one) for one in plans]
        assert list(trace.y) == [one.memory_bytes["total"] for one in plans]
        assert all(f"<b>{plan_words(one)}</b>" in text for one, text in zip(plans, trace.hovertext, strict=True))
    (line,) = figure.layout.shapes
    assert line.y0 == found.best[0].memory_bytes["capacity"]


def test_memory_that_stays_free_lowers_the_line() -> None:
    found = _search(headroom=0.25)
    (line,) = search.against_memory(found, "time").layout.shapes
    assert line.y0 == pytest.approx(0.75 * found.best[0].memory_bytes["capacity"])


def test_the_fastest_by_two_fields() -> None:
    found = _search().fastest
    assert found is not None
    (heat,) = search.by_two(found).data
    assert list(heat.y) == [str(value) for value in found.values[0]]
    assert list(heat.x) == [str(value) for value in found.values[1]]
    shown = {
        (found.values[0][row], found.values[1][column]): heat.z[row][column]
        for row in range(len(heat.y))
        for column in range(len(heat.x))
    }
    times = {cell.values: cell.step_time_s for cell in found.cells}
    assert shown == {pair: times.get(pair) for pair in shown}
    assert simulator.units.duration(min(filter(None, times.values()))) in {text for row in heat.text for text in row}


def test_where_nothing_fits_cells_are_empty() -> None:
    found = _search(deadline=1.05 * _search().best[0].run.time_s).fastest
    assert found is not None
    (heat,) = search.by_two(found).data
    assert any(cell.step_time_s is None for cell in found.cells)
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


# Rent


@pytest.mark.parametrize("limits", [{}, {"deadline": "30d"}, {"deadline": "30d", "budget": 700.0}, {"budget": 1.0}])
def test_options_by_time_and_money(limits: dict[str, Any]) -> None:
    outlook = _outlook(**limits)
    groups = {group.name: group.options for group in rent.groups(outlook)}
    priced = [option for option in outlook.options if option.cost_usd < math.inf]
    assert len(priced) < len(outlook.options)  # of dgx-2 no price is known
    both = (*groups.get("within the limits", ()), *groups.get("misses a limit", ()))
    assert {id(option) for option in both} == {id(option) for option in priced}
    assert all(outlook.keeps(option) for option in groups.get("within the limits", ()))
    assert groups["not beaten in both"] == outlook.front
    assert groups.get("cheapest in time", (None,))[0] is outlook.cheapest
    assert groups.get("fastest in the budget", (None,))[0] is outlook.fastest
    figure = rent.time_against_money(outlook)
    for trace, options in zip(figure.data, groups.values(), strict=True):
        assert list(trace.x) == [option.time_s for option in options]
        assert list(trace.y) == [option.cost_usd for option in options]
    lines = {shape.x0 if shape.x0 == shape.x1 else shape.y0 for shape in figure.layout.shapes}
    assert lines == {limit for limit in (outlook.deadline_s, outlook.budget_usd) if limit is not None}


def test_tooltips_tell_chances() -> None:
    outlook = _outlook(deadline="30d", budget=700.0)
    option = outlook.options[0]
    told = rent.told(option, outlook)
    assert f"{rent.chance(option.chance(outlook.deadline_s or 0.0))} in time" in told
    assert "within the budget" in told
    assert "chance" not in rent.told(option, _outlook())
    unknown = next(option for option in outlook.options if option.cost_usd == math.inf)
    assert "cost not known" in rent.told(unknown, outlook)


@pytest.mark.parametrize(("value", "text"), [(None, "?"), (0.0, "<1 %"), (1.0, ">99 %"), (0.804, "80 %")])
def test_chances_in_words(value: float | None, text: str) -> None:
    assert rent.chance(value) == text


def test_chances_to_be_done() -> None:
    outlook = _outlook(deadline="30d")
    named = [("one", outlook.options[0]), ("other", outlook.options[-1])]
    figure = rent.chances(outlook, named)
    for trace, (name, option) in zip(figure.data, named, strict=True):
        assert trace.name == name
        assert list(trace.y) == [100.0 * option.chance(float(time)) for time in trace.x]
        assert list(trace.y) == sorted(trace.y)
        assert (trace.y[0], trace.y[-1]) == (0.0, 100.0)
    assert {shape.y0 for shape in figure.layout.shapes} >= {80.0}
    assert rent.chances(_outlook(), named).data[0].x[0] > 0.0


def test_options_as_a_table() -> None:
    outlook = _outlook(deadline="30d", budget=700.0)
    table, formats = rent.rows(outlook, outlook.options)
    assert [(row["system"], row["devices"]) for row in table] == [(one.system, one.devices) for one in outlook.options]
    assert [row["cost"] for row in table] == [
        one.cost_usd if one.cost_usd < math.inf else None for one in outlook.options
    ]
    assert table[0]["deadline"] == rent.chance(outlook.options[0].chance(30 * 86400.0))
    assert set(formats) <= set(table[0])
    assert "deadline" not in rent.rows(_outlook(), outlook.options)[0][0]
    assert rent.rows(outlook, []) == ([], {})


# Scale


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_curves_of_a_scaling(kind: str) -> None:
    found = _scaling(kind=kind)
    counts = [point.devices for point in found.points]
    ideal, curve = scale.rate(found).data
    assert list(curve.x) == list(ideal.x) == counts
    assert list(curve.y) == [point.estimate.tokens_per_s for point in found.points]
    assert list(ideal.y) == [point.ideal_tokens_per_s for point in found.points]
    rates = [most / devices for most, devices in zip(ideal.y, counts, strict=True)]
    assert rates == pytest.approx([rates[0]] * len(rates))
    (share,) = scale.efficiency(found).data
    assert list(share.y) == [100.0 * point.efficiency for point in found.points]


def test_where_efficiency_halves_is_drawn() -> None:
    found = _scaling()
    figure = scale.efficiency(found)
    assert [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1] == [found.halved_at]
    (words,) = figure.layout.annotations
    assert words.text == f"half at some {simulator.units.digits(found.halved_at or 0.0, 2)}"
    never = simulator.scale("bert-large", "dgx-a100-640gb", counts=[1, 2])
    assert scale.efficiency(never).layout.annotations == ()


def test_shares_add_up() -> None:
    found = _scaling()
    figure = scale.shares(found)
    for trace in figure.data:
        assert list(trace.y) == [100.0 * point.estimate.limits.get(trace.name, 0.0) for point in found.points]
        assert trace.marker.color == OF_KIND[trace.name]
    sums = [sum(trace.y[number] for trace in figure.data) for number in range(len(found.points))]
    assert sums == pytest.approx([100.0] * len(found.points), abs=0.3)


def test_points_as_a_table() -> None:
    found = _scaling()
    table, formats = scale.rows(found)
    assert [row["devices"] for row in table] == [point.devices for point in found.points]
    assert [row["efficiency"] for row in table] == [100.0 * point.efficiency for point in found.points]
    assert set(formats) <= set(table[0])
