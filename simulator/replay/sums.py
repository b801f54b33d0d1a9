"""How long each lane of a stage is busy in a step, and how that compares with the breakdown of an estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.replay.spans import Span
from simulator.replay.timeline import StageRun, Timeline
from simulator.work.tasks import Resource

_RECOMPUTE = "recompute"


@dataclass(frozen=True)
class LaneSums:
    """Times of one stage in a step [s]."""

    busy: dict[tuple[Resource, str], float]
    """Of each resource with each part of the step; what is recomputed is a part of its own."""
    waits: dict[str, float]
    """For which the device waits, by the part that it waits for."""
    idle: float
    """Gaps between passes, and from the end of this stage to the end of the step."""
    passes: float = 0.0
    """Passes with what they wait for, which decide which stage is the slowest."""

    @property
    def parts(self) -> dict[str, float]:
        """Of the device: compute and waits by part, as the breakdown of an estimate counts them."""
        parts = dict(self.waits)
        for (resource, part), seconds in self.busy.items():
            if resource is Resource.DEVICE:
                parts[part] = parts.get(part, 0.0) + seconds
        parts["pipeline_bubble"] = parts.get("pipeline_bubble", 0.0) + self.idle
        return parts


def sums_of(timeline: Timeline, stage: StageRun) -> LaneSums:
    """Add up the lanes of one stage.

    Parameters
    ----------
    timeline, stage
        The step, and one of its stages.
    """
    busy: dict[tuple[Resource, str], float] = {}
    waits: dict[str, float] = {}

    for span, times in activities(stage):
        part = _RECOMPUTE if span.phase.value == _RECOMPUTE else span.part
        if span.waits:
            waits[part] = waits.get(part, 0.0) + times * span.duration
        else:
            key = span.resource, part
            busy[key] = busy.get(key, 0.0) + times * span.duration
    received = float(np.sum(stage.received))
    if received:
        waits["pipeline_transfer"] = waits.get("pipeline_transfer", 0.0) + received
        busy[Resource.PIPELINE_LINKS, "pipeline_transfer"] = received
    return LaneSums(busy, waits, idle_of(timeline, stage), float(np.sum(stage.end - stage.start)))


def activities(stage: StageRun) -> Iterator[tuple[Span, float]]:
    """Every activity of a stage in a step but what it receives from other stages, and how often it has it [1]."""
    for (chunk, kind), each in stage.passes.items():
        number = np.count_nonzero((stage.order.chunks == chunk) & (stage.order.kinds == int(kind)))
        for span in each.piece.flat():
            yield span, float(number)
    for piece in (stage.before, *(piece for _, piece in stage.after)):
        for span in piece.flat():
            yield span, 1.0


def idle_of(timeline: Timeline, stage: StageRun) -> float:
    """Gaps between passes of a stage, and from its end to that of the step [s]."""
    return float(np.sum(stage.gaps)) + timeline.step_time - stage.finish


def slowest_stage(timeline: Timeline) -> StageRun:
    """The stage with the longest passes, whose time an estimate breaks down."""
    return timeline.stages[slowest_of([sums_of(timeline, stage) for stage in timeline.stages])]


def slowest_of(lanes: Sequence[LaneSums]) -> int:
    """Index of the stage with the longest passes, and of several the last; what differs by a billionth is alike."""
    longest = max(each.passes for each in lanes)
    return max(index for index, each in enumerate(lanes) if each.passes >= longest * (1.0 - 1e-9))
