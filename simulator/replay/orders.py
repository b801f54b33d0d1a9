"""In which order each rank of a pipeline runs the passes of its chunks: the published schedules.

A rank holds one or more chunks of layers. In a loop, chunk c of rank r is virtual stage ``c p + r``; in the shape of a
V its second chunk is virtual stage ``2 p - 1 - r``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulator.formulas import pipeline

Indices = NDArray[np.int64]


class PassKind(IntEnum):
    """What one micro-batch does on one chunk."""

    FORWARD = 0
    BACKWARD = 1
    """The whole backward pass."""
    INPUT_GRADIENTS = 2
    """Of the backward pass what the stage before waits for."""
    WEIGHT_GRADIENTS = 3
    """Of the backward pass what nobody waits for."""


PASS_NAMES = {
    PassKind.FORWARD: "forward",
    PassKind.BACKWARD: "backward",
    PassKind.INPUT_GRADIENTS: "input gradients",
    PassKind.WEIGHT_GRADIENTS: "weight gradients",
}
"""What people call them."""


def pass_in_words(kind: PassKind) -> str:
    """What a pass is, in words: a forward pass, but weight gradients."""
    return PASS_NAMES[kind] + (" pass" if kind in (PassKind.FORWARD, PassKind.BACKWARD) else "")


@dataclass(frozen=True)
class Order:
    """The passes of one rank, one entry each, in the order in which it runs them."""

    kinds: Indices
    """`PassKind` of each."""
    chunks: Indices
    """Chunk of the rank, from 0."""
    micro_batches: Indices
    """From 0."""

    def __len__(self) -> int:
        """How many passes the rank runs."""
        return len(self.kinds)


_Pass = tuple[int, int, int]
_F, _B, _I, _W = (int(kind) for kind in PassKind)


def _ordered(passes: Iterable[_Pass]) -> Order:
    """An order of kind, chunk and micro-batch of each pass."""
    rows = np.array(list(passes), dtype=np.int64).reshape(-1, 3)
    return Order(rows[:, 0], rows[:, 1], rows[:, 2])


def breadth_first(micro_batches: int, *, chunks: int = 1, reverse: bool = False) -> Order:
    """Every forward pass, then every backward pass, all micro-batches through one chunk before the next.

    GPipe: Huang et al., arXiv 1811.06965, section 2.2; with several chunks Lamy-Poirier, arXiv 2211.05953, section 4.2.
    `reverse` says whether backward passes begin with the last micro-batch.
    """
    ahead = np.tile(np.arange(micro_batches), chunks)
    back = ahead[::-1] if reverse else ahead
    held = np.repeat(np.arange(chunks), micro_batches)
    kinds = np.repeat([_F, _B], chunks * micro_batches)
    return Order(kinds, np.concatenate([held, held[::-1]]), np.concatenate([ahead, back]))


def one_forward_one_backward(rank: int, stages: int, micro_batches: int) -> Order:
    """A forward pass for every backward pass, once each stage behind has a micro-batch.

    PipeDream-Flush: Narayanan et al., SC'21, arXiv 2104.04473, section 2.2.1.
    """
    return _alternating(*_units(micro_batches, 1, micro_batches), ahead=stages - rank - 1, weights_after=None)


def interleaved(rank: int, stages: int, micro_batches: int, *, chunks: int) -> Order:
    """The same with several chunks a rank, micro-batches in groups (SC'21, arXiv 2104.04473, section 2.2.2)."""
    group = _group(stages, micro_batches)
    ahead = (chunks - 1) * group + 2 * (stages - rank - 1)
    return _alternating(*_units(micro_batches, chunks, group), ahead=ahead, weights_after=None)


def zero_bubble(rank: int, stages: int, micro_batches: int, *, chunks: int = 1) -> Order:
    """Weight gradients in the gaps: ZB-H1, and with several chunks its interleaved form.

    Qi et al., arXiv 2401.10241, section 2.2: weight gradients lag behind by as many micro-batches as the rank has
    stages before it, so that all ranks hold as much as the first of 1F1B.
    """
    group = _group(stages, micro_batches)
    ahead = (chunks - 1) * group + stages - rank - 1
    return _alternating(*_units(micro_batches, chunks, group), ahead=ahead, weights_after=rank)


def _group(stages: int, micro_batches: int) -> int:
    """Micro-batches that run through one chunk before the next."""
    return min(int(pipeline.interleaved_group(stages, micro_batches)), micro_batches)


def _units(micro_batches: int, chunks: int, group: int) -> tuple[Indices, Indices, Indices]:
    """Chunk of each forward unit, its micro-batch, and chunk of each backward unit, in their order."""
    starts = range(0, micro_batches, group)
    sizes = [min(group, micro_batches - start) for start in starts]
    held = np.concatenate([np.repeat(np.arange(chunks), size) for size in sizes])
    each = np.concatenate(
        [np.tile(np.arange(start, start + size), chunks) for start, size in zip(starts, sizes, strict=True)]
    )
    return held, each, chunks - 1 - held


def _alternating(held: Indices, each: Indices, back: Indices, *, ahead: int, weights_after: int | None) -> Order:
    """Some forward units, then one forward and one backward in turns, then the rest of the backward units.

    `ahead` are the forward units before the first turn. Where `weights_after` is given, backward units are input
    gradients, and from that many on each is followed by the weight gradients of an earlier one.
    """
    number = len(held)
    warm = min(ahead, number)
    # Unit i of the forward pass runs in turn i, unit i of the backward pass in turn i + warm.
    turns = [(np.arange(number), 0, _F, held, each), (np.arange(number) + warm, 1, _B, back, each)]
    if weights_after is not None:
        turns[1] = (*turns[1][:2], _I, *turns[1][3:])
        late = np.minimum(np.arange(number) + warm + weights_after, number + warm)
        turns.append((late, 2, _W, back, each))
    places = np.concatenate([turn * 3 + rank for turn, rank, *_ in turns])
    sequence = np.argsort(places, kind="stable")
    kinds = np.concatenate([np.full(number, kind) for _, _, kind, _, _ in turns])
    chunks = np.concatenate([chunk for *_, chunk, _ in turns])
    micro = np.concatenate([which for *_, which in turns])
    return Order(kinds[sequence], chunks[sequence], micro[sequence])


class _Counted:
    """Passes in order, each with the next micro-batch of its kind and chunk."""

    def __init__(self) -> None:
        self.passes: list[_Pass] = []
        self.next: dict[tuple[int, int], int] = {}
        self.weights: deque[tuple[int, int]] = deque()

    def _number(self, kind: int, chunk: int) -> int:
        number = self.next.get((kind, chunk), 0)
        self.next[kind, chunk] = number + 1
        return number

    def run(self, kind: int, *chunks: int) -> None:
        """The next micro-batch on each of some chunks; weight gradients that are left for later are remembered."""
        for chunk in chunks:
            number = self._number(_F if kind == _F else _I, chunk)
            self.passes.append((kind, chunk, number))
            if kind == _I:
                self.weights.append((chunk, number))

    def both(self, chunk: int) -> None:
        """Input gradients of the next micro-batch on a chunk, and at once its weight gradients."""
        self.run(_I, chunk)
        self.passes.append((_W, *self.weights.pop()))

    def weigh(self) -> None:
        """The oldest weight gradients that are left."""
        if self.weights:
            self.passes.append((_W, *self.weights.popleft()))


def zero_bubble_v(rank: int, stages: int, micro_batches: int) -> Order:
    """ZB-V: two chunks a rank in the shape of a V (Qi et al., arXiv 2401.10241, section 6)."""
    many, order = max(2 * stages - 1, micro_batches), _Counted()
    order.run(_F, *[0] * (2 * (stages - rank) - 1))
    order.run(_F, *[1, 0] * rank)
    for _ in range(stages - rank):
        order.run(_F, 1)
        order.both(1)
    while order.next.get((_F, 1), 0) < many:
        if order.next[_F, 0] < many:
            order.run(_F, 0)
        order.both(0)
        order.run(_F, 1)
        order.both(1)
    order.run(_I, *[0, 1] * rank)
    last = sorted(order.weights, key=lambda pending: pending[0])
    first_chunk = deque(pending for pending in last if pending[0] == 0)
    for _ in range(stages - rank):
        order.run(_I, 0)
        first_chunk.append(order.weights.pop())
        order.passes.append((_W, *first_chunk.popleft()))
    order.passes += [(_W, *pending) for pending in last if pending[0] == 1]
    order.passes += [(_W, *pending) for pending in first_chunk]
    return _ordered(each for each in order.passes if each[2] < micro_batches)


def dual_pipe_v(rank: int, stages: int, micro_batches: int) -> Order:
    """DualPipeV: half of DualPipe, two chunks a rank in the shape of a V, forward beside backward passes.

    DeepSeek-AI, arXiv 2412.19437, section 3.2.1, and the repository deepseek-ai/DualPipe, `dualpipev.py`. A pair that
    runs at once stands as the forward pass and the backward pass behind it.
    """
    order, behind = _Counted(), stages - rank - 1
    order.run(_F, *[0] * (2 * behind))
    order.run(_F, *[0, 1] * (rank + 1))
    for _ in range(behind):
        order.run(_I, 1)
        order.weigh()
        order.run(_F, 1)
    for _ in range(micro_batches - 2 * stages + rank + 1):
        for ahead, back in ((0, 1), (1, 0)):
            order.run(_F, ahead)
            order.run(_B, back)
    for _ in range(behind):
        order.run(_B, 1)
        order.run(_F, 1)
        order.run(_B, 0)
    _drain(order, rank, behind)
    return _ordered(order.passes)


def _drain(order: _Counted, rank: int, behind: int) -> None:
    """The end of DualPipeV: from the middle of the last backward passes on, weight gradients are left for the gaps."""
    kinds = [_B] * (rank + 1) + [_I] * (rank + 1)
    for place, kind in enumerate(kinds):
        order.run(kind, 1 - place % 2)
    for _ in range(behind):
        order.weigh()
        order.run(_I, 0)
    for _ in range(rank + 1):
        order.weigh()


@dataclass(frozen=True)
class Pipeline:
    """The orders of all ranks, and where their chunks stand."""

    orders: tuple[Order, ...]
    v_shaped: bool
    chunks: int

    @cached_property
    def kinds(self) -> tuple[PassKind, ...]:
        """Kinds of pass that any rank runs."""
        of_all = np.bincount(np.concatenate([order.kinds for order in self.orders]), minlength=len(PassKind))
        return tuple(kind for kind in PassKind if of_all[kind])

    def virtual_stage(self, rank: int, chunk: int) -> int:
        """Index of a chunk among those of all ranks, in the order of the forward pass."""
        return virtual_stage(rank, chunk, stages=len(self.orders), v_shaped=self.v_shaped)


def virtual_stage(rank: int, chunk: int, *, stages: int, v_shaped: bool) -> int:
    """Index of a chunk among those of all ranks, in the order of the forward pass."""
    if v_shaped and chunk:
        return 2 * stages - 1 - rank
    return chunk * stages + rank


def pipeline_of(schedule: str, *, stages: int, micro_batches: int, chunks: int = 1) -> Pipeline:
    """The orders of a schedule's ranks.

    Parameters
    ----------
    schedule
        As plans name it.
    stages, micro_batches, chunks
        Pipeline stages, micro-batches of a step, and chunks of layers of each rank [1].

    Raises
    ------
    ValueError
        Where a schedule is not defined for them.

    Examples
    --------
    The last of four stages of 1F1B begins with a backward pass as soon as it can.

    >>> order = pipeline_of("1f1b", stages=4, micro_batches=8).orders[3]
    >>> order.kinds[:4].tolist(), order.micro_batches[:4].tolist()
    ([0, 1, 0, 1], [0, 0, 1, 1])
    """
    by_name: dict[str, Callable[[int], Order]] = {
        "1f1b": lambda rank: one_forward_one_backward(rank, stages, micro_batches),
        "gpipe": lambda _: breadth_first(micro_batches, chunks=chunks),
        "interleaved": lambda rank: interleaved(rank, stages, micro_batches, chunks=chunks),
        "looped-bfs": lambda _: breadth_first(micro_batches, chunks=chunks, reverse=True),
        "zero-bubble": lambda rank: zero_bubble(rank, stages, micro_batches, chunks=chunks),
        "zero-bubble-v": lambda rank: zero_bubble_v(rank, stages, micro_batches),
        "dualpipe-v": lambda rank: dual_pipe_v(rank, stages, micro_batches),
    }
    bent = schedule in ("zero-bubble-v", "dualpipe-v")
    if schedule == "dualpipe-v" and micro_batches < 2 * stages:
        raise ValueError(f"DualPipeV needs at least {2 * stages} micro-batches on {stages} stages, not {micro_batches}")
    if schedule == "1f1b" and chunks > 1:
        raise ValueError(f"1F1B has one chunk a stage, not {chunks}; with more it is interleaved")
    return Pipeline(tuple(map(by_name[schedule], range(stages))), bent, 2 if bent else chunks)
