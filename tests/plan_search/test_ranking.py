"""What is listed is what sorting every plan would put first."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from simulator.plan_search import exploration
from simulator.plan_search.exploration import Exploration, explore
from simulator.plan_search.ranking import Place
from simulator.plan_search.searching import Search, searched, setting_of
from simulator.specs.plan import Plan
from tests.plan_search.cases import SMALL, Key, Values, everything, key_of, rounded, simplicity, small, space

_MANY = 100_000


@pytest.fixture(params=[1_000, 2_000_000], ids=["small pieces", "whole grids"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut grids into pieces, whose order must not matter."""
    monkeypatch.setattr(exploration, "_PLANS", request.param)


@cache
def _sorted(name: str, *, by_memory: bool) -> list[Plan]:
    """All plans that fit, the best first, and of those alike only the simplest."""
    fitting = everything(name).fitting()
    time, memory = rounded(fitting.time), rounded(fitting.memory)
    simple: dict[tuple[float, float], int] = {}
    for index in sorted(range(len(fitting.plans)), key=lambda index: simplicity(fitting.plans[index])):
        simple.setdefault((float(time[index]), float(memory[index])), index)
    first = memory if by_memory else time
    order = sorted(simple.values(), key=lambda i: (first[i], time[i], simplicity(fitting.plans[i])))
    return [fitting.plans[index] for index in order]


def _explored(name: str, top: int, *, by_memory: bool = False, front: bool = False) -> Exploration:
    return explore(space(small(name)), setting_of(small(name)), by_memory=by_memory, top=top, front=front)


def _plan(place: Place, name: str) -> Plan:
    scenario = small(name)
    return place.grid.plan(place.index, scenario.plan).with_degrees(scenario.devices)


def _keys(places: list[Place], name: str) -> list[Key]:
    return [key_of(_plan(place, name)) for place in places]


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("by_memory", [False, True], ids=["time", "memory"])
@pytest.mark.parametrize("name", SMALL)
def test_the_best_are_the_first_of_all_sorted(name: str, by_memory: bool) -> None:
    wanted = list(map(key_of, _sorted(name, by_memory=by_memory)))
    for top in (1, 30):
        assert _keys(_explored(name, top, by_memory=by_memory).best.places, name) == wanted[:top]


@pytest.mark.parametrize("name", SMALL)
def test_all_of_them_where_more_are_asked_for_than_there_are(name: str) -> None:
    assert _keys(_explored(name, _MANY).best.places, name) == list(map(key_of, _sorted(name, by_memory=False)))


@pytest.mark.parametrize("name", SMALL)
def test_no_two_listed_plans_are_alike(name: str) -> None:
    places = _explored(name, 300).best.places
    assert len({place.looks for place in places}) == len(places)
    for one, other in pairwise(sorted(places, key=lambda place: (place.time, place.memory))):
        assert other.time > one.time * (1.0 + 1e-12) or other.memory > one.memory * (1.0 + 1e-12)


def test_of_plans_as_fast_the_simplest_comes_first() -> None:
    best = _explored("tpu", 200).best.places
    ties = [pair for pair in pairwise(best) if pair[0].looks[0] == pair[1].looks[0]]
    assert ties
    for one, other in ties:
        assert simplicity(_plan(one, "tpu")) < simplicity(_plan(other, "tpu"))


def test_the_best_does_not_depend_on_how_many_are_listed() -> None:
    most = _keys(_explored("bert", 200).best.places, "bert")
    for top in (1, 2, 5, 20):
        assert _keys(_explored("bert", top).best.places, "bert") == most[:top]


def _unbeaten(time: Values, memory: Values) -> set[tuple[float, float]]:
    """Pairs that no other beats, by comparing each with each."""
    pairs = np.unique(np.column_stack([time, memory]), axis=0)
    beaten = np.zeros(len(pairs), dtype=bool)
    for index, pair in enumerate(pairs):
        beaten[index] = ((pairs <= pair).all(axis=1) & (pairs < pair).any(axis=1)).any()
    return set(map(tuple, pairs[~beaten].tolist()))


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name", SMALL)
def test_the_front_is_what_no_other_beats(name: str) -> None:
    fitting = everything(name).fitting()
    front = _explored(name, 1, front=True).front
    assert front is not None
    points = [(place.time, place.memory) for place in front.places]
    assert points == sorted(points)
    assert set(points) == _unbeaten(fitting.time, fitting.memory)
    values = dict(zip(fitting.keys, zip(fitting.time, fitting.memory, strict=True), strict=True))
    assert [values[key] for key in _keys(front.places, name)] == points


def _search(**wishes: object) -> Search:
    return searched(small("bert"), Plan(), False, **wishes)  # type: ignore[arg-type]


def test_money_and_energy_follow_time() -> None:
    quickest = _search(objective="time", top=3)
    for objective in ("cost", "energy"):
        search = _search(objective=objective, top=3)
        assert [one.plan for one in search.best] == [one.plan for one in quickest.best]
    assert [one.run.cost_usd for one in quickest.best] == sorted(one.run.cost_usd or 0.0 for one in quickest.best)


def test_the_least_memory_is_the_least_of_all() -> None:
    best = _search(objective="memory", top=2).best
    assert best[0].memory_bytes["total"] == everything("bert").memory.min()
    assert best[0].memory_bytes["total"] <= best[1].memory_bytes["total"]


def test_a_front_of_time_and_money_is_the_fastest_plan() -> None:
    search = _search(pareto="time,cost", top=1)
    assert search.pareto is not None
    assert [one.step_time_s for one in search.pareto] == [search.best[0].step_time_s]


def test_a_front_lists_answers_from_the_fastest_to_the_smallest() -> None:
    front = _search(pareto="memory,energy", top=1).pareto or ()
    assert len(front) > 3
    for one, other in pairwise(front):
        assert one.step_time_s < other.step_time_s
        assert one.memory_bytes["total"] > other.memory_bytes["total"]
