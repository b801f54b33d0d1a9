"""The answer to one scenario: what a run takes, whether it fits, what it costs, and where the numbers come from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from hardware.errors import InputError, unknown
from hardware.measured import MeasuredProfile
from hardware.price import Price
from hardware.spec import System
from simulator.answers.advice import sources_of, warnings_of
from simulator.answers.basis import Basis, basis
from simulator.answers.limits import by_kind, limits_of
from simulator.answers.long_run import assumptions, long_run, matters, warnings
from simulator.answers.run import TrainingRun, training_run
from simulator.answers.utilisation import CONVENTIONS, Convention, model_flops
from simulator.evidence.errors import Scheme, shipped_errors
from simulator.evidence.intervals import LEVEL, HeldOutErrors, Interval
from simulator.evidence.traits import traits_of
from simulator.formulas import flops
from simulator.pricing.constants import Constants, shipped
from simulator.replay.timeline import Timeline, timeline
from simulator.scenario.prices import Prices
from simulator.scenario.scenario import Named, Scenario, resolve
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.running import Ownership, Reliability
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.step.chances import chances_of
from simulator.step.evaluation import evaluate
from simulator.step.memory import host_bytes
from simulator.work.counts import counts_of

_FAR = 0.9
"""Distance from the nearest run of the evidence beyond which the answer says so."""


@dataclass(frozen=True)
class Estimate:
    """What one step and one run of a scenario take; times in seconds, sizes in bytes."""

    model: str
    system: str
    devices: int
    stack: str
    backend: str
    plan: dict[str, Any]
    workload: dict[str, Any]
    step_time_s: float
    step_time_low_s: float | None
    step_time_high_s: float | None
    interval_level: float | None
    tokens_per_s: float
    samples_per_s: float
    parameters: float
    active_parameters: float
    trained_parameters: float
    """Those that the optimizer updates: all of them, or adapters, or the head."""
    further_parameters: float
    """Those of modules that predict further tokens, which are trained beside it and counted in none of these."""
    model_flops_per_step: float
    executed_flops_per_step: float
    mfu: float
    """By the convention ``mfu_convention``: `simulator.answers.utilisation` says what each counts."""
    mfu_convention: Convention
    mfu_by_convention: dict[Convention, float]
    hfu: float
    """With the recomputation that the plan asks for, by the exact convention."""
    model_tflops_per_device: float
    breakdown_s: dict[str, float]
    limits: dict[str, float]
    """Share of the step by kind of work, largest first."""
    limited_by: str
    memory_bytes: dict[str, float]
    fits: bool
    """Whether devices, and hosts where something is offloaded to them, hold what is predicted."""
    fits_probability: float
    """That they hold what will be needed, by the errors of predicted memory on runs that were not seen."""
    fits_wished: float
    """Probability from which a plan is recommended."""
    memory_low_bytes: float
    memory_high_bytes: float
    """Limits between which memory lies in nine of ten cases."""
    host_memory_bytes: float
    """What each device puts into its host's memory."""
    run: TrainingRun
    evidence: dict[str, Any] | None = None
    """On how many runs of how many sources the interval rests, which are nearest and how far the nearest is."""
    basis: dict[Basis, float] | None = None
    """Share of the step time by its basis, where a measured profile times it: see `simulator.answers.basis`."""
    assumed: tuple[str, ...] = ()
    """What was chosen because nobody said."""
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    scenario: Scenario | None = field(default=None, repr=False, compare=False)
    """What was estimated."""

    def timeline(self) -> Timeline:
        """One step, replayed on every stage of its pipeline: see `simulator.timeline`.

        Raises
        ------
        InputError
            For an estimate that was made from plain values, without its scenario.
        """
        if self.scenario is None:
            raise InputError("the estimate does not know its scenario; ask simulator.timeline for one instead")
        return timeline(self.scenario)

    @property
    def breakdown_by_kind(self) -> dict[str, dict[str, float]]:
        """The parts of the step under the kinds of work that they belong to [s]."""
        return by_kind(self.breakdown_s)

    def step_time_within(self, chance: float) -> float | None:
        """Time that a step stays below with a chance, by errors on runs like it; nothing where none are known [s].

        Parameters
        ----------
        chance
            From 0 to 1.
        """
        factors = factors_of(self.scenario, np.array([chance])) if self.scenario is not None else None
        return None if factors is None else self.step_time_s * float(factors[0])

    @property
    def fits_as_wished(self) -> bool:
        """Whether it fits with the probability from which a plan is recommended."""
        return self.fits_probability >= self.fits_wished

    def likely(self, amount: float) -> tuple[float, float] | None:
        """Limits of what grows with the time of a step, such as the run's duration, rent or energy, where known.

        Parameters
        ----------
        amount
            What the estimate says of it, in any unit.
        """
        if self.step_time_low_s is None or self.step_time_high_s is None:
            return None
        return amount * self.step_time_low_s / self.step_time_s, amount * self.step_time_high_s / self.step_time_s

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "scenario"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()} | {
            "run": vars(self.run)
        }


