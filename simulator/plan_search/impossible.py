"""Given fields that no plan of a scenario can have, whatever its other fields are."""

from __future__ import annotations

import math

from hardware.errors import InputError
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan, check
from simulator.specs.plans import AXES, divisors

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
