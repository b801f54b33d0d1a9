"""Whole training steps of a few layers of reference models: forward, loss, backward and optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from measure.clock.kernels import UnsupportedError
from measure.clock.machines import DTYPES, Machine
from measure.clock.timer import Effort
from measure.models import Batch, Setting, Transformer, build, random_batch
from simulator.profiling.record import Case, State
from simulator.profiling.steps import attention_of, cut
from simulator.specs.model import Model
from simulator.specs.workload import Workload

PARTS = ("forward", "backward", "optimizer")
_LEAST_WARM_UP = 3
"""Steps before any counts: allocator and choice of kernels settle."""


@dataclass
class Step:
    """A model, a batch and an optimizer, ready to run."""

    module: Transformer
    batch: Batch
    optimizer: Any
    machine: Machine
    manner: Callable[[], AbstractContextManager[Any]]

    def run(self) -> list[Any]:
        """One step; the moments before, between and after its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        moments = [self.machine.mark()]
        with self.manner():
            loss = self.module.loss(self.batch)
        moments.append(self.machine.mark())
        loss.backward()
        moments.append(self.machine.mark())
        self.optimizer.step()
        moments.append(self.machine.mark())
        return moments


def prepare_step(case: Case, model: Model, machine: Machine) -> Step:
    """Build the reference module of a step.

    Raises
    ------
    UnsupportedError
        Where the reference modules lack a part of the model.
    """
    sizes = case.dimensions
    few = cut(model, sizes["layers"])
    length = sizes["sequence_length"]
    fused = attention_of(case) == "fused"
    if fused and few.dropout and machine.kind == "cpu":
        raise UnsupportedError("torch has no fused attention with dropout on a CPU")
    setting = Setting(
        sequence_length=length,
        target_length=length if few.kind == "encoder-decoder" else 0,
        device=machine.target,
        fused_attention=fused,
    )
    try:
        module = build(few, setting)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None
    predictions = Workload(sequence_length=length).resolve(model).predictions or 0
    batch = random_batch(few, setting, sizes["micro_batch"], predictions=predictions)
    together = {"fused": True} if machine.kind == "cuda" else {}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, **together)
    return Step(module, batch, optimizer, machine, _casts(case, machine))


def _casts(case: Case, machine: Machine) -> Callable[[], AbstractContextManager[Any]]:
    """Automatic casts to 16 bits, with parameters in float32, as training scripts have them."""
    if case.dtype in ("fp32", "tf32"):
        return nullcontext
    return lambda: torch.autocast(machine.kind, dtype=DTYPES[case.dtype])


@dataclass(frozen=True)
class StepSamples:
    """Times of whole steps and of their parts [s]."""

    whole: tuple[float, ...]
    parts: tuple[tuple[float, ...], ...]
    host: tuple[float, ...]
    state: State | None


def sample_steps(step: Step, machine: Machine, effort: Effort) -> StepSamples:
    """Time steps, a few in a row, so that the host may run ahead as it does in training."""
    start, warm = machine.now(), 0
    while warm < _LEAST_WARM_UP or (machine.now() - start < effort.warm_up_s and warm < 100):
        moments = step.run()
        machine.elapsed(moments[0], moments[-1])
        warm += 1
    each = max((machine.now() - start) / warm, 1e-6)
    rows = int(np.clip(np.ceil(effort.block_s / each), 2, 20))
    whole: list[float] = []
    host: list[float] = []
    parts: list[list[float]] = []
    begin = machine.now()
    while len(whole) < effort.samples:
        machine.wait()
        started = machine.now()
        block = [step.run() for _ in range(rows)]
        host.append((machine.now() - started) / rows)
        whole.append(machine.elapsed(block[0][0], block[-1][-1]) / rows)
        parts.append([sum(machine.elapsed(m[i], m[i + 1]) for m in block) / rows for i in range(len(PARTS))])
        if len(whole) >= 3 and machine.now() - begin > effort.most_s:
            break
    return StepSamples(tuple(whole), tuple(zip(*parts, strict=True)), tuple(host), machine.state())
