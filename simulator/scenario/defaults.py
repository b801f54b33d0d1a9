"""What is meant where the user leaves it open: stack, degrees, micro-batch, recomputation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, product
from typing import NamedTuple

import numpy as np

from hardware.errors import InputError
from hardware.spec import System
from simulator.pricing.analytic import precisions_of
from simulator.pricing.constants import UNFITTED, Constants
from simulator.specs.capabilities.checking import is_offered, offered_plans, refuse_lacking
from simulator.specs.choices import EVERY_RECOMPUTE, RECOMPUTES, Recompute
from simulator.specs.loading import load_stack, names
from simulator.specs.model import Model
from simulator.specs.plan import Plan, check, columns_of
from simulator.specs.plans import divisors
from simulator.specs.rules import constraints
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.step.evaluation import evaluate
from simulator.step.memory import host_bytes
from simulator.work.transformer import Scenarios

_LARGE = 2e9
"""Parameters from which tensor and pipeline parallelism are usual."""
_MOST_TENSOR_RANKS = 16
_MOST_STAGES = 64
_MOST_SEQUENCES = 256
_FEWEST_TOKENS = 4096
"""Of a sequence on a rank of context parallelism: shorter parts are left to people who ask for them."""
_CLOSE = 1.02
"""Plans this near to the fastest count as equal, and the simplest of them is taken."""


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


def default_stack(
    system: System, devices: int, parameters: float, plan: Plan, model: Model, workload: Workload
) -> Stack:
    """The likeliest stack that has what is given of the plan, of the usual ones or else of all; or the usual one.

    Of those that are not usual, stacks with constants of their own come before those that share another's.
    """
    usual = usual_stacks(system, devices, parameters, tuned=workload.is_tuned or workload.preference is not None)
    known = chain(map(load_stack, usual), _others_than(usual))
    able = (stack for stack in known if stack.runs_on(system.device) and is_offered(plan, model, workload, stack))
    return next(able, load_stack(usual[0]))


def _others_than(usual: Sequence[str]) -> Iterator[Stack]:
    """All stacks but some, those with constants of their own first."""
    stacks = (load_stack(name) for name in names("stacks") if name not in usual)
    others = [stack for stack in stacks if stack.public]
    yield from sorted(others, key=lambda stack: stack.timed_as is not None)


def with_precision(plan: Plan, system: System) -> Plan:
    """Replace a stack's default precision that the device lacks by the nearest that it has."""
    valid = precisions_of(system.device)
    if plan.precision in valid:
        return plan
    other = next((name for name in ("bf16", "fp16", "tf32", "fp32") if name in valid), None)
    return plan.model_copy(update={"precision": other})


def open_fields(plan: Plan) -> list[str]:
    """Fields that decide the split and that the plan leaves open."""
    return [name for name in ("dp", "tp", "pp", "micro_batch", "recompute") if getattr(plan, name) is None]


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
    lacking_too: bool = False,
) -> ChosenPlan:
    """Complete a plan: the simplest among the fastest that fit in memory, keeping all that is given.

    Where none fits it is the one that needs least memory.

    Parameters
    ----------
    given
        The user's plan.
    filled
        The same with the stack's defaults, degrees and micro-batch still open.
    model, workload, system, stack, devices
        What it is for.
    constants
        With which plans are priced.
    room
        Predicted memory of a device up to which a plan counts as one that fits; all that it has unless given [B].
    lacking_too
        Whether, where the stack can run none of them, plans that it lacks may be taken: of a published run, which
        another release or a fork of it may have run.

    Raises
    ------
    InputError
        Where no split of the devices keeps the rules of divisibility.
    """
    candidates = list(_candidates(asked, filled, model, workload, system, stack, devices))
    if not candidates:
        raise _no_plan(asked, filled, model, workload, stack, devices)
    plans = columns_of(candidates, workload)
    precision = filled.precision or "bf16"
    stacks = constants.stacks(stack, system, precision)
    scenarios = Scenarios(model.columns(), workload.columns(), plans, stacks)
    kept = np.ones(len(candidates), dtype=bool)
    for rule in constraints(plans, scenarios.models, scenarios.workloads, scenarios.stacks):
        kept &= rule.kept
    can = kept & offered_plans(candidates, [stack] * len(candidates), model, workload)
    kept = kept if lacking_too and not can.any() else can
    if not kept.any():
        raise _no_plan(asked, filled, model, workload, stack, devices)
    candidates = [plan for plan, keep in zip(candidates, kept, strict=True) if keep]
    scenarios = Scenarios(scenarios.models, scenarios.workloads, plans.take(np.flatnonzero(kept)), scenarios.stacks)
    evaluated = evaluate(scenarios, constants.backend(stack, system, devices, precision))
    time = np.broadcast_to(evaluated.step.time, len(candidates))
    total = np.broadcast_to(evaluated.memory.total, len(candidates))
    fits = total <= (system.device.memory_capacity if room is None else room)
    if system.host.memory is not None:
        room = float(system.host.memory) / min(devices, system.devices_per_node)
        fits &= np.broadcast_to(host_bytes(evaluated.program), len(candidates)) <= room
    if not fits.any():
        return ChosenPlan(candidates[int(np.argmin(total))], fits=False)
    close = fits & (time <= _CLOSE * time[fits].min())
    simplest = min((plan for plan, near in zip(candidates, close, strict=True) if near), key=_complexity)
    return ChosenPlan(simplest, fits=True)


