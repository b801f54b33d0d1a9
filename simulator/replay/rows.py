"""Blocks in a row: each waits for its parameters, which are fetched while the one before it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.formulas.collectives import exposed
from simulator.replay.blocks import LaidBlock
from simulator.replay.spans import Piece, Span, span_of
from simulator.work.tasks import Phase, Resource, Task

_LEAST = 1e-12
"""Shortest wait [s]."""


@dataclass(frozen=True)
class Shards:
    """What one block's shards ask of the links between replicas in one pass, and the sums of its gradients."""

    tasks: tuple[tuple[Task, float], ...] = ()
    """Tasks, each with its time for the block [s]."""

    def of_kind(self, kind: str) -> list[tuple[Task, float]]:
        """Collectives of one kind that take time."""
        return [(task, seconds) for task, seconds in self.tasks if is_of(task, kind) and seconds > 0.0]

    def times(self, share: float) -> Shards:
        """Those of a part of a layer."""
        return Shards(tuple((task, seconds * share) for task, seconds in self.tasks))


@dataclass(frozen=True)
class Placed:
    """A block in a pass."""

    place: str
    laid: LaidBlock
    shared: Shards


class BlockRow:
    """Blocks as they are added one by one, and the links between replicas beside them.

    `follows` says whether another pass is ahead of this one, `goes_on` whether one comes behind it.
    """

    def __init__(self, overlap: float, phase: Phase, *, follows: bool, goes_on: bool) -> None:
        self.overlap, self.phase, self.follows, self.goes_on = overlap, phase, follows, goes_on
        self.now, self.free = 0.0, 0.0
        self.spans: list[Span] = []
        self.inner: list[tuple[float, str, Piece]] = []
        self.issued: tuple[float, float] | None = None
        self.pending: Placed | None = None

    def add(self, block: Placed, following: Placed | None, late: float) -> None:
        """Add a block; `following` is the next one, and `late` the wait for each second of launches [1]."""
        if self.issued is None:
            come = self._carry(block, "all_gather", 0.0)
            # They come beside the pass before, as those of the last layer before the backward pass; but for one
            # micro-batch the step before has to be over.
            ahead = self.overlap * block.laid.piece.duration if self.follows else 0.0
            self.issued = -ahead, come - ahead
        issued, come = self.issued
        gathers = block.shared.of_kind("all_gather")
        if gathers:
            task, _ = gathers[0]
            self._wait(float(exposed(come - issued, self.now - issued)), span_of(task, 0.0, 0.0, block.place))
        piece = block.laid.piece
        self.inner.append((self.now, block.place, piece))
        # Links carry what is before and behind a block once it has come so far that they run beside its compute.
        early = self.now + (1.0 - self.overlap) * piece.duration
        self._scatter(early)
        if following is not None:
            self.issued = early, self._carry(following, "all_gather", early)
        self.now += piece.duration
        self._add_own(block, late)
        self.pending = block

    def _scatter(self, early: float) -> None:
        """Put the gradients of the block before on the links."""
        if self.pending is not None:
            self._carry(self.pending, "reduce_scatter", early)
            self.pending = None

    def _add_own(self, block: Placed, late: float) -> None:
        """Sums of gradients, and the time that the device waits for launches."""
        for task, seconds in block.shared.tasks:
            if task.resource is Resource.DEVICE and seconds > 0.0:
                self.spans.append(span_of(task, self.now, seconds, block.place))
                self.now += seconds
        self._wait_for_host(late * block.laid.host, block.place)

    def _carry(self, block: Placed, kind: str, early: float) -> float:
        """Put a gather or a scatter on the links from some time on; when it will have come [s]."""
        for task, seconds in block.shared.of_kind(kind):
            start = max(self.free, early)
            self.spans.append(span_of(task, start, seconds, block.place))
            self.free = start + seconds
        return max(self.free, early)

    def _wait_for_host(self, seconds: float, place: str) -> None:
        """The device waits for launches."""
        self._wait(seconds, Span(Resource.HOST, "launches of the host", "host", self.phase, 0.0, 0.0, place))

    def _wait(self, seconds: float, span: Span) -> None:
        """The device waits for a span, unless what is left is an error of rounding."""
        if seconds > _LEAST:
            self.spans.append(replace(span.waited_for(self.now, seconds), phase=self.phase))
            self.now += seconds

    def piece(self, until: float = 0.0) -> Piece:
        """The whole pass, once the last scatter is through, and the host, which takes `until` some time [s]."""
        self._scatter(self.now)
        # The last gradients go beside the first layer of the next pass, where there is one.
        beside = self.overlap * self.inner[-1][2].duration if self.goes_on and self.inner else 0.0
        if self.free > self.now + beside:
            last = next(span for span in reversed(self.spans) if span.resource is Resource.DATA_LINKS)
            self._wait(self.free - self.now - beside, last)
        self._wait_for_host(until - self.now, self.inner[-1][1] if self.inner else "")
        return Piece(self.now, tuple(self.spans), tuple(self.inner))


def is_of(task: Task, kind: str) -> bool:
    """Whether a task is a collective of a kind."""
    return getattr(task.request, "kind", None) == kind
