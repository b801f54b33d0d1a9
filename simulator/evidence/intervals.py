"""How far off a prediction may be: quantiles of the errors on runs that were not fitted, nearest runs first.

Conformal prediction in three steps. Every run has a score: the logarithm of measured over predicted time, with
constants that never saw the run, over the widening at its distance from the runs that were seen. The interval of a
scenario takes the quantiles of the scores of runs like it, held by those of all runs where few are like it, times the
widening at its own distance from the evidence. How near runs have to be, and how many of them there have to be, is what
makes the least interval score on left-out runs when the constants are fitted; one common factor then makes their
intervals cover what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.evidence.traits import APART, DIFFERENT
from simulator.step.likeness import Values, source_weights, weighted_quantiles

LEVEL = 0.9
"""Share of runs that an interval covers."""
_LIMITS = np.array([(1.0 - LEVEL) / 2.0, 1.0 - (1.0 - LEVEL) / 2.0])
"""Shares of runs below its two ends."""
_NEAR = 0.3
"""Distance from the nearest run up to which a scenario lies inside the evidence."""
_HEAVY = 0.01
"""Share of the weight of the nearest run from which on a run counts as one that an interval rests on."""
_WIDENING = 1.5
"""Growth of the interval with distance beyond that; the errors of left-out sources grow so."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """Limits of a prediction, as factors on it, and what they rest on."""

    low: float
    high: float
    runs: int
    """As many runs of equal weight would say as much (Kish's effective size)."""
    sources: int
    nearest: tuple[str, ...]
    """Ids of the nearest runs."""
    distance: float
    """From the nearest run."""


class _Seen(NamedTuple):
    """The runs as scenarios see them, in the order of their scores; one row for each of several scenarios."""

    scores: Values
    near: Values
    """Weights by likeness."""
    whole: Values
    """Weights of all runs alike."""
    share: Values
    """Of the runs that are like the scenario; the rest is the whole's."""

    @property
    def together(self) -> Values:
        """Weights of runs, those like the scenario and the whole together; they add up to 1."""
        near, whole = self.near / self.near.sum(), self.whole / self.whole.sum()
        return np.asarray(self.share * near + (1.0 - self.share) * whole, dtype=np.float64)

    def quantiles(self, shares: Values) -> Values:
        """Scores below which lie some shares of the weight, a column each: of runs like a scenario, held by all."""
        near, whole = (weighted_quantiles(self.scores, weights, shares) for weights in (self.near, self.whole))
        share = self.share[..., None]
        return np.asarray(share * near + (1.0 - share) * whole, dtype=np.float64)


@dataclass(frozen=True)
class HeldOutErrors:
    """Errors on runs that were not fitted."""

    ids: NDArray[np.str_]
    sources: NDArray[np.str_]
    groups: NDArray[np.str_]
    """What was left out to find each error."""
    traits: dict[str, NDArray[Any]]
    scores: Values
    """Logarithm of measured over predicted time, over the widening at the run's distance from what was fitted."""
    factor: float
    """Common factor on intervals."""
    reach: float = 0.3
    """Distance at which a run weighs e times less."""
    prior: float = 5.0
    """Runs like a scenario from which on they say more than all runs together do."""

    @property
    def logarithms(self) -> Values:
        """Logarithm of measured over predicted time."""
        return np.asarray(self.scores * widening(self.nearest_of_others))

    @cached_property
    def weights(self) -> Values:
        """Weight of each run before likeness counts."""
        return source_weights(self.sources)

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        """Runs by their scores."""
        return np.argsort(self.scores, kind="stable")

    @cached_property
    def _source_codes(self) -> NDArray[np.intp]:
        """Sources as numbers."""
        return np.unique(self.sources, return_inverse=True)[1]

    @cached_property
    def _codes(self) -> dict[str, tuple[dict[str, int], NDArray[np.intp]]]:
        """Words of each trait as numbers, which compare sooner."""
        coded = {name: np.unique(self.traits[name], return_inverse=True) for name in DIFFERENT}
        return {
            name: ({str(word): code for code, word in enumerate(words)}, codes)
            for name, (words, codes) in coded.items()
        }

    def distances(self, traits: Mapping[str, Any]) -> Values:
        """Distance of every run from a scenario, or a row for each of several that differ in numbers only."""
        distances = np.zeros(len(self.ids))
        for name, cost in DIFFERENT.items():
            words, codes = self._codes[name]
            distances += cost * (codes != words.get(str(traits[name]), -1))
        for name, cost in APART.items():
            distances = distances + cost * np.abs(self.traits[name] - np.asarray(traits[name])[..., None])
        return distances

    @cached_property
    def nearest_of_others(self) -> Values:
        """Distance of every run from the nearest run of another group."""
        return np.array(
            [
                np.min(self._distances_of(row), where=self.groups != self.groups[row], initial=np.inf)
                for row in range(len(self.ids))
            ]
        )

    def around_each(self) -> tuple[Values, Values]:
        """Lowest and highest score that every run may have, by the runs of other groups, before widening."""
        ends = np.empty((len(self.ids), 2))
        for row in range(len(self.ids)):
            ends[row] = self._seen(self._distances_of(row), self.groups != self.groups[row]).quantiles(_LIMITS)
        return ends[:, 0], ends[:, 1]

    def _distances_of(self, row: int) -> Values:
        """Distance of every run from one of them."""
        return self.distances({name: values[row] for name, values in self.traits.items()})

    def _seen(self, distances: Values, among: Mask | None = None) -> _Seen:
        """What the runs, or some of them, weigh at their distances from scenarios."""
        order = self._order if among is None else self._order[among[self._order]]
        whole = self.weights[order]
        near = whole * np.exp(-distances[..., order] / self.reach)
        number = near.sum(axis=-1)
        return _Seen(self.scores[order], near, whole, np.asarray(number / (number + self.prior)))

    def around(self, traits: Mapping[str, Any], *, among: Mask | None = None) -> Interval:
        """The interval of a scenario.

        Parameters
        ----------
        traits
            Of the scenario.
        among
            Runs that may count; all unless given.
        """
        distances = self.distances(traits)
        seen, counted = self._seen(distances, among), distances if among is None else np.where(among, distances, np.inf)
        low, high = float(widening(counted.min())) * self.factor * seen.quantiles(_LIMITS)
        alike = np.exp(-counted / self.reach)
        together = seen.together
        return Interval(
            low=float(np.exp(min(low, 0.0))),
            high=float(np.exp(max(high, 0.0))),
            runs=round(float(1.0 / (together @ together))),
            sources=len(set(self._source_codes[alike > _HEAVY * alike.max()].tolist())),
            nearest=tuple(str(self.ids[row]) for row in np.argsort(counted, kind="stable")[:3]),
            distance=float(counted.min()),
        )

    def factors(self, traits: Mapping[str, Any], shares: Values) -> Values:
        """Factors on a prediction that scenarios stay below in some shares of all cases.

        Parameters
        ----------
        traits
            Of one scenario, or of several where numbers are arrays.
        shares
            From 0 to 1.

        Returns
        -------
        Values
            As many as there are shares, in a row for each scenario [1].
        """
        distances = self.distances(traits)
        wide = np.asarray(widening(distances.min(axis=-1)) * self.factor)
        return np.asarray(np.exp(wide[..., None] * self._seen(distances).quantiles(shares)))


def widening(distance: Any) -> Any:
    """Factor on the interval of a scenario at some distance from the nearest run."""
    return 1.0 + _WIDENING * np.maximum(np.asarray(distance) - _NEAR, 0.0)


def interval_score(truth: Values, low: Values, high: Values) -> Values:
    """Width of intervals with misses: what is best where intervals are as narrow as their coverage allows.

    Parameters
    ----------
    truth, low, high
        Logarithms of what was measured and of the ends.

    Returns
    -------
    Values
        Width plus 2 / (1 - level) of the distance by which the truth lies outside (Gneiting and Raftery, Strictly
        proper scoring rules, JASA 102, 2007, equation 43).

    Examples
    --------
    >>> interval_score(np.array([0.0, 0.3]), np.array([-0.1, -0.1]), np.array([0.1, 0.1])).round(2).tolist()
    [0.2, 4.2]
    """
    outside = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    return np.asarray(high - low + 2.0 / (1.0 - LEVEL) * outside)
