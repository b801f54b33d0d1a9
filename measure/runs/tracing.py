"""A few training steps under torch's profiler: what `capsim timeline --measured` lays beside a prediction."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from hardware import units
from hardware.errors import InputError
from hardware.writing import write_bytes
from measure.clock.cases import scope_of, usual_attention
from measure.clock.kernels import UnsupportedError
from measure.clock.steps import TrainingStep, prepare_step
from measure.device.environment import environment_of
from measure.device.machines import Machine, knows_bf16, machine_of
from measure.device.naming import models_of
from simulator.profiling.records.record import Case
from simulator.profiling.records.scenarios import step_amounts
from simulator.specs.model import Model
from simulator.specs.workload import Workload

_WARM_UP = 3
"""Steps ahead of the profiler: allocator and choice of kernels settle."""
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_ATTENTION = ("fused", "unfused")


@dataclass(frozen=True)
class TraceWishes:
    """What is to be traced."""

    model: str
    sequence_length: int
    micro_batch: int
    layers: int | None = None
    """Of the model; all unless given."""
    precision: str | None = None
    attention: str | None = None
    steps: int = 2


@dataclass(frozen=True)
class TracedStep:
    """A step that is ready to be traced."""

    machine: Machine
    model: Model
    case: Case
    steps: int


def prepare(device: str | None, wishes: TraceWishes) -> TracedStep:
    """Choose the device, and the step to trace on it.

    Raises
    ------
    InputError
        Where device, model or a choice is not known.
    """
    machine, models = machine_of(device), models_of(wishes.model)
    if len(models) != 1:
        raise InputError(f"--model names {len(models)} models; a trace is of one")
    (model,) = models
    for option, value, valid in (
        ("--precision", wishes.precision, _PRECISIONS),
        ("--attention", wishes.attention, _ATTENTION),
    ):
        if value is not None and value not in valid:
            raise InputError(f"{option}={value!r}: valid: {', '.join(valid)}")
    Workload(sequence_length=wishes.sequence_length, global_batch=wishes.micro_batch).resolve(model)
    scope = scope_of(machine.kind, bf16=knows_bf16(machine), cache_bytes=machine.cache_bytes, tiny=False)
    case = Case(
        phase="step",
        operation="train",
        dimensions={
            "layers": min(wishes.layers or model.layers, model.layers),
            "sequence_length": wishes.sequence_length,
            "micro_batch": wishes.micro_batch,
        },
        dtype=wishes.precision or scope.dtype,
        variant=f"{model.id}/{wishes.attention or usual_attention(scope, model)}",
    )
    needs, free = step_amounts(case, model).footprint, machine.free_bytes()
    if needs > free:
        raise InputError(
            f"a step of {model.id} with {case.dimensions['layers']} layers needs about {units.size(needs)} and "
            f"{units.size(free)} are free; fewer --layers or a smaller --micro-batch need less"
        )
    return TracedStep(machine, model, case, wishes.steps)


def record(traced: TracedStep, path: Path) -> str:
    """Run the steps under the profiler, and write their trace, compressed where its name ends in ``.gz``.

    Parameters
    ----------
    traced
        Device and step.
    path
        The file to write.

    Returns
    -------
    str
        What became of it, in words.

    Raises
    ------
    InputError
        Where the reference models lack a part of the model, or the file cannot be written.
    """
    try:
        step = prepare_step(traced.case, traced.model, traced.machine)
    except UnsupportedError as error:
        raise InputError(f"{traced.model.id}: {error}; give another --model or --attention") from None
    for _ in range(_WARM_UP):
        step.run()
    traced.machine.wait()
    document, processor = _profiled(step, traced)
    document |= {"traceName": path.name, "capsim": _noted(traced, processor)}
    text = json.dumps(document, separators=(",", ":")).encode()
    write_bytes(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return f"{path}: {units.plural(traced.steps, 'step')}, {len(document['traceEvents']):,} events"


def _profiled(step: TrainingStep, traced: TracedStep) -> tuple[dict[str, Any], list[float]]:
    """What the profiler wrote, and the processor time of each step [s]."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if traced.machine.kind == "cuda" else [])]
    processor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        with profile(
            activities=activities,
            record_shapes=True,
            schedule=schedule(wait=0, warmup=1, active=traced.steps, repeat=1),
            on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(file)),
        ) as profiler:
            for _ in range(traced.steps + 1):
                began = time.process_time()
                step.run()
                if traced.machine.kind == "cuda" and len(processor) == traced.steps:
                    traced.machine.wait()
                processor.append(time.process_time() - began)
                profiler.step()
        return json.loads(file.read_bytes()), processor[1:]


def _noted(traced: TracedStep, processor: list[float]) -> dict[str, Any]:
    """What the trace is of."""
    case, environment = traced.case, environment_of(traced.machine)
    noted: dict[str, Any] = {
        "model": traced.model.id,
        **case.dimensions,
        "precision": case.dtype,
        "attention": case.variant.rpartition("/")[2],
        "optimizer": "adamw",
        "device": environment.device.name,
        "torch": torch.__version__,
    }
    return noted | ({"processor_s": processor} if traced.machine.kind == "cpu" else {})
