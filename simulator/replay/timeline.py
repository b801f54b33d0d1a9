"""One step of a scenario, replayed on every stage of its pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from simulator.formulas import pipeline as formulas
from simulator.pricing.backend import Backend
from simulator.replay.chunks import ChunkHolding, ChunkPass, Chunks
from simulator.replay.finishing import (
    GradientWindow,
    OnceAStep,
    ahead,
    buckets,
    closing,
    held_up,
    once_on_stage,
    shared_span,
    waiting,
)
from simulator.replay.orders import Indices, Order, PassKind, Pipeline, pipeline_of
from simulator.replay.running import PassTimes, Times, Transfer, replay
from simulator.replay.spans import Piece
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan
from simulator.step.time import step_time
from simulator.work.exchanges import beside_frozen, each_micro_batch
from simulator.work.program import Program, program_of
from simulator.work.tasks import Phase, PlaceKind

Passes = dict[tuple[int, PassKind], ChunkPass]
"""Passes of a rank, by chunk and kind."""


@dataclass(frozen=True)
class StageRun:
    """One stage of the pipeline through a step; times in seconds from its start."""

    index: int
    """From 0."""
    held: tuple[ChunkHolding, ...]
    """What each chunk holds."""
    order: Order
    passes: Passes
    start: Times
    """When the device turns to each pass, in their order [s]."""
    end: Times
    received: Times
    """Time from there that it spends on what it receives [s]."""
    waits_for: Indices
    """Stage from which each pass gets what it needs; -1 where it is its own."""
    before: Piece
    """Ahead of the first pass."""
    after: tuple[tuple[float, Piece], ...]
    """Once the last pass is over: when each starts, and what it is."""

    @cached_property
    def gaps(self) -> Times:
        """Idle time before each pass [s]."""
        gaps: Times = self.start - np.concatenate([[self.before.duration], self.end[:-1]])
        return gaps

    @property
    def finish(self) -> float:
        """When it is done [s]."""
        return max(start + piece.duration for start, piece in self.after)


@dataclass(frozen=True)
class Timeline:
    """One step, replayed; times in seconds from its start."""

    scenario: Scenario
    pipeline: Pipeline
    stages: tuple[StageRun, ...]
    closed_form: float
    """Time of the step by the closed formula that estimates and searches use [s]."""

    @cached_property
    def step_time(self) -> float:
        """When the last stage is done [s]."""
        return max(stage.finish for stage in self.stages)

    @property
    def difference(self) -> float:
        """How much longer the replay takes than the closed formula says [1]."""
        return self.step_time / self.closed_form - 1.0

    def figure(
        self,
        *,
        stages: Sequence[int] | None = None,
        start: float = 0.0,
        end: float | None = None,
        detail: Literal["passes", "tasks"] | None = None,
        memory: bool = True,
        other: Timeline | None = None,
    ) -> Any:
        """The step as a figure of plotly: see `simulator.replay.figure.figure_of`.

        Parameters
        ----------
        stages
            Stages to draw, from 0; all unless given.
        start, end
            Of the window that is drawn [s]; the whole step unless given.
        detail
            Whole passes, or the tasks in them; unless given tasks, where they are few enough.
        memory
            Whether to draw what the stages hold.
        other
            Another timeline, which is drawn below on the same axis.

        Returns
        -------
        plotly.graph_objects.Figure
        """
        from simulator.replay.figure import figure_of

        return figure_of(self, stages=stages, start=start, end=end, detail=detail, memory=memory, other=other)


def timeline(scenario: Scenario) -> Timeline:
    """Replay one step of a scenario.

    Parameters
    ----------
    scenario
        What `simulator.resolve` gives.

    Examples
    --------
    >>> import simulator
    >>> plan = {"pp": 4, "micro_batch": 1, "schedule": "1f1b"}
    >>> replayed = timeline(simulator.resolve("gpt2-1.5b", "dgx-a100-640gb", plan=plan))
    >>> len(replayed.stages), abs(replayed.difference) < 0.05
    (4, True)
    """
    columns, backend = scenario.columns(), scenario.backend()
    program = program_of(columns)
    closed = float(step_time(program, backend, broken_down=False).time)
    return Timeline(scenario, *_replayed(scenario, program, backend), closed)


def _replayed(scenario: Scenario, program: Program, backend: Backend) -> tuple[Pipeline, tuple[StageRun, ...]]:
    """Order, and what every stage does when."""
    plan = scenario.plan
    stages, virtual = plan.pp or 1, plan.virtual_stages or 1
    micro_batches = int(float(np.asarray(program.scenarios.plans.micro_batches)))
    pipeline = pipeline_of(_schedule(plan), stages=stages, micro_batches=micro_batches, chunks=virtual)
    chunks = Chunks(program, backend)
    once = _once_a_step(program, backend, pipeline)
    held = [_held(program, pipeline, rank) for rank in range(stages)]
    laid = [_passes(chunks, pipeline, each, of_step) for each, of_step in zip(held, once, strict=True)]
    durations = [_durations(order, passes) for order, passes in zip(pipeline.orders, laid, strict=True)]
    before = [_before(chunks, pipeline, *each) for each in zip(held, once, strict=True)]
    times = replay(pipeline, durations, _transfer(program, backend), [piece.duration for piece in before])
    ends = _after(pipeline, times, once, laid)
    runs = (
        StageRun(
            rank,
            held[rank],
            pipeline.orders[rank],
            laid[rank],
            times.start[rank],
            times.end[rank],
            times.received[rank],
            times.waits_for[rank],
            before[rank],
            ends[rank],
        )
        for rank in range(stages)
    )
    return pipeline, tuple(runs)


def _once_a_step(program: Program, backend: Backend, pipeline: Pipeline) -> list[OnceAStep]:
    """What each stage does once a step; those between the ends of the pipeline are alike."""
    stages = len(pipeline.orders)
    at_ends = [(rank == 0, rank == (0 if pipeline.v_shaped else stages - 1)) for rank in range(stages)]
    priced = {each: once_on_stage(program, backend, first=each[0], last=each[1]) for each in set(at_ends)}
    return [priced[each] for each in at_ends]


def _schedule(plan: Plan) -> str:
    """The schedule that a plan means: one forward and one backward pass in turns interleave where there are chunks."""
    in_turns = "interleaved" if (plan.virtual_stages or 1) > 1 else "1f1b"
    return in_turns if plan.schedule in (None, "1f1b", "interleaved") or (plan.pp or 1) == 1 else plan.schedule


def _held(program: Program, pipeline: Pipeline, rank: int) -> tuple[ChunkHolding, ...]:
    """What each chunk of a rank holds."""
    plans, models, stages = program.scenarios.plans, program.scenarios.models, len(pipeline.orders)
    layers = formulas.stage_layers(models.layer_count, plans.pp, stage=float(rank), **plans.ends)
    frozen = program.frozen
    beside = float(np.asarray(frozen.scenarios.models.layer_count)) / stages if frozen is not None else 0.0
    number = pipeline.chunks
    virtual = [pipeline.virtual_stage(rank, chunk) for chunk in range(number)]
    return tuple(
        ChunkHolding(float(layers) / number, stage == 0, stage == stages * number - 1, beside / number)
        for stage in virtual
    )


def _once_each(pipeline: Pipeline) -> list[PassKind]:
    """Kinds of pass that together are a micro-batch's way through a chunk."""
    split = PassKind.INPUT_GRADIENTS in pipeline.kinds
    back = [PassKind.INPUT_GRADIENTS, PassKind.WEIGHT_GRADIENTS] if split else [PassKind.BACKWARD]
    return [PassKind.FORWARD, *back]


