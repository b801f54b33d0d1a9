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


def weighted_quantiles(values: Values, weights: Values, shares: Values) -> Values:
    """The same of sorted values, all of which have some weight, for several rows of weights at once.

    Parameters
    ----------
    values
        From the least to the greatest.
    weights
        One for each value, along the last axis.
    shares
        From 0 to 1.

    Returns
    -------
    Values
        As many as there are shares, along the last axis.

    Examples
    --------
    >>> weighted_quantiles(np.array([1.0, 2.0, 4.0]), np.ones((2, 3)), np.array([0.5, 1.0])).tolist()
    [[2.0, 4.0], [2.0, 4.0]]
    """
    cumulated = np.cumsum(weights, axis=-1)
    middle = cumulated - 0.5 * weights
    wanted = cumulated[..., -1:] * shares
    columns = []
    for place in range(len(shares)):
        target = wanted[..., place : place + 1]
        right = np.minimum(np.count_nonzero(middle < target, axis=-1, keepdims=True), len(values) - 1)
        left = np.maximum(right - 1, 0)
        below, above = (np.take_along_axis(middle, at, axis=-1) for at in (left, right))
        part = np.clip((target - below) / np.maximum(above - below, np.finfo(np.float64).tiny), 0.0, 1.0)
        columns.append(values[left] + part * (values[right] - values[left]))
    return np.concatenate(columns, axis=-1)
