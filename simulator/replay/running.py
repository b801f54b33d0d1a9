"""When each pass of a pipeline starts and ends, by the order of its rank and by what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulator.replay.orders import Indices, PassKind, Pipeline

Times = NDArray[np.float64]
_NONE = -1


@dataclass(frozen=True)
class PassTimes:
    """Start and end of every pass, one array a rank, in the order of the rank [s].

    Of a pass that receives something the start is when the device turns to it; `received` is the time from there that
    it spends on the transfer.
    """

    start: tuple[Times, ...]
    end: tuple[Times, ...]
    received: tuple[Times, ...]
    waits_for: tuple[Indices, ...]
    """Rank from which a pass gets what it needs; -1 where it is its own."""

    @property
    def finish(self) -> float:
        """When the last rank is done [s]."""
        return max(float(end[-1]) for end in self.end)


@dataclass(frozen=True)
class Transfer:
    """What a micro-batch takes from one rank to the next [s]."""

    beside: float = 0.0
    """Of it what runs beside compute of both ranks."""
    blocking: float = 0.0
    """What the device of the receiver is held up for."""


def replay(
    pipeline: Pipeline, durations: Sequence[Times], transfer: Transfer, ready: Sequence[float] | None = None
) -> PassTimes:
    """Run all passes, each as soon as its rank is free and what it needs has come.

    Parameters
    ----------
    pipeline
        Orders of all ranks.
    durations
        Of each pass, one array a rank, in the order of the rank [s].
    transfer
        Between ranks.
    ready
        When each rank may begin; 0 unless given [s].

    Raises
    ------
    ValueError
        Where orders wait for each other in a circle.
    """
    needs, sources = _needs(pipeline)
    sizes = [len(order) for order in pipeline.orders]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    remote = [np.where(source >= 0, 1.0, 0.0) for source in sources]
    late = np.concatenate(remote) * transfer.beside
    taken = np.concatenate(remote) * transfer.blocking
    start, end = _run(
        np.concatenate(needs).tolist(),
        np.concatenate(durations).tolist(),
        late.tolist(),
        taken.tolist(),
        offsets.tolist(),
        [0.0] * len(sizes) if ready is None else list(ready),
    )
    bounds = list(pairwise(offsets.tolist()))
    return PassTimes(
        tuple(start[low:high] for low, high in bounds),
        tuple(end[low:high] for low, high in bounds),
        tuple(taken[low:high] for low, high in bounds),
        tuple(sources),
    )


def _run(
    needs: list[int],
    durations: list[float],
    late: list[float],
    taken: list[float],
    offsets: list[int],
    ready: list[float],
) -> tuple[Times, Times]:
    """Starts and ends of all passes, rank after rank as far as each comes."""
    total, ranks = offsets[-1], len(offsets) - 1
    start, end = [0.0] * total, [-1.0] * total
    place, free = offsets[:-1], list(ready)
    waiting: dict[int, int] = {}
    left = list(range(ranks - 1, -1, -1))
    while left:
        rank = left.pop()
        now, index, stop = free[rank], place[rank], offsets[rank + 1]
        while index < stop:
            needed = needs[index]
            if needed >= 0:
                come = end[needed]
                if come < 0.0:
                    waiting[needed] = rank
                    break
                come += late[index]
                if come > now:
                    now = come
            start[index] = now
            now += taken[index] + durations[index]
            end[index] = now
            if index in waiting:
                left.append(waiting.pop(index))
            index += 1
        free[rank], place[rank] = now, index
    if waiting:
        raise ValueError("the orders of the ranks wait for each other")
    return np.array(start), np.array(end)


def _needs(pipeline: Pipeline) -> tuple[list[Indices], list[Indices]]:
    """For each pass the index, among those of all ranks, of the pass of another rank that it needs, and that rank.

    A forward pass needs that of the chunk before it, a backward pass that of the chunk behind it. What the same rank
    has run is there already.
    """
    stages, chunks = len(pipeline.orders), pipeline.chunks
    micro_batches = max(int(order.micro_batches.max()) for order in pipeline.orders) + 1
    place = np.full((2, stages * chunks, micro_batches), _NONE)
    owner = np.zeros(stages * chunks, dtype=np.int64)
    virtual, offset = [], 0
    for rank, order in enumerate(pipeline.orders):
        of_chunk = np.array([pipeline.virtual_stage(rank, chunk) for chunk in range(chunks)])
        owner[of_chunk] = rank
        stage = of_chunk[order.chunks]
        virtual.append(stage)
        index = np.arange(offset, offset + len(order))
        offset += len(order)
        yields = order.kinds != PassKind.WEIGHT_GRADIENTS
        back = (order.kinds != PassKind.FORWARD).astype(np.int64)
        place[back[yields], stage[yields], order.micro_batches[yields]] = index[yields]
    needs, sources = [], []
    for rank, (order, stage) in enumerate(zip(pipeline.orders, virtual, strict=True)):
        forward, weights = order.kinds == PassKind.FORWARD, order.kinds == PassKind.WEIGHT_GRADIENTS
        before = np.where(forward, stage - 1, stage + 1)
        other = (before >= 0) & (before < stages * chunks) & ~weights
        before = np.where(other, before, 0)
        other &= owner[before] != rank
        needed = place[np.where(forward, 0, 1), before, order.micro_batches]
        needs.append(np.where(other, needed, _NONE))
        sources.append(np.where(other, owner[before], _NONE))
    return needs, sources
