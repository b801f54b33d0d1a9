"""Structs of numbers: what specifications become inside, where one price and ten million are the same call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """A frozen struct whose fields are numbers, arrays that broadcast, further structs, or tuples of structs."""

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
            Where tuples of structs differ in length: such rows have different structure.
        """
        stacked: Self = _stack(cls, rows)
        return stacked


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function at the leaves of a field."""
    if isinstance(value, Columns):
        return value.map(change)
    if isinstance(value, tuple):
        return tuple(_map(part, change) for part in value)
    return change(value)


def _stack(kind: type[Any], rows: Sequence[Any]) -> Any:
    """Stack structs of one kind, field by field."""
    return kind(**{field.name: _stack_values([getattr(row, field.name) for row in rows]) for field in fields(kind)})


def _stack_values(values: list[Any]) -> Any:
    """Stack the values of one field."""
    first = values[0]
    if isinstance(first, Columns):
        return _stack(type(first), values)
    if isinstance(first, tuple):
        if len({len(value) for value in values}) > 1:
            raise ValueError("rows of different structure cannot be stacked")
        return tuple(_stack_values(list(parts)) for parts in zip(*values, strict=True))
    return np.array(values, dtype=np.float64)
