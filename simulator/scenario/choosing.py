"""The plan that is meant where the user leaves it open: the simplest of the fastest of those that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.errors import InputError
from hardware.spec import System
from simulator.pricing.constants import UNFITTED, Constants
from simulator.scenario.candidates import RUNS_AHEAD, Purpose, Reach, candidates_of, is_piped, reaches, splits
from simulator.specs.capabilities.checking import offered_plans, refuse_lacking
from simulator.specs.choices import EVERY_RECOMPUTE, Sharding
from simulator.specs.model import Model
from simulator.specs.plan import Plan, check, columns_of
from simulator.specs.rules import constraints
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.step.memory import host_bytes, peak_total
from simulator.step.time import step_time
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

CLOSE = 1.02
"""Plans this near to the fastest count as equal, and the simplest of them is taken."""


def open_fields(plan: Plan) -> list[str]:
    """Fields that decide the split and that the plan leaves open."""
    return [name for name in ("dp", "tp", "pp", "micro_batch", "recompute") if getattr(plan, name) is None]


def refuse_idle(asked: Plan, devices: int) -> None:
    """Refuse a schedule that only a pipeline has where there is none.

    Parameters
    ----------
    asked
        The user's plan.
    devices
        Devices of the run.

    Raises
    ------
    InputError
        With the remedy.
    """
    stages = 1 if devices == 1 else asked.pp
    if stages == 1 and asked.schedule in RUNS_AHEAD:
        where = "devices=1" if asked.pp is None else "pp=1"
        raise InputError(
            f"schedule={asked.schedule} needs a pipeline, and {where} has a single stage; give pp=2 or more, or leave"
            " the schedule out",
            fields=["plan.schedule", "plan.pp", "devices"],
        )


class ChosenPlan(NamedTuple):
    """A plan that was completed."""

    plan: Plan
    fits: bool
    """Whether it fits in memory as surely as was asked, as far as is known."""


def choose(
    asked: Plan,
    filled: Plan,
    model: Model,
    workload: Workload,
    system: System,
    stack: Stack,
    devices: int,
    constants: Constants = UNFITTED,
    *,
    room: float | None = None,
    published: bool = False,
) -> ChosenPlan:
    """Complete a plan: the simplest among the fastest that fit in memory, keeping all that is given.

    What the stack's users do at first is tried first: its usual sharding, those that they take for large models, then
    layers split over ranks. Only where nothing of that fits other shardings follow, then offloading, then all that the
    stack has. Where none fits it is the plan that needs least memory.

    Parameters
    ----------
    asked
        The user's plan.
    filled
        The same with the stack's defaults, degrees and micro-batch still open.
    model, workload, system, stack, devices
        What it is for.
    constants
        With which plans are priced.
    room
        Predicted memory of a device up to which a plan counts as one that fits; all that it has unless given [B].
    published
        Whether it is the plan of a published run: then only what the stack's users do at first is tried, and where the
        stack can run none of it what it lacks, which another release or a fork of it may have run.

    Raises
    ------
    InputError
        Where no split of the devices keeps the rules of divisibility.
    """
    purpose = Purpose(asked, filled, model, workload, system, stack, devices)
    limit = float(system.device.memory_capacity) if room is None else room
    least: tuple[float, Plan] | None = None
    for reach in reaches(purpose, published=published):
        weighed = _weighed(list(candidates_of(purpose, reach)), purpose, constants, limit, published=published)
        if weighed is None:
            continue
        if weighed.fits.any():
            return ChosenPlan(_simplest(weighed, purpose, constants), fits=True)
        lightest = int(np.argmin(weighed.memory))
        if least is None or weighed.memory[lightest] < least[0]:
            least = float(weighed.memory[lightest]), weighed.plans[lightest]
    if least is None:
        raise _no_plan(purpose)
    return ChosenPlan(least[1], fits=False)


class _Weighed(NamedTuple):
    """Plans that keep all rules, with what each needs."""

    plans: Sequence[Plan]
    scenarios: Scenarios
    memory: NDArray[np.float64]
    """[B]"""
    fits: NDArray[np.bool_]


def _weighed(
    candidates: Sequence[Plan], purpose: Purpose, constants: Constants, limit: float, *, published: bool
) -> _Weighed | None:
    """Those of some plans that keep all rules, and that the stack can run; nothing where none does.

    Of a published run where the stack can run none all that keep the rules.
    """
    if not candidates:
        return None
    stack, system, devices = purpose.stack, purpose.system, purpose.devices
    plans, stacks = columns_of(candidates, purpose.workload), constants.stacks(stack, system, _precision(purpose))
    models, workloads = purpose.model.columns(), purpose.workload.columns()
    kept = np.ones(len(candidates), dtype=bool)
    for rule in constraints(plans, models, workloads, stacks):
        kept &= rule.kept
    can = kept & offered_plans(candidates, [stack] * len(candidates), purpose.model, purpose.workload)
    kept = kept if published and not can.any() else can
    if not kept.any():
        return None
    scenarios = Scenarios(models, workloads, plans.take(np.flatnonzero(kept)), stacks)
    program, shape = program_of(scenarios), (int(kept.sum()),)
    memory = np.broadcast_to(peak_total(program), shape)
    fits = memory <= limit
    if system.host.memory is not None:
        room = float(system.host.memory) / min(devices, system.devices_per_node)
        fits = fits & (np.broadcast_to(host_bytes(program), shape) <= room)
    left = [plan for plan, keep in zip(candidates, kept, strict=True) if keep]
    return _Weighed(left, scenarios, memory, fits)


def _simplest(weighed: _Weighed, purpose: Purpose, constants: Constants) -> Plan:
    """The simplest of the fastest of the plans that fit."""
    fitting = np.flatnonzero(weighed.fits)
    scenarios = weighed.scenarios
    some = Scenarios(scenarios.models, scenarios.workloads, scenarios.plans.take(fitting), scenarios.stacks)
    backend = constants.backend(purpose.stack, purpose.system, purpose.devices, _precision(purpose))
    time = np.broadcast_to(step_time(program_of(some), backend, broken_down=False).time, len(fitting))
    close = fitting[time <= CLOSE * time.min()]
    order = _order_of_shardings(purpose)
    return min((weighed.plans[int(place)] for place in close), key=lambda plan: _complexity(plan, order))


def _precision(purpose: Purpose) -> Any:
    """The number format of products."""
    return purpose.filled.precision or "bf16"


def _order_of_shardings(purpose: Purpose) -> list[Sharding]:
    """What replicas may share, from what the stack's users do at first."""
    defaults, offered = purpose.stack.defaults, purpose.stack.offers.shardings
    return list(dict.fromkeys((purpose.filled.sharding or "none", *defaults.when_large, *offered, "hybrid")))


