"""How likely a plan fits: the errors of predicted memory on published runs, those of like software first.

A device holds what is predicted times a factor that nobody knows beforehand. Its distribution is that of measured over
predicted memory on published runs: of those that tell their memory, and of those that tell which batches fitted and
which did not, which leaves the factor between two limits. Runs of the same software weigh more; far from all of them
the distribution is wider. It does not depend on the plan, so that a chance that is wished for is one limit for all
plans of a search: `FitChances.room`.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.amounts import is_number, read_number
from hardware.errors import InputError, shown
from hardware.spec import System
from simulator.formulas.typing import Num
from simulator.specs.model import Model
from simulator.specs.stack import Stack
from simulator.step.likeness import Values, likeness, source_weights

SHIPPED = Path(__file__).with_name("memory_errors.json.gz")
WISHED = 0.8
"""Probability of fitting from which a plan is recommended, unless told."""
LEVEL = 0.9
"""Share of cases that an interval of memory covers."""
_DIFFERENT = {"stack": 0.3, "family": 0.5, "kind": 1.0, "experts": 0.5}
"""Distance between runs that differ in a trait."""
_NEAR = 0.3
"""Distance up to which a scenario lies inside the evidence: other software of the same family."""
_WIDENING = 0.5
"""Growth of the logarithm's spread with distance beyond that. Left-out sources show none, and none of them is of a
platform that no other has: this is caution."""

Traits = tuple[str, str, str, str]
"""Of a scenario, in the order of the distances."""


def traits_of(model: Model, system: System, stack: Stack) -> Traits:
    """What decides how alike the memory of two scenarios is; nothing of the plan."""
    return stack.id, stack.family, system.device.kind, str(model.experts > 1)


@dataclass(frozen=True)
class FitChances:
    """Distribution of a scenario's memory over what is predicted."""

    logarithms: Values
    """Of that factor, in ascending order."""
    shares: Values
    """Probability that it is no larger, strictly ascending."""
    runs: int
    """As many runs of equal weight would say as much (Kish's effective size)."""
    nearest: tuple[str, ...]
    """Ids of the nearest runs."""
    distance: float
    """From the nearest run."""

    def chance(self, predicted: Num, capacity: Num) -> Num:
        """Probability that so many predicted bytes fit; it never falls as the capacity grows.

        Parameters
        ----------
        predicted
            Predicted memory of a device [B].
        capacity
            What a device has [B].
        """
        ratio = np.log(np.asarray(capacity, dtype=np.float64) / predicted)
        return np.interp(ratio, self.logarithms, self.shares, left=0.0, right=1.0)

    def factor(self, share: float) -> float:
        """Factor on the prediction that memory stays below in a share of all cases."""
        return float(np.exp(np.interp(share, self.shares, self.logarithms)))

    def room(self, capacity: float, share: float) -> float:
        """Predicted bytes that fit into a capacity with a probability of `share` [B]."""
        return capacity / self.factor(share)

    def interval(self, predicted: float) -> tuple[float, float]:
        """Limits between which memory lies in nine of ten cases [B]; the prediction is inside."""
        low, high = (self.factor((1.0 + sign * LEVEL) / 2.0) for sign in (-1.0, 1.0))
        return predicted * min(low, 1.0), predicted * max(high, 1.0)


@dataclass(frozen=True)
class MemoryErrors:
    """Errors of predicted memory on published runs."""

    ids: NDArray[np.str_]
    sources: NDArray[np.str_]
    traits: NDArray[np.str_]
    """Of each run, in columns."""
    logarithms: Values
    """Of measured over predicted memory."""
    counts: Values
    """How much of a run each entry is: one that only limits its factor is spread over several."""
    factor: float = 1.0
    """Common factor on logarithms, with which nine of ten runs of left-out sources lie inside their intervals."""

    @cached_property
    def weights(self) -> Values:
        """Weight of each entry before likeness counts."""
        return source_weights(self.sources, self.counts)

    def distances(self, traits: Traits) -> Values:
        """Distance of every entry from a scenario."""
        return np.asarray((self.traits != np.array(traits)) @ np.array(list(_DIFFERENT.values())))

    def around(self, traits: Traits) -> FitChances:
        """The distribution of a scenario with some traits."""
        distances = self.distances(traits)
        weights = self.weights * likeness(distances)
        wide = self.factor * float(widening(distances.min()))
        values, at = np.unique(wide * self.logarithms, return_inverse=True)
        mass = np.bincount(at, weights=weights)
        cumulated = np.cumsum(mass)
        each = np.bincount(np.unique(self.ids, return_inverse=True)[1], weights=weights)
        return FitChances(
            logarithms=values,
            shares=np.asarray((cumulated - 0.5 * mass) / cumulated[-1]),
            runs=round(float(each.sum() ** 2 / (each @ each))),
            nearest=tuple(dict.fromkeys(self.ids[np.argsort(distances, kind="stable")].tolist()))[:3],
            distance=float(distances.min()),
        )


def widening(distance: Any) -> Any:
    """Factor on the spread of a scenario at some distance from the nearest run."""
    return 1.0 + _WIDENING * np.maximum(np.asarray(distance) - _NEAR, 0.0)


@cache
def shipped() -> MemoryErrors:
    """The errors on the shipped runs; `capsim fit` writes them."""
    stored = json.loads(gzip.decompress(SHIPPED.read_bytes()))
    return MemoryErrors(
        ids=np.array(stored["ids"]),
        sources=np.array(stored["sources"]),
        traits=np.array(stored["traits"]),
        logarithms=np.array(stored["logarithms"], dtype=np.float64),
        counts=np.array(stored["counts"], dtype=np.float64),
        factor=float(stored["factor"]),
    )


@cache
def _around(traits: Traits) -> FitChances:
    """The distribution of scenarios with some traits."""
    return shipped().around(traits)


def chances_of(model: Model, system: System, stack: Stack) -> FitChances:
    """How likely plans fit: for a model on a system with some software.

    Examples
    --------
    >>> import simulator
    >>> scenario = simulator.resolve("bert-large", "dgx-a100-640gb")
    >>> found = chances_of(scenario.model, scenario.system, scenario.stack)
    >>> float(found.chance(60e9, 80e9)) > float(found.chance(75e9, 80e9)) > float(found.chance(99e9, 80e9))
    True
    """
    return _around(traits_of(model, system, stack))


def read_wished(fits: Any) -> float:
    """A probability of fitting from a number or text such as ``80%``.

    Raises
    ------
    InputError
        Where it is none, or none that could be reached or missed.
    """
    share = read_number(fits) if isinstance(fits, str) else fits
    if not (is_number(share) and 0.0 < share < 1.0):
        raise InputError(
            f"fits={shown(fits)}: give a probability above 0 and below 1, such as 0.8 or 80%", fields=["fits"]
        )
    return float(share)
