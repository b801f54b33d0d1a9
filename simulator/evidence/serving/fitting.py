"""Factors of engines fitted to runs: robust on logarithms, held by priors at every level, the same every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.evidence.serving.predictions import Observations, Predictor, predictions
from simulator.evidence.serving.pricing import Passes, PricedCase, ServedBatch, Values
from simulator.serving.constants import KINDS, LEVELS, ServingConstants

_SCALE = 0.1
"""Deviation of a logarithm beyond which a figure loses weight (of a Cauchy distribution)."""
_STAGES = ((6.0 * _SCALE, 12), (2.0 * _SCALE, 12), (_SCALE, 16))
"""Scales of the loss one after the other, and iterations at most with each."""
_PRIOR = 0.4
"""Weight of the priors."""
_PART_FIGURES = 30.0
_PART_POWER = 0.7
"""A version of a source with more than so many figures weighs less than in proportion to them, by this power."""
_FARTHEST = 2.0
"""Logarithm of the largest factor."""
_ENOUGH = 3e-4
_TRIES = 8
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class FactorPlaces:
    """The numbers that a fit moves, and which of them each run feels."""

    names: tuple[tuple[str, str], ...]
    """Kind and name of the level of each."""
    deviation: Values
    felt: NDArray[np.intp]
    """Of every run (first axis) and kind (second) the numbers of all levels (third); -1 where there is none."""
    alike: tuple[NDArray[np.intp], ...]
    """Runs that feel the same."""

    @classmethod
    def of(cls, cases: Sequence[PricedCase]) -> FactorPlaces:
        """Every factor that some of the runs feel."""
        belongs = [case.levels for case in cases]
        names: dict[tuple[str, str], int] = {}
        deviation: list[float] = []
        felt = np.full((len(cases), len(KINDS), len(LEVELS)), -1, dtype=np.intp)
        for kind_place, (kind, about) in enumerate(KINDS.items()):
            for level_place, level in enumerate(LEVELS):
                if not about.levels[level]:
                    continue
                for row, each in enumerate(belongs):
                    key = (kind, each[level])
                    if key not in names:
                        names[key] = len(names)
                        deviation.append(about.levels[level])
                    felt[row, kind_place, level_place] = names[key]
        groups: dict[str, list[int]] = {}
        for row, each in enumerate(belongs):
            groups.setdefault(each[LEVELS[-1]], []).append(row)
        alike = tuple(np.array(rows, dtype=np.intp) for rows in groups.values())
        return cls(tuple(names), np.array(deviation), felt, alike)

    def factors(self, vector: Values) -> Values:
        """Logarithms of the factors, a row for each run and a column for each kind."""
        padded = np.append(vector, 0.0)
        return np.asarray(padded[self.felt].sum(axis=2))

    def constants(self, vector: Values, origin: str) -> ServingConstants:
        """The same as constants."""
        factors: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
        for (kind, name), value in zip(self.names, vector, strict=True):
            if abs(value) >= 5e-4:
                factors[kind][name] = round(float(value), 3)
        return ServingConstants(factors, origin)


class ServingFit:
    """A fit of factors to runs.

    Parameters
    ----------
    cases
        The runs.
    """

    def __init__(self, cases: Sequence[PricedCase]) -> None:
        self.cases = cases
        self.batch = ServedBatch(cases)
        self.predictor = Predictor(cases)
        self.seen = Observations.of(cases)
        self.places = FactorPlaces.of(cases)
        self.measured = np.log(self.seen.measured)
        self.parts = [f"{each.case.run.collection} {each.case.version}" for each in cases]
        self.at = np.zeros((len(cases), len(KINDS)))
        self.passes: Passes = self.batch.passes(self.at)
        self._bounds = self.batch.bounds()
        self._unfitted = (self.at, self.passes)
        self._told = self.seen.only(self.seen.independent)
        self._measured = np.log(self._told.measured)

    def linearise(self, vector: Values) -> None:
        """Price all runs anew at some factors, from where a fit goes on."""
        self.at = self.places.factors(vector)
        self.passes = self.batch.passes(self.at)

    def residuals(self, vector: Values) -> tuple[Values, Values]:
        """Logarithms of predicted over measured figures, and their derivatives by the factors of the run."""
        return self._residuals(vector, (self.at, self.passes))

    def _residuals(self, vector: Values, near: tuple[Values, Passes]) -> tuple[Values, Values]:
        """The same of figures that are fitted to, from prices at some factors."""
        at, passes = near
        factors = self.places.factors(vector)
        moved = np.minimum(factors, self._bounds) - np.minimum(at, self._bounds)
        here, slopes = predictions(self.predictor, self._told, passes, moved)
        return here - self._measured, slopes * (factors <= self._bounds)[self._told.rows]

    def weights(self, used: Mask) -> Values:
        """Weight of every figure: those of runs that are used, versions with many less than in proportion."""
        counts = used[self._told.rows]
        number = Counter(self.parts[row] for row, count in zip(self._told.rows, counts, strict=True) if count)
        share = {part: min(1.0, (_PART_FIGURES / size) ** _PART_POWER) for part, size in number.items()}
        of_part: Values = np.array([share.get(self.parts[row], 0.0) for row in self._told.rows])
        weights: Values = of_part * counts
        return weights

    def solve(self, used: Mask, start: Values | None = None) -> Values:
        """The factors of least robust cost.

        Parameters
        ----------
        used
            Runs that are fitted to.
        start
            Where to begin; at the catalogue's constants unless given, whatever the runs were priced at.
        """
        weights, near = self.weights(used), (self.at, self.passes)
        vector = np.zeros(len(self.places.names)) if start is None else start
        if start is None:
            for scale, iterations in _STAGES[:-1]:
                vector = self._settle(weights, vector, scale, iterations, self._unfitted)
        scale, iterations = _STAGES[-1]
        return self._settle(weights, vector, scale, iterations, near)

    def _settle(
        self, weights: Values, vector: Values, scale: float, iterations: int, near: tuple[Values, Passes]
    ) -> Values:
        """Levenberg-Marquardt on reweighted least squares, from prices at some factors."""
        stiffness = _PRIOR * scale**2 / self.places.deviation**2
        damping, slow = 1e-3, 0
        residuals, slopes = self._residuals(vector, near)
        cost = _cost(weights, residuals, vector, scale, stiffness)
        for _ in range(iterations):
            pull = weights / (1.0 + (residuals / scale) ** 2)
            curvature, gradient = self._normal(pull, residuals, slopes)
            curvature += np.diag(stiffness)
            gradient += stiffness * vector
            for _ in range(_TRIES):
                step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
                tried = np.clip(vector + np.clip(step, -0.7, 0.7), -_FARTHEST, _FARTHEST)
                new_residuals, new_slopes = self._residuals(tried, near)
                lower = _cost(weights, new_residuals, tried, scale, stiffness)
                if lower < cost:
                    break
                damping = max(8.0 * damping, 1e-3)
            else:
                break
            slow = slow + 1 if (cost - lower) / cost < _ENOUGH else 0
            vector, residuals, slopes, cost, damping = tried, new_residuals, new_slopes, lower, damping / 6.0
            if slow > 1:
                break
        return vector

    def _normal(self, pull: Values, residuals: Values, slopes: Values) -> tuple[Values, Values]:
        """The normal equations: runs that feel the same are added up before they are spread over the levels."""
        size, levels = len(self.places.names), len(LEVELS)
        curvature, gradient = np.zeros((size + 1, size + 1)), np.zeros(size + 1)
        group_of = np.empty(len(self.cases), dtype=np.intp)
        for place, rows in enumerate(self.places.alike):
            group_of[rows] = place
        order = np.argsort(group_of[self._told.rows], kind="stable")
        ends = np.searchsorted(group_of[self._told.rows][order], np.arange(len(self.places.alike) + 1))
        for place, rows in enumerate(self.places.alike):
            part = order[ends[place] : ends[place + 1]]
            own = slopes[part]
            squares = own.T @ (own * pull[part, None])
            pulls = own.T @ (pull[part] * residuals[part])
            felt = self.places.felt[rows[0]].ravel()
            curvature[np.ix_(felt, felt)] += np.repeat(np.repeat(squares, levels, 0), levels, 1)
            np.add.at(gradient, felt, np.repeat(pulls, levels))
        return curvature[:-1, :-1], gradient[:-1]


def _cost(weights: Values, residuals: Values, vector: Values, scale: float, stiffness: Values) -> float:
    """What is minimised: a Cauchy loss and the priors."""
    return float(scale**2 * (weights @ np.log1p((residuals / scale) ** 2)) + stiffness @ vector**2)
