"""What each stage holds while a step runs, and which tensors make its peak."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from simulator.replay.orders import PassKind, pass_in_words
from simulator.replay.timeline import StageRun, Timeline
from simulator.step.kept import kept_of_layers
from simulator.step.memory import Memory, layers_on, on_stage
from simulator.work.program import Program, program_of
from simulator.work.recomputation import tally_of_layer

_MOST_TENSORS = 12


@dataclass(frozen=True)
class HeldOverTime:
    """Bytes that a device of one stage holds as passes run: straight lines between the points."""

    stage: int
    times: NDArray[np.float64]
    """Of the points, from the start of the step [s]."""
    activations: NDArray[np.float64]
    """Kept for backward passes at each point [B]."""
    buffers: NDArray[np.float64]
    """Working memory at each point [B]."""
    constant: dict[str, float]
    """Parameters, gradients, optimizer states, and what is reserved [B]."""
    capacity: float
    """Of the device [B]."""
    peak: MemoryPeak

    @property
    def total(self) -> NDArray[np.float64]:
        """Everything at each point [B]."""
        together: NDArray[np.float64] = self.activations + self.buffers + sum(self.constant.values())
        return together


@dataclass(frozen=True)
class MemoryPeak:
    """When a stage holds most, and what."""

    time: float
    """From the start of the step [s]."""
    total: float
    """Bytes."""
    task: str
    """What runs then."""
    in_flight: float
    """Micro-batches whose activations it keeps, in units of the whole stage [1]."""
    tensors: tuple[tuple[str, float], ...]
    """What it holds, the largest first, each with its bytes."""


def held_over_time(timeline: Timeline, stage: StageRun, program: Program | None = None) -> HeldOverTime:
    """Memory of one stage over a step.

    Parameters
    ----------
    timeline, stage
        The step, and one of its stages.
    program
        Of the scenario, where it is there already.

    Notes
    -----
    Its peak is what `simulator.step.memory` says wherever the formula for micro-batches in flight is exact: both add up
    the same tensors. Working memory is there in backward passes and while the optimizer runs.
    """
    whole = program or program_of(timeline.scenario.columns())
    memory = on_stage(whole, float(stage.index))
    parts = {field.name: float(np.asarray(getattr(memory, field.name))) for field in fields(Memory)}
    units = _units(whole, stage)
    times, kept, back, at = _points(stage, units)
    ends = np.array([0.0, times[0], times[-1], timeline.step_time])
    times = np.concatenate([ends[:2], times, ends[2:]])
    kept = np.concatenate([[0.0, 0.0], kept, [0.0, 0.0]])
    buffers = parts["buffers"] * np.concatenate([[0.0, 0.0], back, [1.0, 1.0]])
    constant = {name: value for name, value in parts.items() if name not in ("activations", "buffers")}
    top = int(np.argmax(kept + buffers))
    peak = MemoryPeak(
        time=float(times[top]),
        total=float((kept + buffers)[top]) + sum(constant.values()),
        task=_task(stage, int(at[min(max(top - 2, 0), len(at) - 1)])),
        in_flight=float(kept[top]) / max(sum(units), 1e-30),
        tensors=_tensors(whole, stage, parts, float(kept[top])),
    )
    capacity = float(timeline.scenario.system.device.memory_capacity)
    return HeldOverTime(stage.index, times, kept, buffers, constant, capacity, peak)


def _units(program: Program, stage: StageRun) -> list[float]:
    """Bytes that each chunk of a stage keeps of a micro-batch."""
    layers = layers_on(program, float(stage.index))
    share = layers / program.scenarios.models.layer_count
    of_layers = float(np.asarray(kept_of_layers(program, layers, share)))
    ends = float(np.asarray(program.embedding.tally.saved_bytes)), float(np.asarray(program.head.tally.saved_bytes))
    number = len(stage.held)
    # An embedding counts with the whole stage, as the closed formula has it.
    first = ends[0] if stage.index == 0 else 0.0
    return [(of_layers + first) / number + (ends[1] if held.last else 0.0) for held in stage.held]


def _points(
    stage: StageRun, units: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Times, kept bytes, whether working memory is there, and the pass, at the start and at the end of each pass."""
    kinds, unit = stage.order.kinds, np.array(units)[stage.order.chunks]
    change = np.where(kinds == PassKind.FORWARD, unit, -unit)
    change = np.where(kinds == PassKind.INPUT_GRADIENTS, 0.0, change)
    after = np.cumsum(change)
    before = after - change
    begin = stage.start + stage.received
    times = np.stack([begin, stage.end], axis=1).reshape(-1)
    kept = np.stack([before, after], axis=1).reshape(-1)
    back = np.repeat(np.where(kinds == PassKind.FORWARD, 0.0, 1.0), 2)
    return times, np.maximum(kept, 0.0), back, np.repeat(np.arange(len(kinds)), 2)


def _task(stage: StageRun, index: int) -> str:
    """What a pass is, in words."""
    name = pass_in_words(PassKind(stage.order.kinds[index]))
    chunk = f" of chunk {int(stage.order.chunks[index]) + 1}" if len(stage.held) > 1 else ""
    return f"{name}{chunk} of micro-batch {int(stage.order.micro_batches[index]) + 1}"


def _tensors(program: Program, stage: StageRun, parts: dict[str, float], kept: float) -> tuple[tuple[str, float], ...]:
    """What makes the peak: states, working memory, and the saved tensors of operators."""
    listed = [(name, parts[part]) for part, name in _PARTS.items() if parts[part] > 0.0]
    saved = saved_by_operator(program, stage)
    whole = sum(size for _, size in saved)
    scale = kept / whole if whole > 0.0 else 0.0
    largest = sorted(saved, key=lambda each: -each[1])
    listed += [(f"saved: {name}", size * scale) for name, size in largest[:_MOST_TENSORS]]
    rest = sum(size for _, size in largest[_MOST_TENSORS:]) * scale
    if rest > 0.0:
        listed.append(("saved: others", rest))
    return tuple(sorted(listed, key=lambda each: -each[1]))


_PARTS = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer states and master weights",
    "buffers": "working memory of a backward pass or of the optimizer",
    "reserved": "runtime, libraries and the allocator's reserve",
}


def saved_by_operator(program: Program, stage: StageRun) -> list[tuple[str, float]]:
    """Bytes that a stage keeps of one micro-batch, by the operator that keeps them; what is recomputed keeps inputs."""
    plans, sums = program.scenarios.plans, dict[str, float]()
    total = float(np.asarray(program.scenarios.models.layer_count))
    layers = float(np.asarray(layers_on(program, float(stage.index))))

    def add(name: str, size: float) -> None:
        if size > 0.0:
            sums[name] = sums.get(name, 0.0) + size

    for block in program.groups:
        number = float(np.asarray(block.number)) * layers / total
        whole = float(np.asarray(block.tally.saved_bytes))
        named = 0.0
        for operator in block.operators:
            size = float(np.asarray(tally_of_layer([operator], plans, checkpoint=0.0).saved_bytes))
            size = min(size, whole - named)
            named += size
            add(operator.name, number * size)
        add("inputs of recomputed layers", number * (whole - named))
    for held in stage.held:
        for there, block in ((held.first, program.embedding), (held.last, program.head)):
            if there:
                for operator in block.operators:
                    add(operator.name, float(np.asarray(operator.kept.saved)))
    return list(sums.items())
