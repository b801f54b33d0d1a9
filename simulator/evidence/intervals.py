"""How far off a prediction may be: quantiles of the errors on runs that were not fitted, nearest runs first.

Conformal prediction in three steps. Every run has a score: the logarithm of measured over predicted time, with
constants that never saw the run, over the widening at its distance from the runs that were seen. The interval of a
scenario takes the weighted quantiles of the scores, where runs like it weigh more, times the widening at its own
distance from the evidence. One common factor, found when the constants are fitted, makes the intervals of left-out
runs cover what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.spec import System
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.step.likeness import Values, likeness, quantiles, source_weights

LEVEL = 0.9
"""Share of runs that an interval covers."""
_LIMITS = np.array([(1.0 - LEVEL) / 2.0, 1.0 - (1.0 - LEVEL) / 2.0])
"""Shares of runs below its two ends."""
_DIFFERENT = {
    "class": 0.6,
    "kind": 1.0,
    "family": 0.8,
    "stack": 0.6,
    "precision": 0.2,
    "objective": 0.3,
    "experts": 1.0,
}
"""Distance between runs that differ in a trait."""
_APART = {"devices": 0.1, "hidden_size": 0.1, "tokens": 0.05}
"""Distance between runs one of which has twice of what the other has."""
_NEAR = 0.3
"""Distance from the nearest run up to which a scenario lies inside the evidence."""
_WIDENING = 1.5
"""Growth of the interval with distance beyond that; the errors of left-out sources grow so."""
Mask = NDArray[np.bool_]


class Described(Protocol):
    """A scenario, published or asked for."""

    @property
    def model(self) -> Model:
        """As in a scenario."""

    @property
    def system(self) -> System:
        """As in a scenario."""

    @property
    def devices(self) -> int:
        """As in a scenario."""

    @property
    def plan(self) -> Plan:
        """As in a scenario."""

    @property
    def stack(self) -> Stack:
        """As in a scenario."""

    @property
    def workload(self) -> Workload:
        """As in a scenario."""


def traits_of(scenario: Described) -> dict[str, Any]:
    """What decides how alike two scenarios are; sizes as logarithms to the base of two."""
    tokens = (scenario.plan.micro_batch or 1) * (scenario.workload.sequence_length or 1)
    return {
        "class": scenario.system.device.device_class,
        "kind": scenario.system.device.kind,
        "family": scenario.stack.family,
        "stack": scenario.stack.timed_as or scenario.stack.id,
        "precision": scenario.plan.precision or "",
        "objective": scenario.model.objective,
        "experts": str(scenario.model.experts > 1),
        "devices": round(float(np.log2(scenario.devices)), 2),
        "hidden_size": round(float(np.log2(scenario.model.hidden_size)), 2),
        "tokens": round(float(np.log2(tokens)), 2),
    }


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
    """The runs as a scenario sees them."""

    distances: Values
    """Infinite for a run that may not count."""
    weights: Values
    widening: float
    """Factor on their scores."""


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

    @property
    def logarithms(self) -> Values:
        """Logarithm of measured over predicted time."""
        return np.asarray(self.scores * widening(self.nearest_of_others()))

    @cached_property
    def weights(self) -> Values:
        """Weight of each run before likeness counts."""
        return source_weights(self.sources)

    @cached_property
    def _source_codes(self) -> NDArray[np.intp]:
        """Sources as numbers."""
        return np.unique(self.sources, return_inverse=True)[1]

    @cached_property
    def _codes(self) -> dict[str, tuple[dict[str, int], NDArray[np.intp]]]:
        """Words of each trait as numbers, which compare sooner."""
        coded = {name: np.unique(self.traits[name], return_inverse=True) for name in _DIFFERENT}
        return {
            name: ({str(word): code for code, word in enumerate(words)}, codes)
            for name, (words, codes) in coded.items()
        }

    def distances(self, traits: dict[str, Any]) -> Values:
        """Distance of every run from a scenario."""
        distances = np.zeros(len(self.ids))
        for name, cost in _DIFFERENT.items():
            words, codes = self._codes[name]
            distances += cost * (codes != words.get(str(traits[name]), -1))
        for name, cost in _APART.items():
            distances += cost * np.abs(self.traits[name] - traits[name])
        return distances

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
        weights = self.weights
        low, high = np.empty(len(self.ids)), np.empty(len(self.ids))
        for row in range(len(self.ids)):
            counted = weights * likeness(self._distances_of(row)) * (self.groups != self.groups[row])
            low[row], high[row] = quantiles(self.scores, counted, _LIMITS)
        return low, high

    def _distances_of(self, row: int) -> Values:
        """Distance of every run from one of them."""
        return self.distances({name: values[row] for name, values in self.traits.items()})

    def _seen_from(self, traits: dict[str, Any], among: Mask | None = None) -> _Seen:
        """How far the runs are from a scenario, and what that makes of them."""
        distances = self.distances(traits)
        weights = self.weights * likeness(distances)
        if among is not None:
            distances, weights = np.where(among, distances, np.inf), weights * among
        return _Seen(distances, weights, float(widening(distances.min())) * self.factor)

    def around(self, traits: dict[str, Any], *, among: Mask | None = None) -> Interval:
        """The interval of a scenario.

        Parameters
        ----------
        traits
            Of the scenario.
        among
            Runs that may count; all unless given.
        """
        seen = self._seen_from(traits, among)
        low, high = seen.widening * quantiles(self.scores, seen.weights, _LIMITS)
        heavy = seen.weights > 0.01 * seen.weights.max()
        return Interval(
            low=float(np.exp(min(low, 0.0))),
            high=float(np.exp(max(high, 0.0))),
            runs=round(float(seen.weights.sum() ** 2 / (seen.weights @ seen.weights))),
            sources=len(set(self._source_codes[heavy].tolist())),
            nearest=tuple(str(self.ids[row]) for row in np.argsort(seen.distances, kind="stable")[:3]),
            distance=float(seen.distances.min()),
        )

    def factors(self, traits: dict[str, Any], shares: Values) -> Values:
        """Factors on a prediction that a scenario stays below in some shares of all cases."""
        seen = self._seen_from(traits)
        factors: Values = np.exp(seen.widening * quantiles(self.scores, seen.weights, shares))
        return factors


def widening(distance: Any) -> Any:
    """Factor on the interval of a scenario at some distance from the nearest run."""
    return 1.0 + _WIDENING * np.maximum(np.asarray(distance) - _NEAR, 0.0)
