"""Which frameworks launch files are written for, by which stacks, and for which plan."""

from __future__ import annotations

from collections.abc import Callable

from hardware.errors import unknown
from simulator.launch import deepspeed, torchtitan
from simulator.launch.megatron import writing as megatron
from simulator.launch.naming import stack_of
from simulator.launch.record import WrittenLaunch
from simulator.scenario.scenario import Scenario, complete
from simulator.specs.loading import ScenarioFile

WRITERS: dict[str, Callable[[Scenario], WrittenLaunch]] = {
    "megatron-lm": megatron.write,
    "deepspeed": deepspeed.write,
    "torchtitan": torchtitan.write,
}
"""By the name of the framework."""


def written(scenario: Scenario, framework: str) -> WrittenLaunch:
    """A launch file for a framework.

    Raises
    ------
    InputError
        Where there is no writer of that name, or the framework cannot run the scenario.
    """
    if framework not in WRITERS:
        raise unknown("framework", framework, sorted(WRITERS))
    return WRITERS[framework](scenario)


def launchable(file: ScenarioFile, framework: str) -> Scenario:
    """A scenario completed for a framework: its stack is the framework's own unless the file names one.

    Raises
    ------
    InputError
        One sentence.
    """
    if framework not in WRITERS:
        raise unknown("framework", framework, sorted(WRITERS))
    named = file if file.stack is not None else file.model_copy(update={"stack": stack_of(framework)})
    return complete(named)