def estimate(
    model: Named | Model,
    system: str | Path | System | None = None,
    *,
    devices: int | None = None,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    workload: Named | Workload | None = None,
    price: float | str | Price | None = None,
    grid: str = "world",
    overhead: str = "default",
    constants: str | Path | Constants | None = None,
    profile: str | Path | MeasuredProfile | None = None,
    price_kind: str | None = None,
    prices: Prices | None = None,
    ownership: Named | Ownership | None = None,
    reliability: Named | Reliability | None = None,
    fits: float | str | None = None,
    mfu: Convention = "exact",
) -> Estimate:
    """Price one training run end to end.

    Parameters
    ----------
    model
        A name, a file (ours or a Hugging Face ``config.json``), a mapping, or a `Model`.
    system
        A name, a file, or a `System`; a device's name means a plain host of it.
    devices
        How many devices; as many as the system usually has unless given.
    plan
        How the run is split; what it leaves open is chosen.
    stack
        The software; what people would use unless given.
    workload
        What is trained on; what it leaves open comes from the model's published training.
    price
        Of one device: USD an hour, a provider, an offer of the catalogue, or a file of offers; unless given what the
        system's file says, else the cheapest on-demand offer that can run the job, else the median of providers.
    grid
        Whose electricity, a name of ``grids.yaml``.
    overhead
        Power usage effectiveness, a name of ``overheads.yaml``.
    constants
        Fitted constants: the shipped ones unless given, a file of ``capsim fit``, or ``none`` for the catalogue's own.
    profile
        What was measured on the device: a name or a file of ``capsim calibrate``; without a system it is a plain host
        of that device.
    price_kind
        on-demand, spot (which may be preempted), reserved, marketplace or owned.
    prices
        Negotiated prices, USD an hour of one device, by the system or device that they are of.
    ownership
        What an owned device costs: ``purchase_price``, ``lifetime``, ``electricity``.
    reliability
        How often the run is interrupted and what it does about it: ``failure_rate``, ``preemption_rate``, ``restart``,
        ``capacity_wait``, ``checkpoint_every``, ``storage_bandwidth``.
    fits
        Probability of fitting in memory from which a plan is chosen or recommended, such as 0.8 or ``80%``.
    mfu
        What counts as the model's arithmetic: exact, palm, torchtitan or causal.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> answer = estimate("bert-large", "dgx-a100-640gb", workload={"sequence_length": 128, "global_batch": 512})
    >>> answer.fits, answer.plan["dp"]
    (True, 8)
    """
    return answer(
        resolve(
            model,
            system,
            devices=devices,
            plan=plan,
            stack=stack,
            workload=workload,
            price=price,
            grid=grid,
            overhead=overhead,
            constants=constants,
            profile=profile,
            price_kind=price_kind,
            prices=prices,
            ownership=ownership,
            reliability=reliability,
            fits=fits,
        ),
        mfu=convention(mfu),
    )


def convention(name: str) -> Convention:
    """A convention by name.

    Raises
    ------
    InputError
        For another word.
    """
    if name not in CONVENTIONS:
        raise unknown("mfu", name, list(CONVENTIONS), fields=["mfu"])
    return name


