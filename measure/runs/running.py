"""A run on one device, from its options to its summary."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from hardware.errors import InputError
from measure.clock.bench import Bench, DeviceLostError
from measure.clock.cases import TIERS, Agenda, Tier, plan_of, scope_of
from measure.clock.timer import TINY, Effort
from measure.device.environment import environment_of
from measure.device.machines import Cuda, Machine, knows_bf16, machine_of
from measure.device.naming import models_of
from measure.runs.forecast import Forecast
from measure.runs.progress import Teller, clock_words
from measure.runs.session import MeasuringSession, Summary, finished
from simulator.profiling.records.journal import Journal
from simulator.profiling.records.record import Phase
from simulator.profiling.records.scenarios import shrunk
from simulator.specs.model import Model

_TIER_WORDS: dict[Tier, str] = {
    "first": "launch and bandwidth",
    "probe": "probes that calibrate",
    "whole": "one whole training step",
    "model": "kernels of the models",
    "step": "training steps",
    "size": "their other sizes",
    "spread": "a designed spread",
}


@dataclass(frozen=True)
class Prepared:
    """All that a run needs."""

    machine: Machine
    plan: Agenda
    effort: Effort
    models: dict[str, Model]
    forecast: Forecast
    budget_s: float


def prepare(
    device: str | None, models: str, budget_s: float, *, phases: Collection[Phase] = get_args(Phase), tiny: bool
) -> Prepared:
    """Choose the device, and what to measure on it.

    Raises
    ------
    InputError
        Where a device or a model is not known.
    """
    machine = machine_of(device)
    named = models_of(models)
    scope = scope_of(machine.kind, bf16=knows_bf16(machine), cache_bytes=machine.cache_bytes, tiny=tiny)
    effort = TINY if tiny else Effort.within(budget_s)
    chosen = {model.id: model for model in ([shrunk(model) for model in named] if tiny else named)}
    known = machine.known if isinstance(machine, Cuda) else None
    forecast = Forecast(machine, effort, chosen, known)
    plan = Agenda([(tier, case) for tier, case in plan_of(scope, named).cases if case.phase in phases])
    return Prepared(machine, plan, effort, chosen, forecast, budget_s)


def show_plan(prepared: Prepared) -> None:
    """Print how many cases of each kind there are, and how long they take."""
    costs_by_tier: dict[Tier, list[float]] = {tier: [] for tier in TIERS}
    for tier, case in prepared.plan.cases:
        costs_by_tier[tier].append(prepared.forecast.cost(case))
    spent = 0.0
    for name, costs in costs_by_tier.items():
        spent += sum(costs)
        within = "within the budget" if spent <= prepared.budget_s else "as far as the budget goes"
        words = f"{_TIER_WORDS[name]:24s} {len(costs):4d} cases  about {clock_words(sum(costs)):>10s}"
        sys.stdout.write(f"{words}  {within}\n")


def measure(prepared: Prepared, path: Path, started: float) -> Summary:
    """Run, and say what became of it.

    Parameters
    ----------
    prepared
        Device and plan.
    path
        The record, new or to go on with.
    started
        When the budget began, by the monotonic clock.
    """
    teller = Teller()
    with Journal(path, environment_of(prepared.machine)) as journal:
        before = journal.record
        if before is not None and before.dropped:
            sys.stderr.write(f"measure: {path}: {before.dropped}\n")
        session = MeasuringSession(
            bench=Bench(prepared.machine, prepared.effort, prepared.models),
            forecast=prepared.forecast,
            keeper=journal,
            budget_s=prepared.budget_s,
            tell=teller,
        )
        done = finished(before.results) if before is not None else set()
        try:
            summary = session.run(prepared.plan.cases, done=done, started=started)
        except DeviceLostError as error:
            raise InputError(f"the device failed at {error}; what was measured before is in {path}") from None
        finally:
            teller.clear()
    sys.stdout.write(told(summary, path) + "\n")
    return summary


def told(summary: Summary, path: Path) -> str:
    """A run in one or two sentences."""
    counted: Counter[str] = summary.outcomes
    others = [f"{number} {name.replace('_', ' ')}" for name, number in sorted(counted.items()) if name != "measured"]
    said = f"{path}: {counted['measured']} results in {clock_words(summary.took_s)}"
    said += f" ({', '.join(others)})" if others else ""
    said += f", {summary.before} from before" if summary.before else ""
    if summary.interrupted:
        return f"{said}; interrupted, and started again with the same record it goes on"
    if summary.left_out:
        return f"{said}; {summary.left_out} cases are left for a larger budget or another run with the same record"
    return f"{said}; nothing is left to measure"
