"""Spans: what runs on a resource, from when, and how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from simulator.pricing.requests import Collective, HostCopy, HostWork, Request, Send
from simulator.work.tasks import Phase, Resource, Task


@dataclass(frozen=True)
class Span:
    """One activity of one resource; times count from the start of what it is part of [s]."""

    resource: Resource
    name: str
    part: str
    """Of the step, as the breakdown of an estimate names it."""
    phase: Phase
    start: float
    duration: float
    place: str = ""
    """Where it belongs, such as ``layer 3 of the stage``."""
    size: float = 0.0
    """Of all its calls: FLOP of products and attention, else bytes."""
    unit: str = ""
    waits: bool = False
    """Whether the device only waits, for what the name says."""
    request: Request | None = None
    """What was asked, of this or of what the device waits for; none where it waits for hosts or other stages."""

    @property
    def end(self) -> float:
        """When it is over [s]."""
        return self.start + self.duration

    def waited_for(self, start: float, duration: float) -> Span:
        """The device waits for it, from when, and how long [s]."""
        return replace(self, resource=Resource.DEVICE, start=start, duration=duration, size=0.0, unit="", waits=True)

    def at(self, start: float, place: str = "") -> Span:
        """The same, later by so much."""
        return replace(self, start=self.start + start, place=self.place or place)


@dataclass(frozen=True)
class Piece:
    """Spans that follow from one another, and how long they take together [s]."""

    duration: float
    spans: tuple[Span, ...] = ()
    inner: tuple[tuple[float, str, Piece], ...] = ()
    """Pieces inside: when each starts, where it belongs, and what it is."""

    def flat(self, start: float = 0.0, place: str = "") -> Iterator[Span]:
        """Every span, from a start on."""
        for span in self.spans:
            yield span.at(start, place)
        for offset, where, piece in self.inner:
            yield from piece.flat(start + offset, where or place)

    @cached_property
    def number(self) -> int:
        """How many spans it has."""
        return len(self.spans) + sum(piece.number for _, _, piece in self.inner)

    def times(self, factor: float) -> Piece:
        """A share of it: everything shorter and smaller by a factor [1]."""
        spans = tuple(
            replace(span, start=span.start * factor, duration=span.duration * factor, size=span.size * factor)
            for span in self.spans
        )
        inner = tuple((start * factor, place, piece.times(factor)) for start, place, piece in self.inner)
        return Piece(self.duration * factor, spans, inner)

    def busy(self, waits: bool = False) -> dict[tuple[Resource, str], float]:
        """Time of each resource with each part of the step [s], or that for which the device waits."""
        sums: dict[tuple[Resource, str], float] = {}
        for span in self.spans:
            if span.waits == waits:
                key = (span.resource, span.part)
                sums[key] = sums.get(key, 0.0) + span.duration
        for _, _, piece in self.inner:
            for key, seconds in piece.busy(waits).items():
                sums[key] = sums.get(key, 0.0) + seconds
        return sums


def span_of(task: Task, start: float, seconds: float, place: str = "", calls: float = 1.0) -> Span:
    """So many calls of a task [1] as a span."""
    size, unit = size_of(task.request, calls)
    return Span(
        task.resource, task.name, task.part, task.phase, start, seconds, place, size, unit, request=task.request
    )


def size_of(request: Request, count: float) -> tuple[float, str]:
    """What so many calls of a request handle, and in which unit."""
    if isinstance(request, Collective | Send):
        return float(request.message_bytes) * count, "B"
    if isinstance(request, HostCopy):
        return float(request.moved_bytes) * count, "B"
    if isinstance(request, HostWork):
        return 0.0, ""
    arithmetic = float(request.flops) * count
    if arithmetic > 0.0:
        return arithmetic, "FLOP"
    return float(request.moved_bytes) * count, "B"


def chained(pieces: Iterable[tuple[str, Piece]]) -> Piece:
    """Pieces one after another."""
    inner, now = [], 0.0
    for place, piece in pieces:
        inner.append((now, place, piece))
        now += piece.duration
    return Piece(now, inner=tuple(inner))
