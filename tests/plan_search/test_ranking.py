"""What is listed is what sorting every plan would put first."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from simulator.plan_search import exploration
from simulator.plan_search.exploration import Exploration, explore
from simulator.plan_search.ranking import Place
from simulator.plan_search.searching import Search, search, searched, setting_of
from simulator.specs.plan import Plan
from simulator.terminal.search import plan_words, quickest_words
from tests.plan_search.cases import SMALL, Key, Values, everything, key_of, rounded, shortest, simplicity, small, space

_MANY = 100_000


@pytest.fixture(params=[1_000, 2_000_000], ids=["small pieces", "whole grids"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut grids into pieces, whose order must not matter."""
    monkeypatch.setattr(exploration, "_PLANS", request.param)


@cache
def _sorted_by_memory(name: str) -> list[Plan]:
    """All plans that fit, the smallest first, and of those alike only the simplest."""
    fitting = everything(name).fitting()
    time, memory = rounded(fitting.time), rounded(fitting.memory)
    simple: dict[tuple[float, float], int] = {}
    for index in sorted(range(len(fitting.plans)), key=lambda index: simplicity(fitting.plans[index])):
        simple.setdefault((float(time[index]), float(memory[index])), index)
    order = sorted(simple.values(), key=lambda i: (memory[i], time[i], simplicity(fitting.plans[i])))
    return [fitting.plans[index] for index in order]


@cache
def _sorted_by_time(name: str) -> list[Plan]:
    """All plans to list: up to 2 % slower than the fastest by their machinery, then the others by time.

    Without those that offload what fits on the device, and of those alike only the simplest.
    """
    fitting = everything(name).fitting()
    time, memory = rounded(fitting.time), rounded(fitting.memory)
    there = set(fitting.keys)
    own = [i for i, plan in enumerate(fitting.plans) if not plan.offload_optimizer or _on_device(plan) not in there]
    bound = 1.02 * min(fitting.time[i] for i in own)

    def place(i: int) -> tuple[Any, ...]:
        close = fitting.time[i] <= bound
        return (not close, _machinery(fitting.plans[i], name) if close else 0, time[i], simplicity(fitting.plans[i]))

    listed: dict[tuple[float, float], int] = {}
    for index in sorted(own, key=place):
        listed.setdefault((float(time[index]), float(memory[index])), index)
    return [fitting.plans[index] for index in listed.values()]


def _on_device(plan: Plan) -> Key:
    """The same plan with its states on the device."""
    return key_of(plan.model_copy(update={"offload_optimizer": False}))


def _machinery(plan: Plan, name: str) -> int:
    """Kinds of machinery of a plan, of software whose users share nothing and run 1F1B, or GPipe on a TPU."""
    scenario = small(name)
    usual = {"bert": "none", "experts": "zero1", "tpu": "zero3"}[name]
    long = (scenario.workload.sequence_length or 0) >= 4096 * (plan.cp or 1)
    used = [axis for axis in ("tp", "cp", "dp", "pp") if getattr(plan, axis) > 1]
    kinds = [
        (plan.tp or 1) > 1,
        (plan.pp or 1) > 1,
        plan.sharding not in ("none", usual),
        plan.schedule in ("gpipe", "zero-bubble"),
        (plan.virtual_stages or 1) > 1,
        [axis for axis in plan.placement or () if axis in used] != used,
    ]
    return sum(kinds) + 3 * bool(plan.offload_optimizer) + ((plan.cp or 1) > 1) * (1 if long else 4)


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
    wanted = list(map(key_of, (_sorted_by_memory if by_memory else _sorted_by_time)(name)))
    for top in (1, 30):
        assert _keys(_explored(name, top, by_memory=by_memory).best.places, name) == wanted[:top]


@pytest.mark.parametrize("name", SMALL)
def test_all_of_them_where_more_are_asked_for_than_there_are(name: str) -> None:
    assert _keys(_explored(name, _MANY).best.places, name) == list(map(key_of, _sorted_by_time(name)))


@pytest.mark.parametrize("name", SMALL)
def test_no_two_listed_plans_are_alike(name: str) -> None:
    places = _explored(name, 300).best.places
    assert len({place.looks for place in places}) == len(places)
    for one, other in pairwise(sorted(places, key=lambda place: place.looks)):
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
    rates = [(one.run.cost_usd or 0.0) / one.step_time_s for one in quickest.best]
    assert rates == pytest.approx([rates[0]] * len(rates))


def test_the_least_memory_is_the_least_of_all() -> None:
    best = _search(objective="memory", top=2).best
    assert best[0].memory_bytes["total"] == everything("bert").memory.min()
    assert best[0].memory_bytes["total"] <= best[1].memory_bytes["total"]


def test_a_front_of_time_and_money_is_the_fastest_plan() -> None:
    search = _search(pareto="time,cost", top=1)
    assert search.pareto is not None
    assert [one.step_time_s for one in search.pareto] == [shortest(search).step_time_s]


def test_a_front_lists_answers_from_the_fastest_to_the_smallest() -> None:
    front = _search(pareto="memory,energy", top=1).pareto or ()
    assert len(front) > 3
    for one, other in pairwise(front):
        assert one.step_time_s < other.step_time_s
        assert one.memory_bytes["total"] > other.memory_bytes["total"]


def test_of_plans_about_as_fast_the_plainer_comes_first_and_the_shortest_step_stays_visible() -> None:
    """Of GPT-3 on 1,024 A100 context parallelism of 2,048 tokens gains less than a per cent over tensor parallelism."""
    result = search("gpt3-175b", "superpod-a100", devices=1024, top=4)
    assert all(one.plan["cp"] == 1 for one in result.best)
    assert not any(one.plan["offload_optimizer"] for one in result.best)
    first, quickest = result.best[0], result.quickest
    assert quickest is not None
    assert quickest.step_time_s < first.step_time_s <= 1.02 * quickest.step_time_s
    assert quickest.plan["cp"] > 1
    words = quickest_words(result)
    assert words is not None
    assert plan_words(quickest) in words
    assert result.to_dict()["quickest"]["plan"]["cp"] == quickest.plan["cp"]


def test_context_parallelism_of_long_sequences_is_one_kind_among_others() -> None:
    work = {"sequence_length": 131072, "global_batch": 8}
    assert search("llama-3-8b", "dgx-h100", devices=64, workload=work, top=1).best[0].plan["cp"] > 1


def test_what_the_device_holds_is_not_listed_once_more_with_offloaded_states() -> None:
    scenario: dict[str, Any] = {
        "workload": {"sequence_length": 128, "global_batch": 512},
        "stack": "deepspeed",
        "top": 50,
    }
    listed = [one.plan for one in search("bert-large", "dgx-a100-640gb", **scenario).best]
    plain = [{**plan, "offload_optimizer": False} for plan in listed if plan["offload_optimizer"]]
    assert not any(plan in listed for plan in plain)
    asked = search("bert-large", "dgx-a100-640gb", plan={"offload_optimizer": True}, **scenario)
    assert all(one.plan["offload_optimizer"] for one in asked.best)
