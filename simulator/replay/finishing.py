"""What a stage does once a step: gathers of updated parameters, reductions of gradients, the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from simulator.formulas.collectives import exposed
from simulator.pricing.backend import Backend
from simulator.replay.blocks import Lanes
from simulator.replay.spans import Piece, Span, size_of, span_of
from simulator.step.passes import timed_tasks
from simulator.work.once import on_stage, once_a_step
from simulator.work.program import Program
from simulator.work.tasks import Phase, Resource, Task

_MOST_BUCKETS = 64
_BUCKET_BYTES = 25e6
"""Of gradients that go together: `bucket_cap_mb` of torch's DistributedDataParallel (torch/nn/parallel/distributed.py,
2.13)."""

Timed = tuple[Task, float]


@dataclass(frozen=True)
class OnceAStep:
    """Tasks of one stage once a step, each with its time [s]."""

    updates: tuple[Timed, ...]
    """Gathers of what other replicas have updated, ahead of the forward pass."""
    gradients: tuple[Timed, ...]
    """Reductions over replicas, beside the backward pass."""
    shared: tuple[Timed, ...]
    """Between the first and the last stage."""
    rest: tuple[Timed, ...]
    """The optimizer and what is around it, one after another."""
    occasions: float
    """Reductions of a step: one, or one for each micro-batch [1]."""
    reach: float
    """Share of the backward pass that reductions have beside them [1]."""

    @property
    def reduction(self) -> float:
        """Time of one occasion's reductions [s]."""
        return sum(seconds for _, seconds in self.gradients) / self.occasions


def once_on_stage(program: Program, backend: Backend, *, first: bool, last: bool) -> OnceAStep:
    """What a stage does once a step.

    Parameters
    ----------
    program
        Of one scenario.
    backend
        Says how long requests take.
    first, last
        Whether the stage has that end of the model.
    """
    launch = float(np.asarray(program.scenarios.stacks.launch))
    held = on_stage(program, first=float(first), last=float(last))
    timed = []
    for task, seconds in timed_tasks(once_a_step(program, held), backend):
        whole = float(np.asarray(seconds))
        if task.resource is Resource.DEVICE:
            whole = max(whole, launch * float(np.asarray(task.kernels)))
        if whole > 0.0:
            timed.append((task, whole))
    lines = {name: tuple(each for each in timed if each[0].hiding.line == name) for name in ("updates", "gradients")}
    of_gradients = [task.hiding for task, _ in lines["gradients"]]
    return OnceAStep(
        **lines,
        shared=tuple(each for each in timed if each[0].resource is Resource.PIPELINE_LINKS),
        rest=tuple(
            each for each in timed if not each[0].hiding.line and each[0].resource is not Resource.PIPELINE_LINKS
        ),
        occasions=float(np.asarray(of_gradients[0].occasions)) if of_gradients else 1.0,
        reach=float(np.asarray(of_gradients[0].reach)) if of_gradients else 0.0,
    )


def ahead(once: OnceAStep, forward: float, overlap: float, held_up: Callable[[float], float]) -> Piece:
    """The gather of updated parameters, with the time that the device waits before its first pass.

    Parameters
    ----------
    once
        Of the stage.
    forward
        Time of one micro-batch's forward pass on the stage [s].
    overlap
        Share of it that has the gather beside it [1].
    held_up
        How much longer the first micro-batch takes where its device waits so long, while its host goes on [s].
    """
    taken = sum(seconds for _, seconds in once.updates)
    if not taken:
        return Piece(0.0)
    spans, now = [], 0.0
    for task, seconds in once.updates:
        spans.append(shared_span(task, now, seconds))
        now += seconds
    shown = held_up(float(exposed(taken, overlap * forward)))
    task = once.updates[0][0]
    spans.append(waiting(task, 0.0, shown))
    return Piece(shown, tuple(spans))


class GradientWindow(NamedTuple):
    """A pass that makes the last gradients of a chunk [s]."""

    start: float
    end: float
    late: float
    """Of it the time that the device waits for its host, while links are free."""

    def beside(self, reach: float) -> float:
        """Time of it that reductions have beside them."""
        return reach * (self.end - self.start - self.late) + self.late


def buckets(once: OnceAStep, windows: Sequence[GradientWindow]) -> list[Span]:
    """Reductions of one occasion as they go over the links while gradients come.

    Parameters
    ----------
    once
        Of the stage.
    windows
        One of each chunk, in the order in which they come; spans count from the same time.
    """
    spans: list[Span] = []
    free = -math.inf
    whole = sum(size_of(task.request, float(np.asarray(task.count)) / once.occasions)[0] for task, _ in once.gradients)
    number = math.ceil(min(max(whole / _BUCKET_BYTES, 1.0), _MOST_BUCKETS) / len(windows))
    share = 1.0 / len(windows) / number
    for window in windows:
        beside = window.beside(once.reach)
        for index in range(number):
            ready = window.end - beside * (1.0 - (index + 1.0) / number)
            for task, seconds in once.gradients:
                spans.append(shared_span(task, max(free, ready), seconds / once.occasions * share, share))
                free = spans[-1].end
    return spans


def held_up(once: OnceAStep, windows: Sequence[GradientWindow], spans: Sequence[Span]) -> float:
    """Time that the device waits for reductions once it has made the last gradients [s].

    What is left on the links, and near balance what neither of the two being even over a step leaves.
    """
    if not spans:
        return 0.0
    beside = sum(window.beside(once.reach) for window in windows)
    late = max(spans[-1].end - windows[-1].end, 0.0)
    return max(late, float(exposed(once.reduction, beside)))


def closing(once: OnceAStep) -> Piece:
    """The optimizer and what is around it, one after another."""
    lanes = Lanes()
    for task, seconds in once.rest:
        lanes.add(task, seconds)
    return lanes.piece()


def shared_span(task: Task, start: float, seconds: float, share: float = 1.0) -> Span:
    """A span of a share of a task's calls."""
    return span_of(task, start, seconds, "once a step", float(np.asarray(task.count)) * share)


def waiting(task: Task, start: float, seconds: float, phase: Phase = Phase.STEP) -> Span:
    """The device waits for a task."""
    return replace(span_of(task, 0.0, 0.0, "once a step").waited_for(start, seconds), phase=phase)
