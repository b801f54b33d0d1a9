"""The fastest plan for each pair of values: against every plan of small spaces."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.plan_search.exploration import explore
from simulator.plan_search.searching import searched, setting_of
from simulator.plan_search.table import AXES_OF_TABLES, Fastest, Table, read_by
from simulator.specs.choices import EVERY_RECOMPUTE, SHARDINGS
from simulator.specs.plan import Plan
from tests.plan_search.cases import SMALL, everything, shortest, small, space


def _fastest(name: str, by: str, **wishes: Any) -> Fastest:
    table = searched(small(name), Plan(), False, by=by, top=1, **wishes).fastest
    assert table is not None
    return table


def _by_hand(name: str, one: str, other: str) -> dict[tuple[Any, Any], float]:
    """The least time of each pair, infinite where nothing fits."""
    plans, fastest = everything(name), dict[tuple[Any, Any], float]()
    for plan, time, fits in zip(plans.plans, plans.time, plans.fits, strict=True):
        pair = (getattr(plan, one), getattr(plan, other))
        fastest[pair] = min(fastest.get(pair, math.inf), float(time) if fits else math.inf)
    return fastest


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("one", "other"),
    [("tp", "pp"), ("dp", "cp"), ("micro_batch", "tp"), ("sharding", "recompute"), ("virtual_stages", "pp")],
)
def test_each_cell_is_the_fastest_of_its_plans(name: str, one: str, other: str) -> None:
    cells = {cell.values: cell.step_time_s for cell in _fastest(name, f"{one},{other}").cells}
    expected = _by_hand(name, one, other)
    assert set(cells) == set(expected)
    for pair, time in cells.items():
        assert (math.inf if time is None else time) == pytest.approx(expected[pair], rel=1e-12)


def test_experts_and_micro_batches() -> None:
    cells = {cell.values: cell.step_time_s for cell in _fastest("experts", "ep,micro_batch").cells}
    assert set(cells) == set(_by_hand("experts", "ep", "micro_batch"))


def test_the_plan_of_a_cell_is_the_one_that_a_search_for_it_finds() -> None:
    for cell in _fastest("bert", "tp,recompute").cells:
        tp, recompute = cell.values
        best = shortest(searched(small("bert"), Plan(), False, where=f"tp={tp},recompute={recompute}", top=1))
        assert cell.plan is not None
        assert cell.plan == {name: value for name, value in best.plan.items() if name in cell.plan}
        assert cell.step_time_s == pytest.approx(best.step_time_s, rel=1e-12)
        assert cell.memory_bytes == pytest.approx(best.memory_bytes["total"], rel=1e-12)


def test_small_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _fastest("bert", "pp,micro_batch")
    monkeypatch.setattr("simulator.plan_search.exploration._PLANS", 50)
    assert _fastest("bert", "pp,micro_batch") == whole


def test_values_are_in_order() -> None:
    table = _fastest("bert", "recompute,sharding")
    assert table.values == (EVERY_RECOMPUTE, tuple(name for name in SHARDINGS if name in table.values[1]))
    numbers = _fastest("bert", "tp,micro_batch").values
    assert all(list(each) == sorted(each) for each in numbers)
    places = [tuple(each.index(value) for each, value in zip(numbers, cell.values, strict=True))
              for cell in _fastest("bert", "tp,micro_batch").cells]  # fmt: skip
    assert places == sorted(places)


def test_where_nothing_fits_cells_are_empty() -> None:
    for cell in _fastest("bert", "tp,pp", deadline=1e-3).cells:
        assert (cell.step_time_s, cell.memory_bytes, cell.plan) == (None, None, None)


def test_without_plans_there_are_no_cells() -> None:
    table = Table(("tp", "pp"))
    explore(space(small("bert"), where="tp=2,tp=4"), setting_of(small("bert")), table=table)
    assert table.fastest(lambda place: {}).cells == ()


@pytest.mark.parametrize("by", ["tp", "tp,tp", "tp,speed", "tp,pp,cp", "", 7])
def test_what_a_table_cannot_have(by: Any) -> None:
    with pytest.raises(InputError, match=r"^by=.*: name two of tp, pp, .*, such as tp,pp$"):
        read_by(by)
    assert read_by("tp, recompute") == ("tp", "recompute")
    assert read_by(None) is None
    assert len(AXES_OF_TABLES) == 9
