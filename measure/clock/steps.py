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
from measure.record import Case, State
from simulator.counts import count, totals
from simulator.specs.loading import load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from simulator.transformer import Scenarios

PARTS = ("forward", "backward", "optimizer")
_STATE_BYTES = 16.0
"""Of a parameter: value, gradient and two moments in float32."""
_MARGIN = 1.1
_LEAST_WARM_UP = 3
"""Steps before any counts: allocator and choice of kernels settle."""


def cut(model: Model, layers: int) -> Model:
    """The model with so many layers (in each of its towers), or as many as it has."""
    changes: dict[str, Any] = {"layers": min(layers, model.layers)}
    if model.decoder_layers is not None:
        changes["decoder_layers"] = min(layers, model.decoder_layers)
    if model.expert_period > changes["layers"]:
        changes["layers"] = model.expert_period
    return model.model_copy(update=changes)


def shrunk(model: Model) -> Model:
    """A model of the same form that takes no time: for trying out."""
    heads = 2
    changes: dict[str, Any] = {
        "id": f"{model.id}-tiny",
        "hidden_size": 64,
        "attention_heads": heads,
        "key_value_heads": 1 if model.kv_heads < model.attention_heads else None,
        "head_size": None,
        "feed_forward_size": 64 * max(model.feed_forward_size // model.hidden_size, 1),
        "vocabulary_size": 512,
        "embedding_size": None if model.embedding_size is None else 16,
        "expert_feed_forward_size": None if model.expert_feed_forward_size is None else 64,
        "experts": min(model.experts, 4),
        "experts_per_token": min(model.experts_per_token, 2, model.experts),
        "sliding_window": None,
    }
    return model.model_copy(update=changes)


@dataclass(frozen=True)
class StepAmounts:
    """What the simulator counts of one step."""

    parameters: float
    flops: float
    """Of matrix products, forward and backward [FLOP]."""
    footprint: float
    """Parameters, their states, and what the backward pass needs [B]."""


def step_amounts(case: Case, model: Model) -> StepAmounts:
    """Count a step of a cut model, as the simulator does."""
    scenarios = scenarios_of(case, model)
    of_device = count(scenarios)
    whole = totals(scenarios, of_device)
    parameters = float(np.asarray(whole.parameters))
    kept = float(np.asarray(of_device.together.saved_bytes))
    return StepAmounts(parameters, float(np.asarray(whole.model_flops)), _MARGIN * (_STATE_BYTES * parameters + kept))


def scenarios_of(case: Case, model: Model) -> Scenarios:
    """The scenario of a step on one device."""
    sizes = case.dimensions
    stack = load_stack("pytorch-eager").model_copy(update={"attention": attention_of(case)})
    work = Workload(sequence_length=sizes["sequence_length"], global_batch=sizes["micro_batch"])
    workload = work.resolve(model)
    precision: Any = case.dtype
    plan = Plan(dp=1, micro_batch=sizes["micro_batch"], precision=precision, recompute="none")
    full = plan.with_defaults(stack).with_degrees(1)
    columns = cut(model, sizes["layers"]).columns()
    return Scenarios(columns, workload.columns(), full.columns(workload), stack.columns())


def attention_of(case: Case) -> str:
    """Whether attention is one kernel: what stands behind the model's name."""
    return case.variant.rpartition("/")[2] or "fused"


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
    setting = Setting(
        sequence_length=length,
        target_length=length if few.kind == "encoder-decoder" else 0,
        device=machine.target,
        fused_attention=attention_of(case) == "fused",
    )
    try:
        module = build(few, setting)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None
    predictions = Workload(sequence_length=length).resolve(model).predictions or 0
    batch = random_batch(few, setting, sizes["micro_batch"], predictions=predictions)
    fused = {"fused": True} if machine.kind == "cuda" else {}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, **fused)
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
