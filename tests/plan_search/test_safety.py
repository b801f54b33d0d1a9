"""Safe ranking: the factors of a grid are those of its plans one by one, and little evidence has to be made up for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import simulator
from hardware.errors import InputError
from simulator.answers.estimate import answer, errors_of
from simulator.evidence.traits import fast_reach, traits_of
from simulator.plan_search.exploration import explore
from simulator.plan_search.grid import PlanGrid
from simulator.plan_search.pricing import step_times, weigh
from simulator.plan_search.safety import CHANCE, Caution, read_chance
from simulator.plan_search.searching import search, setting_of, space_of
from simulator.scenario.choosing import CLOSE
from simulator.scenario.scenario import Scenario, resolve
from tests.plan_search.cases import SMALL, small, space


def _caution(scenario: Scenario, chance: float = CHANCE) -> Caution:
    """The caution of a scenario that has one."""
    caution = Caution.of(scenario, chance)
    assert caution is not None
    return caution


def _grids(scenario: Scenario, of: Any) -> Iterator[tuple[PlanGrid, Any]]:
    """Grids of a space with their plans weighed."""
    for grid in of.grids():
        yield grid, weigh(grid, setting_of(scenario), of.rejected)


@pytest.mark.parametrize("name", SMALL)
def test_factors_of_a_grid_are_those_of_each_plan(name: str) -> None:
    scenario = replace(small(name), constants=resolve("bert-large", "dgx-a100-640gb").constants)
    caution, errors, seen = _caution(scenario), errors_of(scenario.constants), 0
    assert errors is not None
    for grid, weighed in _grids(scenario, space(small(name))):
        factors = np.broadcast_to(caution.factors(weighed.program.scenarios.plans), grid.shape).reshape(-1)
        for index in range(0, grid.size, max(1, grid.size // 40)):
            plan = grid.plan(index, scenario.plan)
            traits = traits_of(replace(scenario, plan=plan))
            assert factors[index] == pytest.approx(float(errors.factors(traits, np.array([CHANCE]))[0]), rel=1e-12)
            seen += 1
    assert seen > 20


def test_the_safe_best_is_the_best_of_all_plans_one_by_one() -> None:
    scenario = resolve("bert-large", "dgx-a100-640gb", devices=8, open_plan=True)
    caution, least = _caution(scenario), np.inf
    for _, weighed in _grids(scenario, space_of(scenario, ())):
        times = np.asarray(step_times(weighed, setting_of(scenario)))
        safe = np.where(weighed.fits, times * caution.factors(weighed.program.scenarios.plans), np.inf)
        least = min(least, float(safe.min()))
    ranked = explore(space_of(scenario, ()), setting_of(scenario), top=5, caution=caution).best.places
    assert ranked[0].value <= CLOSE * least
    assert min(place.value for place in ranked) == pytest.approx(least)
    whole = answer(replace(scenario, plan=ranked[0].grid.plan(ranked[0].index, scenario.plan).with_degrees(8)))
    assert whole.step_time_within(CHANCE) == pytest.approx(ranked[0].value, rel=1e-9)


def test_a_kind_that_few_published_must_be_better_by_more() -> None:
    scenario = resolve("llama-3-8b", "dgx-h100", devices=64, open_plan=True)
    caution = _caution(scenario)
    plain = scenario.plan.model_copy(update={"dp": 8, "tp": 8, "pp": 1, "cp": 1, "micro_batch": 1, "schedule": "1f1b"})
    kinds = {
        "plain": plain,
        "tensor ranks beyond the node": plain.model_copy(update={"tp": 16, "dp": 4}),
        "zero bubbles": plain.model_copy(update={"schedule": "zero-bubble", "pp": 2, "dp": 4}),
        "context": plain.model_copy(update={"cp": 2, "dp": 4}),
    }
    factors = {
        name: float(caution.factors(plan.with_defaults(scenario.stack).columns(scenario.workload)))
        for name, plan in kinds.items()
    }
    assert all(factors[name] > factors["plain"] for name in kinds if name != "plain"), factors


def test_more_caution_costs_more() -> None:
    scenario = resolve("bert-large", "dgx-a100-640gb", devices=8)
    columns = scenario.plan.columns(scenario.workload)
    factors = [float(_caution(scenario, chance).factors(columns)) for chance in (0.5, 0.7, 0.9, 0.95)]
    assert factors == sorted(factors)
    assert len(set(factors)) == 4


def test_fast_links_end_at_the_node_or_the_pod() -> None:
    assert fast_reach(resolve("bert-large", "dgx-a100-640gb").system) == 8.0
    pod = resolve("bert-large", "tpu-v4-pod").system
    assert fast_reach(pod) == float(pod.devices_per_pod or pod.most_devices) > pod.devices_per_node


@pytest.mark.parametrize("constants", ["none", None])
def test_without_errors_the_expected_time_ranks(constants: str | None) -> None:
    found = search("bert-large", "dgx-a100-640gb", devices=2, top=2, constants=constants)
    assert found.chance == (CHANCE if constants is None else None)
    assert (found.to_dict()["best"][0]["safe_step_time_s"] is None) == (constants == "none")


def test_answers_tell_both_times() -> None:
    found = simulator.search("bert-large", "dgx-a100-640gb", devices=8, top=3, chance="90%")
    document = found.to_dict()
    assert (document["rank"], document["chance"]) == ("safe", 0.9)
    for one, estimate in zip(document["best"], found.best, strict=True):
        assert one["safe_step_time_s"] == estimate.step_time_within(0.9) > one["step_time_s"]
    expected = simulator.search("bert-large", "dgx-a100-640gb", devices=8, top=3, rank="expected").to_dict()
    assert (expected["rank"], expected["chance"]) == ("expected", None)


def test_what_is_no_rank_or_chance_is_refused() -> None:
    assert read_chance("safe", 0.6) == 0.6
    for rank, chance, words in (
        ("fast", None, "unknown rank 'fast'"),
        (None, None, "unknown rank"),
        ("safe", "70", "chance='70': give a probability"),
        ("safe", True, "chance=true: give a probability"),
        ("safe", 1.0, "chance=1.0: give a probability"),
        ("expected", 0.7, "belongs to rank=safe"),
    ):
        with pytest.raises(InputError, match=words):
            read_chance(rank, chance)
