"""Structs of numbers: what specifications become inside, where one price and ten million are the same call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """A frozen struct of numbers, arrays that broadcast, structs, tuples of structs, and None for what is absent."""

    def map(self, change: Callable[[Any], Any]) -> Self:
        """Apply a function to every number or array below."""
        return replace(self, **{name: _map(value, change) for name, value in vars(self).items()})

    def take(self, index: NDArray[np.intp]) -> Self:
        """Pick rows; plain numbers stay as they are."""
        return self.map(lambda column: column[index] if np.ndim(column) else column)

    @classmethod
    def stack(cls, rows: Sequence[Self]) -> Self:
        """Make one struct of arrays from structs of numbers, row by row.

        Raises
        ------
        ValueError
            Where rows differ in structure: in the length of a tuple, in the kind of a struct, or in what is absent.
        """
        stacked: Self = _stack(cls, rows)
        return stacked

    @property
    def structure(self) -> Hashable:
        """What rows must have in common to be stacked: kinds of structs, lengths of tuples, and what is absent."""
        return _structure(self)


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function at the leaves of a field."""
    if isinstance(value, Columns):
        return value.map(change)
    if isinstance(value, tuple):
        return tuple(_map(part, change) for part in value)
    return None if value is None else change(value)


def _structure(value: Any) -> Hashable:
    """The structure below a field; nothing of a number."""
    if isinstance(value, Columns):
        return (type(value), *(_structure(each) for each in vars(value).values()))
    if isinstance(value, tuple):
        return tuple(_structure(each) for each in value)
    return value is None


def _stack(kind: type[Any], rows: Sequence[Any]) -> Any:
    """Stack structs of one kind, field by field."""
    return kind(**{field.name: _stack_values([getattr(row, field.name) for row in rows]) for field in fields(kind)})


def _stack_values(values: list[Any]) -> Any:
    """Stack the values of one field."""
    first = values[0]
    kinds = {type(value) for value in values} if first is None or isinstance(first, Columns | tuple) else {None}
    if len(kinds) > 1 or (isinstance(first, tuple) and len({len(value) for value in values}) > 1):
        raise ValueError("rows of different structure cannot be stacked")
    if first is None:
        return None
    if isinstance(first, Columns):
        return _stack(type(first), values)
    if isinstance(first, tuple):
        return tuple(_stack_values(list(parts)) for parts in zip(*values, strict=True))
    return np.array(values, dtype=np.float64)
