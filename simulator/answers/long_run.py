"""From an ideal run to the one to expect: interrupted, restarted, with checkpoints, and paid for until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hardware import catalogue, units
from hardware.quantity import show
from hardware.sheet import Sheet
from simulator.formulas import money, reliability
from simulator.formulas.typing import Num
from simulator.scenario.offers import is_slice
from simulator.scenario.scenario import Scenario
from simulator.specs.plans import Plans

HOPELESS = 1e-6
"""Goodput below which a run is said never to end."""
_SMALL_SHARE, _SMALL_TIME = 1e-3, 60.0
"""A run that takes less than this share or time longer than its ideal is told as its ideal."""
_LONG = 30 * 86400.0
"""Work of a long run at least [s]."""
_GROWING = (
    "failures",
    "preemptions",
    "checkpoint_time_s",
    "restart_time_s",
    "replay_time_s",
    "absent_time_s",
    "expected_time_s",
    "expected_energy_kwh",
    "expected_cost_usd",
)
"""What grows with the length of a run."""
_POOR = 0.5
"""Goodput below which an answer warns."""


@dataclass(frozen=True)
class Circumstances:
    """Under which runs are held; numbers in SI, or arrays that broadcast."""

    failure_rate: Num
    """Failures of one device [1/s]."""
    preemption_rate: Num
    """How often one instance is preempted that is held alone, 0 unless it is a spot offer [1/s]."""
    restart: Num
    """From an interruption to the first new step [s]."""
    storage_bandwidth_per_device: Num
    """At which a device writes while all others do, up to what the storage takes [B/s]."""
    power: Num
    """Power of one device with its share of the host [W]."""
    overhead: Num
    """Power usage effectiveness [1]."""
    grouping: Num = 0.0
    """How much spot instances share their fate, from 0 to 1 [1]."""
    devices_per_instance: Num = 1.0
    """That are preempted together at least [device]."""
    capacity_wait: Num = 0.0
    """From a preemption until capacity is back [s]."""
    storage_bandwidth: Num | None = None
    """What the storage takes of all devices together [B/s]; as much as they write unless given."""
    checkpoint_every: Num | None = None
    """Work between checkpoints [s]; Daly's optimum unless given."""
    price: Num | None = None
    """Price of one device [USD/s]."""
    price_kind: str | None = None

    def events(self, devices: Num) -> Num:
        """Preemptions of a run on so many devices over time, each of one instance or of many [1/s]."""
        instances = np.ceil(np.asarray(devices) / self.devices_per_instance)
        return money.preemption_events(instances, self.preemption_rate, grouping=self.grouping)


@dataclass(frozen=True)
class LongRun:
    """What is to be expected of runs; numbers, or arrays with one entry a run."""

    checkpoint_bytes: Num
    checkpoint_write_s: Num
    """Time that training stands still for one checkpoint."""
    checkpoint_interval_s: Num
    """Work between two checkpoints."""
    failures: Num
    preemptions: Num
    """Events, in each of which one instance or many are preempted."""
    checkpoint_time_s: Num
    """Of all checkpoints, without those that are written again."""
    restart_time_s: Num
    replay_time_s: Num
    """Work and checkpoints that were lost and are done again."""
    absent_time_s: Num
    """Without capacity after preemptions; it is not paid."""
    capacity_share: Num
    """Share of the run in which there is capacity."""
    goodput: Num
    """Share of the time that is paid for and is useful work."""
    expected_time_s: Num
    """With the time without capacity."""
    expected_energy_kwh: Num
    expected_cost_usd: Num | None
    price_kind: str | None


