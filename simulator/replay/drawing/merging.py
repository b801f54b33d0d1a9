"""Which passes of a window are drawn one by one, with their tasks, or together as one bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.replay.orders import PassKind
from simulator.replay.timeline import StageRun

SHORTEST = 1e-9
"""Nothing shorter is drawn [s]."""
_INVISIBLE = 1.0 / 4000.0
"""Share of a window that is no wider than a quarter of a pixel."""
_SHORT = 0.25
"""Of the width over which passes become one bar: shorter gaps between them follow it together."""


def within(stage: StageRun, start: float, end: float) -> NDArray[np.int64]:
    """Passes of a stage that touch a window of time."""
    chosen: NDArray[np.int64] = np.flatnonzero((stage.end > start) & (stage.start < end))
    return chosen


def _sizes(stage: StageRun) -> NDArray[np.int64]:
    """Spans of each pass of a stage, by chunk and kind."""
    table = np.zeros((len(stage.held), len(PassKind)), dtype=np.int64)
    for (chunk, kind), each in stage.passes.items():
        table[chunk, kind] = each.piece.number
    return table


def tasks_in(stage: StageRun, start: float, end: float) -> int:
    """How many bars a stage's tasks in a window of time are."""
    index = within(stage, start, end)
    whole = _sizes(stage)[stage.order.chunks[index], stage.order.kinds[index]]
    if len(index) > 2:  # all but the first and the last are in it as wholes
        return int(whole.sum())
    duration = np.maximum(stage.end[index] - stage.start[index], 1e-30)
    inside = np.minimum(stage.end[index], end) - np.maximum(stage.start[index], start)
    return int(np.sum(whole * np.clip(inside / duration, 0.0, 1.0)))


def affordable(stage: StageRun, index: NDArray[np.int64], most: int) -> int:
    """How many of some passes can be drawn with all their tasks; one at least."""
    whole = np.cumsum(_sizes(stage)[stage.order.chunks[index], stage.order.kinds[index]])
    return max(int(np.searchsorted(whole, most, side="right")), min(len(index), 2))


class Coarseness(NamedTuple):
    """What a picture leaves out so that its bars are few enough [s]."""

    quantum: float = 0.0
    """Width over which passes become one bar; 0 where each has its own."""
    least: float = 0.0
    """Shorter transfers between stages are not drawn."""


def coarseness(stages: Sequence[StageRun], start: float, end: float, most: int) -> Coarseness:
    """What has to be left out of the passes of some stages in a window of time: as little as can be."""
    parts = [(stage, within(stage, start, end)) for stage in stages]
    links = max(len(each.links) for stage in stages for each in stage.passes.values()) if len(stages) == 1 else 0

    def fits(quantum: float, least: float) -> bool:
        return sum(_bars_with(stage, index, quantum, least, links) for stage, index in parts) <= most

    for least in (0.0, (end - start) * _INVISIBLE):
        if fits(0.0, least):
            return Coarseness(0.0, least)
    quantum = (end - start) / 4096.0
    while not fits(quantum, 0.0):
        quantum *= 1.5
    return Coarseness(quantum)


def _bars_with(stage: StageRun, index: NDArray[np.int64], quantum: float, least: float, links: int) -> int:
    """How many bars some passes become, with what they receive, the gaps before them, and transfers beside each."""
    firsts = firsts_of(stage, index, quantum)
    gaps = np.count_nonzero(stage.gaps[index[firsts]] > SHORTEST)
    received = np.count_nonzero(stage.received[index[firsts]] > least)
    each = 1 + links if len(firsts) == len(index) else 4
    return len(firsts) * each + int(gaps + received)


def firsts_of(stage: StageRun, index: NDArray[np.int64], quantum: float) -> NDArray[np.int64]:
    """Places of the passes with which a bar begins."""
    if quantum <= 0.0 or len(index) == 0:
        return np.arange(len(index))
    begin = stage.start[index] + stage.received[index]
    bucket = np.floor(begin / quantum)
    apart = begin[1:] - stage.end[index[:-1]] > quantum * _SHORT
    return np.concatenate([[0], 1 + np.flatnonzero((bucket[1:] != bucket[:-1]) | apart)])
