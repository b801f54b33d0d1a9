"""200 winners of searches, chosen at random: an independent sum of their tensors fits where the search says so."""

from __future__ import annotations

import numpy as np
import pytest

import simulator
from hardware import catalogue
from simulator.answers.estimate import Estimate
from simulator.specs.loading import load_model, load_stack
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from tests.plan_search.cases import WINNERS, search_of
from tests.plan_search.devices import held
from tests.plan_search.tensors import Setting

_WINNERS = 25
"""Of each of eight searches."""
_EXACT = 1e-9
_FACTORED = 1e-3
"""Adafactor's moments, a small part of the states, are estimated as of squares as wide as the model."""


def _winners(model: str, system: str, devices: int) -> list[Estimate]:
    """The fastest for each sharding and recomputation, so that all kinds are there, and others out of the best."""
    result = search_of(model, system, devices)
    assert result.fastest is not None
    cells = [cell.plan for cell in result.fastest.cells if cell.plan is not None]
    others = [simulator.estimate(model, system, devices=devices, plan=plan) for plan in cells]
    rest = np.random.default_rng(12).choice(len(result.best), _WINNERS - len(others), replace=False)
    return [*others, *(result.best[index] for index in sorted(rest))]


@pytest.mark.parametrize(("model", "system", "devices"), WINNERS, ids=[model for model, *_ in WINNERS])
def test_no_winner_is_infeasible(model: str, system: str, devices: int) -> None:
    the_model, machine = load_model(model), catalogue.load_system(system)
    winners = _winners(model, system, devices)
    assert len(winners) == _WINNERS
    assert len({(winner.plan["sharding"], winner.plan["recompute"]) for winner in winners}) >= 6
    for winner in winners:
        stack = load_stack(winner.stack)
        plan = Plan(**{name: value for name, value in winner.plan.items() if name in Plan.model_fields})
        stages = held(Setting(the_model, plan, stack, Workload().resolve(the_model)))
        fullest, told = max(stages, key=lambda each: each.total), winner.memory_bytes
        assert fullest.total + stack.runtime_memory <= machine.device.memory_capacity, plan
        if machine.host.memory is not None:
            beside = min(devices, machine.devices_per_node)
            assert max(each.on_host for each in stages) * beside <= machine.host.memory, plan
        states = told["parameters"] + told["gradients"] + told["optimizer"]
        close = _FACTORED if plan.optimizer == "adafactor" else _EXACT
        assert states == pytest.approx(fullest.states, rel=close)
        assert told["activations"] == pytest.approx(fullest.activations, rel=0.02), plan
        assert told["total"] - told["reserved"] == pytest.approx(fullest.total, rel=0.01), plan
        assert winner.host_memory_bytes == pytest.approx(max(each.on_host for each in stages), rel=close)
