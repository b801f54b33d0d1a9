"""Idle time, micro-batches in flight and transfers of a pipeline, beside torch's schedules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from measure.count.schedules import Replay, ScheduleName, orders, replay
from measure.verification.reference import Reference, number
from measure.verification.rows import Reason, Row, attempt, row
from simulator.formulas import chunked_pipeline, pipeline
from simulator.work.messages import messages
from simulator.work.tasks import Resource

_NAMES: dict[str, ScheduleName] = {
    "1f1b": "1F1B",
    "gpipe": "GPipe",
    "interleaved": "Interleaved1F1B",
    "looped-bfs": "LoopedBFS",
    "zero-bubble": "InterleavedZeroBubble",
    "zero-bubble-v": "ZBVZeroBubble",
    "dualpipe-v": "DualPipeV",
}
"""A plan's schedules as torch names them."""
_V_SHAPED = ("ZBVZeroBubble", "DualPipeV")
_MOST_ACTIONS = 400_000
"""Passes of all ranks that are replayed at most."""
_TIMES = (1, 2, 1)
"""Forward, backward, and of the backward pass the gradient of the weights: as the time of a step assumes."""


def exact(numerator: int, denominator: int = 1) -> Any:
    """A fraction, in place of the numbers that formulas expect."""
    return Fraction(numerator, denominator)


def idle_time(schedule: ScheduleName, stages: int, virtual: int, times: tuple[int, int, int]) -> Fraction:
    """Time that a stage waits in one step, from the formulas, in exact fractions.

    Parameters
    ----------
    schedule
        As torch names it; those in the shape of a V have twice as many micro-batches as stages, or more.
    stages
        Pipeline stages.
    virtual
        Chunks of layers of one device.
    times
        Of one micro-batch through one chunk: forward, backward, and of the backward pass the gradient of the weights.
    """
    forward, backward, weight = times
    whole = forward + backward
    shares = {"forward_share": exact(forward, whole), "weight_gradient_share": exact(weight, whole)}
    if schedule in _V_SHAPED:
        paired = int(schedule == "DualPipeV")
        share = chunked_pipeline.v_shaped_idle_share(exact(stages), exact(2 * stages), paired=paired, **shares)
    else:
        separates = int(schedule == "InterleavedZeroBubble")
        share = pipeline.idle_share(exact(virtual), zero_bubble=separates, **shares)
    work = exact(virtual * whole)
    time: Any = pipeline.step_time(work, stages * work, micro_batches=0, idle_share=share)
    return Fraction(time)


@dataclass(frozen=True)
class _Shape:
    """A schedule, and how many micro-batches of it are replayed."""

    name: ScheduleName
    stages: int
    virtual: int
    all: int
    micro_batches: int

    @property
    def note(self) -> str | None:
        """That not all were replayed."""
        if self.micro_batches == self.all:
            return None
        return f"replayed with {self.micro_batches:,} of {self.all:,} micro-batches"


def pipelines(reference: Reference) -> Iterator[Row]:
    """Idle time of a stage, activations that stages hold, and what the first stage sends; nothing without stages."""
    shape, group = _shape(reference), "pipeline"
    if shape.stages == 1:
        return
    replayed = attempt(lambda: _replayed(shape))
    idle = idle_time(shape.name, shape.stages, shape.virtual, _TIMES)
    forward = Fraction(1, shape.virtual)  # as long as the forward pass of a whole stage
    name = f"idle passes, {shape.name}"
    yield row(
        group, name, "pass", float(idle * forward), replayed, lambda seen: float(seen.idle[0] * forward), shape.note
    )
    for stage in sorted({0, shape.stages // 2, shape.stages - 1}):
        held = pipeline.in_flight(
            float(shape.stages),
            float(stage),
            micro_batches=float(shape.micro_batches),
            virtual_stages=float(shape.virtual),
            all_at_once=float(shape.name in ("GPipe", "LoopedBFS")),
            zero_bubble=float(shape.name in ("InterleavedZeroBubble", "ZBVZeroBubble")),
            paired=float(shape.name == "DualPipeV"),
        )
        name = f"in flight, stage {stage + 1} of {shape.stages}"
        yield row(group, name, "micro-batch", number(held), replayed, partial(_held, stage), shape.note)
    yield from _transfers(reference, shape)


def _held(stage: int, seen: Replay) -> float:
    """Micro-batches whose activations a stage holds."""
    return float(seen.in_flight[stage])


def _shape(reference: Reference) -> _Shape:
    """The schedule of a plan."""
    plan, plans = reference.scenario.plan, reference.columns.plans
    stages, virtual = plan.pp or 1, plan.virtual_stages or 1
    micro_batches = int(number(plans.micro_batches))
    most = max(_MOST_ACTIONS // (3 * stages * virtual * stages), 4) * stages
    return _Shape(
        _NAMES[plan.schedule or "1f1b"], stages, virtual, micro_batches, min(micro_batches, max(most, 4 * stages))
    )


def _replayed(shape: _Shape) -> Replay:
    """Torch's schedule on paper."""
    forward, backward, weight = _TIMES
    return replay(
        shape.name,
        shape.stages,
        shape.micro_batches,
        virtual_stages=shape.virtual,
        forward=forward,
        backward=backward,
        weight=weight,
    )


def _transfers(reference: Reference, shape: _Shape) -> Iterator[Row]:
    """What the first stage sends to the next and to the last: activations, and with several chunks gradients."""
    group = "pipeline"
    listed = messages(reference.program, 0.0)
    sent = [one for one in listed if one.part == "pipeline_transfer"]
    times = sum(number(one.count) for one in sent) * shape.micro_batches / shape.all
    seen = attempt(lambda: _sends(shape))
    yield row(group, "transfers from stage 1", "message", times, seen, float, shape.note)
    size = number(sent[0].message_bytes)
    yield row(group, "each of these", "B", size, attempt(lambda: _hidden(reference), *_no_size(reference)), float)
    for one in listed:
        if one.part == "gradient_reduction" and one.resource is Resource.PIPELINE_LINKS and number(one.count):
            table = Reason("torch's pipelines do not add up the gradients of a table that stages share")
            yield row(group, "tied embedding", "B", number(one.message_bytes), table, float)


def _sends(shape: _Shape) -> int:
    """How often the first rank has something for another one."""
    last = shape.stages * shape.virtual - 1
    actions = orders(shape.name, shape.stages, shape.micro_batches, shape.virtual)[0]
    forward = sum(action.kind == "F" and action.chunk < last for action in actions)
    return forward + sum(action.kind in ("I", "B") and action.chunk > 0 for action in actions)


def _no_size(reference: Reference) -> tuple[str | None, ...]:
    """What stands in the way of counting a transfer's bytes."""
    halves = reference.tensor_ranks > 1 and not reference.scenario.plan.sequence_parallel
    return (
        reference.unlike,
        reference.unequal_tokens,
        "each tensor-parallel rank sends its part, as Megatron-LM does; torch has no such thing" if halves else None,
        "a stage may send input or target" if reference.model.kind == "encoder-decoder" else None,
    )


def _hidden(reference: Reference) -> int:
    """Bytes of the hidden states between two layers."""
    setting = reference.on_rank(dtype=reference.held)
    model = reference.model.model_copy(update={"layers": 1, "expert_period": 1, "dense_layers_first": 0})
    with reference.run(model, setting) as (module, batch):
        hidden = module.embedding(batch.tokens, batch.types)
        return int(hidden.numel() * hidden.element_size())
