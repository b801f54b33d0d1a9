"""How errors on published runs count for a scenario: runs like it more, large sources less than in proportion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_REACH = 0.3
"""Distance at which a run weighs e times less."""
_COMMON = 0.05
"""Weight of a run however far it is, so that nothing ever rests on a handful of runs."""
_SOURCE_ROWS = 40.0
_SOURCE_POWER = 0.7
"""As in the fit: a large source weighs less than in proportion to its runs."""


def likeness(distances: Values) -> Values:
    """Weight of runs by their distance from a scenario."""
    return np.asarray(np.exp(-distances / _REACH) + _COMMON)


def source_weights(sources: NDArray[np.str_], counts: Values | None = None) -> Values:
    """Weight of each run before likeness counts.

    Parameters
    ----------
    sources
        Where each is from.
    counts
        How much of a run each entry is; one each unless given.

    Examples
    --------
    >>> source_weights(np.array(["here"] * 80 + ["there"]))[[0, -1]].round(2).tolist()
    [0.62, 1.0]
    """
    _, at = np.unique(sources, return_inverse=True)
    shares = np.ones(len(sources)) if counts is None else counts
    number = np.bincount(at, weights=shares)
    return np.asarray(shares * np.minimum(1.0, (_SOURCE_ROWS / number) ** _SOURCE_POWER)[at], dtype=np.float64)


def quantiles(values: Values, weights: Values, shares: Values) -> Values:
    """Values below which lie some shares of the weight."""
    values, weights = values[weights > 0.0], weights[weights > 0.0]
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    middle = cumulated - 0.5 * weights[order]
    at: Values = np.interp(shares * cumulated[-1], middle, values[order])
    return at
