"""The best plans seen so far, and those that no other beats in two respects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.plan_search.grid import PlanGrid

Entry = TypeVar("Entry")
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
_TIE = 1e-9
"""Relative difference up to which values count as equal, and the simpler plan wins."""
_ALIKE = 16
"""Plans looked at for each that is wanted, since many are alike; more where that is not enough."""


@dataclass(frozen=True)
class Place:
    """A plan of a grid, with what it was ranked by."""

    grid: PlanGrid
    index: int
    key: tuple[float, ...]
    """Value, rounded so that equal ones are equal, then time where that is another, and the complexity of the plan."""
    value: float
    """What it is ranked by."""
    time: float
    memory: float

    @property
    def looks(self) -> tuple[float, float, float]:
        """Value, time and memory, rounded so that equal values are equal."""
        value, time, memory = _rounded(np.array([self.value, self.time, self.memory])).tolist()
        return value, time, memory


def _rounded(values: Values) -> Values:
    """Logarithms as whole multiples of the least difference that counts."""
    whole: Values = np.rint(np.log(np.maximum(values, np.finfo(np.float64).tiny)) / _TIE)
    return whole


def spread(front: Sequence[Entry], most: int) -> Sequence[Entry]:
    """A front, thinned evenly where it is longer than `most`; its ends stay."""
    if len(front) <= most:
        return front
    return [front[round(i * (len(front) - 1) / (most - 1))] for i in range(most)]


class Best:
    """The plans of least value; of plans alike in value, time and memory only the simplest.

    Ties are broken by time where memory is the value, and then by simplicity.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.places: list[Place] = []

    @property
    def worst(self) -> float:
        """Value that a plan must not exceed to be among the best."""
        return float(np.exp(self.places[-1].key[0] * _TIE)) if len(self.places) == self.number else np.inf

    def offer(self, grid: PlanGrid, values: Values, fits: Mask, time: Values, memory: Values) -> None:
        """Take what is good enough of a grid; arrays broadcast to its shape."""
        self.take(grid, np.where(fits, values, np.inf), time, memory)

    def take(self, grid: PlanGrid, ranked: Values, time: Values, memory: Values) -> None:
        """The same of values that are infinite where plans do not count."""
        most = self.worst * (1.0 + 2.0 * _TIE)
        if ranked.min() > most or not np.isfinite(ranked.min()):
            return
        flat = np.broadcast_to(ranked, grid.shape).reshape(-1)
        taken = _ALIKE * self.number
        while True:
            bound = most
            if taken < flat.size:
                bound = min(most, float(np.partition(flat, taken - 1)[taken - 1]) * (1.0 + 2.0 * _TIE))
            chosen = np.flatnonzero((flat <= bound) & np.isfinite(flat))
            newcomers = simplest_of(grid, chosen, ranked, time, memory, self.number)
            if len(newcomers) >= self.number or bound >= most or taken >= flat.size:
                break
            taken *= _ALIKE
        self.places = joined(self.places, newcomers)[: self.number]


def joined(one: Sequence[Place], other: Sequence[Place]) -> list[Place]:
    """Plans in order; of those alike in time and memory only the simplest."""
    known = {each.looks: each for each in sorted([*one, *other], key=_last)}
    return sorted(known.values(), key=lambda each: each.key)


def simplest_of(
    grid: PlanGrid, chosen: NDArray[np.intp], values: Values, time: Values, memory: Values, number: int
) -> list[Place]:
    """Of some plans of a grid the simplest of each time and memory, those of least value first.

    Parameters
    ----------
    grid, chosen
        The plans, as indices of the flattened grid.
    values, time, memory
        What they are ranked by, and what each takes; they broadcast to the grid's shape.
    number
        How many at most.
    """
    place = np.unravel_index(chosen, grid.shape)
    ranked, times, sizes = (np.broadcast_to(each, grid.shape)[place] for each in (values, time, memory))
    value, when, size = (_rounded(each) for each in (ranked, times, sizes))
    keys = np.column_stack([value, when, grid.complexity(chosen)])
    alike = np.lexsort((*keys.T[::-1], size, when, value))
    first = np.ones(len(alike), dtype=bool)
    first[1:] = np.any([np.diff(each[alike]) != 0 for each in (value, when, size)], axis=0)
    simplest = alike[first]
    best = simplest[np.lexsort(keys[simplest].T[::-1])][:number]
    return [
        Place(grid, int(chosen[i]), tuple(keys[i].tolist()), float(ranked[i]), float(times[i]), float(sizes[i]))
        for i in best
    ]


def _last(one: Place) -> tuple[float, ...]:
    """Order in which simpler plans come later and replace others that are alike."""
    return tuple(-part for part in one.key)


class Front:
    """Plans that no other beats in both time and memory."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def offer(self, grid: PlanGrid, fits: Mask, time: Values, memory: Values) -> None:
        """Take what no plan of a grid or before beats; arrays broadcast to the grid's shape."""
        ranked = np.where(fits, time, np.inf)
        # Placements change time only, so that one of them is enough for each memory.
        quickest = np.broadcast_to(ranked, np.broadcast_shapes(ranked.shape, memory.shape)).min(axis=1, keepdims=True)
        sizes = np.broadcast_to(memory, np.broadcast_shapes(quickest.shape, memory.shape))
        times = np.broadcast_to(quickest, sizes.shape).reshape(-1)
        chosen = np.flatnonzero(np.isfinite(times) & self._is_new(times, sizes.reshape(-1)))
        if not len(chosen):
            return
        order = chosen[np.lexsort((sizes.reshape(-1)[chosen], times[chosen]))]
        least = np.minimum.accumulate(sizes.reshape(-1)[order])
        first = order[np.concatenate([[True], least[1:] < least[:-1]])]
        self._merge(grid, ranked, first, sizes)

    def _is_new(self, times: Values, sizes: Values) -> Mask:
        """Whether no plan of the front is both as fast and as small."""
        if not self.places:
            return np.ones(times.shape, dtype=bool)
        fronts = np.array([(place.time, place.memory) for place in self.places])
        before = np.searchsorted(fronts[:, 0], times, side="right") - 1
        return np.where(before < 0, np.inf, fronts[np.maximum(before, 0), 1]) > sizes

    def _merge(self, grid: PlanGrid, ranked: Values, chosen: NDArray[np.intp], sizes: Values) -> None:
        """Join new plans to the front and drop those that they beat."""
        shape = tuple(1 if axis == 1 else length for axis, length in enumerate(grid.shape))
        whole = np.broadcast_to(ranked, grid.shape)
        merged = list(self.places)
        for flat in chosen:
            place = list(np.unravel_index(int(flat), np.broadcast_shapes(sizes.shape, shape)))
            along = whole[place[0], :, place[2], place[3], place[4], place[5]]
            place[1] = np.intp(int(np.argmin(along)))
            index = int(np.ravel_multi_index(tuple(int(i) for i in place), grid.shape))
            time, memory = float(along[place[1]]), float(sizes.reshape(-1)[flat])
            merged.append(Place(grid, index, (time, memory), time, time, memory))
        self.places = []
        for one in sorted(merged, key=lambda one: one.key):
            if not self.places or one.memory < self.places[-1].memory:
                self.places.append(one)
