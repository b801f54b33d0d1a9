"""`simulator.search`: the best plans for a model on a number of devices, out of all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from hardware.spec import System
from simulator.answers.estimate import Estimate, answer
from simulator.plan_search import conditions
from simulator.plan_search.exploration import Exploration, Objective, Progress, explore
from simulator.plan_search.impossible import lacking, refuse_impossible, refuse_lacking
from simulator.plan_search.limits import Limits
from simulator.plan_search.preference import Preferred
from simulator.plan_search.pricing import SearchSetting
from simulator.plan_search.ranking import Place, spread
from simulator.plan_search.safety import Caution, read_chance
from simulator.plan_search.space import Space
from simulator.plan_search.table import Fastest, Table, read_by
from simulator.plan_search.wishes import MOST_LISTED, SearchWishes, read_objective, read_pareto, read_top
from simulator.scenario.defaults import USUAL
from simulator.scenario.scenario import Named, Scenario, resolve, spec_of
from simulator.scenario.stacks import with_other_stacks
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.step.chances import WISHED

_OF_WORK = ("global_batch", "sequence_length", "target_length")
PLAN_FIELDS = (
    "dp",
    "tp",
    "pp",
    "cp",
    "ep",
    "etp",
    "virtual_stages",
    "schedule",
    "micro_batch",
    "sequence_parallel",
    "sharding",
    "sharding_group",
    "recompute",
    "recompute_modules",
    "recompute_layers",
    "recompute_method",
    "offload_optimizer",
    "placement",
)


@dataclass(frozen=True)
class Search:
    """What a search found."""

    model: str
    system: str
    devices: int
    stack: str
    objective: Objective
    candidates: int
    """Plans that keep all rules of divisibility, all of them weighed."""
    feasible: int
    """Those of them that fit in memory and keep the limits."""
    priced: int
    """Those whose time was computed: all that fit."""
    rejected: dict[str, int]
    """Plans that cannot be, by the rule that they break first; ``memory`` for those that do not fit, ``limits`` for
    those that are slower than deadline or budget allow."""
    seconds: float
    best: tuple[Estimate, ...]
    """The best first. By time, cost or energy plans within 2 % of the fastest count as equally fast, and the one
    that needs least machinery comes first; how fast they are is what they stay below with `chance`."""
    pareto: tuple[Estimate, ...] | None
    """Where asked for, plans that no other beats in both respects, the fastest first."""
    nearest: Estimate | None
    """Where nothing fits, the plan that needs least memory; where nothing that fits keeps the limits, the fastest."""
    whole: bool
    """Whether all plans were seen, or somebody interrupted."""
    limits: Limits = field(default_factory=Limits)
    fits: float = WISHED
    """Probability with which plans had to fit."""
    room_bytes: float = float("inf")
    """Predicted memory of a device up to which they do, with the headroom left free."""
    fastest: Fastest | None = None
    """Where asked for, the fastest plan for each pair of values of two fields."""
    quickest: Estimate | None = None
    """Where it is not the first of the best: the plan of the shortest expected step, whatever machinery it needs."""
    chance: float | None = None
    """Chance with which plans stay below the time that they are ranked by; nothing where that is the expected time."""
    workload: Mapping[str, Any] = field(default_factory=dict)
    """Sequences of a step, and their lengths."""
    precision: str = "bf16"
    optimizer: str = "adamw"
    why_stack: str | None = None
    """Why it is this stack, where nobody named one and it is not the usual one."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        apart = ("best", "pareto", "nearest", "limits", "fastest", "quickest")
        plain = {name: value for name, value in vars(self).items() if name not in apart}
        return {
            **plain,
            **vars(self.limits),
            "rank": "expected" if self.chance is None else "safe",
            "best": self._listed(self.best),
            **({"pareto": self._listed(self.pareto)} if self.pareto is not None else {}),
            **({"quickest": listed(self.quickest, self.chance)} if self.quickest is not None else {}),
            **({"nearest": listed(self.nearest, self.chance)} if self.nearest is not None else {}),
            **({"fastest": self.fastest.to_dict()} if self.fastest is not None else {}),
        }

    def _listed(self, estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
        """Plans of a list, as plain values."""
        return [listed(one, self.chance) for one in estimates]


def listed(estimate: Estimate, chance: float | None = None) -> dict[str, Any]:
    """One plan of a list, as plain values.

    Parameters
    ----------
    estimate
        The plan.
    chance
        With which it stays below the safe time, where there is one.
    """
    return {
        "plan": {name: estimate.plan[name] for name in PLAN_FIELDS if name in estimate.plan},
        "step_time_s": estimate.step_time_s,
        "safe_step_time_s": estimate.step_time_within(chance) if chance is not None else None,
        "interval": {
            "low_s": estimate.step_time_low_s,
            "high_s": estimate.step_time_high_s,
            "level": estimate.interval_level,
        },
        "memory_bytes": estimate.memory_bytes["total"],
        "capacity_bytes": estimate.memory_bytes["capacity"],
        "fits": estimate.fits,
        "fits_probability": estimate.fits_probability,
        "mfu": estimate.mfu,
        "tokens_per_s": estimate.tokens_per_s,
        "of": estimate.run.of,
        "time_s": estimate.run.time_s,
        "cost_usd": estimate.run.cost_usd,
        "energy_kwh": estimate.run.energy_kwh,
        "limited_by": estimate.limited_by,
        "warnings": list(estimate.warnings),
    }


def search(
    model: Named | Model,
    system: str | Path | System | None = None,
    *,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    objective: str = "time",
    where: str | None = None,
    top: int = 10,
    pareto: str | None = None,
    headroom: float | str = 0.0,
    deadline: float | str | None = None,
    budget: float | str | None = None,
    by: str | None = None,
    rank: str = "safe",
    chance: float | str | None = None,
    progress: Progress | None = None,
    **scenario: Any,
) -> Search:
    """Price every plan and list the best.

    Parameters
    ----------
    model, system
        As `simulator.estimate` takes them.
    plan
        What must be so: fields that are given stay as they are.
    stack
        The software; what it cannot run is not tried. Where it is left open and nothing fits with the usual one, others
        are tried.
    objective
        ``time``, ``cost``, ``energy`` or ``memory``.
    where
        Conditions on the plan, such as ``tp<=8,sharding!=zero3``, and on its chance to fit, such as ``fits>=0.9``.
    top
        How many of the best plans to list.
    pareto
        Two of the objectives, such as ``time,memory``, for a list of plans that no other beats in both.
    headroom
        Share of the memory that stays free, such as 0.1 or ``10%``.
    deadline, budget
        How long the run may take, if nothing interrupts it, and what it may cost, as `simulator.rent` takes them.
    by
        Two fields of the plan, such as ``tp,pp``, for a table of the fastest plan for each pair of their values.
    rank
        ``safe``: by what plans stay below with a chance, by the errors of predictions on published runs like them, so
        that a kind of plan that few have published must be better by more. ``expected``: by the predicted time, as
        fronts, tables and limits always are. By memory there is no difference.
    chance
        The chance of ``safe``, such as ``70%``, which it is unless given.
    progress
        Called after each grid of plans.
    scenario
        ``devices``, ``workload``, ``price``, ``fits`` and all else that `simulator.estimate` takes.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> result = search("bert-large", "dgx-a100-640gb", workload={"sequence_length": 128, "global_batch": 512})
    >>> result.best[0].plan["dp"], result.feasible > 1000
    (8, True)
    """
    opened = resolve(model, system, plan=plan, stack=stack, open_plan=True, **scenario)
    wishes: dict[str, Any] = {"objective": objective, "where": where, "top": top, "pareto": pareto, "by": by}
    wishes |= {"headroom": headroom, "deadline": deadline, "budget": budget, "rank": rank, "chance": chance}
    return searched(opened, spec_of(Plan, plan), stack is not None, progress=progress, **wishes)


def searched(
    scenario: Scenario, plan: Plan, stack_given: bool, *, progress: Progress | None = None, **wishes: Any
) -> Search:
    """Search for the best plans of a scenario whose plan is open; `search` says what may be wished for.

    Where the stack was not given and nothing fits, the next one that is usual and has what is asked is tried.
    """
    asked, start, first = SearchWishes(**wishes), time.perf_counter(), None
    wanted = (*conditions.of_plan(plan), *conditions.parse(asked.where))
    conditions.refuse_contradicting(wanted)
    if stack_given:
        refuse_lacking(wanted, scenario.stack)
    for one in chain((scenario,), () if stack_given else with_other_stacks(scenario, plan)):
        if lacking(wanted, one.stack) is None:
            answered = _searched(one, plan, wanted, asked, progress)
            first = first or answered
            if answered.feasible or not answered.whole:
                return replace(answered, seconds=time.perf_counter() - start)
    if first is None:
        refuse_lacking(wanted, scenario.stack)
        raise AssertionError(wanted)
    return replace(first, seconds=time.perf_counter() - start)


def _searched(
    scenario: Scenario,
    plan: Plan,
    wanted: tuple[conditions.Condition, ...],
    asked: SearchWishes,
    progress: Progress | None,
) -> Search:
    """Search with one stack."""
    aim, both, by = read_objective(asked.objective, scenario), read_pareto(asked.pareto, scenario), read_by(asked.by)
    limits, chance = Limits.read(asked.headroom, asked.deadline, asked.budget), read_chance(asked.rank, asked.chance)
    asked_for, fits = conditions.apart(wanted, scenario.fits)
    scenario, wanted = replace(scenario, fits=fits), asked_for
    refuse_impossible(plan, scenario)
    table = Table(by) if by is not None else None
    caution = Caution.of(scenario, chance)
    seen = explore(
        space_of(scenario, wanted),
        replace(setting_of(scenario), capacity=limits.memory(scenario)),
        by_memory=aim == "memory",
        top=read_top(asked.top),
        front=both is not None,
        slowest=limits.step_time(scenario),
        table=table,
        caution=caution,
        progress=progress,
    )
    return replace(_told(seen, scenario, aim, both, limits, table), chance=caution.chance if caution else None)


def space_of(scenario: Scenario, wanted: tuple[conditions.Condition, ...]) -> Space:
    """The plans that a scenario with an open plan could have, of those that its stack can run."""
    return Space(
        scenario.model,
        scenario.workload,
        scenario.system,
        scenario.stack,
        scenario.devices,
        scenario.plan,
        wanted,
    )


def setting_of(scenario: Scenario) -> SearchSetting:
    """What all plans of a scenario share."""
    return SearchSetting(
        scenario.model.columns(),
        scenario.workload.columns(),
        scenario.columns().stacks,
        scenario.backend(),
        scenario.room,
        scenario.host_capacity,
        scenario.plan,
        scenario.workload.global_batch or 1,
        scenario.stack,
        space_of(scenario, ()).alone,
    )


def estimate_at(place: Place, scenario: Scenario) -> Estimate:
    """The whole answer for a plan of a grid."""
    plan = place.grid.plan(place.index, scenario.plan).with_degrees(scenario.devices)
    return answer(replace(scenario, plan=plan))


def _told(
    exploration: Exploration,
    scenario: Scenario,
    aim: Objective,
    both: tuple[str, str] | None,
    limits: Limits,
    table: Table | None,
) -> Search:
    """The answer to a search."""
    rejected = {name: count for name, count in exploration.rejected.most_common() if count}
    front = None
    if exploration.front is not None and both is not None:
        places = exploration.front.places if "memory" in both else exploration.front.places[:1]
        front = tuple(estimate_at(place, scenario) for place in spread(places, MOST_LISTED))
    near = [] if exploration.feasible else (exploration.quickest if exploration.priced else exploration.nearest).places
    places, work = exploration.best.places, scenario.workload
    raw = exploration.best.quickest if isinstance(exploration.best, Preferred) else None
    quickest = None if raw is None or raw.looks == places[0].looks else raw
    return Search(
        model=scenario.model.id,
        system=scenario.system.id,
        devices=scenario.devices,
        stack=scenario.stack.id,
        objective=aim,
        candidates=exploration.candidates,
        feasible=exploration.feasible,
        priced=exploration.priced,
        rejected=rejected,
        seconds=0.0,
        best=tuple(estimate_at(place, scenario) for place in places),
        pareto=front,
        nearest=estimate_at(near[0], scenario) if near else None,
        whole=exploration.whole,
        limits=limits,
        fits=scenario.fits,
        room_bytes=limits.memory(scenario),
        fastest=table.fastest(lambda place: _listed_plan(place, scenario)) if table is not None else None,
        quickest=estimate_at(quickest, scenario) if quickest is not None else None,
        workload={name: getattr(work, name) for name in _OF_WORK if getattr(work, name) is not None},
        precision=scenario.precision,
        optimizer=scenario.plan.optimizer or "adamw",
        why_stack=next((line for line in scenario.assumed if line.startswith("stack=") and USUAL not in line), None),
    )


def _listed_plan(place: Place, scenario: Scenario) -> dict[str, Any]:
    """The plan of a grid, as `listed` says it."""
    plan = place.grid.plan(place.index, scenario.plan).with_degrees(scenario.devices)
    known = {name: getattr(plan, name) for name in PLAN_FIELDS if getattr(plan, name) is not None}
    return {**known, "placement": list(known["placement"])}
