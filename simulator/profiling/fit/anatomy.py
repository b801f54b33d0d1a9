"""A training step taken apart: how much of each kind of work its forward and its backward pass have.

The time of a pass is a sum over kinds of work, each an amount times a price. The amounts come from the simulator's
operators, so that what a fit learns of the prices is what an estimate pays.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.pricing.backend import Backend
from simulator.pricing.requests import DecodeAttention, FusedAttention, MatrixProduct, Stream, StreamKind
from simulator.profiling.records.reading import StepTime
from simulator.profiling.records.scenarios import scenarios_of
from simulator.work.messages import tasks_of_stage
from simulator.work.program import program_of
from simulator.work.tasks import Phase, PlaceKind, Task

_IN_BLOCKS = (PlaceKind.GROUP, PlaceKind.EMBEDDING, PlaceKind.HEAD)


@dataclass(frozen=True)
class PassWork:
    """Work of one pass."""

    products: float
    """Time that the backend says of matrix products [s]."""
    attention: float
    """Time that the backend says of fused attention [s]."""
    streams: dict[StreamKind, float]
    """Bytes of each kind of kernel that is bound by memory, over the bandwidth [s]."""
    drawn: float
    """Random numbers."""
    stream_kernels: float
    kernels: float


@dataclass(frozen=True)
class Anatomy:
    """Work of a whole step on one device."""

    forward: PassWork
    backward: PassWork
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
    program = program_of(scenarios_of(step.case, step.model, stack))
    ahead, back = _Sum(), _Sum()
    beside: dict[StreamKind, Stream] = {}
    for task, number in tasks_of_stage(program, first=1.0, last=1.0):
        asked = task.request
        if task.place.kind in _IN_BLOCKS:
            (back if task.phase is Phase.BACKWARD else ahead).add(task, float(np.asarray(number)), backend, bandwidth)
        elif isinstance(asked, Stream):
            beside[asked.kind] = asked
    updated, summed = beside[StreamKind.OPTIMIZER], beside[StreamKind.GRADIENT_SUMS]
    return Anatomy(
        forward=ahead.total(),
        backward=back.total(),
        optimizer=_plain(updated.moved_bytes) / bandwidth,
        optimizer_kernels=_plain(updated.kernels),
        sums=_plain(summed.moved_bytes) / bandwidth,
    )


class _Sum:
    """Work that is added up."""

    def __init__(self) -> None:
        self.products = self.attention = self.drawn = self.kernels = self.stream_kernels = 0.0
        self.streams: dict[StreamKind, float] = defaultdict(float)

    def add(self, task: Task, number: float, backend: Backend, bandwidth: float) -> None:
        """Add a task that runs so often."""
        asked, calls = task.request, number * _plain(task.count)
        kernels = number * _plain(task.kernels)
        self.kernels += kernels
        match asked:
            case Stream():
                self.streams[asked.kind] += calls * _plain(asked.moved_bytes) / bandwidth
                self.drawn += calls * _plain(asked.drawn)
                self.stream_kernels += kernels
            case MatrixProduct():
                self.products += calls * _plain(backend.time(asked) / task.efficiency)
            case FusedAttention() | DecodeAttention():
                self.attention += calls * _plain(backend.time(asked) / task.efficiency)

    def total(self) -> PassWork:
        """The collected work of the pass: seconds of products and attention, work by kind of stream, kernels."""
        used = {kind: seconds for kind, seconds in self.streams.items() if seconds > 0.0}
        return PassWork(self.products, self.attention, used, self.drawn, self.stream_kernels, self.kernels)


def _plain(value: Any) -> float:
    """The number that a column of one row holds."""
    return float(np.asarray(value).reshape(-1)[0])
