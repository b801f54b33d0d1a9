"""Sweeps: the best plan for every model, system and number of devices, on all cores or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from hardware.errors import InputError
from simulator.answers.costs import kinds_of
from simulator.answers.estimate import Estimate, answer, factors_of
from simulator.plan_search import conditions
from simulator.plan_search.conditions import Condition
from simulator.plan_search.exploration import Exploration, explore
from simulator.plan_search.impossible import lacking
from simulator.plan_search.ranking import Place
from simulator.plan_search.safety import Caution, read_chance
from simulator.plan_search.searching import setting_of, space_of
from simulator.plan_search.space import Space
from simulator.renting import workers
from simulator.renting.cases import RentCase, cases_of
from simulator.scenario.scenario import Scenario, resolve
from simulator.scenario.stacks import with_other_stacks
from simulator.specs.plan import Plan
from simulator.specs.plans import AXES

SHARES = np.linspace(0.01, 0.99, 99)
"""Shares of all cases for which an option keeps how long it may take."""
_NOTHING = "no plan is left: "
_INSIDE = Condition("placement", "=", (("cp", "tp", "dp", "pp"),))
"""Of the usual plans the fastest have context-parallel ranks on the fastest links, where there are any."""


@dataclass(frozen=True)
class Option:
    """The best plan of a case."""

    model: str
    system: str
    devices: int
    estimate: Estimate
    factors: tuple[float, ...] | None
    """Factors on the estimate that hold in 1, 2, ... 99 % of cases; unknown without evidence."""

    @property
    def time_s(self) -> float:
        """Expected duration of the run, with failures and checkpoints [s]; infinite for one that would never end."""
        return _known(self.estimate.run.expected_time_s)

    @property
    def cost_usd(self) -> float:
        """Expected rent of the run; infinite where no price is known."""
        return _known(self.estimate.run.expected_cost_usd)

    @property
    def co2_kg(self) -> float:
        """Emissions of the expected run; infinite for one that would never end."""
        run = self.estimate.run
        return run.co2_kg * self.time_s / run.time_s

    def chance(self, seconds: float) -> float:
        """Probability that the run takes no longer, or where no errors are known whether it is expected to."""
        if not np.isfinite(self.time_s):
            return 0.0
        if self.factors is None:
            return float(self.time_s <= seconds)
        return float(np.interp(seconds / self.time_s, self.factors, SHARES, left=0.0, right=1.0))

    def chance_of_cost(self, dollars: float) -> float | None:
        """Probability that the run costs no more; unknown without a price. Rent is paid by time."""
        if self.estimate.run.cost_usd is None:
            return None
        return self.chance(self.time_s * dollars / self.cost_usd) if np.isfinite(self.time_s) else 0.0

    def factor(self, share: float) -> float:
        """Factor on time and cost below which they stay in a share of all cases; 1 where no errors are known."""
        return 1.0 if self.factors is None else float(np.interp(share, SHARES, self.factors))

    def to_dict(self) -> dict[str, Any]:
        """The option as plain values."""
        answer, run = self.estimate, self.estimate.run
        return {
            "model": self.model,
            "system": self.system,
            "devices": self.devices,
            "plan": answer.plan,
            "stack": answer.stack,
            "step_time_s": answer.step_time_s,
            "interval": {"low_s": answer.step_time_low_s, "high_s": answer.step_time_high_s},
            "mfu": answer.mfu,
            "memory_bytes": answer.memory_bytes["total"],
            "of": run.of,
            "fits_probability": answer.fits_probability,
            "time_s": run.time_s,
            "expected_time_s": run.expected_time_s,
            "cost_usd": run.cost_usd,
            "expected_cost_usd": run.expected_cost_usd,
            "price": run.price,
            "goodput": run.goodput,
            "energy_kwh": run.energy_kwh,
            "co2_kg": run.co2_kg,
            "expected_co2_kg": self.co2_kg if np.isfinite(self.co2_kg) else None,
        }


@dataclass(frozen=True)
class Refused:
    """A case without a plan."""

    model: str
    system: str
    devices: int
    reason: str
    rule: str | None = None
    """What most plans break, or ``memory``; nothing where the case could not be read."""


def _known(value: float | None) -> float:
    """A number, or infinity where there is none."""
    return float("inf") if value is None else value


class Swept(NamedTuple):
    """What a sweep found."""

    options: list[Option]
    """The fastest first."""
    refused: list[Refused]
    whole: bool
    """Whether it ended, or somebody interrupted."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        return {
            "whole": self.whole,
            "price_kinds": kinds_of(option.estimate for option in self.options),
            "options": [option.to_dict() for option in self.options],
            "refused": [vars(each) for each in self.refused],
        }


