"""What whole training steps add to a profile, and how well a profile predicts steps that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware import units
from hardware.catalogue import plain_host
from hardware.classes import AttentionConstants, GemmConstants, Precision
from hardware.measured import HeldOutScore, MeasuredProfile, StackConstants, StreamConstants
from hardware.spec import Device
from simulator.pricing.constants import Constants
from simulator.pricing.measured import MeasuredBackend
from simulator.pricing.requests import StreamKind
from simulator.profiling.fit import keeping, streams
from simulator.profiling.fit import step_rates as whole_steps
from simulator.profiling.fit.anatomy import Anatomy, anatomy
from simulator.profiling.fit.held_out import score
from simulator.profiling.fit.step_rates import USUAL_PRICE, Prices, Prior
from simulator.profiling.records.reading import StepTime
from simulator.profiling.records.rows import Streams
from simulator.profiling.records.scenarios import attention_of, scenarios_of
from simulator.specs.loading import load_stack
from simulator.step.time import step_time
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

Values = NDArray[np.float64]
Kernel = TypeVar("Kernel", GemmConstants, AttentionConstants)
STACKS = {"cpu": "pytorch-cpu", "gpu": "pytorch-eager"}
"""The stack that the reference modules are, by kind of device."""
_FEWEST = 3
"""Steps from which on they are fitted."""
_OF_STACK = {"launch": "launch", "overhead": "step_overhead"}
"""What a profile calls prices of the host."""
_STREAMS = {"sums": StreamKind.GRADIENT_SUMS.value}
_TIMED_ALONE = 0.3
"""Deviation of the logarithm of a price that kernels timed alone give."""


@dataclass(frozen=True)
class ComparedStep:
    """A step that was timed, and what was said of it."""

    step: StepTime
    predicted_s: float
    before_s: float
    """By the catalogue's constants."""

    @property
    def measured_s(self) -> float:
        """Time of the step [s]."""
        return self.step.seconds

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted_s / self.step.seconds - 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        case = self.step.case
        return {
            "step": case.variant,
            **case.dimensions,
            "dtype": case.dtype,
            "measured_s": self.step.seconds,
            "predicted_s": self.predicted_s,
            "catalogue_s": self.before_s,
        }


