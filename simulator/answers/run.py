"""A whole training run: if nothing happens, and as is to be expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from simulator.answers.costs import plain_price
from simulator.answers.long_run import HOPELESS, LongRun
from simulator.formulas import money
from simulator.scenario.scenario import Scenario


@dataclass(frozen=True)
class TrainingRun:
    """A whole training run: first if nothing happens, then as is to be expected, with failures and checkpoints.

    What is expected is unknown (None) of a run that would never end. Where nothing says how long the run is, all of it
    is of a billion tokens out of a long one.
    """

    of: Literal["run", "billion tokens"]
    """What time, money, energy and interruptions are of."""
    steps: float
    tokens: float
    time_s: float
    device_hours: float
    cost_usd: float | None
    energy_kwh: float
    co2_kg: float
    price_kind: str | None
    price: dict[str, Any] | None
    """What a device costs an hour, by which rule that was found, and what is offered beside it."""
    checkpoint_bytes: float
    checkpoint_write_s: float
    checkpoint_interval_s: float
    """Work between two checkpoints."""
    goodput: float
    """Share of the time that is paid for and is useful work."""
    failures: float | None
    preemptions: float | None
    """Events, in each of which one instance or many are preempted."""
    checkpoint_time_s: float | None
    restart_time_s: float | None
    replay_time_s: float | None
    """Work and checkpoints that were lost and are done again."""
    absent_time_s: float | None
    """Without capacity after preemptions; it is not paid."""
    capacity_share: float | None
    """Share of the expected time in which there is capacity."""
    expected_time_s: float | None
    expected_cost_usd: float | None
    expected_energy_kwh: float | None


def training_run(scenario: Scenario, step_seconds: float, expected: LongRun) -> TrainingRun:
    """From a step to the run: time, money, energy, carbon, if nothing happens and as is to be expected."""
    work, system = scenario.workload, scenario.system
    number = work.total_steps
    seconds = number * step_seconds
    held = float(money.device_seconds(seconds, float(scenario.devices)))
    joules = float(money.energy(held, system.power_per_device, overhead=scenario.overhead.ratio))
    plain = {name: None if value is None else float(value) for name, value in _numbers(expected).items()}
    if float(expected.goodput) < HOPELESS:
        kept = ("checkpoint_bytes", "checkpoint_write_s", "checkpoint_interval_s")
        plain = {name: plain[name] if name in kept else None for name in plain} | {"goodput": 0.0}
    return TrainingRun(
        of="run" if work.says_length else "billion tokens",
        steps=number,
        tokens=number * work.tokens_per_step,
        time_s=seconds,
        device_hours=held / 3600.0,
        cost_usd=float(money.cost(held, scenario.price.rate)) if scenario.price else None,
        energy_kwh=joules / 3.6e6,
        co2_kg=float(money.emissions(joules, scenario.grid.intensity)),
        price_kind=expected.price_kind,
        price=plain_price(scenario.priced),
        **plain,  # type: ignore[arg-type]
    )


def _numbers(expected: LongRun) -> dict[str, Any]:
    """The fields of a long run that are numbers."""
    return {name: value for name, value in vars(expected).items() if name != "price_kind"}
