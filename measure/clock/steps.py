"""Whole training steps of a few layers of reference models: forward, loss, backward and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from measure.clock.kernels import UnsupportedError
from measure.clock.timer import Effort, times_of
from measure.device.machines import DTYPES, Machine
from measure.models import Batch, Setting, Transformer, build, random_batch
from simulator.profiling.records.record import Case, Result, State
from simulator.profiling.records.scenarios import StepAmounts, attention_of, cut, written
from simulator.specs.model import Model
from simulator.specs.workload import Workload

PARTS = ("forward", "backward", "optimizer")
_LEAST_WARM_UP = 3
"""Steps before any counts: allocator and choice of kernels settle."""
_FEWEST = 3
"""Samples that are taken whatever they cost."""


Wrap = Callable[[Transformer, Model], Callable[[Batch], Any]]
"""Makes of a module what computes the loss of a batch: among ranks, say."""


@dataclass
class TrainingStep:
    """A model, a batch and an optimizer, ready to run."""

    module: Transformer
    loss: Callable[[Batch], Any]
    batch: Batch
    optimizer: Any
    machine: Machine
    manner: Callable[[], AbstractContextManager[Any]]

    def run(self) -> list[Any]:
        """One step; the moments before, between and after its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        moments = [self.machine.mark()]
        with self.manner():
            loss = self.loss(self.batch)
        moments.append(self.machine.mark())
        loss.backward()
        moments.append(self.machine.mark())
        self.optimizer.step()
        moments.append(self.machine.mark())
        return moments


def prepare_step(case: Case, model: Model, machine: Machine, wrap: Wrap | None = None) -> TrainingStep:
    """Build the reference module of a step.

    Parameters
    ----------
    case
        The step.
    model
        Its model, whole.
    machine
        The device.
    wrap
        What ranks that share the step make of the module.

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
    loss = module.loss if wrap is None else wrap(module, few)
    together = {"fused": True} if machine.kind == "cuda" else {}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, **together)
    return TrainingStep(module, loss, batch, optimizer, machine, _casts(case, machine))


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
    memory: tuple[float | None, float | None]
    """The most that tensors took and that was reserved [B]."""
    state: State | None


def sample_steps(
    step: TrainingStep, machine: Machine, effort: Effort, together: Callable[[Sequence[float]], list[float]] = list
) -> StepSamples:
    """Time steps, a few in a row, so that the host may run ahead as it does in training.

    Parameters
    ----------
    step
        Ready to run.
    machine
        The device.
    effort
        How much time it may take.
    together
        The largest of each number among the ranks that share the step, so that all of them run as many; it also lets
        them begin together.
    """
    start, warm, spent = machine.now(), 0, 0.0
    while warm < _LEAST_WARM_UP or (spent < effort.warm_up_s and warm < 100):
        moments = step.run()
        machine.elapsed(moments[0], moments[-1])
        warm += 1
        (spent,) = together([machine.now() - start])
    rows = int(np.clip(np.ceil(effort.block_s / max(spent / warm, 1e-6)), 2, 20))
    whole: list[float] = []
    host: list[float] = []
    parts: list[list[float]] = []
    begin = machine.now()
    while len(whole) < effort.samples:
        (spent,) = together([machine.now() - begin])
        if len(whole) >= _FEWEST and spent > effort.most_s:
            break
        machine.wait()
        started = machine.now()
        block = [step.run() for _ in range(rows)]
        host.append((machine.now() - started) / rows)
        whole.append(machine.elapsed(block[0][0], block[-1][-1]) / rows)
        parts.append([sum(machine.elapsed(m[i], m[i + 1]) for m in block) / rows for i in range(len(PARTS))])
    return StepSamples(
        tuple(whole), tuple(zip(*parts, strict=True)), tuple(host), machine.peak_bytes(), machine.state()
    )


def result_of(case: Case, model: Model, counted: StepAmounts, taken: StepSamples, machine: Machine) -> Result:
    """What was measured of a step, with its model.

    Raises
    ------
    TooFastError
        Where most samples beat the device's peak.
    """
    rate = machine.peak_flops(case.dtype)
    peak, reserved = taken.memory
    return Result(
        case=case,
        outcome="measured",
        method=machine.method,
        model=written(model),
        times=times_of(taken.whole, 1, floor_s=counted.flops / rate if rate else 0.0),
        parts={name: times_of(each, 1) for name, each in zip(PARTS, taken.parts, strict=True)},
        host_s=float(np.median(taken.host)) if machine.kind != "cpu" else None,
        flops=counted.flops,
        peak_memory_bytes=peak,
        reserved_memory_bytes=reserved,
        state=taken.state,
    )
