"""Matrices of weights that read one input, beside each of which an adapter may stand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from simulator.formulas.typing import Num
from simulator.work.hiding import OperatorPart


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix of weights."""

    width: Num
    """Of what it makes, on this rank, or where ranks add that up, in full [1]."""
    adapted: Num
    """1 where an adapter stands beside it, else 0 [1]."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Matrices that read one input."""

    part: OperatorPart
    rows: Num
    """Of the input [token]."""
    width: Num
    """Of the input, on this rank [1]."""
    matrices: tuple[Matrix, ...]
    saved: Num
    """The input, where an adapter keeps it [B]."""
    otherwise: Num = 0.0
    """What is kept of it whether or not an adapter reads it [B]."""
    ranks: Num
    """Tensor-parallel ranks that hold parts of it [1]."""
    adds_up: bool = False
    """Whether these hold parts of the input and add up what they make."""
    used: Num = 1.0
    """1 or 0 [1]."""
    experts: Num = 0.0
    """Experts of this rank that have such matrices each; 0 of a dense layer [1]."""
    calls: Num = 1.0
    """Products one after the other for all experts [1]."""
    launches: Num = 1.0
    """Launches of one kind of them [1]."""
    useful: Num = 1.0
    """As in `simulator.pricing.requests.MatrixProduct`."""

    @property
    def batch(self) -> Num:
        """Matrices of each kind [1]."""
        return np.maximum(self.experts, 1.0)

    @property
    def adapted(self) -> Num:
        """Whether any of them has an adapter: 1 or 0."""
        return self.used * reduce(np.maximum, [np.asarray(matrix.adapted) for matrix in self.matrices])
