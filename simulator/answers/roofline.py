"""The operators of a step against the roofline of the device: which wait for arithmetic and which for memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from simulator.formulas.roofline import shortest_time
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.scenario.scenario import Scenario
from simulator.work.operators import FusedAttention, Operator
from simulator.work.tally import repeats
from simulator.work.transformer import embedding, head, layer

Pass = Literal["forward", "backward", "recomputation"]
Bound = Literal["compute", "memory"]


@dataclass(frozen=True)
class Work:
    """One operator in one pass: all its calls of a step on one device of a stage with an even share of the layers."""

    operator: str
    part: str
    """The part of the step that it belongs to."""
    direction: Pass
    flops: float
    """Arithmetic of matrix products; 0 where an operator only moves."""
    moved_bytes: float
    time_s: float
    shortest_s: float
    """What the data sheet's peak rate and bandwidth would allow."""
    bound: Bound
    """What the data sheet says it has to wait for."""

    @property
    def intensity(self) -> float:
        """Arithmetic for each byte [FLOP/B]."""
        return self.flops / self.moved_bytes

    @property
    def rate(self) -> float:
        """Arithmetic that is reached [FLOP/s]."""
        return self.flops / self.time_s

    @property
    def reached(self) -> float:
        """Share of what the data sheet would allow."""
        return self.shortest_s / self.time_s

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "intensity": self.intensity, "rate": self.rate, "reached": self.reached}


@dataclass(frozen=True)
class Roofline:
    """The roof, and the work below it, longest first."""

    peak: float
    """Of the plan's number format [FLOP/s]."""
    bandwidth: float
    """Of the memory [B/s]."""
    work: tuple[Work, ...]

    @property
    def ridge(self) -> float:
        """Arithmetic for each byte from which the peak rate limits, not the memory [FLOP/B]."""
        return self.peak / self.bandwidth

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "peak": self.peak,
            "bandwidth": self.bandwidth,
            "ridge": self.ridge,
            "work": [each.to_dict() for each in self.work],
        }


def roofline(scenario: Scenario) -> Roofline:
    """Place the operators of a scenario under the roofline of its device; collectives have no place there.

    Parameters
    ----------
    scenario
        What `simulator.resolve` gives.

    Examples
    --------
    >>> import simulator
    >>> found = roofline(simulator.resolve("bert-large", "dgx-a100-640gb"))
    >>> found.work[0].operator, found.work[0].bound, round(found.ridge)
    ('softmax and dropout', 'memory', 153)
    """
    together: dict[tuple[str, str], Work] = {}
    device = _Device.of(scenario)
    for work in _all(scenario, device):
        key = work.operator, work.direction
        together[key] = _sum(together[key], work) if key in together else work
    ordered = sorted(together.values(), key=lambda work: -work.time_s)
    return Roofline(device.peak, device.bandwidth, tuple(ordered))


@dataclass(frozen=True)
class _Device:
    """What prices operators, and what the data sheet says."""

    backend: Backend
    peak: float
    bandwidth: float

    @classmethod
    def of(cls, scenario: Scenario) -> _Device:
        """The device of a scenario."""
        return cls(scenario.backend(), scenario.peak, float(scenario.system.device.memory.bandwidth))


def _all(scenario: Scenario, device: _Device) -> Iterator[Work]:
    """Every operator of every kind of layer, of the embedding and of the head."""
    columns = scenario.columns()
    plans, stacks = columns.plans, columns.stacks
    calls = float(plans.micro_batches)
    for group in columns.models.layers:
        number = calls * float(group.count) / float(plans.pp)
        for operator in layer(group, columns):
            yield from _works(operator, device, number, again=float(repeats(operator, plans, stacks)))
    for operator in (*embedding(columns), *head(columns)):
        yield from _works(operator, device, calls, again=0.0)


def _works(operator: Operator, device: _Device, number: float, *, again: float) -> Iterator[Work]:
    """Both passes of an operator, and its recomputation; nothing of what moves nothing, as collectives."""
    ahead = operator.forward_flops, operator.forward_traffic, operator.forward_time(device.backend)
    backward = operator.backward_flops
    if isinstance(operator, FusedAttention):
        backward = backward + operator.recomputed_flops
    back = backward, operator.backward_traffic, operator.backward_time(device.backend)
    passes: tuple[tuple[Pass, float, tuple[Num, Num, Num]], ...] = (
        ("forward", number, ahead),
        ("backward", number, back),
        ("recomputation", number * again, ahead),
    )
    for direction, calls, (flops, moved_bytes, time) in passes:
        computed, moved = calls * float(flops * operator.computed_share), calls * float(moved_bytes)
        if moved > 0.0 and float(time) > 0.0:
            shortest = float(shortest_time(computed, moved, peak=device.peak, bandwidth=device.bandwidth))
            bound: Bound = "compute" if computed / device.peak > moved / device.bandwidth else "memory"
            yield Work(operator.name, operator.part, direction, computed, moved, calls * float(time), shortest, bound)


def _sum(one: Work, other: Work) -> Work:
    """The same operator of two kinds of layers."""
    longer = max(one, other, key=lambda work: work.time_s)
    return replace(
        longer,
        flops=one.flops + other.flops,
        moved_bytes=one.moved_bytes + other.moved_bytes,
        time_s=one.time_s + other.time_s,
        shortest_s=one.shortest_s + other.shortest_s,
    )
