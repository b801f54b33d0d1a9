"""The one writer of launch files: what every file says besides a framework's settings, and what several compute."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hardware.errors import InputError
from hardware.units import duration
from hardware.writing import yaml_text
from simulator.answers.estimate import Estimate, answer
from simulator.launch.documents import nested
from simulator.launch.naming import stack_of
from simulator.launch.record import WrittenLaunch
from simulator.launch.starting import where_to_start
from simulator.launch.tables import OptionTable, frameworks_that_say, options_of
from simulator.pricing.analytic import NEVER_FITTED
from simulator.scenario.scenario import Scenario
from simulator.specs.capabilities.checking import refuse_lacking
from simulator.specs.choices import OPTIMIZER_TRAITS
from simulator.specs.loading import load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_WIDTH = 110


@dataclass(frozen=True)
class LaunchNotes:
    """Comments of a launch file."""

    about: tuple[str, ...]
    unsaid: tuple[str, ...]
    start: tuple[str, ...] = ()
    """Where and how the run is started: a sentence, and the command."""
    fits: bool = True
    """Whether the run is expected to fit in memory."""

    def comment(self, mark: str = "#") -> str:
        """As lines of a comment, with its mark before each."""
        unsaid = ["Not said by this file, and assumed in the estimate:", *(f"- {text}" for text in self.unsaid)]
        sentence, command = self.start[:1], self.start[1:]
        before = [part for line in (*self.about, *sentence) for part in _wrapped(line)]
        after = [part for line in unsaid for part in _wrapped(line)] if self.unsaid else []
        return "".join(f"{mark} {line}\n" for line in (*before, *(f"  {line}" for line in command), *after))


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
    return LaunchNotes(about, tuple(unsaid), fits=estimate.fits)


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


@dataclass(frozen=True)
class FrameworkFile:
    """What a framework has of its own in a launch file."""

    framework: str
    """By the name of its table."""
    ending: str
    """What follows the model's name in the file's."""
    command: str
    """What starts the file, with ``{name}`` for its name."""
    text: Callable[[LaunchNotes], str]
    """What the file holds, with these comments."""
    unsaid: Iterable[str]
    """What the framework cannot say of the scenario."""


def written_launch(scenario: Scenario, file: FrameworkFile, stack: Stack | None = None) -> WrittenLaunch:
    """A launch file.

    Parameters
    ----------
    scenario
        The completed scenario.
    file
        What is the framework's own.
    stack
        What has to be able to run the plan, where it is not the stack that stands for the framework.

    Raises
    ------
    InputError
        With what the stack is missing, or where the file cannot say what is trained, or on what.
    """
    table = options_of(file.framework)
    _refuse_other_work(scenario.workload, table)
    _refuse_precision(scenario.plan, file.framework)
    _refuse_other_steps(scenario.plan, table)
    refuse_lacking(scenario.plan, scenario.model, scenario.workload, stack or load_stack(stack_of(file.framework)))
    name = f"{scenario.model.id}-{file.ending}"
    command = file.command.format(name=name)
    where = where_to_start(scenario, command)
    notes = notes_of(scenario, table.framework, table.release, list(file.unsaid))
    notes = replace(notes, start=(f"Start it{where and ' '}{where}:", command))
    return WrittenLaunch(table.framework, name, file.text(notes), command, where, notes.unsaid, notes.fits)


def _refuse_precision(plan: Plan, framework: str) -> None:
    """Refuse formats with scales in blocks, which no launch file is written for."""
    if plan.precision in NEVER_FITTED:
        remedy = "choose fp8 or bf16, and change the file's precision afterwards"
        raise InputError(
            f"precision={plan.precision}: no launch file of {framework} is written for it; {remedy}",
            fields=["plan.precision"],
        )


def _refuse_other_steps(plan: Plan, table: OptionTable) -> None:
    """Refuse choices of a step that no file says, where they are other than usual."""
    usual = OPTIMIZER_TRAITS[plan.optimizer or "adamw"].clips and not plan.optimizer_in_backward
    says_it = "plan.activation_inputs_in_fp8" in table.fields
    choices = {
        "cross_entropy": plan.cross_entropy,
        "fp8_scaling": "blockwise" if plan.fp8_scaling == "blockwise" else None,
        "optimizer_in_backward": "yes" if plan.optimizer_in_backward else None,
        "activation_inputs_in_fp8": "yes" if plan.activation_inputs_in_fp8 and not says_it else None,
        "clip_gradients": "no" if usual and plan.clip_gradients is False else None,
    }
    for name, words in choices.items():
        if words is not None:
            raise InputError(
                f"{name}={words}: a file of {table.framework} does not say it, and would start another run than this; "
                "write the file without it, or add it by hand",
                fields=[f"plan.{name}"],
            )


_WORK = ("train", "dora", "preference", "teacher", "document_lengths", "label_smoothing", "z_loss", "multi_token")
"""Fields of a workload that make a run another one, and that few launch files say."""


def _refuse_other_work(work: Workload, table: OptionTable) -> None:
    """Refuse work that a file would leave out: started, it would be another run than the one that was priced."""
    for name in _WORK:
        value = getattr(work, name)
        words = ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else value
        words = "yes" if value is True else words
        if not value or value == "full" or f"{name}={words}" in table.work:
            continue
        others = frameworks_that_say(f"{name}={words}")
        remedy = f"write it for {' or '.join(others)}" if others else "write the file without it"
        raise InputError(
            f"{name}={words}: a file of {table.framework} does not say it, and would start another run than this; "
            f"{remedy}, or add it by hand"
        )


def in_yaml(settings: Callable[[Scenario], Mapping[str, Any]], scenario: Scenario) -> Callable[[LaunchNotes], str]:
    """Settings with dotted names as YAML below the comments, made when the plan is known to run."""
    return lambda notes: notes.comment() + yaml_text(nested(settings(scenario)))


def micro_batches_of(scenario: Scenario) -> int:
    """Micro-batches of a replica and step."""
    plan = scenario.plan
    return (scenario.workload.global_batch or 1) // ((plan.dp or 1) * (plan.micro_batch or 1))


STEPS = 1000
"""What stands for the length of a run that has none."""


def steps_of(scenario: Scenario) -> int:
    """Steps of the run."""
    return round(scenario.workload.total_steps) if scenario.workload.says_length else STEPS


def lacks(framework: str, what: str, remedy: str) -> InputError:
    """The refusal of a model that a framework cannot build."""
    return InputError(f"{framework} has no {what}; {remedy}")


_FORMS = (
    *("query_key_norm", "attention_sinks", "score_cap", "logit_cap", "norm_weights", "maps_words", "rotary_share"),
    *("rotary_pattern", "dense_layers", "shared_expert_feed_forward_size", "shared_expert_gate"),
)
"""Fields of a model that change what a layer computes or holds, and that few frameworks have an option for."""


def unsaid_form(model: Model, said: Mapping[str, tuple[Any, ...]] | None = None) -> Iterator[str]:
    """What a model has beside the layers that most models have.

    Parameters
    ----------
    model
        The model.
    said
        Values that the framework can say, by field.
    """
    for name in _FORMS:
        value, usual = getattr(model, name), Model.model_fields[name].default
        if value != usual and value not in (said or {}).get(name, ()):
            yield f"{name}={', '.join(map(str, value)) if isinstance(value, tuple) else value}"
    if model.positions == "rotary":
        yield "base and scaling of rotary positions, which cost neither time nor memory: set them as the model has them"


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
