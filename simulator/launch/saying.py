"""What every writer of launch files says besides settings: the estimate, the version, what is left out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from hardware.errors import InputError
from hardware.units import duration
from simulator.answers.estimate import Estimate, answer
from simulator.scenario.scenario import Scenario
from simulator.specs.capabilities.checking import refuse_lacking
from simulator.specs.loading import load_stack
from simulator.specs.plan import Plan

_WIDTH = 110


@dataclass(frozen=True)
class LaunchNotes:
    """Comments of a launch file."""

    about: tuple[str, ...]
    unsaid: tuple[str, ...]

    def comment(self, mark: str = "#") -> str:
        """As lines of a comment, with its mark before each."""
        unsaid = ["Not said by this file, and assumed in the estimate:", *(f"- {text}" for text in self.unsaid)]
        lines = [*self.about, *(unsaid if self.unsaid else [])]
        return "".join(f"{mark} {part}\n" for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent="  " if line.startswith("- ") else "") or [""]


def notes_of(scenario: Scenario, framework: str, release: str, unsaid: Sequence[str]) -> LaunchNotes:
    """The comments of a launch file: what capsim expects of the run, and what the file does not say."""
    estimate = answer(scenario)
    run = f"{scenario.model.name} on {scenario.devices} x {scenario.system.device.id} ({scenario.system.id})"
    about = (
        f"{run}, for {framework} {release}; written by capsim {_version()}.",
        f"capsim expects {_expected(estimate)}.",
    )
    return LaunchNotes(about, tuple(unsaid))


def _expected(estimate: Estimate) -> str:
    """Time of a step with its interval, throughput, and memory."""
    low, high = estimate.step_time_low_s, estimate.step_time_high_s
    between = f" ({duration(low)} to {duration(high)})" if low is not None and high is not None else ""
    memory = estimate.memory_bytes.get("total", sum(estimate.memory_bytes.values()))
    fits = "" if estimate.fits else ", which does not fit"
    return (
        f"{duration(estimate.step_time_s)} a step{between}, {estimate.tokens_per_s:,.0f} tokens/s, "
        f"{estimate.mfu:.0%} MFU and {memory / 2**30:.1f} GiB a device{fits}"
    )


def _version() -> str:
    """The version of capsim."""
    try:
        return version("capsim")
    except PackageNotFoundError:  # a checkout that is not installed
        return "of a checkout"


def refuse_unlaunchable(scenario: Scenario, stack: str) -> None:
    """Refuse a plan that the stack of a framework cannot run.

    Raises
    ------
    InputError
        With what is missing.
    """
    refuse_lacking(scenario.plan, scenario.model, scenario.workload, load_stack(stack))


def lacks(framework: str, what: str, remedy: str) -> InputError:
    """The refusal of a model that a framework cannot build."""
    return InputError(f"{framework} has no {what}; {remedy}")


def sharding_ranks(plan: Plan, framework: str) -> int:
    """Data-parallel ranks that share parameters; those of context parallelism share them too.

    Raises
    ------
    InputError
        Where a group of hybrid sharding takes a part of the context-parallel ranks.
    """
    if plan.sharding == "none":
        return 1
    if plan.sharding != "hybrid":
        return plan.dp or 1
    group, context = plan.sharding_group or 1, plan.cp or 1
    if group % context:
        what = f"sharding_group={group} that takes a part of cp={context} ranks"
        raise lacks(framework, what, f"choose a multiple of {context}")
    return group // context