def expect(step_time: Num, steps: Num, *, devices: Num, checkpoint_bytes: Num, circumstances: Circumstances) -> LongRun:
    """What is to be expected of any number of runs at once; all arguments broadcast.

    A checkpoint is written after a whole number of steps at the earliest, and when the run ends.

    Parameters
    ----------
    step_time
        Of one step if nothing happens [s].
    steps
        Of the run [1].
    devices
        That hold the run [device].
    checkpoint_bytes
        Size of a checkpoint [B].
    circumstances
        Rates, storage and prices.
    """
    now, work = circumstances, np.asarray(step_time) * steps
    shared = np.asarray(devices) * now.storage_bandwidth_per_device
    write = reliability.write_time(
        checkpoint_bytes, shared if now.storage_bandwidth is None else np.asarray(now.storage_bandwidth)
    )
    events = now.events(devices)
    rate = reliability.total_rate(devices, now.failure_rate, event_rate=events)
    wanted = now.checkpoint_every
    if wanted is None:
        wanted = reliability.daly_interval(write, reliability.mean_time(rate))
    interval = np.clip(wanted, step_time, work)
    within: dict[str, Any] = {"write": write, "interruption_rate": rate, "restart": now.restart}
    elapsed = reliability.expected_time(work, interval, **within)
    held, absent = (
        money.device_seconds(elapsed, devices),
        money.absent_time(elapsed, events, wait=now.capacity_wait),
    )
    return LongRun(
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_write_s=write,
        checkpoint_interval_s=interval,
        failures=reliability.interruptions(elapsed, np.asarray(devices) * now.failure_rate),
        preemptions=reliability.interruptions(elapsed, events),
        checkpoint_time_s=work * write / interval,
        restart_time_s=reliability.restart_time(elapsed, rate, restart=now.restart),
        replay_time_s=reliability.replay_time(elapsed, work, interval=interval, **within),
        absent_time_s=absent,
        capacity_share=money.held_share(events, now.capacity_wait),
        goodput=reliability.goodput(interval, write, interruption_rate=rate, restart=now.restart),
        expected_time_s=elapsed + absent,
        expected_energy_kwh=money.energy(held, now.power, overhead=now.overhead) / 3.6e6,
        expected_cost_usd=None if now.price is None else money.cost(held, now.price),
        price_kind=now.price_kind,
    )


def circumstances_of(scenario: Scenario) -> Circumstances:
    """What a scenario says of failures, storage and prices, and what the catalogue says of the rest."""
    said, system, price = scenario.reliability, scenario.system, scenario.price
    family, site = catalogue.failures_of(system.device), catalogue.sites()["default"]
    spot = price is not None and price.kind == "spot"
    preempted = family.preemption_rate if said.preemption_rate is None else said.preemption_rate
    instance = system.devices_per_node
    if price is not None and price.devices is not None and not is_slice(price):
        instance = price.devices
    return Circumstances(
        failure_rate=family.failure_rate if said.failure_rate is None else said.failure_rate,
        preemption_rate=preempted if spot else 0.0,
        grouping=site.preemption_grouping,
        devices_per_instance=float(instance),
        capacity_wait=site.capacity_wait if said.capacity_wait is None else said.capacity_wait,
        restart=site.restart if said.restart is None else said.restart,
        storage_bandwidth_per_device=site.storage_bandwidth_per_device,
        power=system.power_per_device,
        overhead=scenario.overhead.ratio,
        storage_bandwidth=said.storage_bandwidth,
        checkpoint_every=said.checkpoint_every,
        price=None if price is None else price.rate,
        price_kind=None if price is None else price.kind,
    )


def checkpoint_bytes_of(plans: Plans, parameters: Num) -> Num:
    """Sizes of the checkpoints of plans [B].

    What goes by shape is too small to count: Adafactor's factored moments, scales of states in 8 bits, and second
    moments of what Muon leaves to AdamW.

    Parameters
    ----------
    plans
        Columns of plans.
    parameters
        Of the whole model [parameter].
    """
    return reliability.checkpoint_bytes(
        parameters, plans.parameter_bytes, master_bytes=plans.master_bytes, state_bytes=plans.state_bytes
    )


def long_run(scenario: Scenario, step_time: float, parameters: float) -> LongRun:
    """What is to be expected of one scenario's run.

    Where nothing says how long it is, it is a billion tokens out of one that lasts a month at least.

    Parameters
    ----------
    scenario
        What is run.
    step_time
        Of one step [s].
    parameters
        Of the whole model [parameter].
    """
    steps = float(scenario.workload.total_steps)
    lasting = steps if scenario.workload.says_length else max(steps, _LONG / step_time)
    whole = expect(
        step_time,
        lasting,
        devices=float(scenario.devices),
        checkpoint_bytes=checkpoint_bytes_of(scenario.plan.columns(scenario.workload), parameters),
        circumstances=circumstances_of(scenario),
    )
    return whole if lasting == steps else _part(whole, steps / lasting)


