"""Spaces of plans that are small enough to look at every plan of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

import simulator
from simulator.plan_search import conditions
from simulator.plan_search.pricing import step_times, weigh
from simulator.plan_search.searching import setting_of, space_of
from simulator.plan_search.space import Space
from simulator.scenario.scenario import Scenario, resolve
from simulator.specs.capabilities.sheet import Capabilities
from simulator.specs.plan import Plan
from tests.stacks import unrestricted

Values = NDArray[np.float64]
Key = tuple[Any, ...]
_RECOMPUTE = ("none", "selective", "operators", "full")
_SHARDINGS = ("none", "zero1", "zero2", "zero3", "hybrid")
_SCHEDULES = ("1f1b", "gpipe", "interleaved", "looped-bfs", "zero-bubble", "zero-bubble-v", "dualpipe-v")
_ORDERS = list(permutations(("tp", "cp", "dp", "pp")))
_SMALL: dict[str, tuple[dict[str, Any], str, int, dict[str, Any]]] = {
    "bert": (
        {"base": "bert-large", "layers": 6, "position_rows": 4096},
        "dgx-1-v100",
        4,
        {"sequence_length": 4096, "global_batch": 16},
    ),
    "experts": (
        {"base": "mixtral-8x7b", "layers": 6},
        "dgx-h100",
        4,
        {"sequence_length": 8192, "global_batch": 4, "tokens": 1e9},
    ),
    "tpu": ({"base": "bert-large", "layers": 4}, "tpu-v4-pod", 8, {"sequence_length": 512, "global_batch": 4}),
}
SMALL = tuple(_SMALL)
WINNERS = (
    ("gpt3-175b", "superpod-a100", 256),
    ("palm-540b", "palm-2pod", 768),
    ("llama-3.1-8b", "dgx-h100", 16),
    ("bert-large", "dgx-1-v100", 8),
    ("mixtral-8x7b", "dgx-h100", 32),
    ("mixtral-8x22b", "dgx-h100", 64),
    ("qwen3-30b-a3b", "dgx-h100", 32),
    ("gpt-oss-120b", "dgx-h100", 32),
)
"""Searches over dense models and models of experts."""
_LISTED = 60


@cache
def small(name: str) -> Scenario:
    """A scenario with an open plan and few devices; schedules that only torch has are tried for one of them."""
    model, system, devices, workload = _SMALL[name]
    scenario = resolve(model, system, devices=devices, workload=workload, open_plan=True)
    stack = unrestricted(scenario.stack)
    if name != "bert":
        stack = stack.model_copy(update={"offers": Capabilities()})
    return replace(scenario, stack=stack)


def space(scenario: Scenario, *, plan: Plan | None = None, where: str | None = None, usual: bool = False) -> Space:
    """The plans of a scenario that conditions leave."""
    wanted = (*conditions.of_plan(plan or Plan()), *conditions.parse(where))
    return replace(space_of(scenario, wanted), usual=usual)


@dataclass(frozen=True)
class Listing:
    """Every plan that keeps the rules, in no particular order."""

    plans: list[Plan]
    time: Values
    memory: Values
    fits: NDArray[np.bool_]

    @cached_property
    def keys(self) -> list[Key]:
        """What tells the plans apart."""
        return [key_of(plan) for plan in self.plans]

    def fitting(self) -> Listing:
        """The plans that fit."""
        kept = np.flatnonzero(self.fits)
        return Listing([self.plans[i] for i in kept], self.time[kept], self.memory[kept], self.fits[kept])


def every(scenario: Scenario, looked_at: Space) -> Listing:
    """Weigh and price a whole space and keep all of it."""
    setting = setting_of(scenario)
    parts = list(_parts(scenario, looked_at, setting))
    if not parts:
        return Listing([], np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_))
    return Listing(
        [plan for part in parts for plan in part.plans],
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.memory for part in parts]),
        np.concatenate([part.fits for part in parts]),
    )


def _parts(scenario: Scenario, looked_at: Space, setting: Any) -> Iterator[Listing]:
    """One listing for each grid."""
    for grid in looked_at.grids():
        weighed = weigh(grid, setting, looked_at.rejected)
        kept = np.flatnonzero(np.broadcast_to(weighed.kept, grid.shape))
        columns = [
            np.broadcast_to(each, grid.shape).reshape(-1)[kept]
            for each in (step_times(weighed, setting), weighed.memory, weighed.fits)
        ]
        plans = [grid.plan(int(i), scenario.plan).with_degrees(scenario.devices) for i in kept]
        yield Listing(plans, *columns)


@cache
def search_of(model: str, system: str, devices: int) -> simulator.Search:
    """The best plans of a search, and the fastest for each sharding and recomputation."""
    return simulator.search(model, system, devices=devices, top=_LISTED, by="sharding,recompute")


def shortest(search: simulator.Search) -> simulator.Estimate:
    """The plan of the shortest step that a search saw, whatever machinery it needs."""
    return search.best[0] if search.quickest is None else search.quickest


@cache
def everything(name: str) -> Listing:
    """All plans of a small scenario."""
    return every(small(name), space(small(name)))


def key_of(plan: Plan) -> Key:
    """What tells a plan from others: axes of one rank have no place."""
    order = plan.placement or ()
    return (
        *(plan.tp, plan.pp, plan.cp, plan.dp, plan.ep, plan.etp or plan.tp),
        tuple(axis for axis in order if getattr(plan, axis) > 1),
        *(plan.sharding, plan.sharding_group or 0, plan.schedule, plan.virtual_stages),
        *(bool(plan.offload_optimizer), plan.micro_batch, bool(plan.sequence_parallel), plan.recompute),
    )


def simplicity(plan: Plan) -> Key:
    """Less is simpler."""
    return (
        *(plan.pp, plan.tp, plan.cp, plan.ep),
        *(_SHARDINGS.index(plan.sharding or ""), plan.sharding_group or 0),
        *(plan.virtual_stages, _SCHEDULES.index(plan.schedule or "")),
        *(bool(plan.offload_optimizer), _RECOMPUTE.index(plan.recompute or "")),
        *(bool(plan.sequence_parallel), -(plan.micro_batch or 0), _ORDERS.index(plan.placement or ())),
    )


def rounded(values: Values) -> Values:
    """Whole numbers that are equal where values differ by less than a billionth, but for those beside a border."""
    whole: Values = np.rint(np.log(values) / 1e-9)
    return whole
