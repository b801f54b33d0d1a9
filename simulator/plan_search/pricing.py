"""Grids of plans weighed and priced: rules first, then memory, then time for what is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.plan_search.grid import PlanGrid
from simulator.pricing.backend import Backend
from simulator.specs.architectures import Models
from simulator.specs.capabilities.offers import offered, terms_of
from simulator.specs.choices import Sharding
from simulator.specs.plan import Plan
from simulator.specs.plans import Plans
from simulator.specs.rules import constraints
from simulator.specs.stack import Stack, Stacks
from simulator.specs.workload import Workloads
from simulator.step.memory import host_bytes, peak_total
from simulator.step.time import step_time
from simulator.work.program import Program, program_of
from simulator.work.transformer import Scenarios

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]
_WORTH = 0.75
"""A grid is cut to what fits where that leaves less than this share of it."""


@dataclass(frozen=True)
class SearchSetting:
    """What all plans of a search share, as numbers."""

    models: Models
    workloads: Workloads
    stacks: Stacks
    backend: Backend
    capacity: float
    """Predicted memory of a device up to which a plan fits [B]."""
    host_capacity: float
    """Memory of the host for each of its devices [B]."""
    base: Plan
    batch: int
    stack: Stack
    """What states which plans it can run."""
    alone: Sharding | None = None
    """What a single replica that offloads is said to share, as `Space.alone` has it."""

    def scenarios(self, grid: PlanGrid) -> Scenarios:
        """The plans of a grid as scenarios."""
        return Scenarios(self.models, self.workloads, grid.columns(self.base, self.batch), self.stacks)


@dataclass(frozen=True)
class Weighed:
    """A grid of plans with what each needs; arrays have the grid's shape, or 1 where an axis changes nothing."""

    grid: PlanGrid
    kept: Mask
    """Whether the plan keeps all rules."""
    memory: Values
    """[B]"""
    fits: Mask
    """Whether it does and its memory suffices."""
    program: Program
    """What time follows from as memory did."""


def weigh(grid: PlanGrid, setting: SearchSetting, rejected: Counter[str]) -> Weighed:
    """Memory of all plans of a grid, and which of them can be.

    Parameters
    ----------
    grid
        The plans.
    setting
        What they share.
    rejected
        Grows by the plans that break a rule, and by those that need too much memory.
    """
    scenarios = setting.scenarios(grid)
    kept, program = _kept(scenarios, setting, grid, rejected), program_of(scenarios)
    total = np.asarray(peak_total(program), dtype=np.float64)
    fits = kept & (total <= setting.capacity) & (np.asarray(host_bytes(program)) <= setting.host_capacity)
    heavy = number(kept, grid) - number(fits, grid)
    if heavy:
        rejected["memory"] += heavy
    return Weighed(grid, kept, total, fits, program)


def _kept(scenarios: Scenarios, setting: SearchSetting, grid: PlanGrid, rejected: Counter[str]) -> Mask:
    """Which plans keep all rules, those of divisibility and those of the stack."""
    plans = scenarios.plans
    alive = _differs(plans, grid, setting)
    rules = [
        (rule.name, rule.kept)
        for rule in constraints(plans, setting.models, setting.workloads, setting.stacks)
        if not np.all(rule.kept)
    ]
    can = offered(setting.stack, terms_of(plans, setting.models, setting.workloads, grid.words(setting.base)))
    for name, keeps in (*rules, ("stack", can)):
        left = alive & keeps
        rejected[name] += number(alive, grid) - number(left, grid)
        alive = left
    return alive


def _differs(plans: Plans, grid: PlanGrid, setting: SearchSetting) -> Mask:
    """Whether sharding is not another one in disguise: of a single replica none, of a group of all of them ZeRO-3.

    A group that all plans are to have stays, and what a single replica has to say for its states to be offloaded.
    """
    asked = setting.base.sharding_group
    shares = np.array([name != "none" for name, _ in grid.shardings]).reshape(1, 1, -1, 1, 1, 1)
    group = np.array([group for _, group in grid.shardings], dtype=np.float64).reshape(1, 1, -1, 1, 1, 1)
    replicas = np.asarray(plans.replicas)
    differs = (group < replicas) | ((group == replicas) & (group == (asked or 0)))
    alone = np.array([name == setting.alone for name, _ in grid.shardings]).reshape(1, 1, -1, 1, 1, 1)
    several = (replicas > 1.0) | (alone & (np.asarray(plans.offload) > 0.0) if alone.any() else False)
    return np.asarray((~shares | several) & differs)


def number(mask: Mask, grid: PlanGrid) -> int:
    """Plans of a grid that a mask holds, which may be short along axes that change nothing."""
    return int(np.count_nonzero(mask)) * (grid.size // mask.size)


def cut(weighed: Weighed, setting: SearchSetting) -> Weighed:
    """The part of a grid that holds all plans which fit, where that is notably smaller."""
    fits = np.broadcast_to(weighed.fits, weighed.grid.shape)
    axes = range(fits.ndim)
    kept = [np.flatnonzero(fits.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    if np.prod([len(index) for index in kept]) > _WORTH * weighed.grid.size:
        return weighed

    def part(values: NDArray[Any]) -> NDArray[Any]:
        for axis, index in enumerate(kept):
            if values.shape[axis] > 1:
                values = np.take(values, index, axis=axis)
        return values

    grid = weighed.grid.narrowed(kept)
    program = program_of(setting.scenarios(grid))
    return Weighed(grid, part(weighed.kept), part(weighed.memory), part(weighed.fits), program)


def step_times(weighed: Weighed, setting: SearchSetting) -> Num:
    """Step time of all plans of a grid [s]; it broadcasts to the grid's shape."""
    return step_time(weighed.program, setting.backend, broken_down=False).time
