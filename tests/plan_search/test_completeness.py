"""The space of a search is all plans: the same as written down field by field, checked one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import permutations, product
from typing import Any, get_args

import numpy as np
import pytest

from hardware.errors import InputError
from simulator.plan_search.exploration import explore
from simulator.plan_search.preference import Preferred
from simulator.plan_search.searching import setting_of
from simulator.scenario.scenario import Scenario
from simulator.specs.capabilities.checking import is_offered, offered_plans
from simulator.specs.choices import EVERY_RECOMPUTE, Axis, Schedule, Sharding
from simulator.specs.loading import load_stack
from simulator.specs.plan import Plan, check
from simulator.specs.plans import Plans
from simulator.step.chances import chances_of
from simulator.step.evaluation import evaluate
from simulator.work.transformer import Scenarios
from tests.plan_search.cases import SMALL, Key, every, everything, key_of, small, space
from tests.thorough import cases

_ORDERS: list[tuple[Axis, ...]] = list(permutations(get_args(Axis)))


def _degrees(scenario: Scenario) -> Iterator[dict[str, Any]]:
    """Degrees, virtual stages and micro-batches."""
    devices, batch = scenario.devices, scenario.workload.global_batch or 1
    few = range(1, devices + 1)
    for tp, pp, cp, dp, ep in product(few, few, few, few, range(1, scenario.model.experts + 1)):
        if tp * pp * cp * dp != devices or scenario.model.experts % ep or batch % dp:
            continue
        sizes = [micro for micro in range(1, batch + 1) if batch % (dp * micro) == 0]
        for virtual, micro in product(range(1, scenario.model.all_layers + 3), sizes):
            for etp in {None, 1} if tp > 1 and scenario.model.experts > 1 else {None}:
                degrees = {"tp": tp, "pp": pp, "cp": cp, "dp": dp, "ep": ep, "etp": etp}
                yield degrees | {"virtual_stages": virtual, "micro_batch": micro}


def _shardings(replicas: int, node: int) -> Iterator[dict[str, Any]]:
    """What replicas share; hybrid sharding over nodes."""
    if replicas == 1:
        yield {"sharding": "none"}
        return
    for name in get_args(Sharding):
        if name != "hybrid":
            yield {"sharding": name}
        elif node < replicas:
            yield {"sharding": name, "sharding_group": node}


def _schedules(scenario: Scenario, degrees: dict[str, Any]) -> Iterator[Schedule]:
    """Schedules of the stack that a number of stages and of virtual stages allows."""
    for name in scenario.stack.offers.schedules:
        several, virtual = degrees["pp"] > 1, degrees["virtual_stages"] > 1
        two = degrees["virtual_stages"] == 2
        allowed = {
            "1f1b": not virtual,
            "gpipe": several and not virtual,
            "interleaved": virtual,
            "looped-bfs": virtual,
            "zero-bubble": several,
            "zero-bubble-v": two,
            "dualpipe-v": two,
        }
        if allowed[name]:
            yield name


def _written_down(scenario: Scenario) -> Iterator[Plan]:
    """Plans that keep the rules, each once."""
    node = scenario.system.devices_per_node
    for degrees in _degrees(scenario):
        shares = (False, True) if degrees["tp"] > 1 else (False,)
        for sharding, schedule, shared in product(
            _shardings(degrees["dp"] * degrees["cp"], node), _schedules(scenario, degrees), shares
        ):
            fields = {**degrees, "sharding_group": None, **sharding, "schedule": schedule, "sequence_parallel": shared}
            plan = scenario.plan.model_copy(update=fields)
            if not _is_allowed(plan, scenario):
                continue
            orders = {tuple(a for a in order if (degrees[a] or 1) > 1): order for order in _ORDERS}
            for order, offload, recompute in product(orders.values(), (False, True), EVERY_RECOMPUTE):
                more = {"placement": order, "offload_optimizer": offload, "recompute": recompute}
                yield plan.model_copy(update=more)


def _is_allowed(plan: Plan, scenario: Scenario) -> bool:
    """Whether a plan keeps the rules, which know nothing of placement, offloading and recomputation."""
    try:
        check(plan.with_degrees(scenario.devices), scenario.model, scenario.workload, scenario.stack)
    except InputError:
        return False
    return True


@cache
def _brute(name: str) -> tuple[set[Key], int, int, float]:
    """Plans, their number, the number of those that fit, and the least time."""
    scenario = small(name)
    plans = list(_written_down(scenario))
    rows = Plans.stack([plan.columns(scenario.workload) for plan in plans])
    shared = replace(scenario, plan=plans[0]).columns()
    backend = scenario.backend()
    evaluation = evaluate(Scenarios(shared.models, shared.workloads, rows, shared.stacks), backend)
    chances = chances_of(scenario.model, scenario.system, scenario.stack)
    capacity = scenario.system.device.memory_capacity
    fits = np.asarray(chances.chance(evaluation.memory.total, capacity)) >= scenario.fits
    return set(map(key_of, plans)), len(plans), int(fits.sum()), float(np.asarray(evaluation.step.time)[fits].min())


@pytest.mark.parametrize("name", SMALL)
def test_every_plan_is_tried_once(name: str) -> None:
    keys, number, *_ = _brute(name)
    assert len(keys) == number
    listed = everything(name).keys
    assert len(listed) == len(set(listed)) == number
    assert set(listed) == keys


@pytest.mark.parametrize("name", SMALL)
def test_counts_and_the_best_are_those_of_brute_force(name: str) -> None:
    _, number, fitting, quickest = _brute(name)
    exploration = explore(space(small(name)), setting_of(small(name)))
    assert (exploration.candidates, exploration.feasible) == (number, fitting)
    assert isinstance(exploration.best, Preferred)
    assert exploration.best.quickest is not None
    assert exploration.best.quickest.time == pytest.approx(quickest, rel=1e-12)
    assert exploration.whole
    assert exploration.rejected["memory"] == number - fitting


@pytest.mark.parametrize("name", SMALL)
def test_the_usual_plans_are_some_of_all_with_the_same_values(name: str) -> None:
    whole = everything(name)
    values = dict(zip(whole.keys, zip(whole.time, whole.memory, strict=True), strict=True))
    listed = every(small(name), space(small(name), usual=True))
    assert 0 < len(listed.plans) == len(set(listed.keys)) < len(values)
    for key, time, memory in zip(listed.keys, listed.time, listed.memory, strict=True):
        assert values[key] == (pytest.approx(time, rel=1e-12), memory)


def test_a_batch_has_all_its_divisors_as_micro_batches() -> None:
    sizes = {plan.micro_batch for plan in everything("bert").plans}
    assert sizes == {1, 2, 4, 8, 16}


def test_only_what_a_stack_can_run_is_tried() -> None:
    scenario = replace(small("bert"), stack=load_stack("pytorch-ddp"))
    plans = every(scenario, space(scenario)).plans
    assert {(plan.tp, plan.pp, plan.cp, plan.schedule) for plan in plans} == {(1, 1, 1, "1f1b")}
    assert {plan.sharding for plan in plans} == {"none", "zero1"}
    assert not any(plan.offload_optimizer for plan in plans)


def _shared_alone(plans: list[Plan], scenario: Scenario) -> Iterator[Plan]:
    """Plans of single replicas, said to share states where the software offloads only such."""
    refused = Plan(sharding="none", offload_optimizer=True)
    if not is_offered(refused, scenario.model, scenario.workload, scenario.stack):
        for plan in plans:
            if (plan.dp or 1) * (plan.cp or 1) == 1 and plan.offload_optimizer:
                yield plan.model_copy(update={"sharding": "zero1"})


@pytest.mark.parametrize("stack", ["megatron-lm", "megatron-lm-2022", "deepspeed", "nanotron", "jax-xla-gpu"])
@pytest.mark.parametrize("name", ["bert", "experts"])
def test_what_is_tried_is_all_that_the_stack_can_run(name: str, stack: str) -> None:
    """A grid's masks, those of a list of plans, and one plan after the other say the same."""
    scenario = replace(small(name), stack=load_stack(stack))
    listed = {key_of(plan) for plan in every(scenario, space(scenario)).plans}
    plans = [*everything(name).plans, *_shared_alone(everything(name).plans, scenario)]
    kept = offered_plans(plans, [scenario.stack] * len(plans), scenario.model, scenario.workload)
    assert listed
    assert listed == {key_of(plan) for plan, has in zip(plans, kept, strict=True) if has}
    for index in random.Random(11).sample(range(len(plans)), cases(usual=200, thorough=len(plans))):
        one = is_offered(plans[index], scenario.model, scenario.workload, scenario.stack, open_plan=False)
        assert one == bool(kept[index]), plans[index]
