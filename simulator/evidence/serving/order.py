"""Whether the better of two settings of one source is named: pairs that differ by 5 % and more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.evidence.serving.pricing import Values

_APART = 0.05
"""Relative difference from which on two settings count as different."""


@dataclass(frozen=True)
class PairScore:
    """Pairs of settings of one source, model, load and kind of figure."""

    groups: int
    pairs: int
    right: float
    """Share of pairs whose better one is named [1]."""
    right_by_group: float
    """The same, every group counting as much [1]."""

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers; shares are none where there are no pairs."""
        return {name: None if value != value else value for name, value in vars(self).items()}


def pairs_in_order(groups: Sequence[str], metrics: Sequence[str], measured: Values, predicted: Values) -> PairScore:
    """Compare all pairs of each group.

    Parameters
    ----------
    groups
        What settings have in common, one for each figure.
    metrics
        Kinds of figures; no pair is of two kinds.
    measured, predicted
        The figures.

    Examples
    --------
    >>> pairs_in_order(["a"] * 3, ["tpot_s"] * 3, np.array([1.0, 2.0, 2.01]), np.array([1.0, 3.0, 0.5])).right
    0.5
    """
    places: dict[tuple[str, str], list[int]] = {}
    for place, name in enumerate(zip(groups, metrics, strict=True)):
        places.setdefault(name, []).append(place)
    shares, numbers = [], []
    for each in places.values():
        truth, guess = np.log(measured[each]), np.log(predicted[each])
        first, second = np.triu_indices(len(each), 1)
        gap = truth[first] - truth[second]
        counts = np.abs(gap) >= np.log1p(_APART)
        if counts.any():
            shares.append(float(np.mean(np.sign(gap[counts]) == np.sign((guess[first] - guess[second])[counts]))))
            numbers.append(int(counts.sum()))
    if not shares:
        return PairScore(0, 0, float("nan"), float("nan"))
    return PairScore(len(shares), sum(numbers), float(np.average(shares, weights=numbers)), float(np.mean(shares)))