def answer(scenario: Scenario, *, mfu: Convention = "exact") -> Estimate:
    """Estimate a complete scenario; `mfu` is the convention of its model FLOPs utilisation."""
    columns, backend = scenario.columns(), scenario.backend()
    evaluated = evaluate(columns, backend)
    whole = counts_of(evaluated.program)
    seconds, devices = float(evaluated.step.time), scenario.devices
    likely = interval_of(scenario)
    exact = float(whole.model_flops)
    use = {"devices": float(devices), "peak": float(scenario.peak)}
    by_convention = {
        name: float(flops.utilisation(counted, seconds, **use))
        for name, counted in model_flops(scenario, whole).items()
    }
    work, capacity = scenario.workload, scenario.system.device.memory_capacity
    memory = {part.name: float(getattr(evaluated.memory, part.name)) for part in fields(evaluated.memory)}
    host = float(np.asarray(host_bytes(evaluated.program)))
    total = float(evaluated.memory.total)
    low, high = chances_of(scenario.model, scenario.system, scenario.stack).interval(total)
    breakdown = {name: float(value) for name, value in evaluated.step.parts.items() if float(value) != 0.0}
    limits = limits_of(breakdown)
    whole_run = long_run(scenario, seconds, float(whole.trained_parameters + whole.further_parameters))
    run = training_run(scenario, seconds, whole_run)
    told = tuple(assumptions(scenario)) if matters(run.time_s, run.expected_time_s) else ()
    return Estimate(
        model=scenario.model.id,
        system=scenario.system.id,
        devices=devices,
        stack=scenario.stack.id,
        backend=backend.name,
        plan=_plain(scenario.plan),
        workload={**_plain(work), "tokens_per_step": work.tokens_per_step},
        step_time_s=seconds,
        step_time_low_s=seconds * likely.low if likely else None,
        step_time_high_s=seconds * likely.high if likely else None,
        interval_level=LEVEL if likely else None,
        tokens_per_s=work.tokens_per_step / seconds,
        samples_per_s=(work.global_batch or 0) / seconds,
        parameters=float(whole.parameters),
        active_parameters=float(whole.active_parameters),
        trained_parameters=float(whole.trained_parameters),
        further_parameters=float(whole.further_parameters),
        model_flops_per_step=exact,
        executed_flops_per_step=float(whole.executed_flops),
        mfu=by_convention[mfu],
        mfu_convention=mfu,
        mfu_by_convention=by_convention,
        hfu=float(flops.utilisation(exact + float(whole.repeated_flops), seconds, **use)),
        model_tflops_per_device=exact / seconds / devices / 1e12,
        breakdown_s=breakdown,
        limits=limits,
        limited_by=next(iter(limits)),
        memory_bytes={**memory, "total": total, "capacity": capacity},
        fits=total <= capacity and host <= scenario.host_capacity,
        fits_probability=scenario.chance(total, host),
        fits_wished=scenario.fits,
        memory_low_bytes=low,
        memory_high_bytes=high,
        host_memory_bytes=host,
        run=run,
        evidence=_plain_interval(likely, scenario) if likely else None,
        basis=basis(evaluated.program, backend, seconds) or None,
        assumed=(*scenario.assumed, *told),
        warnings=(
            *warnings_of(scenario, total, capacity, host),
            *_far_warning(likely),
            *warnings(scenario, whole_run),
        ),
        sources=tuple(sources_of(scenario)),
        scenario=scenario,
    )


def interval_of(scenario: Scenario) -> Interval | None:
    """What the scenario may take, by the errors on runs like it; unknown for constants that no errors are known of."""
    profile = scenario.constants.profile
    if profile is not None and profile.spread is not None and _as_measured(scenario, profile):
        far = 1.645 * profile.spread
        return Interval(math.exp(-far), math.exp(far), profile.steps, 1, (profile.id,), 0.0)
    errors = errors_of(scenario.constants)
    return errors.around(traits_of(scenario)) if errors is not None else None


def _as_measured(scenario: Scenario, profile: MeasuredProfile) -> bool:
    """Whether a scenario is of the kind whose steps were timed: one device and the stack that ran them."""
    return scenario.devices == 1 and scenario.stack.id in profile.stacks


def factors_of(scenario: Scenario, shares: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Factors on the estimate that the scenario stays below in some shares of all cases, where they are known."""
    errors = errors_of(scenario.constants)
    return errors.factors(traits_of(scenario), shares) if errors is not None else None


def errors_of(constants: Constants) -> HeldOutErrors | None:
    """The errors that predictions by some constants are judged by.

    The shipped constants are judged on sources that they had not seen, since the user's cluster is one. Constants that
    were fitted to own runs are judged on configurations that they had not seen.
    """
    shifts = constants.shifts
    if all(level == "all" for (_, level, _), _ in constants.items()):
        return None
    scheme: Scheme = "new source" if shifts == shipped().shifts else "known stack"
    return shipped_errors(scheme)


def _far_warning(likely: Interval | None) -> Iterator[str]:
    """Say where a scenario is unlike every run of the evidence."""
    if likely is not None and likely.distance > _FAR:
        yield f"no run of the evidence is like this one, {likely.nearest[0]} is nearest; the interval is wider for it"


def _plain_interval(likely: Interval, scenario: Scenario) -> dict[str, Any]:
    """The runs behind an interval, as plain values."""
    return {
        "constants": scenario.constants.origin,
        "runs": likely.runs,
        "sources": likely.sources,
        "nearest": list(likely.nearest),
        "distance": round(likely.distance, 2),
    }


def _plain(spec: BaseModel) -> dict[str, Any]:
    """The fields of a specification that are set, as plain values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in spec if value is not None}
