"""Seconds of iterations between tabulated ones: quick enough for a scheduler that asks for each of its iterations."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from simulator.serving.passes import Array, ServingPasses

_CONTEXTS = (0.0, 1 / 32, 1 / 8, 1 / 2, 1.0)
"""Places of tabulated contexts, over the longest; time is all but linear in between, where no window ends."""
_PROMPTS = (0.0, 1 / 4, 1.0)


@dataclass(frozen=True)
class PassTable:
    """Seconds of the iterations of one replica, linear between tabulated ones; beyond the last they go on as before.

    Tokens and sequences are tabulated at powers of two, and 0 and 1.
    """

    axes: tuple[Array, Array, Array, Array]
    """Tokens of the prompt, tokens cached before them, sequences beside, and their context."""
    times: Array
    """Of all of them together, an axis each [s]."""

    @classmethod
    def of(cls, passes: ServingPasses, *, tokens: float, sequences: float, context: float) -> PassTable:
        """Tabulate iterations.

        Parameters
        ----------
        passes
            That are tabulated.
        tokens
            Of prompts in an iteration at most [token].
        sequences
            That get a token in an iteration at most [sequence].
        context
            Of a sequence at most [token].
        """
        axes = (
            _powers(tokens),
            np.array([place * context for place in _PROMPTS]),
            _powers(sequences),
            np.array([max(place * context, 1.0) for place in _CONTEXTS]),
        )
        return cls(axes, passes.mixed(*np.meshgrid(*axes, indexing="ij")))

    def mixed(self, prompt_tokens: Any, prompt_context: Any, sequences: Any, context: Any) -> Array:
        """As `simulator.serving.passes.ServingPasses.mixed` [s]."""
        asked = np.broadcast_arrays(prompt_tokens, prompt_context, sequences, context)
        places = [
            _placed(axis, np.asarray(value, dtype=np.float64)) for axis, value in zip(self.axes, asked, strict=True)
        ]
        time = np.zeros(np.shape(asked[0]))
        for corner in product((0, 1), repeat=len(places)):
            weight: Any = 1.0
            for (_, share), side in zip(places, corner, strict=True):
                weight = weight * (share if side else 1.0 - share)
            time = (
                time + weight * self.times[tuple(cell + side for (cell, _), side in zip(places, corner, strict=True))]
            )
        return time

    def plain(self) -> PlainTable:
        """The same for single iterations, in plain numbers."""
        return PlainTable([axis.tolist() for axis in self.axes], self.times.tolist())


class PlainTable:
    """Seconds of single iterations, without arrays: a few microseconds each."""

    def __init__(self, axes: list[list[float]], times: list[Any]) -> None:
        self._axes = axes
        self._times = times

    def mixed(self, prompt_tokens: float, prompt_context: float, sequences: float, context: float) -> float:
        """As `PassTable.mixed`, of plain numbers [s]."""
        places = [
            _plainly_placed(axis, value)
            for axis, value in zip(self._axes, (prompt_tokens, prompt_context, sequences, context), strict=True)
        ]
        return _between(self._times, places, 0)


def _powers(most: float) -> Array:
    """0, 1, and powers of two up to a number, and that."""
    powers = [0.0, 1.0]
    while powers[-1] * 2.0 < most:
        powers.append(powers[-1] * 2.0)
    return np.array([*powers, max(most, 2.0)])


def _placed(axis: Array, value: Array) -> tuple[Any, Array]:
    """The cell of an axis that a value lies in, and how far."""
    cell = np.clip(np.searchsorted(axis, value, side="right") - 1, 0, len(axis) - 2)
    return cell, (value - axis[cell]) / (axis[cell + 1] - axis[cell])


def _plainly_placed(axis: list[float], value: float) -> tuple[int, float]:
    """The same of plain numbers."""
    cell = min(max(bisect_right(axis, value) - 1, 0), len(axis) - 2)
    low = axis[cell]
    return cell, (value - low) / (axis[cell + 1] - low)


def _between(times: Any, places: list[tuple[int, float]], axis: int) -> float:
    """The mean of the corners of a cell; sides that count nothing are left out."""
    if axis == len(places):
        return float(times)
    cell, share = places[axis]
    time = 0.0
    if share != 1.0:
        time = (1.0 - share) * _between(times[cell], places, axis + 1)
    if share != 0.0:
        time += share * _between(times[cell + 1], places, axis + 1)
    return time
