"""Wishes that no plan of a scenario can meet, whatever its other fields are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hardware.errors import InputError
from simulator.plan_search.conditions import Condition, written
from simulator.scenario.scenario import Scenario
from simulator.specs.choices import LOOPED, V_SHAPED
from simulator.specs.plan import Plan, check
from simulator.specs.plans import AXES, divisors
from simulator.specs.stack import Stack

_LISTED = 24
"""Divisors that an error names at most."""


def refuse_impossible(plan: Plan, scenario: Scenario) -> None:
    """Refuse what is given of a plan where it leaves no plan to search.

    Parameters
    ----------
    given
        The fields that hold for all plans.
    scenario
        What they are for.

    Raises
    ------
    InputError
        With the first rule that no plan with these fields keeps.
    """
    _refuse_degrees(plan, scenario.devices)
    if plan.sharding_group is not None:
        Plan(sharding=plan.sharding, sharding_group=plan.sharding_group).with_degrees(1)
    # Open degrees count as one: what does not divide then never does. Groups and virtual stages need the others.
    virtual = plan.virtual_stages if plan.pp else None
    certain = plan.model_copy(update={"sharding_group": None, "virtual_stages": virtual})
    check(certain, scenario.model, scenario.workload, scenario.stack)
    if plan.dp is None:
        alone = certain.model_copy(update={"dp": 1, "ep": None})
        check(alone, scenario.model, scenario.workload, scenario.stack)


def _refuse_degrees(plan: Plan, devices: int) -> None:
    """Refuse degrees that do not multiply to the devices, or to a part of them while some are open."""
    degrees = {axis: getattr(plan, axis) for axis in AXES if getattr(plan, axis) is not None}
    product = math.prod(degrees.values())
    if devices % product == 0 and (len(degrees) < len(AXES) or product == devices):
        return
    words = " x ".join(f"{axis}={degree}" for axis, degree in degrees.items())
    named = words if len(degrees) == 1 else f"{words} = {product}"
    verb = "does not divide" if devices % product else "is not"
    possible = divisors(devices)
    listed = ", ".join(map(str, possible[:_LISTED])) + (", ..." if len(possible) > _LISTED else "")
    hint = f"valid{' products' if len(degrees) > 1 else ''}: {listed}" if devices % product else "leave a degree open"
    raise InputError(
        f"{named} {verb} devices={devices}; {hint}", fields=[*(f"plan.{axis}" for axis in degrees), "devices"]
    )


def lacking(wanted: Sequence[Condition], stack: Stack) -> Condition | None:
    """The first condition that nothing meets which a stack can run."""
    for condition in wanted:
        values = _values(condition.field, stack)
        if values is not None and not any(condition.keeps(value) for value in values):
            return condition
    return None


def refuse_lacking(wanted: Sequence[Condition], stack: Stack) -> None:
    """Refuse conditions that nothing meets which a stack can run.

    Raises
    ------
    InputError
        With the first of them, and what the stack has.
    """
    condition = lacking(wanted, stack)
    if condition is not None:
        values = _values(condition.field, stack) or ()
        has = ", ".join(written(value) for value in values)
        raise InputError(
            f"{condition} is met by nothing that stack={stack.id} can run; its {condition.field}: {has}",
            fields=["where", "stack"],
        )


def _values(field: str, stack: Stack) -> tuple[Any, ...] | None:
    """The values of a field that a stack can run; nothing where they are not limited."""
    offers = stack.offers
    several = not {*LOOPED, *V_SHAPED}.isdisjoint(offers.schedules)
    lists: dict[str, tuple[Any, ...] | None] = {
        **{axis: None if axis in stack.axes else (1,) for axis in ("tp", "pp", "cp", "ep")},
        "sharding": offers.shardings,
        "schedule": tuple(dict.fromkeys((*offers.schedules, "1f1b"))),  # which is that of a single stage too
        "recompute": offers.recompute,
        "virtual_stages": None if several else (1,),
        "sequence_parallel": None if offers.sequence_parallel else (False,),
        "offload_optimizer": None if offers.offload_optimizer else (False,),
    }
    return lists.get(field)
