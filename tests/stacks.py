"""Stacks for tests of formulas and rules, which are about all plans, whatever some software can run."""

from __future__ import annotations

from simulator.specs.capabilities.sheet import Capabilities
from simulator.specs.choices import SCHEDULES
from simulator.specs.loading import load_stack
from simulator.specs.stack import Stack


def unrestricted(stack: str | Stack) -> Stack:
    """A stack with all its habits that can run every plan."""
    axes, offers = ("dp", "tp", "pp", "cp", "ep"), Capabilities(schedules=SCHEDULES)
    return load_stack(stack).model_copy(update={"axes": axes, "offers": offers})