def _complexity(plan: Plan, shardings: Sequence[Sharding]) -> tuple[Any, ...]:
    """Order plans by how much machinery they need."""
    sharding = plan.sharding or "none"
    return (
        bool(plan.offload_optimizer),
        plan.pp or 1,
        plan.cp or 1,
        plan.tp or 1,
        shardings.index(sharding) if sharding in shardings else len(shardings),
        EVERY_RECOMPUTE.index(plan.recompute or "none"),
        bool(plan.sequence_parallel),
        -(plan.micro_batch or 1),
    )


def _no_plan(purpose: Purpose) -> InputError:
    """Say why no split keeps the rules: one that the given degrees break by themselves, or else the batch's.

    Raises
    ------
    InputError
        Of the rule that is broken.
    """
    plan, model, workload, stack, devices = (
        purpose.asked,
        purpose.model,
        purpose.workload,
        purpose.stack,
        purpose.devices,
    )
    check(purpose.filled, model, workload, stack)
    full = purpose.filled.with_degrees(devices, usual=stack.offers.schedules[0])
    if (workload.global_batch or 1) % ((full.dp or 1) * (full.micro_batch or 1)) == 0:
        check(full, model, workload, stack)
        refuse_lacking(full, model, workload, stack)
    fields = [
        name
        for name in ("dp", "tp", "pp", "cp", "ep", "schedule", "virtual_stages", "micro_batch")
        if getattr(plan, name)
    ]
    fixed = ", ".join(f"{name}={getattr(plan, name)}" for name in fields)
    why = f"no plan for {model.id} on {devices} devices{f' with {fixed}' if fixed else ''}"
    if is_piped(plan) and not any(True for _ in splits(purpose, Reach(("none",), every=True))):
        sentence = (
            f"{why}: no number of stages, with two chunks of layers or more, divides its {model.all_layers} layers"
        )
        return InputError(sentence, fields=[*(f"plan.{name}" for name in fields), "devices"])
    return InputError(
        f"{why}: data-parallel ranks x micro-batch must divide global_batch={workload.global_batch}; "
        "change the batch or the devices",
        fields=[*(f"plan.{name}" for name in fields), "workload.global_batch", "devices"],
    )