def _before(chunks: Chunks, pipeline: Pipeline, held: Sequence[ChunkHolding], once: OnceAStep) -> Piece:
    """What a stage does ahead of its first pass."""
    forward, _ = chunks.alone(held, [PassKind.FORWARD])
    return ahead(once, forward, chunks.overlap, lambda waits: chunks.held_up(held, _once_each(pipeline), waits))


def _passes(chunks: Chunks, pipeline: Pipeline, held: Sequence[ChunkHolding], once: OnceAStep) -> Passes:
    """Every pass of a rank's chunks, with what the device waits for its host."""
    kinds = pipeline.kinds
    late = chunks.lateness(held, _once_each(pipeline), kinds)
    passes = {
        (chunk, kind): chunks.passed(each, kind, late[each, kind]) for chunk, each in enumerate(held) for kind in kinds
    }
    if once.occasions <= 1.0:
        return passes
    of_chunk = replace(once, gradients=tuple((task, seconds / len(held)) for task, seconds in once.gradients))
    for (chunk, kind), each in passes.items():
        if kind in (PassKind.BACKWARD, PassKind.WEIGHT_GRADIENTS):
            passes[chunk, kind] = _reducing(each, of_chunk)
    return passes


def _reducing(each: ChunkPass, once: OnceAStep) -> ChunkPass:
    """A pass after which gradients are reduced at once."""
    window = [GradientWindow(0.0, each.piece.duration, each.late)]
    spans = buckets(once, window)
    waited = held_up(once, window, spans)
    wait = waiting(once.gradients[0][0], each.piece.duration, waited, Phase.BACKWARD)
    piece = Piece(each.piece.duration + waited, (*spans, wait), ((0.0, "", each.piece),))
    return replace(each, piece=piece)


