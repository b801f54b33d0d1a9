"""Figures and tables of the Rent page hold the values of the API."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

import simulator
from dashboard.figures import rent
from simulator import Outlook


@cache
def _outlook(**limits: Any) -> Outlook:
    outlook = simulator.rent("bert-large", systems="workstation-rtx-3090,dgx-2", max_devices=4, processes=1)
    return outlook.within(**limits)


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
