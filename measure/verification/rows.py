"""What a verification found: formulas beside counts, quantity by quantity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Verdict = Literal["equal", "differs", "not counted"]
Unit = Literal["parameter", "FLOP", "B", "message", "micro-batch", "pass"]
Counted = TypeVar("Counted")

_ROUNDING = 1e-12
"""Relative difference that float64 may have made of the same integers in another order."""


@dataclass(frozen=True)
class Reason:
    """Why something was not counted, in words."""

    words: str


@dataclass(frozen=True)
class Row:
    """One quantity as the formulas say it and as torch counted it."""

    group: str
    quantity: str
    unit: Unit
    formula: float
    torch: float | None
    """None where it was not counted."""
    reason: str | None = None
    """Why it was not counted."""
    note: str | None = None
    """What was counted in its place, where torch has not quite the same."""

    @property
    def verdict(self) -> Verdict:
        """Whether both agree, to the last digit that float64 holds."""
        if self.torch is None:
            return "not counted"
        return "equal" if math.isclose(self.formula, self.torch, rel_tol=_ROUNDING) else "differs"

    @property
    def error(self) -> float | None:
        """Relative error of the formula; None where torch counted nothing [1]."""
        return self.formula / self.torch - 1.0 if self.torch else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; integers where the numbers are whole."""
        values = {name: _plain(value) for name, value in vars(self).items()}
        return {**values, "verdict": self.verdict, "error": self.error}


def _plain(value: Any) -> Any:
    """A whole number as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Verification:
    """The formulas of a scenario beside what torch counted of it."""

    model: str
    system: str
    devices: int
    stack: str
    plan: dict[str, Any]
    workload: dict[str, Any]
    torch_version: str
    time_s: float
    """Time that counting took [s]."""
    rows: tuple[Row, ...]
    assumed: tuple[str, ...] = ()
    """What of the scenario was chosen because nobody said."""

    def number(self, verdict: Verdict) -> int:
        """How many rows came out so."""
        return sum(row.verdict == verdict for row in self.rows)

    @property
    def equal(self) -> bool:
        """Whether no quantity that was counted differs from its formula."""
        return self.number("differs") == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {verdict: self.number(verdict) for verdict in ("equal", "differs", "not counted")}
        return {**vars(self), "rows": [row.to_dict() for row in self.rows], "equal": self.equal, "numbers": numbers}


def attempt(count: Callable[[], Counted], *obstacles: str | None) -> Counted | Reason:
    """Count something, or say what stands in the way.

    Parameters
    ----------
    count
        Counts; where it raises `ValueError` the reference module cannot be built so.
    obstacles
        What is known to stand in the way; none where nothing does.
    """
    for obstacle in obstacles:
        if obstacle is not None:
            return Reason(obstacle)
    try:
        return count()
    except ValueError as error:
        return Reason(str(error))


def row(
    group: str,
    quantity: str,
    unit: Unit,
    formula: float,
    counted: Counted | Reason,
    pick: Callable[[Counted], float],
    note: str | None = None,
) -> Row:
    """One quantity: its formula beside what was found, or beside why nothing was."""
    if isinstance(counted, Reason):
        return Row(group, quantity, unit, formula, None, reason=counted.words)
    return Row(group, quantity, unit, float(formula), float(pick(counted)), note=note)
