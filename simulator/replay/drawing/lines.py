"""Memory of stages over a step as lines, few enough to be told apart and of few enough points to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.replay.held import HeldOverTime, held_over_time
from simulator.replay.timeline import StageRun, Timeline
from simulator.step.memory import on_stage
from simulator.work.program import program_of

MOST_LINES = 6
"""Up to so many stages all of them are drawn."""
_POINTS = 1200
"""Of a line, about."""


@dataclass(frozen=True)
class MemoryLine:
    """Memory of one stage: straight lines between the points."""

    held: HeldOverTime
    times: NDArray[np.float64]
    """Of the points that are drawn [s]."""
    total: NDArray[np.float64]
    """At them [B]."""


def memory_lines(
    timeline: Timeline, stages: Sequence[StageRun], *, start: float, end: float, most: int = MOST_LINES
) -> list[MemoryLine]:
    """Memory of stages in a window of time.

    Parameters
    ----------
    timeline
        Of a step.
    stages
        Of its pipeline; of more than are drawn the first, the last, the one in the middle and the fullest.
    start, end
        Of the window [s].
    most
        Up to so many stages all of them are drawn.
    """
    program = program_of(timeline.scenario.columns())
    chosen = list(stages)
    if len(chosen) > most:
        whole = on_stage(program, np.array([float(stage.index) for stage in chosen])).total
        fullest = int(np.argmax(np.broadcast_to(whole, len(chosen))))
        chosen = [chosen[place] for place in sorted({0, fullest, len(chosen) // 2, len(chosen) - 1})]
    return [_line(held_over_time(timeline, stage, program), start, end) for stage in chosen]


def _line(held: HeldOverTime, start: float, end: float) -> MemoryLine:
    """The part of a curve in a window; of more points than are drawn the lowest and the highest of neighbours."""
    times, total = held.times, held.total
    low = max(int(np.searchsorted(times, start, side="left")) - 1, 0)
    high = int(np.searchsorted(times, end, side="right")) + 1
    times, total = times[low:high], total[low:high]
    if len(times) > _POINTS:
        bounds = np.linspace(0, len(times), _POINTS // 2 + 1).astype(int)
        pairs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ends = {first + int(pick(total[first:last])) for first, last in pairs for pick in (np.argmin, np.argmax)}
        keep = np.array(sorted({0, len(times) - 1, *ends}))
        times, total = times[keep], total[keep]
    return MemoryLine(held, times, total)
