"""`simulator.search`: the best plans for a model on a number of devices, out of all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from hardware.errors import InputError, shown
from hardware.spec import System
from simulator.estimation import Estimate, answer
from simulator.plan_search import conditions
from simulator.plan_search.exploration import Exploration, Objective, Progress, explore
from simulator.plan_search.impossible import refuse_impossible
from simulator.plan_search.pricing import Setting
from simulator.plan_search.ranking import Place, spread
from simulator.plan_search.space import Space
from simulator.scenario import Named, Scenario, resolve, spec_of
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack

_MOST = 1000
"""Plans that a search lists at most."""
_PARETO = ("time", "cost", "energy", "memory")
_PLAN_FIELDS = (
    "dp",
    "tp",
    "pp",
    "cp",
    "ep",
    "virtual_stages",
    "schedule",
    "micro_batch",
    "sequence_parallel",
    "sharding",
    "sharding_group",
    "recompute",
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
    """Those of them that fit in memory."""
    priced: int
    """Those whose time was computed: all that fit."""
    rejected: dict[str, int]
    """Plans that cannot be, by the rule that they break first; ``memory`` for those that do not fit."""
    seconds: float
    best: tuple[Estimate, ...]
    """The best first; ties are broken by the simplicity of the plan."""
    pareto: tuple[Estimate, ...] | None
    """Where asked for, plans that no other beats in both respects, the fastest first."""
    nearest: Estimate | None
    """Where nothing fits, the plan that needs least memory."""
    whole: bool
    """Whether all plans were seen, or somebody interrupted."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        plain = {name: value for name, value in vars(self).items() if name not in ("best", "pareto", "nearest")}
        return {
            **plain,
            "best": [listed(one) for one in self.best],
            **({"pareto": [listed(one) for one in self.pareto]} if self.pareto is not None else {}),
            **({"nearest": listed(self.nearest)} if self.nearest is not None else {}),
        }


def listed(found: Estimate) -> dict[str, Any]:
    """One plan of a list, as plain values."""
    return {
        "plan": {name: found.plan[name] for name in _PLAN_FIELDS if name in found.plan},
        "step_time_s": found.step_time_s,
        "interval": {
            "low_s": found.step_time_low_s,
            "high_s": found.step_time_high_s,
            "level": found.interval_level,
        },
        "memory_bytes": found.memory_bytes["total"],
        "capacity_bytes": found.memory_bytes["capacity"],
        "fits": found.fits,
        "mfu": found.mfu,
        "tokens_per_s": found.tokens_per_s,
        "time_s": found.run.time_s,
        "cost_usd": found.run.cost_usd,
        "energy_kwh": found.run.energy_kwh,
        "limited_by": found.limited_by,
        "warnings": list(found.warnings),
    }


