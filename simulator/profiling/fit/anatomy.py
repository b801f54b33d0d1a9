"""A training step taken apart: how much of each kind of work its forward and its backward pass have.

The time of a pass is a sum over kinds of work, each an amount times a price. The amounts come from the simulator's
operators, so that what a fit learns of the prices is what an estimate pays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.pricing.backend import Backend
from simulator.profiling.records.reading import StepTime
from simulator.profiling.records.scenarios import scenarios_of
from simulator.step.time import price
from simulator.work.counts import count
from simulator.work.operators import FusedAttention, Gemm, Operator, Stream
from simulator.work.transformer import Scenarios, embedding, head, layer


@dataclass(frozen=True)
class Pass:
    """Work of one pass."""

    products: float
    """Time that the backend says of matrix products [s]."""
    attention: float
    """Time that the backend says of fused attention [s]."""
    streams: dict[str, float]
    """Bytes of each kind of kernel that is bound by memory, over the bandwidth [s]."""
    drawn: float
    """Random numbers."""
    stream_kernels: float
    kernels: float


@dataclass(frozen=True)
class Anatomy:
    """Work of a whole step on one device."""

    forward: Pass
    backward: Pass
    optimizer: float
    """Time of the least traffic of the optimizer [s]."""
    optimizer_kernels: float
    sums: float
    """Time of casts and sums of gradients, at full bandwidth [s]."""


def anatomy(step: StepTime, backend: Backend, *, bandwidth: float, stack: str) -> Anatomy:
    """Take a measured step apart.

    Parameters
    ----------
    step
        What was timed.
    backend
        Prices products and attention.
    bandwidth
        Of the device's memory [B/s].
    stack
        The software that ran it.
    """
    scenarios = scenarios_of(step.case, step.model, stack)
    ahead, back = _Sum(), _Sum()
    for operator, number in _operators(scenarios):
        ahead.add(operator, number, backend, bandwidth, backward=False)
        back.add(operator, number, backend, bandwidth, backward=True)
    probe = _Probe(bandwidth)
    price(scenarios, count(scenarios), probe)
    return Anatomy(
        forward=ahead.total(),
        backward=back.total(),
        optimizer=probe.seconds["optimizer"],
        optimizer_kernels=probe.kernels["optimizer"],
        sums=probe.seconds["gradient sums"],
    )


def _operators(scenarios: Scenarios) -> Iterator[tuple[Operator, float]]:
    """Every operator of a step on one device, and how often it runs."""
    for group in scenarios.models.layers:
        for operator in layer(group, scenarios):
            yield operator, float(np.asarray(group.count))
    for operator in (*embedding(scenarios), *head(scenarios)):
        yield operator, 1.0


class _Sum:
    """Work that is added up."""

    def __init__(self) -> None:
        self.products = self.attention = self.drawn = self.kernels = self.stream_kernels = 0.0
        self.streams: dict[str, float] = defaultdict(float)

    def add(self, operator: Operator, number: float, backend: Backend, bandwidth: float, *, backward: bool) -> None:
        """Add what an operator does in one pass."""
        kernels = number * _plain(operator.backward_kernels if backward else operator.forward_kernels)
        self.kernels += kernels
        if isinstance(operator, Stream):
            moved = operator.backward_bytes if backward else operator.forward_bytes
            self.streams[operator.kind or operator.name] += number * _plain(moved) / bandwidth
            self.drawn += 0.0 if backward else number * _plain(operator.drawn)
            self.stream_kernels += kernels
            return
        time = number * _plain(operator.backward_time(backend) if backward else operator.forward_time(backend))
        if isinstance(operator, Gemm):
            self.products += time
        elif isinstance(operator, FusedAttention):
            self.attention += time

    def total(self) -> Pass:
        """All of it."""
        used = {kind: seconds for kind, seconds in self.streams.items() if seconds > 0.0}
        return Pass(self.products, self.attention, used, self.drawn, self.stream_kernels, self.kernels)


class _Probe:
    """A backend that prices only bytes, and notes those of what happens beside the operators."""

    name = "probe"

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth
        self.seconds: dict[str, float] = defaultdict(float)
        self.kernels: dict[str, float] = defaultdict(float)

    def stream(self, moved_bytes: Any, kernels: Any, *, kind: str = "", **_: Any) -> Any:
        """Bytes over bandwidth."""
        self.seconds[kind] += _plain(moved_bytes) / self.bandwidth
        self.kernels[kind] += _plain(kernels)
        return 0.0

    def _nothing(self, *_: Any, **__: Any) -> Any:
        return 0.0

    gemm = attention = collective = send = host_copy = _nothing


def _plain(value: Any) -> float:
    """The number that a column of one row holds."""
    return float(np.asarray(value).reshape(-1)[0])
