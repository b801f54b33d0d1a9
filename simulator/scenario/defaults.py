"""What is meant where the user leaves it open: the stack, and its number format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hardware.classes import Precision
from hardware.spec import System
from simulator.pricing.analytic import precisions_of
from simulator.scenario.candidates import RUNS_AHEAD
from simulator.specs.capabilities.checking import is_offered, lacks
from simulator.specs.loading import load_stack, names
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.plans import virtual_stages_of
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_LARGE = 2e9
"""Parameters from which tensor and pipeline parallelism are usual."""
USUAL = "usual for a model of this size on this system"
"""Why a stack is chosen that has all that is asked."""
_LARGE_STACKS = ("megatron-lm", "pytorch-fsdp", "deepspeed")
_TUNING_STACKS = ("huggingface", "pytorch-fsdp", "megatron-bridge", "deepspeed")
_SMALL_STACKS = ("pytorch-ddp", "pytorch-fsdp", "megatron-lm", "deepspeed")


def usual_stacks(system: System, devices: int, parameters: float, *, tuned: bool = False) -> tuple[str, ...]:
    """Names of the stacks that people would use for a model of this size on this system, the likeliest first.

    Where most of the model is frozen, as with adapters, or it learns preferences (`tuned`), that is Hugging Face's, for
    which PEFT and TRL are written.
    """
    if system.device.kind == "tpu":
        several = system.cross_pod and devices > (system.devices_per_pod or 0)
        return ("pathways", "xla-tpu") if several else ("xla-tpu", "pathways")
    if system.device.kind == "cpu":
        return ("pytorch-cpu",)
    if tuned:
        return _TUNING_STACKS
    if parameters >= _LARGE:
        return _LARGE_STACKS
    return _SMALL_STACKS if devices > 1 else ("pytorch-eager", *_SMALL_STACKS)


class DefaultStack(NamedTuple):
    """The software of a scenario for which nobody chose one."""

    stack: Stack
    why: str
    precision: Precision | None = None
    """The number format to run it in, where its own habit is another than that of the usual software."""


def default_stack(
    system: System, devices: int, parameters: float, plan: Plan, model: Model, workload: Workload
) -> DefaultStack:
    """The likeliest stack that has what is given of the plan, of the usual ones or else of all; or the usual one.

    Where it is none of the usual ones, those that run in their number format come first, and of these such as have
    constants of their own.
    """
    usual = [load_stack(name) for name in usual_stacks(system, devices, parameters, tuned=is_fine_tuned(workload))]
    first = usual[0]
    why = f"stack={first.id}, {USUAL}"
    for stack in usual:
        if stack.runs_on(system.device) and _can_run(plan, model, workload, stack):
            if stack is first:
                break
            lacking = f"{first.id}, which is usual, has no {lacks(plan, model, workload, first)}"
            return DefaultStack(stack, f"stack={stack.id}: {lacking}")
    else:
        format_of_usual = with_precision(plan.with_defaults(first), system).precision
        for stack in sorted(_others(usual, system), key=lambda other: _strangeness(other, first, format_of_usual)):
            if _can_run(plan, model, workload, stack):
                lacking = f"{', '.join(each.id for each in usual)}, which are usual, lack "
                lacking += lacks(plan, model, workload, first) or lacks(plan, model, workload, usual[-1])
                kept = format_of_usual if format_of_usual in stack.offers.precisions else None
                return DefaultStack(stack, f"stack={stack.id}: {lacking}", kept if plan.precision is None else None)
    return DefaultStack(first, why)


def _can_run(plan: Plan, model: Model, workload: Workload, stack: Stack) -> bool:
    """Whether a stack has what is known of a plan, with some number of chunks where nobody says how many."""
    if plan.pp is None or plan.schedule not in RUNS_AHEAD or plan.virtual_stages:
        return is_offered(plan, model, workload, stack)
    chunks = (1, *virtual_stages_of(model.all_layers, plan.pp))
    return any(is_offered(plan.model_copy(update={"virtual_stages": v}), model, workload, stack) for v in chunks)


def is_fine_tuned(workload: Workload) -> bool:
    """Whether a run changes a trained model a little, as adapters and preferences do."""
    return workload.is_tuned or workload.preference is not None


def _others(usual: Sequence[Stack], system: System) -> list[Stack]:
    """Stacks that anybody can have for the device and that are none of the usual ones."""
    stacks = (load_stack(name) for name in names("stacks"))
    return [stack for stack in stacks if stack.public and stack.runs_on(system.device) and stack not in usual]


def _strangeness(stack: Stack, usual: Stack, precision: Precision | None) -> tuple[bool, bool, bool, bool, str]:
    """Order stacks by how far they are from the usual one: by number format, own constants, habit, then family."""
    formats = (precision not in stack.offers.precisions, stack.defaults.precision != precision)
    return (formats[0], stack.timed_as is not None, formats[1], stack.family != usual.family, stack.id)


def with_precision(plan: Plan, system: System) -> Plan:
    """Replace a stack's default precision that the device lacks by the nearest that it has."""
    valid = precisions_of(system.device)
    if plan.precision in valid:
        return plan
    other = next((name for name in ("bf16", "fp16", "tf32", "fp32") if name in valid), None)
    return plan.model_copy(update={"precision": other})
