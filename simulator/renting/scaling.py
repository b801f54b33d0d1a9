"""`simulator.scale`: the same run on more and more devices, and when that is too many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from hardware.errors import InputError, shown
from simulator.answers.estimate import Estimate
from simulator.renting.cases import RentCase, can_be_had, cases_of, check_most, doubled_of
from simulator.renting.sweeping import Option, Refused, collected
from simulator.scenario.scenario import Scenario, resolve, spec_of
from simulator.specs.workload import Workload

Kind = Literal["strong", "weak"]
_HALF = 0.5
_MOST = 4096
"""Devices at most unless said otherwise."""


@dataclass(frozen=True)
class ScalePoint:
    """A run on some number of devices, by the best plan for it."""

    devices: int
    estimate: Estimate
    speedup: float
    """Tokens a second over those on the fewest devices [1]."""
    efficiency: float
    """Tokens a second of one device over the most that one reaches on any number of them [1]."""

    @property
    def ideal_tokens_per_s(self) -> float:
        """Tokens a second if each device reached that most."""
        return self.estimate.tokens_per_s / self.efficiency

    def to_dict(self) -> dict[str, Any]:
        """The point as plain values."""
        answer = self.estimate
        return {
            "devices": self.devices,
            "global_batch": answer.workload["global_batch"],
            "step_time_s": answer.step_time_s,
            "interval": {"low_s": answer.step_time_low_s, "high_s": answer.step_time_high_s},
            "tokens_per_s": answer.tokens_per_s,
            "speedup": self.speedup,
            "efficiency": self.efficiency,
            "mfu": answer.mfu,
            "limits": answer.limits,
            "memory_bytes": answer.memory_bytes["total"],
            "of": answer.run.of,
            "time_s": answer.run.time_s,
            "cost_usd": answer.run.cost_usd,
            "stack": answer.stack,
            "plan": answer.plan,
        }


@dataclass(frozen=True)
class Scaling:
    """How a run scales."""

    model: str
    system: str
    kind: Kind
    """Whether the batch stays (strong) or grows with the devices (weak)."""
    devices: int
    """For which the batch is meant."""
    global_batch: int
    """On these devices."""
    points: tuple[ScalePoint, ...]
    """The fewest devices first."""
    reference: int | None
    """Devices on which each of them reaches most."""
    halved_at: float | None
    """Devices beyond which each reaches less than half of that; nothing if all that were looked at reach more."""
    refused: tuple[Refused, ...]
    whole: bool
    """Whether all numbers were looked at, or somebody interrupted."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        same = ("model", "system", "kind", "devices", "global_batch", "reference", "halved_at", "whole")
        return {
            **{name: getattr(self, name) for name in same},
            "points": [point.to_dict() for point in self.points],
            "refused": [vars(each) for each in self.refused],
        }


def scale(
    model: Any,
    system: Any = None,
    *,
    kind: str = "strong",
    counts: Sequence[int] | None = None,
    max_devices: int = _MOST,
    devices: int | None = None,
    workload: Any = None,
    plan: Any = None,
    where: str | None = None,
    every_plan: bool = False,
    processes: int | None = 1,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Scaling:
    """The best plan for a run on every number of devices of a system, and how well each device is used.

    Parameters
    ----------
    model, system
        As `simulator.estimate` takes them.
    kind
        ``strong`` for the same batch on all numbers of devices, ``weak`` for one that grows with them.
    counts
        Numbers of devices; unless given, `devices` and powers of two of single devices or nodes up to `max_devices`,
        or for a weak scaling `devices` doubled and halved.
    max_devices
        Devices at most.
    devices
        Those that the workload's batch is meant for, from which a weak scaling starts to grow; as many as the system
        usually has unless given.
    workload
        As `simulator.estimate` takes it.
    plan, where, every_plan, processes
        As in `simulator.sweep`.
    progress
        Called after each number of devices with how many are done, and how many there are.
    options
        All else that `simulator.estimate` takes.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> curve = scale("bert-large", "dgx-a100-640gb", workload={"global_batch": 64}, max_devices=512)
    >>> curve.points[0].efficiency > 0.9, curve.halved_at < 256
    (True, True)
    """
    if kind not in get_args(Kind):
        raise InputError(f"kind={shown(kind)}: choose one of {', '.join(get_args(Kind))}")
    base = resolve(model, system, devices=devices, workload=workload, plan=plan, open_plan=True, **options)
    shared = {"plan": plan, "where": where, "every_plan": every_plan, **options, "max_devices": max_devices}
    cases, refused = list[RentCase](), list[Refused]()
    for number in counts or _counts(base, kind, max_devices):
        batch = (base.workload.global_batch or 1) * (number / base.devices if kind == "weak" else 1)
        if batch != int(batch):
            why = f"a batch of {base.workload.global_batch} on {base.devices} would be {batch:.4g} on {number}"
            refused.append(Refused(base.model.id, base.system.id, number, why))
            continue
        work = spec_of(Workload, workload).model_copy(update={"global_batch": int(batch)})
        cases += cases_of([base.model], [base.system], [number], workload=work, **shared)
    swept = collected(cases, processes=processes, progress=progress)
    points, best = _points(sorted(swept.options, key=lambda option: option.devices))
    return Scaling(
        model=base.model.id,
        system=base.system.id,
        kind="weak" if kind == "weak" else "strong",
        devices=base.devices,
        global_batch=base.workload.global_batch or 1,
        points=points,
        reference=best,
        halved_at=_halved(points, best),
        refused=tuple(sorted([*swept.refused, *refused], key=lambda each: each.devices)),
        whole=swept.whole,
    )


def _counts(base: Scenario, kind: str, most: int) -> list[int]:
    """Numbers of devices that tell how a run scales."""
    check_most(most)
    if kind == "strong":
        numbers = {*doubled_of(base.system, most), base.devices}
    else:
        halves = [base.devices // 2**i for i in range(24) if base.devices % 2**i == 0]
        numbers = {*halves, *(base.devices * 2**i for i in range(24))}
    limit = min(most, base.system.most_devices)
    return sorted(number for number in numbers if number <= limit and can_be_had(base.system, number))


def _points(options: Sequence[Option]) -> tuple[tuple[ScalePoint, ...], int | None]:
    """What each number of devices brings, and the number on which each device brings most."""
    if not options:
        return (), None
    rates = [option.estimate.tokens_per_s for option in options]
    each = [rate / option.devices for rate, option in zip(rates, options, strict=True)]
    most = max(each)
    points = tuple(
        ScalePoint(option.devices, option.estimate, rate / rates[0], one / most)
        for option, rate, one in zip(options, rates, each, strict=True)
    )
    return points, options[each.index(most)].devices


def _halved(points: Sequence[ScalePoint], reference: int | None) -> float | None:
    """Where efficiency falls below a half for good, on a line between two points on a logarithmic scale."""
    later = [point for point in points if reference is not None and point.devices >= reference]
    for one, other in reversed(list(pairwise(later))):
        if other.efficiency >= _HALF:
            break
        if one.efficiency >= _HALF:
            share = (one.efficiency - _HALF) / (one.efficiency - other.efficiency)
            return math.exp((1.0 - share) * math.log(one.devices) + share * math.log(other.devices))
    return None
