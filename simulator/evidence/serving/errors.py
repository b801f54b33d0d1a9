"""How far off a prediction of serving may be: quantiles of errors on runs that no fit saw, runs alike first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.evidence.serving.pricing import PricedCase, Values
from simulator.step.likeness import source_weights, weighted_quantiles

LEVEL = 0.9
_LIMITS = np.array([(1.0 - LEVEL) / 2.0, 1.0 - (1.0 - LEVEL) / 2.0])
DIFFERENT = {"stack": 0.6, "class": 0.5, "kind": 0.9, "format": 0.3, "experts": 0.4}
"""Distance between runs that differ in a trait."""
APART = {"sequences": 0.08, "input_tokens": 0.05, "output_tokens": 0.03, "devices": 0.15, "hidden_size": 0.1}
"""Distance between runs one of which has twice of what the other has."""
_REACH = 0.3
"""Distance at which a run weighs e times less."""
_PRIOR = 6.0
"""Runs alike from which on they say more than all runs together do."""
_CHUNK = 500


def traits_of(cases: Sequence[PricedCase]) -> dict[str, NDArray[Any]]:
    """What decides how alike runs are; sizes as logarithms to the base of two."""
    words = {
        "stack": [each.case.stack for each in cases],
        "class": [each.case.device.device_class for each in cases],
        "kind": [f"{each.case.run.task} {each.case.demand.kind}" for each in cases],
        "format": [each.case.weights for each in cases],
        "experts": [str(each.case.model.experts > 1) for each in cases],
        "workload": [
            f"{each.case.run.model.name} {each.case.demand.input_tokens:.0f} {each.case.demand.output_tokens:.0f}"
            for each in cases
        ],
    }
    sizes = {
        "sequences": [each.sequences for each in cases],
        "input_tokens": [each.case.demand.input_tokens for each in cases],
        "output_tokens": [each.case.demand.output_tokens for each in cases],
        "devices": [each.case.devices for each in cases],
        "hidden_size": [each.case.model.hidden_size for each in cases],
    }
    return {name: np.array(values) for name, values in words.items()} | {
        name: np.round(np.log2(np.array(values, dtype=np.float64)), 2) for name, values in sizes.items()
    }


@dataclass(frozen=True)
class ServingErrors:
    """Errors of one kind of figure on runs that were not fitted."""

    sources: NDArray[np.str_]
    groups: NDArray[np.str_]
    """What was left out to find each error."""
    traits: dict[str, NDArray[Any]]
    scores: Values
    """Logarithm of measured over predicted."""
    factor: float = 1.0
    """Common factor on intervals."""

    def calibrated(self) -> ServingErrors:
        """The same with the factor that makes intervals cover what they say, of runs of other groups."""
        low, high = self.around(self.traits, self.groups)
        least = np.finfo(np.float64).tiny
        needed = np.where(
            self.scores > 0.0, self.scores / np.maximum(high, least), self.scores / np.minimum(low, -least)
        )
        return replace(self, factor=self.factor * float(np.quantile(needed, LEVEL)))

    def around(self, traits: dict[str, NDArray[Any]], groups: NDArray[np.str_] | None = None) -> tuple[Values, Values]:
        """Lowest and highest logarithm of measured over predicted of some runs.

        Parameters
        ----------
        traits
            Of these runs.
        groups
            Whose errors do not count for each of them; those of all runs count unless given.
        """
        order, scores, whole, own = self._sorted
        size = len(next(iter(traits.values())))
        ends = np.empty((size, 2))
        for first in range(0, size, _CHUNK):
            part = slice(first, first + _CHUNK)
            distances = self._distances({name: values[part] for name, values in traits.items()}, order)
            allowed = np.ones_like(distances) if groups is None else (own[None, :] != groups[part, None]).astype(float)
            common = np.maximum(whole * allowed, 1e-12)
            near = common * np.exp(-distances / _REACH)
            number = near.sum(axis=1, keepdims=True)
            share = number / (number + _PRIOR)
            near_ends = weighted_quantiles(scores, near, _LIMITS)
            ends[part] = share * near_ends + (1.0 - share) * weighted_quantiles(scores, common, _LIMITS)
        low, high = np.minimum(ends[:, 0], -0.01), np.maximum(ends[:, 1], 0.01)
        return low * self.factor, high * self.factor

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.intp], Values, Values, NDArray[np.str_]]:
        """Runs from the least to the greatest score: their places, scores, weights and groups."""
        order = np.argsort(self.scores, kind="stable")
        return order, self.scores[order], source_weights(self.sources)[order], self.groups[order]

    @cached_property
    def _codes(self) -> dict[str, tuple[dict[str, int], NDArray[np.intp]]]:
        """Words of each trait as numbers, which compare sooner."""
        coded = {name: np.unique(self.traits[name], return_inverse=True) for name in DIFFERENT}
        return {
            name: ({str(word): code for code, word in enumerate(words)}, codes)
            for name, (words, codes) in coded.items()
        }

    def _distances(self, traits: dict[str, NDArray[Any]], order: NDArray[np.intp]) -> Values:
        """Distance of every run from each of some others, a row for each of these."""
        distances = np.zeros((len(next(iter(traits.values()))), len(order)))
        for name, cost in DIFFERENT.items():
            known, codes = self._codes[name]
            theirs = np.array([known.get(str(word), -1) for word in traits[name].tolist()])
            distances += cost * (theirs[:, None] != codes[order][None, :])
        for name, cost in APART.items():
            distances += cost * np.abs(traits[name][:, None] - self.traits[name][order][None, :])
        return distances
