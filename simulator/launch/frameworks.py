"""Which frameworks launch files are written for, by which stacks, and for which plan."""

from __future__ import annotations

from collections.abc import Callable

from hardware.catalogue import load_system
from hardware.errors import unknown
from simulator.launch import deepspeed, maxtext, nanotron
from simulator.launch.megatron import bridge_writing
from simulator.launch.megatron import writing as megatron
from simulator.launch.naming import stack_of
from simulator.launch.record import WrittenLaunch
from simulator.launch.torchtitan import writing as torchtitan
from simulator.launch.trainers import accelerate, axolotl, llama_factory
from simulator.scenario.scenario import Scenario, complete
from simulator.specs.loading import ScenarioFile

WRITERS: dict[str, Callable[[Scenario], WrittenLaunch]] = {
    "megatron-lm": megatron.write,
    "megatron-bridge": bridge_writing.write,
    "deepspeed": deepspeed.write,
    "torchtitan": torchtitan.write,
    "accelerate": accelerate.write,
    "axolotl": axolotl.write,
    "llama-factory": llama_factory.write,
    "nanotron": nanotron.write,
    "maxtext": maxtext.write,
}
"""By the name of the framework."""
_ALWAYS = {"llama-factory": {"tp": 1, "pp": 1, "cp": 1}}
"""Fields of a plan that have one value in a framework, where its stack has several."""


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

    Fields of the plan that have one value in the framework have that one unless the file says otherwise.

    Raises
    ------
    InputError
        One sentence.
    """
    if framework not in WRITERS:
        raise unknown("framework", framework, sorted(WRITERS))
    named = file if file.stack is not None else file.model_copy(update={"stack": _stack_for(file, framework)})
    fixed = {name: value for name, value in _ALWAYS.get(framework, {}).items() if getattr(named.plan, name) is None}
    return complete(named.model_copy(update={"plan": named.plan.model_copy(update=fixed)}))


def _stack_for(file: ScenarioFile, framework: str) -> str:
    """The framework's stack; that for TPUs on these, which MaxText runs on too."""
    on_tpu = file.system is not None and load_system(file.system).device.kind == "tpu"
    return "maxtext-tpu" if framework == "maxtext" and on_tpu else stack_of(framework)
