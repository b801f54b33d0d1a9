"""Weights of an operator as an optimizer sees them: tensors with their shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from simulator.formulas.typing import Num

WeightKind = Literal["matrix", "table", "vector"]
"""Hidden matrices; tables of words, positions and types, and heads; biases and scales."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """Equal tensors on one device. Several blocks of rows are one tensor where they are joined, else one each."""

    kind: WeightKind
    blocks: tuple[Num, ...]
    """Rows of each block, outputs of a linear map [1]."""
    columns: Num = 1.0
    """Inputs of a linear map; 1 of a vector [1]."""
    factors: tuple[Num, ...] = ()
    """Whose product is how many such tensors there are [1]."""
    joined: Num = 1.0
    """1 where the blocks are one tensor, else 0."""
    apart: Num = 0.0
    """1 where Muon orthogonalises joined blocks one by one, else 0."""
    row_ranks: Num = 1.0
    """Tensor-parallel ranks that share the rows [1]."""
    column_ranks: Num = 1.0
    """Tensor-parallel ranks that share the columns [1]."""

    @property
    def number(self) -> Num:
        """How many of it [1]."""
        return prod(self.factors, start=1.0)

    @property
    def rows(self) -> Num:
        """Rows of all blocks [1]."""
        return sum(self.blocks[1:], start=self.blocks[0])

    @property
    def tensors(self) -> Iterator[tuple[Num, Num, Num]]:
        """Number, rows and columns of the tensors, of joined and of separate blocks."""
        return self._cut(self.joined)

    @property
    def orthogonalised(self) -> Iterator[tuple[Num, Num, Num]]:
        """Number, rows and columns of the matrices that Muon orthogonalises, with the parts of other ranks."""
        for number, rows, columns in self._cut(self.joined * (1.0 - np.asarray(self.apart))):
            yield number, rows * self.row_ranks, columns * self.column_ranks

    def _cut(self, joined: Num) -> Iterator[tuple[Num, Num, Num]]:
        """The tensors where blocks are joined by 1, and where they are not by 0; those without rows are none."""
        if len(self.blocks) == 1:
            yield self.number, self.blocks[0], self.columns
            return
        if np.any(np.asarray(joined) > 0.0):
            yield self.number * joined, self.rows, self.columns
        if np.any(np.asarray(joined) < 1.0):
            for rows in self.blocks:
                exists = np.where(np.asarray(rows) > 0.0, 1.0, 0.0)
                yield self.number * (1.0 - np.asarray(joined)) * exists, rows, self.columns


def linear_weights(
    inputs: Num,
    *outputs: Num,
    bias: Num = 0.0,
    factors: tuple[Num, ...] = (),
    joined: Num = 1.0,
    apart: Num = 0.0,
    row_ranks: Num = 1.0,
    column_ranks: Num = 1.0,
    kind: WeightKind = "matrix",
) -> tuple[Weight, ...]:
    """The matrix of a linear map, and its bias.

    Parameters
    ----------
    inputs, outputs
        Widths, the second of each of several maps of one input [1].
    bias
        1 where there is a bias, else 0.
    factors, joined, apart, row_ranks, column_ranks, kind
        As of `Weight`.
    """
    matrix = Weight(
        kind=kind,
        blocks=outputs,
        columns=inputs,
        factors=factors,
        joined=joined,
        apart=apart,
        row_ranks=row_ranks,
        column_ranks=column_ranks,
    )
    if isinstance(bias, float) and bias == 0.0:
        return (matrix,)
    return matrix, Weight(kind="vector", blocks=outputs, factors=(*factors, bias), joined=joined)


def vectors(width: Num, *factors: Num) -> Weight:
    """As many vectors of a width as the product of the factors says."""
    return Weight(kind="vector", blocks=(width,), factors=factors)


def normalisation_weights(width: Num, *factors: Num, bias: Num) -> tuple[Weight, Weight]:
    """Scales of as many normalisations of a width as the product of the factors says, and their biases."""
    return vectors(width, *factors), vectors(width, *factors, bias)


def table(rows: Num, width: Num, *factors: Num) -> Weight:
    """As many tables of so many rows as the product of the factors says."""
    return Weight(kind="table", blocks=(rows,), columns=width, factors=factors)