def with_steps(profile: MeasuredProfile, rows: Streams, steps: Sequence[StepTime], device: Device) -> MeasuredProfile:
    """A profile with the prices of streams, launches and the optimizer that kernels and steps say together.

    Steps are scored by models: those of one model are predicted by a fit to all others. Where that is further off than
    the catalogue, its prices stay. Steps that are too few to be fitted are predicted by kernels alone.
    """
    if len(steps) < _FEWEST:
        number = f"{units.plural(len(steps), 'training step')} {'was' if len(steps) == 1 else 'were'} measured"
        borrowed = {**profile.borrowed, "steps": f"{number}, and {_FEWEST} are needed"}
        held_out = (*profile.held_out, *_unfitted(profile, steps, device))
        return profile.model_copy(update={"borrowed": borrowed, "held_out": held_out})
    prior = _prior(profile, rows, device)
    works = [_anatomy(step, profile, device) for step in steps]
    host = device.kind != "cpu"
    names = np.array([step.model.id for step in steps])
    predicted, before = np.empty(len(steps)), np.array([_catalogued(step, device) for step in steps])
    for name in dict.fromkeys(names):
        seen = [at for at, other in enumerate(names) if other != name]
        some = whole_steps.fit([steps[at] for at in seen], [works[at] for at in seen], prior, host=host)
        trial = _priced(profile, some.prices, device)
        for at in set(range(len(steps))) - set(seen):
            predicted[at] = predict(steps[at], trial, device)
    measured = np.array([step.seconds for step in steps])
    scores = []
    if len(dict.fromkeys(names)) > 1:
        scores = [_score(predicted, measured, before, len(steps) - len(steps) // len(set(names)))]
        if words := keeping.why(scores):
            held_out = (*profile.held_out, *keeping.kept(scores))
            return profile.model_copy(update={"kept": {**profile.kept, "steps": words}, "held_out": held_out})
    whole = whole_steps.fit(steps, works, prior, host=host)
    with_prices = _priced(profile, whole.prices, device)
    borrowed = {**with_prices.borrowed, **_guessed(whole.guessed, STACKS[device.kind])}
    if "stream_launch" in whole.told:
        borrowed.pop("memory.launch", None)
    return with_prices.model_copy(update={"held_out": (*with_prices.held_out, *scores), "borrowed": borrowed})


def _unfitted(profile: MeasuredProfile, steps: Sequence[StepTime], device: Device) -> list[HeldOutScore]:
    """How far off steps are of which none was fitted, by what kernels alone say."""
    if not steps:
        return []
    alone = compare(steps, profile, device)
    predicted, before, measured = (
        np.array([getattr(each, name) for each in alone]) for name in ("predicted_s", "before_s", "measured_s")
    )
    return [score("step", "steps by kernels alone", measured, fitted=0, predicted=predicted, before=before)]


def _guessed(names: Sequence[str], stack: str) -> dict[str, str]:
    """Prices that no step tells, under the names that a profile has for them, and where they come from."""
    reasons = {
        f"stacks.{stack}.{place}": f"the steps hardly depend on it; as {stack} has it"
        for name, place in _OF_STACK.items()
        if name in names
    }
    others = [name.partition(":")[2] or _STREAMS.get(name, name) for name in names if name not in _OF_STACK]
    if others:
        kinds = ", ".join(dict.fromkeys(name.replace("-", " ") for name in others))
        reasons[f"stacks.{stack}.streams"] = f"the steps hardly depend on some; as is usual of kernels: {kinds}"[:600]
    return reasons


def compare(steps: Sequence[StepTime], profile: MeasuredProfile, device: Device) -> list[ComparedStep]:
    """Steps beside what a profile and the catalogue say of them."""
    return [ComparedStep(step, predict(step, profile, device), _catalogued(step, device)) for step in steps]


def _score(predicted: Values, measured: Values, before: Values, fitted: int) -> HeldOutScore:
    """How far off the steps of models were that the fit had not seen."""
    return score("step", "steps of models left out", measured, fitted=fitted, predicted=predicted, before=before)


def predict(step: StepTime, profile: MeasuredProfile, device: Device) -> float:
    """Time of a step as an estimate with the profile has it [s]."""
    return _time(step, Constants(profile=profile), device)


def _catalogued(step: StepTime, device: Device) -> float:
    """Time of a step by the constants of the catalogue, without a profile [s]."""
    return _time(step, Constants(), device)


def _time(step: StepTime, constants: Constants, device: Device) -> float:
    """Time of a step by some constants [s]."""
    system, name = plain_host(device), STACKS[device.kind]
    stack = load_stack(name).model_copy(update={"attention": attention_of(step.case)})
    precision = _precision(step)
    bare = scenarios_of(step.case, step.model, name)
    scenarios = Scenarios(bare.models, bare.workloads, bare.plans, constants.stacks(stack, system, precision))
    backend = constants.backend(stack, system, 1, precision)
    return float(np.asarray(step_time(program_of(scenarios), backend, broken_down=False).time).reshape(-1)[0])


def _precision(step: StepTime) -> Precision:
    """Number format of the products of a step."""
    dtype = step.case.dtype
    return "bf16" if dtype == "none" else dtype


def _anatomy(step: StepTime, profile: MeasuredProfile, device: Device) -> Anatomy:
    """The work of a step, its products and attention at the profile's times."""
    backend = MeasuredBackend.of(plain_host(device), 1, _precision(step), profile)
    return anatomy(step, backend, bandwidth=float(device.memory.bandwidth), stack=STACKS[device.kind])


def _prior(profile: MeasuredProfile, rows: Streams, device: Device) -> Prior:
    """Prices from kernels that were timed alone."""
    bandwidth, memory = float(device.memory.bandwidth), profile.constants.memory
    forward = streams.prices_of(rows, streams.FORWARD, bandwidth)
    backward = streams.prices_of(rows, streams.BACKWARD, bandwidth)
    stack = load_stack(STACKS[device.kind])
    prices = Prices(
        forward=forward,
        backward=backward,
        drawn=streams.drawn_of(rows, bandwidth),
        stream_launch=memory.launch,
        launch=stack.launch,
        optimizer=1.0 / memory.efficiency,
        sums=1.0 / memory.efficiency,
        overhead=stack.step_overhead,
    )
    sure = {f"forward:{kind.value}": _TIMED_ALONE for kind in forward}
    sure |= {f"backward:{kind.value}": _TIMED_ALONE for kind in backward}
    return Prior(prices, {**sure, "products": 0.1, "attention": 0.2, "drawn": 0.3, "stream_launch": 0.5})


def _priced(profile: MeasuredProfile, prices: Prices, device: Device) -> MeasuredProfile:
    """A profile that charges these prices."""
    constants = profile.constants
    gemm = {name: _slowed(constants.gemm[name], prices.products) for name in profile.fitted}
    attention = {name: _slowed(constants.attention[name], prices.attention) for name in profile.attentions}
    memory = constants.memory.model_copy(update={"launch": _digits(prices.stream_launch)})
    changed = constants.model_copy(
        update={"gemm": constants.gemm | gemm, "attention": constants.attention | attention, "memory": memory}
    )
    software = StackConstants(
        launch=f"{_digits(prices.launch)!r} s",
        step_overhead=f"{_digits(prices.overhead)!r} s",
        streams=_streams(prices),
        drawn=f"{_digits(prices.drawn)!r} s",
    )
    return profile.model_copy(update={"constants": changed, "stacks": {STACKS[device.kind]: software}})


def _slowed(constants: Kernel, factor: float) -> Kernel:
    """Constants of kernels that take so many times as long."""
    changes = {
        name: _digits(value * factor if name == "launch" else value / factor)
        for name, value in constants
        if name == "launch" or name.endswith("efficiency")
    }
    return constants.model_copy(update=changes)


def _streams(prices: Prices) -> dict[str, StreamConstants]:
    """Rates of all kinds of streams; a pass that nothing is known of is as the other."""
    both = {
        StreamKind.OPTIMIZER: (prices.optimizer, prices.optimizer),
        StreamKind.GRADIENT_SUMS: (prices.sums, prices.sums),
    }
    for kind in sorted({*prices.forward, *prices.backward}, key=attrgetter("value")):
        ahead, back = prices.forward.get(kind), prices.backward.get(kind)
        both[kind] = (ahead or back or USUAL_PRICE, back or ahead or USUAL_PRICE)
    return {
        kind.value: StreamConstants(forward=_share(ahead), backward=_share(back))
        for kind, (ahead, back) in both.items()
    }


def _share(price: float) -> float:
    """Share of the bandwidth, of a price on bytes over bandwidth."""
    return _digits(float(np.clip(1.0 / max(price, 1e-9), 1e-6, 1e3)))


def _digits(value: float) -> float:
    """Four digits: more would say nothing."""
    return float(f"{value:.4g}")
