"""How long a case will take, so that a budget is kept; it learns from what cases took."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hardware.catalogue import load_device
from measure.clock.collectives import EFFORT, WARM_UPS
from measure.clock.kernels import number_of_sets
from measure.clock.timer import Effort
from measure.device.machines import Machine
from simulator.profiling.records.amounts import amounts
from simulator.profiling.records.record import Case
from simulator.profiling.records.scenarios import step_amounts
from simulator.specs.model import Model

_FEWEST = 3
_FILLING = {"cuda": 1e11, "cpu": 1e9}
"""Rate at which buffers are filled with random numbers [B/s]."""
_CALL = {"cuda": 3e-5, "cpu": 1e-5}
"""Least time of a call [s]."""
_STEP_CALLS = 150
"""Kernels of a step of few layers."""
_LINK = {"cuda": 2e10, "cpu": 3e8}
"""Rate at which ranks exchange [B/s]."""
_EXCHANGE = {"cuda": 3e-5, "cpu": 3e-4}
"""Least time of a collective [s]."""
_SENT_BYTES = 8.0
"""What ranks that share a step send and receive for a parameter."""
_COMPILING = {"cuda": 15.0, "cpu": 30.0}
"""What a compiler takes for a layer, forward and backward [s]."""
_LEARNING = 0.3
_WIDEST = 3.0
"""Largest factor, as a logarithm, by which what was learned may differ from the guess."""


class Forecast:
    """Expected cost of cases on a device.

    Parameters
    ----------
    machine
        The device.
    effort
        Of the run.
    models
        Those whose steps may be asked for, by id.
    known
        The device's name in the catalogue, if it is there.
    """

    def __init__(self, machine: Machine, effort: Effort, models: Mapping[str, Model], known: str | None) -> None:
        self._machine, self._effort, self._models = machine, effort, models
        self._learned: dict[str, float] = {}
        self._guesses: dict[str, float] = {}
        self._rate = {"cuda": 3e13, "cpu": 4e10}[machine.kind]
        self._bandwidth = {"cuda": 3e11, "cpu": 4e9}[machine.kind]
        if known is not None:
            device = load_device(known)
            self._bandwidth = 0.6 * device.memory.bandwidth
            self._rate = 0.5 * float(device.peak.bf16 or device.peak.fp16 or device.peak.fp32 or 1e13)

    def cost(self, case: Case) -> float:
        """Time that measuring a case will take [s]."""
        return self._guess(case) * math.exp(self._learned.get(_kind(case), 0.0))

    def learn(self, case: Case, took_s: float) -> None:
        """Correct later forecasts of the same kind by what a case took."""
        error = math.log(max(took_s, 1e-4) / self._guess(case))
        before = self._learned.get(_kind(case))
        mixed = error if before is None else (1.0 - _LEARNING) * before + _LEARNING * error
        self._learned[_kind(case)] = min(max(mixed, -_WIDEST), _WIDEST)

    def _guess(self, case: Case) -> float:
        """By arithmetic and bytes; made once."""
        if case.key not in self._guesses:
            self._guesses[case.key] = self._guessed(case)
        return self._guesses[case.key]

    def _guessed(self, case: Case) -> float:
        effort, kind = self._effort, self._machine.kind
        if case.phase == "collective":
            return self._exchanged(case)
        slow = 8.0 if case.dtype in ("fp32", "tf32") and kind == "cuda" else 1.0
        sent = compiling = 0.0
        if case.phase == "step":
            model = self._models.get(case.variant.partition("/")[0])
            counted = None if model is None else step_amounts(case, model)
            flops, moved = (0.0, 0.0) if counted is None else (counted.flops, 2.0 * counted.footprint)
            footprint, calls = moved / 2.0, _STEP_CALLS
            if counted is not None and "ranks" in case.dimensions:
                sent = _SENT_BYTES * counted.parameters
            if case.operation == "compiled":
                compiling = _COMPILING[kind] * case.dimensions["layers"]
        else:
            each = amounts(case)
            flops, moved, calls = each.flops, each.bytes, 1
            footprint = each.footprint * number_of_sets(case, self._machine)
        if footprint > self._machine.free_bytes():
            return 0.01  # found too large by count, and not tried
        call = calls * _CALL[kind] + slow * flops / self._rate + moved / self._bandwidth + sent / _LINK[kind]
        if case.sustained:
            return effort.warm_up_s + effort.sustained_s + 7.0 * call
        block = max(effort.block_s, call * (2.0 if case.phase == "step" else 1.0))
        samples = max(min(effort.samples * block, effort.most_s + block), _FEWEST * block)
        warm_up = max(effort.warm_up_s, 3.0 * call)
        twice = 2.0 if kind == "cuda" and call < 3e-4 else 1.0  # once more as a graph
        return 0.005 + footprint / _FILLING[kind] + twice * (warm_up + samples) + compiling

    def _exchanged(self, case: Case) -> float:
        """Of a collective."""
        kind = self._machine.kind
        call = _EXCHANGE[kind] + case.dimensions["bytes"] / _LINK[kind]
        block = max(EFFORT.block_s, call)
        return 0.005 + (WARM_UPS + 1) * call + max(min(EFFORT.samples * block, EFFORT.most_s), _FEWEST * block)


def _kind(case: Case) -> str:
    """What learns from each other: cases of a phase, but steps among ranks and compiled ones apart."""
    return f"{case.phase}/{case.operation}" if case.phase == "step" else case.phase