def _durations(order: Order, passes: Passes) -> Times:
    """Of each pass of a rank [s]."""
    chunks = max(chunk for chunk, _ in passes) + 1
    table = np.zeros((chunks, len(PassKind)))
    for (chunk, kind), each in passes.items():
        table[chunk, kind] = each.piece.duration
    return table[order.chunks, order.kinds]


def _transfer(program: Program, backend: Backend) -> Transfer:
    """What one micro-batch takes from a rank to the next."""
    tasks = list(each_micro_batch(program))
    frozen = program.frozen
    if frozen is not None:
        tasks += beside_frozen(frozen)
    whole, shown = 0.0, 0.0
    for task in tasks:
        if task.place.kind is PlaceKind.NEXT and task.phase is Phase.FORWARD:
            seconds = float(np.asarray(backend.time(task.request))) * float(np.asarray(task.count))
            whole += seconds
            shown += seconds * (1.0 - float(np.asarray(task.hiding.share)))
    return Transfer(whole - shown, shown)


def _after(
    pipeline: Pipeline, times: PassTimes, once: Sequence[OnceAStep], laid: Sequence[Passes]
) -> list[tuple[tuple[float, Piece], ...]]:
    """What each rank does once its last pass is over."""
    reduced = [_reduced(order, times, rank, once[rank], laid[rank]) for rank, order in enumerate(pipeline.orders)]
    free = [start + piece.duration for start, piece in reduced]
    both = max(free[0], free[-1])
    ends = []
    for rank, of_step in enumerate(once):
        pieces, now = [reduced[rank]], free[rank]
        for task, seconds in of_step.shared:
            gap = waiting(task, 0.0, both - now)
            gap = replace(gap, name="the other end of the pipeline", part="pipeline_bubble", request=None)
            spans = gap, shared_span(task, both - now, seconds), waiting(task, both - now, seconds)
            shared = Piece(both - now + seconds, spans)
            pieces.append((now, shared))
            now += shared.duration
        pieces.append((now, closing(of_step)))
        ends.append(tuple(pieces))
    return ends


def _reduced(order: Order, times: PassTimes, rank: int, once: OnceAStep, passes: Passes) -> tuple[float, Piece]:
    """Reductions beside the last passes of a rank, and the time that the device waits for them afterwards."""
    over = float(times.end[rank][-1])
    if not once.gradients or once.occasions > 1.0:
        return over, Piece(0.0)
    makes = (order.kinds == PassKind.BACKWARD) | (order.kinds == PassKind.WEIGHT_GRADIENTS)
    last = sorted(int(np.flatnonzero(makes & (order.chunks == chunk))[-1]) for chunk in np.unique(order.chunks))
    windows = [
        GradientWindow(
            float(times.start[rank][index]) - over,
            float(times.end[rank][index]) - over,
            passes[int(order.chunks[index]), PassKind(order.kinds[index])].late,
        )
        for index in last
    ]
    spans = buckets(once, windows)
    waited = held_up(once, windows, spans)
    return over, Piece(waited, (*spans, waiting(once.gradients[0][0], 0.0, waited)))