def _complexity(plan: Plan) -> tuple[int, int, int, int, int]:
    """Order plans by how much machinery they need."""
    return (
        plan.pp or 1,
        plan.cp or 1,
        plan.tp or 1,
        EVERY_RECOMPUTE.index(plan.recompute or "none"),
        -(plan.micro_batch or 1),
    )


def _candidates(
    plan: Plan, filled: Plan, model: Model, workload: Workload, system: System, stack: Stack, devices: int
) -> Iterator[Plan]:
    """Splits of the devices that keep what is given."""
    most = _MOST_TENSOR_RANKS if system.device.kind == "tpu" else min(system.devices_per_node, _MOST_TENSOR_RANKS)
    tensor = [tp for tp in _some_divisors(devices, most) if model.attention_heads % tp == 0]
    tensors = [plan.tp] if plan.tp else tensor if "tp" in stack.axes else [1]
    stages = [plan.pp] if plan.pp else _some_divisors(devices, min(_MOST_STAGES, model.all_layers))
    stages = stages if plan.pp or "pp" in stack.axes else [1]
    repeats = [filled.recompute] if plan.recompute else _recomputes(filled.recompute or "none")
    batch = workload.global_batch or 1
    contexts = [plan.cp] if plan.cp or "cp" not in stack.axes else _contexts(workload, devices)
    for tp, pp, cp, recompute in product(tensors, stages, [each or 1 for each in contexts], repeats):
        if devices % (tp * pp * cp):
            continue
        dp = plan.dp or devices // (tp * pp * cp)
        if dp * tp * pp * cp != devices or batch % dp:
            continue
        ep = plan.ep or (math.gcd(model.experts, dp) if "ep" in stack.axes else 1)
        for micro in [plan.micro_batch] if plan.micro_batch else _some_divisors(batch // dp, _MOST_SEQUENCES):
            yield filled.model_copy(
                update={"dp": dp, "tp": tp, "pp": pp, "cp": cp, "ep": ep, "recompute": recompute, "micro_batch": micro}
            ).with_degrees(devices, usual=stack.offers.schedules[0])


def _recomputes(usual: Recompute) -> list[Recompute]:
    """What recomputation is tried where nobody says: what is usual, and what computes more again.

    >>> _recomputes("none"), _recomputes("operators")
    (['none', 'selective', 'full'], ['operators', 'full'])
    """
    more = EVERY_RECOMPUTE[EVERY_RECOMPUTE.index(usual) :]
    return [word for word in more if word == usual or word in RECOMPUTES]


def _contexts(workload: Workload, devices: int) -> list[int]:
    """Context-parallel ranks that leave each a long part of a sequence; one of short sequences."""
    length = min(workload.sequence_length or 1, workload.target_length or math.inf)
    return [cp for cp in _some_divisors(devices, max(int(length) // _FEWEST_TOKENS, 1)) if length % cp == 0]


def _some_divisors(number: int, most: int) -> list[int]:
    """Divisors of a number up to another; some of them where there are many."""
    small = [divisor for divisor in divisors(number) if divisor <= most]
    return small if len(small) <= 12 else sorted({small[round(i * (len(small) - 1) / 11)] for i in range(12)})


def _no_plan(plan: Plan, filled: Plan, model: Model, workload: Workload, stack: Stack, devices: int) -> InputError:
    """Say why no split keeps the rules: one that the given degrees break by themselves, or else the batch's.

    Raises
    ------
    InputError
        Of the rule that is broken.
    """
    check(filled, model, workload, stack)
    full = filled.with_degrees(devices, usual=stack.offers.schedules[0])
    if (workload.global_batch or 1) % ((full.dp or 1) * (full.micro_batch or 1)) == 0:
        check(full, model, workload, stack)
        refuse_lacking(full, model, workload, stack)
    fields = [name for name in ("dp", "tp", "pp", "cp", "ep", "virtual_stages", "micro_batch") if getattr(plan, name)]
    fixed = ", ".join(f"{name}={getattr(plan, name)}" for name in fields)
    why = f"no plan for {model.id} on {devices} devices{f' with {fixed}' if fixed else ''}"
    return InputError(
        f"{why}: data-parallel ranks x micro-batch must divide global_batch={workload.global_batch}; "
        "change the batch or the devices",
        fields=[*(f"plan.{name}" for name in fields), "workload.global_batch", "devices"],
    )