def search(
    model: Named | Model,
    system: str | Path | System,
    *,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    objective: str = "time",
    where: str | None = None,
    top: int = 10,
    pareto: str | None = None,
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
        The software. Axes that it does not offer are not tried; where it is left open all are.
    objective
        ``time``, ``cost``, ``energy`` or ``memory``.
    where
        Conditions on the plan, such as ``tp<=8,sharding!=zero3``.
    top
        How many of the best plans to list.
    pareto
        Two of the objectives, such as ``time,memory``, for a list of plans that no other beats in both.
    progress
        Called after each grid of plans.
    scenario
        ``devices``, ``workload``, ``price`` and all else that `simulator.estimate` takes.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> found = search("bert-large", "dgx-a100-640gb", workload={"sequence_length": 128, "global_batch": 512})
    >>> found.best[0].plan["dp"], found.feasible > 1000
    (8, True)
    """
    opened = resolve(model, system, plan=plan, stack=stack, open_plan=True, **scenario)
    wishes: dict[str, Any] = {"objective": objective, "where": where, "top": top, "pareto": pareto}
    return searched(opened, spec_of(Plan, plan), stack is not None, **wishes, progress=progress)


def searched(
    scenario: Scenario,
    given: Plan,
    stack_given: bool,
    *,
    objective: str = "time",
    where: str | None = None,
    top: int = 10,
    pareto: str | None = None,
    progress: Progress | None = None,
) -> Search:
    """Search for the best plans of a scenario whose plan is open; `search` says what the parameters mean."""
    aim = _objective(objective, scenario)
    both = _pareto(pareto, scenario)
    number = _top(top)
    wanted = (*conditions.given(given), *conditions.parse(where))
    refuse_impossible(given, scenario)
    space = space_of(scenario, wanted, any_axis=not stack_given)
    start = time.perf_counter()
    found = explore(
        space,
        setting_of(scenario),
        by_memory=aim == "memory",
        top=number,
        front=both is not None,
        progress=progress,
    )
    return _told(found, scenario, aim, both, number, start)


def space_of(scenario: Scenario, wanted: tuple[conditions.Condition, ...], *, any_axis: bool) -> Space:
    """The plans that a scenario with an open plan could have."""
    return Space(
        scenario.model,
        scenario.workload,
        scenario.system,
        scenario.stack,
        scenario.devices,
        scenario.plan,
        wanted,
        any_axis,
    )


def setting_of(scenario: Scenario) -> Setting:
    """What all plans of a scenario share."""
    backend = scenario.backend()
    return Setting(
        scenario.model.columns(),
        scenario.workload.columns(),
        scenario.shifts.on_stacks(scenario.stack.columns()),
        backend,
        float(backend.device.memory_capacity),
        scenario.plan,
        scenario.workload.global_batch or 1,
    )


def estimate_at(place: Place, scenario: Scenario) -> Estimate:
    """The whole answer for a plan of a grid."""
    plan = place.grid.plan(place.index, scenario.plan).with_degrees(scenario.devices)
    return answer(replace(scenario, plan=plan))


def _told(
    found: Exploration, scenario: Scenario, aim: Objective, both: tuple[str, str] | None, number: int, start: float
) -> Search:
    """The answer to a search."""
    rejected = {name: count for name, count in found.rejected.most_common() if count}
    front = None
    if found.front is not None and both is not None:
        places = found.front.places if "memory" in both else found.front.places[:1]
        front = tuple(estimate_at(place, scenario) for place in spread(places, _MOST))
    nearest = found.nearest.places[0] if not found.feasible and found.nearest.places else None
    best = tuple(estimate_at(place, scenario) for place in found.best.places[:number])
    return Search(
        model=scenario.model.id,
        system=scenario.system.id,
        devices=scenario.devices,
        stack=scenario.stack.id,
        objective=aim,
        candidates=found.candidates,
        feasible=found.feasible,
        priced=found.feasible,
        rejected=rejected,
        seconds=time.perf_counter() - start,
        best=best,
        pareto=front,
        nearest=estimate_at(nearest, scenario) if nearest is not None else None,
        whole=found.whole,
    )


def _objective(name: str, scenario: Scenario) -> Objective:
    """What is minimised."""
    if name not in get_args(Objective):
        raise InputError(f"objective={shown(name)}: choose one of {', '.join(get_args(Objective))}")
    _need_price("objective=cost", name, scenario)
    return name  # type: ignore[return-value]


def _need_price(place: str, name: str, scenario: Scenario) -> None:
    """Refuse to compare costs that nobody knows."""
    if name == "cost" and scenario.price is None:
        raise InputError(
            f"{place}: no price of {scenario.system.device.id} is known; give one, such as price=2.5", fields=["price"]
        )


def _top(number: Any) -> int:
    """How many plans to list."""
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST:
        raise InputError(f"top={shown(number)}: list 1 to {_MOST} plans")
    return number


def _pareto(text: str | None, scenario: Scenario) -> tuple[str, str] | None:
    """The two respects of a front."""
    if text is None:
        return None
    names = [name.strip() for name in str(text).split(",")]
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= set(_PARETO):
        raise InputError(f"pareto={shown(text)}: name two of {', '.join(_PARETO)}, such as time,memory")
    for name in names:
        _need_price(f"pareto={text}", name, scenario)
    return names[0], names[1]
