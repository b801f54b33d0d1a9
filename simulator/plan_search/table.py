"""The best plan for each pair of values of two fields, such as degrees: what a heat map shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.errors import InputError, shown
from simulator.plan_search.grid import PlanGrid
from simulator.plan_search.ranking import Best, Mask, Place, Values
from simulator.specs.choices import EVERY_RECOMPUTE, SHARDINGS

Value = str | int
Index = dict[int, NDArray[np.intp]]
"""Which entries along which axes."""
_AXES = 6
"""Of a grid."""


class _Field(NamedTuple):
    """A field of a plan that a table can have."""

    axis: int
    """Of the grids, where it lies."""
    values: Callable[[PlanGrid], Sequence[Value]]
    """Of a grid, along that axis."""
    order: Sequence[str] = ()
    """Of its names; numbers are in order."""

    def rank(self, value: Value) -> int:
        """The place of a value among all."""
        return self.order.index(value) if isinstance(value, str) else value


_FIELDS = {
    "tp": _Field(0, lambda grid: [split.tp for split in grid.splits]),
    "pp": _Field(0, lambda grid: [split.pp for split in grid.splits]),
    "cp": _Field(0, lambda grid: [split.cp for split in grid.splits]),
    "dp": _Field(0, lambda grid: [split.dp for split in grid.splits]),
    "ep": _Field(0, lambda grid: [split.ep for split in grid.splits]),
    "micro_batch": _Field(5, lambda grid: [one.micro_batch for one in grid.passes]),
    "virtual_stages": _Field(3, lambda grid: [virtual for _, virtual in grid.schedules]),
    "sharding": _Field(2, lambda grid: [name for name, _ in grid.shardings], SHARDINGS),
    "recompute": _Field(5, lambda grid: [one.recompute for one in grid.passes], EVERY_RECOMPUTE),
}
AXES_OF_TABLES = tuple(_FIELDS)


@dataclass(frozen=True)
class Cell:
    """The fastest plan of one pair of values."""

    values: tuple[Value, Value]
    step_time_s: float | None
    """Nothing where plans of this pair keep the rules and none of them fits."""
    memory_bytes: float | None
    plan: dict[str, Any] | None


@dataclass(frozen=True)
class Fastest:
    """The fastest plan for each pair of values of two fields."""

    by: tuple[str, str]
    values: tuple[tuple[Value, ...], tuple[Value, ...]]
    """Of each of the two fields, in order."""
    cells: tuple[Cell, ...]
    """Of pairs that plans can have."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"by": list(self.by), "cells": [{**vars(cell), "values": list(cell.values)} for cell in self.cells]}


def read_by(by: str | None) -> tuple[str, str] | None:
    """Two fields from text such as ``tp,pp``.

    Raises
    ------
    InputError
        Where they are not two fields of a plan that a table can have.
    """
    if by is None:
        return None
    names = [name.strip() for name in str(by).split(",")]
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= set(_FIELDS):
        raise InputError(f"by={shown(by)}: name two of {', '.join(_FIELDS)}, such as tp,pp")
    return names[0], names[1]


class Table:
    """The fastest plan seen so far for each pair of values."""

    def __init__(self, by: tuple[str, str]) -> None:
        self.by = by
        self.best_by_pair: dict[tuple[Value, Value], Best] = {}

    def note(self, grid: PlanGrid, kept: Mask) -> None:
        """Remember which pairs can be at all; the mask broadcasts to the grid's shape."""
        for pair, index in self._pairs(grid):
            if pair not in self.best_by_pair and _part(kept, index).any():
                self.best_by_pair[pair] = Best(1)

    def offer(self, grid: PlanGrid, fits: Mask, time: Values, memory: Values) -> None:
        """Take the best of each pair; arrays broadcast to the grid's shape."""
        ranked = np.where(fits, time, np.inf)
        for pair, index in self._pairs(grid):
            if pair in self.best_by_pair:
                parts = (_part(ranked, index), _part(fits, index), _part(time, index), _part(memory, index))
                self.best_by_pair[pair].offer(_narrowed(grid, index), *parts)

    def fastest(self, shown: Callable[[Place], dict[str, Any]]) -> Fastest:
        """What was found.

        Parameters
        ----------
        shown
            The plan at a place, as plain values.
        """
        fields = [_FIELDS[name] for name in self.by]
        one, other = (tuple(sorted({pair[i] for pair in self.best_by_pair}, key=fields[i].rank)) for i in (0, 1))
        return Fastest(self.by, (one, other), tuple(self._cells(one, other, shown)))

    def _cells(
        self, one: Sequence[Value], other: Sequence[Value], shown: Callable[[Place], dict[str, Any]]
    ) -> Iterator[Cell]:
        """The best of each pair, in order."""
        for pair in product(one, other):
            if pair in self.best_by_pair:
                place = next(iter(self.best_by_pair[pair].places), None)
                told = (place.time, place.memory, shown(place)) if place is not None else (None, None, None)
                yield Cell(pair, *told)

    def _pairs(self, grid: PlanGrid) -> Iterator[tuple[tuple[Value, Value], Index]]:
        """Pairs of values in a grid, and where they lie along its axes."""
        first, second = (_FIELDS[name] for name in self.by)
        left, right = first.values(grid), second.values(grid)
        if first.axis == second.axis:
            both = list(zip(left, right, strict=True))
            for pair in dict.fromkeys(both):
                yield pair, {first.axis: _where(both, pair)}
        else:
            for pair in product(dict.fromkeys(left), dict.fromkeys(right)):
                yield pair, {first.axis: _where(left, pair[0]), second.axis: _where(right, pair[1])}


def _where(values: Sequence[Any], wanted: Any) -> NDArray[np.intp]:
    """Places of a value."""
    return np.array([place for place, value in enumerate(values) if value == wanted], dtype=np.intp)


def _part(values: NDArray[Any], index: Index) -> NDArray[Any]:
    """Some entries along some axes; axes that change nothing stay short."""
    values = values.reshape((1,) * (_AXES - values.ndim) + values.shape)
    for axis, kept in index.items():
        if values.shape[axis] > 1:
            values = np.take(values, kept, axis=axis)
    return values


def _narrowed(grid: PlanGrid, index: Index) -> PlanGrid:
    """The part of a grid that an index keeps, axis by axis."""
    return grid.narrowed([index.get(axis, np.arange(length)) for axis, length in enumerate(grid.shape)])
