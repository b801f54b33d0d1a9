"""The operators of a step against the roofline of the device: which wait for arithmetic and which for memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from simulator.formulas.kernels import shortest_time
from simulator.pricing.requests import DecodeAttention, FusedAttention, MatrixProduct, Stream
from simulator.scenario.scenario import Scenario
from simulator.work.messages import tasks_of_stage
from simulator.work.program import program_of
from simulator.work.tasks import Phase

Pass = Literal["forward", "backward", "recomputation"]
Bound = Literal["compute", "memory"]
_PASSES: dict[Phase, Pass] = {
    Phase.FORWARD: "forward",
    Phase.BACKWARD: "backward",
    Phase.RECOMPUTE: "recomputation",
}


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
    >>> chart = roofline(simulator.resolve("bert-large", "dgx-a100-640gb"))
    >>> chart.work[0].operator, chart.work[0].bound, round(chart.ridge)
    ('feed-forward output', 'compute', 153)
    """
    together: dict[tuple[str, str], Work] = {}
    peak, bandwidth = scenario.peak, float(scenario.system.device.memory.bandwidth)
    for work in _all(scenario, peak, bandwidth):
        key = work.operator, work.direction
        together[key] = _sum(together[key], work) if key in together else work
    ordered = sorted(together.values(), key=lambda work: -work.time_s)
    return Roofline(peak, bandwidth, tuple(ordered))


def _all(scenario: Scenario, peak: float, bandwidth: float) -> Iterator[Work]:
    """Every operator of every kind of layer, of the embedding and of the head, on a stage that has both ends."""
    program, backend = program_of(scenario.columns()), scenario.backend()
    for task, number in tasks_of_stage(program, first=1.0, last=1.0):
        asked = task.request
        if task.phase not in _PASSES or task.part == "gradient_accumulation":
            continue
        if isinstance(asked, MatrixProduct | FusedAttention | DecodeAttention | Stream):
            calls = float(number * task.count)
            time = calls * float(backend.time(asked) / task.efficiency)
            computed, moved = calls * float(asked.computed_flops), calls * float(asked.moved_bytes)
            if moved > 0.0 and time > 0.0:
                shortest = float(shortest_time(computed, moved, peak=peak, bandwidth=bandwidth))
                bound: Bound = "compute" if computed / peak > moved / bandwidth else "memory"
                yield Work(task.name, task.part, _PASSES[task.phase], computed, moved, time, shortest, bound)


def _sum(one: Work, other: Work) -> Work:
    """One operator that stands for the same operator of two kinds of layers."""
    longer = max(one, other, key=lambda work: work.time_s)
    return replace(
        longer,
        flops=one.flops + other.flops,
        moved_bytes=one.moved_bytes + other.moved_bytes,
        time_s=one.time_s + other.time_s,
        shortest_s=one.shortest_s + other.shortest_s,
    )
