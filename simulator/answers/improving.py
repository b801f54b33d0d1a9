"""Changes of plan or stack that would help most, all priced at once by the formulas of the estimate.

One engine for what improves a plan that fits and for what makes one fit: warnings and pages ask it alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, product
from typing import Any, get_args

import numpy as np

from hardware.errors import InputError
from simulator.pricing.analytic import NEVER_FITTED, precisions_of
from simulator.scenario.scenario import Scenario
from simulator.specs.capabilities.checking import offered_plans
from simulator.specs.choices import RECOMPUTES, Schedule
from simulator.specs.loading import load_stack, names
from simulator.specs.plan import Plan, columns_of
from simulator.specs.plans import divisors
from simulator.specs.recomputation import COMPANIONS
from simulator.specs.rules import constraints
from simulator.specs.stack import Stack
from simulator.step.memory import host_bytes, peak_total
from simulator.step.time import step_time
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

_FORMATS = ("parameters_in_fp32", "gradients_in_fp32", "reduction_in_fp32", "master_weights")
_WORTH = 0.995
"""Of the time; less than this half per cent is not worth a change."""
_WORTH_TWO = 0.95
"""Of the time of one change; a second one besides must save more than this twentieth."""
_SMALLER = 0.95
"""Of the memory; where nothing makes a plan fit, what saves less than this twentieth does not help."""
_TOO_SLOW = 2.0
"""Times the step; what only saves memory must not cost more."""
_LEAST_STATES = "adam-8bit"
_MOST_MICRO_BATCHES = 12

Changes = dict[str, Any]


@dataclass(frozen=True)
class Improvement:
    """One thing changed with all else as it was, or two where the plan does not fit."""

    changes: Mapping[str, Any]
    """The fields of the plan, or ``stack``, and their new values; usually one."""
    before: Any
    """What the first of them was."""
    plan: Plan
    """Complete; replicas follow where degrees changed."""
    stack: str
    step_time_s: float
    time_ratio: float
    """Of the step over that of the scenario as it is."""
    memory_bytes: float
    """Memory of the peak-memory stage [B]."""
    fits: bool
    """Whether it does with the probability that is wished for."""
    fits_probability: float

    @property
    def field(self) -> str:
        """What is changed."""
        return next(iter(self.changes))

    @property
    def value(self) -> Any:
        """What it becomes."""
        return next(iter(self.changes.values()))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        plan = {name: list(value) if isinstance(value, tuple) else value for name, value in self.plan}
        plain = {name: value for name, value in vars(self).items() if name != "plan"}
        return {**plain, "changes": dict(self.changes), "plan": plan}


def improvements(scenario: Scenario, *, top: int = 5) -> tuple[Improvement, ...]:
    """Find what would help a scenario most if one thing of its plan or stack were changed, on the same devices.

    To fit is to fit with the probability that the scenario wishes for, here and below.
    Of a scenario that fits: what makes a step faster, the fastest first. Of one that does not: the change, or the pair
    of changes, that makes it fit, the fastest first, or else what needs least memory. Each field, or pair of fields,
    is listed once, with its best values; a pair only where it is notably faster than each of
    its fields alone.

    Parameters
    ----------
    scenario
        What `simulator.resolve` gives.
    top
        How many to list.

    Examples
    --------
    >>> import simulator
    >>> slow = simulator.resolve("bert-large", "dgx-a100-640gb", plan={"recompute": "full", "micro_batch": 4})
    >>> {"recompute": "none"} in [each.changes for each in improvements(slow)]
    True
    """
    unchanged = _Candidate({}, scenario.plan, scenario.stack)
    improved = [each for group in _groups([unchanged, *_candidates(scenario)]) for each in _priced(group, scenario)]
    now = next(each for each in improved if not each.candidate.changes)
    if not now.fits:
        improved += [each for group in _groups(_pairs(scenario)) for each in _priced(group, scenario)]
    helpful = sorted((each for each in improved if _helps(each, now)), key=_order)
    if any(each.fits for each in helpful):
        helpful = [each for each in helpful if each.fits]
    best: dict[frozenset[str], _Priced] = {}
    for each in sorted(helpful, key=lambda each: len(each.candidate.changes)):
        fields = frozenset(each.candidate.changes)
        alone = min((one.time for known, one in best.items() if known < fields), default=np.inf)
        if each.time < _WORTH_TWO * alone:
            best.setdefault(fields, each)
    return tuple(_told(each, now, scenario) for each in sorted(best.values(), key=_order)[:top])


@dataclass(frozen=True)
class _Candidate:
    """A change, and the plan and stack that it makes."""

    changes: Changes
    plan: Plan
    stack: Stack


@dataclass(frozen=True)
class _Priced:
    """A candidate that keeps all rules, with what it takes."""

    candidate: _Candidate
    time: float
    memory: float
    host: float
    fits: bool


def _helps(each: _Priced, now: _Priced) -> bool:
    """Whether a change is one for the better."""
    if not each.candidate.changes:
        return False
    if now.fits:
        return each.fits and each.time < _WORTH * now.time
    return each.fits or (each.memory < _SMALLER * now.memory and each.time < _TOO_SLOW * now.time)


def _order(each: _Priced) -> tuple[bool, float]:
    """What fits first, the fastest first; of what does not, the smallest first."""
    return (False, each.time) if each.fits else (True, each.memory)


def _told(each: _Priced, now: _Priced, scenario: Scenario) -> Improvement:
    """A priced change in words of the API."""
    field = next(iter(each.candidate.changes))
    return Improvement(
        changes=each.candidate.changes,
        before=scenario.stack.id if field == "stack" else getattr(scenario.plan, field),
        plan=each.candidate.plan,
        stack=each.candidate.stack.id,
        step_time_s=each.time,
        time_ratio=each.time / now.time,
        memory_bytes=each.memory,
        fits=each.fits,
        fits_probability=scenario.chance(each.memory, each.host, each.candidate.stack),
    )


def _groups(candidates: Sequence[_Candidate]) -> Iterator[list[_Candidate]]:
    """Candidates of one precision and stack each: they share a backend."""

    def shared(each: _Candidate) -> tuple[str, str]:
        return each.plan.precision or "bf16", each.stack.id

    for _, group in groupby(sorted(candidates, key=shared), key=shared):
        yield list(group)


def _priced(candidates: list[_Candidate], scenario: Scenario) -> Iterator[_Priced]:
    """What candidates of one precision and stack take, those only that keep the rules."""
    constants, system, precision = scenario.constants, scenario.system, candidates[0].plan.precision or "bf16"
    stack = candidates[0].stack
    columns = Scenarios(
        scenario.model.columns(),
        scenario.workload.columns(),
        columns_of([each.plan for each in candidates], scenario.workload),
        constants.stacks(stack, system, precision),
    )
    program = program_of(columns)
    backend = constants.backend(stack, system, scenario.devices, precision)
    shape = (len(candidates),)
    time = np.broadcast_to(step_time(program, backend, broken_down=False).time, shape)
    memory = np.broadcast_to(peak_total(program), shape)
    host = np.broadcast_to(host_bytes(program), shape)
    kept = offered_plans(
        [each.plan for each in candidates], [each.stack for each in candidates], scenario.model, scenario.workload
    )
    kept |= np.array([not each.changes for each in candidates])  # which is judged as it is
    for rule in constraints(columns.plans, columns.models, columns.workloads, columns.stacks):
        kept &= rule.kept
    fits = (memory <= scenario.room_under(stack)) & (host <= scenario.host_capacity)
    for each, keep, seconds, held, put, fit in zip(candidates, kept, time, memory, host, fits, strict=True):
        if keep:
            yield _Priced(each, float(seconds), float(held), float(put), fits=bool(fit))


def _candidates(scenario: Scenario) -> Iterator[_Candidate]:
    """Every single change that makes a complete plan."""
    plan, stack, devices = scenario.plan, scenario.stack, scenario.devices
    for change in _changes(scenario):
        follow = dict.fromkeys(_followers(next(iter(change)), plan))
        try:
            changed = plan.model_copy(update={**follow, **change}).with_defaults(stack)
            changed = changed.with_degrees(devices, usual=stack.offers.schedules[0])
        except InputError:  # degrees that do not multiply to the devices
            continue
        yield _Candidate(change, changed, stack)
    for other in _stacks(scenario):
        habits = plan.model_copy(update=dict.fromkeys((*_FORMATS, "attention")))
        formats = habits.with_defaults(other, scenario.model.family)
        full = formats.with_degrees(devices, usual=other.offers.schedules[0])
        yield _Candidate({"stack": other.id}, full, other)


def _followers(field: str, plan: Plan) -> tuple[str, ...]:
    """Fields that follow from another one."""
    degrees: dict[str, tuple[str, ...]] = {
        "tp": ("dp",),
        "pp": ("dp", "virtual_stages", "schedule") if plan.virtual_stages != 1 else ("dp",),
        "cp": ("dp",),
        "virtual_stages": ("schedule",),
        "schedule": ("virtual_stages",),
        "sharding": ("sharding_group",),
        "precision": _FORMATS,
        "recompute": COMPANIONS,
    }
    return degrees.get(field, ())


def _changes(scenario: Scenario) -> Iterator[Changes]:
    """Single changes of the plan, whether or not they keep the rules."""
    plan, axes = scenario.plan, scenario.stack.axes
    others: dict[str, Sequence[Any]] = {
        "micro_batch": _micro_batches(scenario),
        "recompute": RECOMPUTES,
        "sharding": ("none", "zero1", "zero2", "zero3"),
        "attention": (scenario.stack.attention_of(scenario.model.family),),
        "precision": [each for each in precisions_of(scenario.system.device) if each not in NEVER_FITTED],
        "offload_optimizer": (not plan.offload_optimizer,),
        "optimizer": (_LEAST_STATES,) if plan.optimizer == "adamw" else (),
        **{axis: _around(getattr(plan, axis), (1, 2)) for axis in ("tp", "pp", "cp", "ep") if axis in axes},
    }
    if (plan.tp or 1) > 1:
        others["sequence_parallel"] = (not plan.sequence_parallel,)
    if (plan.pp or 1) > 1:
        others["virtual_stages"] = (1, 2, 3, 4, 6, 8)
        others["schedule"] = tuple(name for name in get_args(Schedule) if name != "interleaved")
    for field, values in others.items():
        for value in values:
            if value != getattr(plan, field):
                yield {field: value}


def _micro_batches(scenario: Scenario) -> list[int]:
    """Micro-batches up to four times the plan's that divide a replica's sequences; a dozen where there are many."""
    plan = scenario.plan
    sequences = (scenario.workload.global_batch or 1) // (plan.dp or 1)
    every = [each for each in divisors(sequences) if each <= 4 * (plan.micro_batch or 1)]
    return every[:: -(-len(every) // _MOST_MICRO_BATCHES)] if every else []


def _pairs(scenario: Scenario) -> list[_Candidate]:
    """Pairs of changes that save memory."""
    plan, stack = scenario.plan, scenario.stack
    smaller = [each for each in _micro_batches(scenario) if each < (plan.micro_batch or 1)]
    saving: dict[str, Sequence[Any]] = {
        "micro_batch": smaller,
        "recompute": [name for name in RECOMPUTES if name != plan.recompute],
        "sharding": [name for name in ("zero1", "zero2", "zero3") if name != plan.sharding],
        "offload_optimizer": [] if plan.offload_optimizer else [True],
        "optimizer": [_LEAST_STATES] if plan.optimizer == "adamw" else [],
    }
    pairs = []
    for one, other in combinations(saving, 2):
        for first, second in product(saving[one], saving[other]):
            change = {one: first, other: second}
            follow = dict.fromkeys(_followers(one, plan) + _followers(other, plan))
            changed = plan.model_copy(update={**follow, **change}).with_defaults(stack)
            changed = changed.with_degrees(scenario.devices, usual=stack.offers.schedules[0])
            pairs.append(_Candidate(change, changed, stack))
    return pairs


def _around(number: int | None, factors: tuple[int, ...]) -> list[int]:
    """Multiples of a number, and parts of it."""
    now = number or 1
    return sorted({now * factor for factor in factors} | {now // factor for factor in factors if now % factor == 0})


def _stacks(scenario: Scenario) -> Iterator[Stack]:
    """Other stacks for the same devices that offer every axis that the plan uses."""
    plan, used = scenario.plan, {axis for axis in ("tp", "pp", "cp", "ep") if (getattr(scenario.plan, axis) or 1) > 1}
    for name in names("stacks"):
        stack = load_stack(name)
        known = stack.runs_on(scenario.system.device) and stack.id != scenario.stack.id
        if known and used <= set(stack.axes) and plan.precision is not None:
            yield stack