def sweep(
    models: Sequence[Any],
    systems: str | Sequence[Any] = "all",
    devices: Sequence[int] | None = None,
    *,
    max_devices: int = 1024,
    plan: Any = None,
    where: str | None = None,
    every_plan: bool = False,
    rank: str = "safe",
    cluster: str | None = None,
    processes: int | None = None,
    **options: Any,
) -> Iterator[Option | Refused]:
    """The best plan for every model on every number of devices of every system, as they are ready.

    Parameters
    ----------
    models, systems
        Each as `simulator.estimate` takes it; ``all`` systems of the catalogue unless given.
    devices
        Numbers of devices; up to `max_devices` in steps that systems are rented in unless given.
    max_devices
        Devices at most.
    plan, where
        What holds for all plans, as in `simulator.search`.
    every_plan
        Whether every plan is priced for each case, as a search does; else those that most runs use. Where none of these
        fits, the same with optimizer states offloaded are tried, and then, unless ``stack`` is given, both again with
        other stacks.
    rank
        What the best plan of a case is best by, as in `simulator.search`.
    cluster
        Address of a Dask scheduler; all cores of this machine unless given.
    processes
        How many processes here; one a core unless given.
    options
        ``stack``, ``workload``, ``prices`` and all else that `simulator.estimate` takes.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> swept = sweep(["bert-large"], ["workstation-rtx-3090"], [1, 4], processes=1)
    >>> [(option.devices, option.estimate.fits) for option in swept]
    [(4, True), (1, True)]
    """
    wanted: dict[str, Any] = {"plan": plan, "where": where, "every_plan": every_plan}
    wanted["chance"] = read_chance(rank)
    cases = cases_of(models, systems, devices, max_devices=max_devices, **wanted, **options)
    return workers.each(best_of, cases, cluster=cluster, processes=processes)


def collected(
    cases: Sequence[RentCase],
    *,
    cluster: str | None = None,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Option | Refused], None] | None = None,
) -> Swept:
    """The best plans of cases until all are done or somebody interrupts.

    Parameters
    ----------
    cases
        What to look at.
    cluster, processes
        Where it is computed, as in `sweep`.
    progress
        Called after each case with how many are done, and how many there are.
    seen
        Called before that with what came of the case.

    Raises
    ------
    InputError
        Where every case was refused for the same reason, which is then somebody's mistake.
    """
    options, refused, whole = list[Option](), list[Refused](), True
    with closing(workers.each(best_of, cases, cluster=cluster, processes=processes)) as results:
        try:
            for each in results:
                if isinstance(each, Option):
                    options.append(each)
                else:
                    refused.append(each)
                if seen is not None:
                    seen(each)
                if progress is not None:
                    progress(len(options) + len(refused), len(cases))
        except KeyboardInterrupt:
            whole = False
    if not options and whole and len({each.reason for each in refused}) == 1 and refused[0].rule is None:
        raise InputError(refused[0].reason)
    return Swept(*ordered(options, refused), whole)


def ordered(unordered: Iterable[Option], refused: Iterable[Refused]) -> tuple[list[Option], list[Refused]]:
    """Options, the fastest first, and refusals by system."""
    options = sorted(unordered, key=lambda one: (one.time_s, one.cost_usd, one.devices, one.system, one.model))
    return options, sorted(refused, key=lambda each: (each.system, each.devices, each.model))


def best_of(case: RentCase) -> Option | Refused:
    """The best plan of a case, out of the first of its spaces where something fits.

    Raises
    ------
    KeyboardInterrupt
        Where somebody interrupts: what was seen until then is not the best.
    """
    try:
        first = resolve(case.model, case.system, devices=case.devices, plan=case.plan, open_plan=True, **case.options)
    except InputError as error:
        return Refused(case.model.id, case.system.id, case.devices, str(error))
    asked_for, fits = conditions.apart(conditions.parse(case.where), first.fits)
    first, wanted = replace(first, fits=fits), (*conditions.of_plan(case.plan), *asked_for)
    reason = None
    for scenario, space in _spaces(first, wanted, case):
        seen = explore(space, setting_of(scenario), caution=Caution.of(scenario, case.chance))
        if not seen.whole:
            raise KeyboardInterrupt
        if seen.best.places:
            break
        reason = reason or _why_nothing(seen)
    else:
        reason = reason or "stack"
        return Refused(first.model.id, first.system.id, case.devices, f"{_NOTHING}{reason}", reason)
    complete = replace(scenario, plan=_plan_at(seen.best.places[0], scenario, wanted))
    factors = factors_of(complete, SHARES)
    known = None if factors is None else tuple(np.maximum.accumulate(factors).tolist())
    return Option(scenario.model.id, scenario.system.id, case.devices, answer(complete), known)


def _why_nothing(seen: Exploration) -> str:
    """What most plans break, or ``memory``."""
    return "memory" if seen.candidates else next((name for name, _ in seen.rejected.most_common()), "conditions")


def _spaces(scenario: Scenario, wanted: Sequence[Condition], case: RentCase) -> Iterator[tuple[Scenario, Space]]:
    """Where to look, one after the other until something fits: on the stack that was named, or on all that are usual.

    Nothing that is not usual needs less memory than full sharding, recomputation and offloading do.
    """
    others = () if "stack" in case.options else with_other_stacks(scenario, case.plan)
    for one in chain((scenario,), others):
        if lacking(wanted, one.stack) is not None:
            continue
        can_be_inside = _INSIDE.values[0] in one.stack.offers.orders
        inside = [_INSIDE] if can_be_inside and not _is_placed(wanted) else []
        if case.every_plan:
            yield one, space_of(one, tuple(wanted))
            continue
        for offloaded in (None, "offload_optimizer=yes"):
            more = conditions.parse(offloaded)
            if lacking(more, one.stack) is None:
                yield one, replace(space_of(one, (*wanted, *inside, *more)), usual=True)


def _plan_at(place: Place, scenario: Scenario, wanted: Sequence[Condition]) -> Plan:
    """A plan of a grid; where context is not parallel its place means nothing, and is written as usual."""
    plan = place.grid.plan(place.index, scenario.plan).with_degrees(scenario.devices)
    return plan if plan.cp != 1 or _is_placed(wanted) else plan.model_copy(update={"placement": AXES})


def _is_placed(wanted: Sequence[Condition]) -> bool:
    """Whether conditions say how axes are placed."""
    return any(condition.field == "placement" for condition in wanted)