def _part(run: LongRun, share: float) -> LongRun:
    """What a share of a run takes."""
    amounts: dict[str, Any] = {
        name: share * np.asarray(value) for name in _GROWING if (value := getattr(run, name)) is not None
    }
    return replace(run, **amounts)


def matters(ideal_s: float, expected_s: float | None) -> bool:
    """Whether a run is so much longer than its ideal that one should be told; nothing means that it never ends."""
    return expected_s is None or expected_s - ideal_s > max(_SMALL_SHARE * ideal_s, _SMALL_TIME)


def assumptions(scenario: Scenario) -> Iterator[str]:
    """What was assumed of interruptions and checkpoints because nobody said, in one line for each place it is from."""
    said, circumstances = scenario.reliability, circumstances_of(scenario)
    family, site = catalogue.failures_of(scenario.system.device), catalogue.sites()["default"]
    if said.failure_rate is None:
        yield f"failure_rate={show(family.failure_rate, 'event rate')} of one device: {family.name}"
    if circumstances.preemption_rate:
        yield from _of_spot(scenario, circumstances)
    usual = {} if said.restart is not None else {"restart": units.duration(site.restart)}
    if said.storage_bandwidth is None:
        total = scenario.devices * site.storage_bandwidth_per_device
        usual["storage_bandwidth"] = show(float(f"{total:.3g}"), "bandwidth")
    if usual:
        yield f"{', '.join(f'{name}={value}' for name, value in usual.items())}: as published for large clusters"


def _of_spot(scenario: Scenario, about: Circumstances) -> Iterator[str]:
    """What was assumed of preemptions because nobody said."""
    said, family = scenario.reliability, catalogue.failures_of(scenario.system.device)
    held = f"{float(about.devices_per_instance):.0f}"
    if said.preemption_rate is None:
        rate = show(family.preemption_rate, "event rate")
        yield f"preemption_rate={rate} of one instance of {held}: {family.name}; several go together"
    if said.capacity_wait is None:
        yield f"capacity_wait={units.duration(float(about.capacity_wait))} after each: as of V100 in 2022 and 2023"


def warnings(scenario: Scenario, run: LongRun) -> Iterator[str]:
    """Say where most of the time is lost."""
    share = float(run.goodput)
    if share >= _POOR:
        return
    about = circumstances_of(scenario)
    devices = float(scenario.devices)
    rate = reliability.total_rate(devices, about.failure_rate, event_rate=about.events(devices))
    lost = "the run would never end" if share < HOPELESS else f"only {100 * share:.2g} % of the time is useful work"
    yield (
        f"{lost}: {units.count(86400 * float(rate))} interruptions a day, {units.duration(float(about.restart))} to "
        f"restart and {units.duration(float(run.checkpoint_write_s))} to write a checkpoint; fewer devices, faster "
        "restarts or faster storage help"
    )


def sources(scenario: Scenario) -> Iterator[str]:
    """Where the figures are from that nobody said."""
    said, circumstances = scenario.reliability, circumstances_of(scenario)
    family, site = catalogue.failures_of(scenario.system.device), catalogue.sites()["default"]
    if said.failure_rate is None:
        yield from _cited(family, "failure_rate", "failures of one device")
    if said.preemption_rate is None and circumstances.preemption_rate:
        yield from _cited(family, "preemption_rate", "spot instances preempted")
    if circumstances.preemption_rate:
        yield from _cited(site, "preemption_grouping", "instances preempted together")
    if circumstances.preemption_rate and said.capacity_wait is None:
        yield from _cited(site, "capacity_wait", "time without capacity")
    if said.restart is None:
        yield from _cited(site, "restart", "restart")
    if said.storage_bandwidth is None:
        yield from _cited(site, "storage_bandwidth_per_device", "writing of checkpoints")


def _cited(sheet: Sheet, name: str, words: str) -> Iterator[str]:
    """A figure with its source and note."""
    seen = sheet.provenance.get(name)
    if seen is not None:
        yield f"{words}, {sheet.shown()[name]}: {'; '.join(seen.source)}{f' ({seen.note})' if seen.note else ''}"
