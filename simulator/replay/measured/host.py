"""What threads of a host do: operators inside operators, each with the time that is its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.replay.measured.kinds import OTHERS, Fit, KindNames
from simulator.replay.measured.reading import TraceEvent

Times = NDArray[np.float64]


class Activity(NamedTuple):
    """A stretch of time of one thread or stream, and what it belongs to; on the clock of the trace [s]."""

    start: float
    end: float
    kind: str
    name: str


class _OpenOperator(NamedTuple):
    """An operator that has not ended."""

    end: float
    name: str
    fit: Fit | None


class HostThread:
    """One thread: stretches in the order of time, each of the innermost operator that a rule names.

    Parameters
    ----------
    events
        Operators and annotations of the thread.
    names
        What belongs to which kind.
    """

    def __init__(self, events: Iterable[TraceEvent], names: KindNames) -> None:
        self.activities: list[Activity] = []
        self._fits: list[Fit] = []
        opened: list[_OpenOperator] = []
        self._until = -np.inf
        for event in sorted(events, key=lambda event: (event.start, -event.end)):
            self._close(opened, event.start)
            if opened:
                self._fill(opened[-1], event.start)
            self._until = max(self._until, event.start)
            opened.append(_OpenOperator(event.end, event.name, _fit(event, opened[-1].fit if opened else None, names)))
        self._close(opened, np.inf)
        self._starts: Times = np.array([each.start for each in self.activities])

    def _close(self, opened: list[_OpenOperator], time: float) -> None:
        """End what is over by a time."""
        while opened and opened[-1].end <= time:
            self._fill(opened[-1], opened[-1].end)
            opened.pop()

    def _fill(self, innermost: _OpenOperator, until: float) -> None:
        """Time up to a moment that is an operator's own."""
        if until > self._until and innermost.fit is not None:
            self.activities.append(Activity(self._until, until, innermost.fit.kind, innermost.name))
            self._fits.append(innermost.fit)
        self._until = max(self._until, until)

    def at(self, time: float) -> Fit | None:
        """What the thread is at in a moment; nothing where no operator runs."""
        place = int(np.searchsorted(self._starts, time, side="right")) - 1
        return self._fits[place] if place >= 0 and time < self.activities[place].end else None


def _fit(event: TraceEvent, around: Fit | None, names: KindNames) -> Fit | None:
    """What an operator belongs to, inside another; annotations that no rule names are as if they were not there."""
    if around is not None and around.whole:
        return around
    own = names.of_operator(event.name)
    if own is not None:
        return own
    if around is not None or event.category == "user_annotation":
        return around
    return Fit(OTHERS)


def threads_of(events: Sequence[TraceEvent], names: KindNames) -> dict[tuple[str, str], HostThread]:
    """Every thread of a host, by process and thread."""
    places: dict[tuple[str, str], list[TraceEvent]] = defaultdict(list)
    for event in events:
        if event.category != "user_annotation" or names.step.fullmatch(event.name) is None:
            places[event.place].append(event)
    return {place: HostThread(each, names) for place, each in places.items()}


def activities_of(threads: Iterable[HostThread]) -> Iterator[Activity]:
    """Stretches of all threads."""
    for thread in threads:
        yield from thread.activities
