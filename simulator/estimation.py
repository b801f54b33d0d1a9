"""The answer to one scenario: what a run takes, whether it fits, what it costs, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hardware.spec import Price, System
from simulator.advice import sources_of, warnings_of
from simulator.calibration import Constants, shipped
from simulator.counts import totals
from simulator.evaluation import evaluate
from simulator.evidence.errors import Scheme, shipped_errors
from simulator.evidence.intervals import LEVEL, Interval, traits_of
from simulator.formulas import flops, money
from simulator.scenario import Named, Scenario, resolve
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_FAR = 0.9
"""Distance from the nearest run of the evidence beyond which the answer says so."""
_KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("attention_projections", "attention", "feed_forward", "head"),
    "recomputation": ("recompute",),
    "memory bandwidth": ("normalisation", "elementwise", "embedding", "gradient_accumulation", "optimizer"),
    "communication": (
        "tensor_parallel",
        "context_parallel",
        "expert_parallel",
        "parameter_gather",
        "gradient_reduction",
        "pipeline_transfer",
    ),
    "pipeline idle": ("pipeline_bubble",),
    "host": ("host", "step_overhead", "offload"),
}
"""Kinds of work, and the parts of a step that belong to each."""


@dataclass(frozen=True)
class Run:
    """A whole training run."""

    steps: int
    tokens: float
    time_s: float
    device_hours: float
    cost_usd: float | None
    energy_kwh: float
    co2_kg: float


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
    model_flops_per_step: float
    executed_flops_per_step: float
    mfu: float
    hfu: float
    model_tflops_per_device: float
    breakdown_s: dict[str, float]
    limits: dict[str, float]
    """Share of the step by kind of work, largest first."""
    limited_by: str
    memory_bytes: dict[str, float]
    fits: bool
    run: Run
    evidence: dict[str, Any] | None = None
    """On how many runs of how many sources the interval rests, which are nearest and how far the nearest is."""
    assumed: tuple[str, ...] = ()
    """What was chosen because nobody said."""
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()} | {
            "run": vars(self.run)
        }


def estimate(
    model: Named | Model,
    system: str | Path | System,
    *,
    devices: int | None = None,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    workload: Named | Workload | None = None,
    price: float | str | Price | None = None,
    grid: str = "world",
    overhead: str = "default",
    constants: str | Path | Constants | None = None,
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
        Of one device: USD an hour, a provider, or an offer of the catalogue; the cheapest on-demand offer unless given.
    grid
        Whose electricity, a name of ``grids.yaml``.
    overhead
        Power usage effectiveness, a name of ``overheads.yaml``.
    constants
        Fitted constants: the shipped ones unless given, a file of ``capsim fit``, or ``none`` for the catalogue's own.

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
        )
    )


def answer(scenario: Scenario) -> Estimate:
    """Estimate a complete scenario."""
    columns, backend = scenario.columns(), scenario.backend()
    found = evaluate(columns, backend)
    whole = totals(columns, found.counts)
    seconds, devices = float(found.step.time), scenario.devices
    likely = interval_of(scenario)
    model_flops, executed = float(whole.model_flops), float(whole.executed_flops)
    use = {"devices": float(devices), "peak": float(backend.device.peak)}
    work, capacity = scenario.workload, float(backend.device.memory_capacity)
    memory = {field.name: float(getattr(found.memory, field.name)) for field in fields(found.memory)}
    fits = float(found.memory.total) <= capacity
    breakdown = {name: float(value) for name, value in found.step.parts.items() if float(value) != 0.0}
    limits = _limits(breakdown)
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
        model_flops_per_step=model_flops,
        executed_flops_per_step=executed,
        mfu=float(flops.utilisation(model_flops, seconds, **use)),
        hfu=float(flops.utilisation(executed, seconds, **use)),
        model_tflops_per_device=model_flops / seconds / devices / 1e12,
        breakdown_s=breakdown,
        limits=limits,
        limited_by=next(iter(limits)),
        memory_bytes={**memory, "total": float(found.memory.total), "capacity": capacity},
        fits=fits,
        run=_run(scenario, seconds),
        evidence=_plain_interval(likely, scenario) if likely else None,
        assumed=scenario.assumed,
        warnings=(*warnings_of(scenario, float(found.memory.total), capacity), *_far_warning(likely)),
        sources=tuple(sources_of(scenario)),
    )


def interval_of(scenario: Scenario) -> Interval | None:
    """What the scenario may take, by the errors on runs like it; unknown for constants that no errors are known of.

    The shipped constants are judged on sources that they had not seen, since the user's cluster is one. Constants that
    were fitted to own runs are judged on configurations that they had not seen.
    """
    shifts = scenario.constants.shifts
    if not any(names for levels in shifts.values() for names in levels.values()):
        return None
    scheme: Scheme = "new source" if shifts == shipped().shifts else "known stack"
    return shipped_errors(scheme).around(traits_of(scenario))


def _far_warning(likely: Interval | None) -> Iterator[str]:
    """Say where a scenario is unlike every run of the evidence."""
    if likely is not None and likely.distance > _FAR:
        yield f"no run of the evidence is like this one, {likely.nearest[0]} is nearest; the interval is wider for it"


def _plain_interval(likely: Interval, scenario: Scenario) -> dict[str, Any]:
    """What an interval rests on, as plain values."""
    return {
        "constants": scenario.constants.origin,
        "runs": likely.runs,
        "sources": likely.sources,
        "nearest": list(likely.nearest),
        "distance": round(likely.distance, 2),
    }


def _limits(breakdown: dict[str, float]) -> dict[str, float]:
    """Share of the step that each kind of work takes, largest first."""
    whole = sum(breakdown.values())
    shares = {kind: sum(breakdown.get(name, 0.0) for name in names) / whole for kind, names in _KINDS.items()}
    return dict(sorted(((kind, share) for kind, share in shares.items() if share > 0), key=lambda item: -item[1]))


def _plain(spec: BaseModel) -> dict[str, Any]:
    """The fields of a specification that are set, as plain values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in spec if value is not None}


def _run(scenario: Scenario, step_seconds: float) -> Run:
    """From a step to the run: time, money, energy, carbon."""
    work, system = scenario.workload, scenario.system
    number = work.total_steps
    seconds = number * step_seconds
    held = float(money.device_seconds(seconds, float(scenario.devices)))
    power = system.host.power / system.devices_per_node if system.host.power else system.device.power.rated
    joules = float(money.energy(held, power, overhead=scenario.overhead.ratio))
    return Run(
        steps=number,
        tokens=number * work.tokens_per_step,
        time_s=seconds,
        device_hours=held / 3600.0,
        cost_usd=float(money.cost(held, scenario.price.rate)) if scenario.price else None,
        energy_kwh=joules / 3.6e6,
        co2_kg=float(money.emissions(joules, scenario.grid.intensity)),
    )
