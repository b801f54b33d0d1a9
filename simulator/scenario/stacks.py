"""Other software for a scenario whose stack nobody chose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.scenario.defaults import is_fine_tuned, usual_stacks, with_precision
from simulator.scenario.scenario import Scenario, parameters_of
from simulator.specs.capabilities.checking import is_offered
from simulator.specs.loading import load_stack
from simulator.specs.plan import Plan


def with_other_stacks(scenario: Scenario, plan: Plan) -> Iterator[Scenario]:
    """A scenario with an open plan on the other stacks that are usual and have what is asked, the likeliest first.

    Parameters
    ----------
    scenario
        The scenario, on the likeliest.
    plan
        What was asked of the plan.
    """
    model, workload, system = scenario.model, scenario.workload, scenario.system
    size = parameters_of(model, workload)
    for name in usual_stacks(system, scenario.devices, size, tuned=is_fine_tuned(workload)):
        stack = load_stack(name)
        if stack.id == scenario.stack.id or not is_offered(plan, model, workload, stack):
            continue
        filled = plan.with_defaults(stack)
        filled = filled if plan.precision is not None else with_precision(filled, system)
        before = (f"stack={scenario.stack.id}", f": as {scenario.stack.id} does")
        said = [text for text in scenario.assumed if not text.startswith(before[0]) and not text.endswith(before[1])]
        why = f"stack={stack.id}, since nothing fits with {scenario.stack.id}"
        yield replace(scenario, stack=stack, plan=filled, assumed=(*said, why))
