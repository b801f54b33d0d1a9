"""What a timeline shows: every activity of a stage in absolute time, pass by pass or task by task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.replay.orders import PASS_NAMES, PassKind
from simulator.replay.spans import Piece, Span
from simulator.replay.timeline import StageRun
from simulator.work.tasks import Phase, Resource

Detail = Literal["passes", "tasks"]
"""How fine: whole passes of micro-batches, or every task in them."""
Kind = Literal["compute", "communication", "host", "wait", "idle"]


@dataclass(frozen=True)
class Event:
    """One activity of a stage; times from the start of the step [s]."""

    stage: int
    resource: Resource
    kind: Kind
    name: str
    part: str
    """Of the step, as the breakdown of an estimate names it; empty of a whole pass."""
    phase: str
    start: float
    duration: float
    micro_batch: int | None = None
    chunk: int | None = None
    """Chunk of layers of the stage, from 0."""
    place: str = ""
    """Layer of the chunk, embedding or head."""
    size: float = 0.0
    unit: str = ""
    why: str = ""
    """What a device waits for."""

    @property
    def end(self) -> float:
        """When it is over [s]."""
        return self.start + self.duration


def events_of(stage: StageRun, *, detail: Detail = "tasks", start: float = 0.0, end: float = np.inf) -> Iterator[Event]:
    """Activities of a stage that touch a window of time, ordered by pass.

    Parameters
    ----------
    stage
        Of a timeline.
    detail
        Passes as wholes, or the tasks in them.
    start, end
        Of the window [s].
    """
    yield from _once(stage, ((0.0, stage.before),), start, end)
    chosen = np.flatnonzero((stage.end > start) & (stage.start - stage.received < end))
    for index in chosen.tolist():
        yield from _idle(stage, index)
        yield from _of_pass(stage, index, detail)
    yield from _once(stage, stage.after, start, end)


def _once(stage: StageRun, pieces: Iterable[tuple[float, Piece]], start: float, end: float) -> Iterator[Event]:
    """What happens once a step, as far as it touches a window."""
    for begin, piece in pieces:
        for span in piece.flat(begin):
            if span.end > start and span.start < end:
                yield _event(stage, span, None, None, "step")


def _idle(stage: StageRun, index: int) -> Iterator[Event]:
    """The gap before a pass."""
    gap = float(stage.gaps[index])
    if gap > 1e-12:
        since = float(stage.start[index]) - gap
        source = int(stage.waits_for[index])
        forward = stage.order.kinds[index] == PassKind.FORWARD
        what = "activations" if forward else "gradients"
        why = f"{what} of micro-batch {int(stage.order.micro_batches[index]) + 1} from stage {source + 1}"
        yield Event(
            stage.index, Resource.DEVICE, "idle", "idle", "pipeline_bubble", "idle", since, gap, why=f"waits for {why}"
        )


def _of_pass(stage: StageRun, index: int, detail: Detail) -> Iterator[Event]:
    """One pass, with what it receives."""
    kind = PassKind(stage.order.kinds[index])
    chunk, micro_batch = int(stage.order.chunks[index]), int(stage.order.micro_batches[index])
    begin, received = float(stage.start[index]), float(stage.received[index])
    phase = Phase.FORWARD if kind is PassKind.FORWARD else Phase.BACKWARD
    if received > 0.0:
        name = "activations" if kind is PassKind.FORWARD else "gradients"
        span = Span(Resource.PIPELINE_LINKS, f"{name} between stages", "pipeline_transfer", phase, begin, received)
        yield _event(stage, span, micro_batch, chunk, phase.value)
        wait = Span(Resource.DEVICE, span.name, span.part, phase, begin, received, waits=True)
        yield _event(stage, wait, micro_batch, chunk, phase.value)
    whole = stage.passes[chunk, kind].piece
    begin += received
    if detail == "passes":
        yield Event(
            stage.index,
            Resource.DEVICE,
            "compute",
            f"{PASS_NAMES[kind]} {micro_batch + 1}",
            "",
            PASS_NAMES[kind],
            begin,
            whole.duration,
            micro_batch,
            chunk,
        )
        for span in stage.passes[chunk, kind].links:
            yield _event(stage, span.at(begin), micro_batch, chunk, span.phase.value)
        return
    for span in whole.flat(begin):
        yield _event(stage, span, micro_batch, chunk, span.phase.value)


def _event(stage: StageRun, span: Span, micro_batch: int | None, chunk: int | None, phase: str) -> Event:
    """A span of a stage in absolute time."""
    kind: Kind = "compute" if span.resource is Resource.DEVICE else "communication"
    if span.resource is Resource.HOST:
        kind = "host"
    return Event(
        stage.index,
        span.resource,
        "wait" if span.waits else kind,
        f"wait for {span.name}" if span.waits else span.name,
        span.part,
        span.phase.value if span.phase is not Phase.STEP else phase,
        span.start,
        span.duration,
        micro_batch,
        chunk,
        span.place,
        span.size,
        span.unit,
        f"waits for {span.name}" if span.waits else "",
    )
