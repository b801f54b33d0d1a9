"""What a search says of a plan is what `simulator.estimate` says of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import simulator
from simulator.plan_search.grid import PlanGrid
from simulator.plan_search.pricing import step_times, weigh
from simulator.plan_search.searching import setting_of
from simulator.scenario.scenario import Scenario, resolve
from simulator.specs.plan import Plan
from simulator.specs.plans import Plans
from simulator.step.evaluation import evaluate
from simulator.work.transformer import Scenarios
from tests.plan_search.cases import WINNERS, every, search_of, small, space

_SETTINGS = [
    ("gpt3-175b", "superpod-a100", 1024),
    ("palm-540b", "palm-2pod", 6144),
    ("mixtral-8x7b", "dgx-h100", 64),
    ("bert-large", "dgx-1-v100", 8),
    ("t5-11b", "tpu-v3-pod", 256),
]
_SEARCHES = (*WINNERS, ("t5-11b", "tpu-v3-pod", 256))
_PLANS = 200
_ALONE = 8
_WINNERS = 25


def _sample(scenario: Scenario, generator: np.random.Generator) -> tuple[list[Plan], list[float], list[float]]:
    """Plans out of random parts of random grids, with the times and memories that grids give them."""
    setting, grids = setting_of(scenario), list(space(scenario).grids())
    plans: list[Plan] = []
    times: list[float] = []
    memories: list[float] = []
    while len(plans) < _PLANS:
        grid = _part(grids[generator.integers(len(grids))], generator)
        weighed = weigh(grid, setting, Counter())
        kept = np.flatnonzero(np.broadcast_to(weighed.kept, grid.shape))
        if not len(kept):
            continue
        priced = np.broadcast_to(step_times(weighed, setting), grid.shape).reshape(-1)
        memory = np.broadcast_to(weighed.memory, grid.shape).reshape(-1)
        for index in generator.choice(kept, min(len(kept), 8), replace=False):
            plans.append(grid.plan(int(index), scenario.plan).with_degrees(scenario.devices))
            times.append(float(priced[index]))
            memories.append(float(memory[index]))
    return plans[:_PLANS], times[:_PLANS], memories[:_PLANS]


def _part(grid: PlanGrid, generator: np.random.Generator) -> PlanGrid:
    """A few entries of each axis of a grid."""
    return grid.narrowed([np.sort(generator.permutation(length)[:4]) for length in grid.shape])


@pytest.mark.parametrize(("model", "system", "devices"), _SETTINGS, ids=[model for model, *_ in _SETTINGS])
def test_grids_give_each_plan_what_it_gets_alone(model: str, system: str, devices: int) -> None:
    scenario = resolve(model, system, devices=devices, open_plan=True)
    plans, times, memories = _sample(scenario, np.random.default_rng(20))
    rows = Plans.stack([plan.columns(scenario.workload) for plan in plans])
    shared = replace(scenario, plan=plans[0]).columns()
    listed = evaluate(Scenarios(shared.models, shared.workloads, rows, shared.stacks), scenario.backend())
    assert np.allclose(listed.step.time, times, rtol=1e-12, atol=0.0)
    assert np.array_equal(listed.memory.total, memories)
    for index in range(_ALONE):
        alone = simulator.estimate(model, system, devices=devices, plan=plans[index])
        assert alone.step_time_s == pytest.approx(times[index], rel=1e-12)
        assert alone.memory_bytes["total"] == memories[index]


def test_plans_fit_where_the_estimate_says_so() -> None:
    scenario = small("experts")
    listing = every(scenario, space(scenario, plan=Plan(tp=1, recompute="none")))
    assert 0 < listing.fits.sum() < len(listing.plans)
    picked = np.random.default_rng(3).choice(len(listing.plans), 40, replace=False)
    for index in picked:
        assert simulator.answer(replace(scenario, plan=listing.plans[index])).fits_as_wished == listing.fits[index]


@pytest.mark.parametrize("most", [1, 100, 7_000])
def test_pieces_make_up_their_grid(most: int) -> None:
    for grid in space(small("tpu")).grids():
        pieces = list(grid.pieces(most))
        assert sum(piece.size for piece in pieces) == grid.size
        beside = grid.size // len(grid.splits) // len(grid.placements)
        assert all(piece.size <= max(most, beside) for piece in pieces)
        pairs = [pair for piece in pieces for pair in product(piece.splits, piece.placements)]
        assert sorted(pairs) == sorted(product(grid.splits, grid.placements))


@pytest.mark.parametrize(("model", "system", "devices"), _SEARCHES, ids=[model for model, *_ in _SEARCHES])
def test_winners_of_a_search_get_the_same_alone(model: str, system: str, devices: int) -> None:
    best = search_of(model, system, devices).best[:_WINNERS]
    assert len(best) >= _WINNERS // 2  # those of data parallelism alone are few
    for winner in best:
        alone = simulator.estimate(model, system, devices=devices, plan=winner.plan)
        assert alone.fits_as_wished
        assert alone.step_time_s == pytest.approx(winner.step_time_s, rel=1e-12)
        assert alone.memory_bytes == winner.memory_bytes
        assert alone.run.cost_usd == winner.run.cost_usd
