"""Constants fitted to runs: robust on the logarithm of time, held by priors, and the same every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.corpus.mapping import MappedRun
from simulator.evidence.batch import Rows, RunBatch, Values
from simulator.pricing.constants import KINDS, UNFITTED, Constants, Shifts, names_of

_SCALE = 0.15
"""Deviation of the logarithm of time beyond which a run loses weight (of a Cauchy distribution)."""
_STAGES = ((4.0 * _SCALE, 5), (_SCALE, 9))
"""Scales of the loss one after the other, and iterations at most with each."""
_PRIOR = 0.2
"""Weight of the priors: a deviation of one in a constant costs as much as so many runs that are off by `_SCALE`."""
_SOURCE_ROWS = 40.0
_SOURCE_POWER = 0.7
"""A source of more than so many runs weighs less than in proportion to them, by this power."""
_DIFFERENCE = 0.02
"""Step of the numerical derivative."""
_LONGEST_STEP = 0.7
_ENOUGH = 3e-4
"""Relative gain below which two iterations in a row mean that the fit has converged."""
_TRIES = 10
Jacobian = dict[str, Values]
"""Change of the logarithm of each run's time with its shift of each kind."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Parameters:
    """The numbers that a fit moves, and which of them each run feels."""

    names: tuple[tuple[str, str, str], ...]
    """Kind, level and name of each."""
    deviation: Values
    """Of their priors."""
    felt: dict[str, tuple[Rows, ...]]
    """For each kind the parameters of every run, level by level."""

    @classmethod
    def of(cls, cases: Sequence[MappedRun]) -> Parameters:
        """Every constant that some of the runs feel."""
        belongs = [names_of(case.stack, case.system, case.plan.precision or "bf16") for case in cases]
        names: list[tuple[str, str, str]] = []
        deviation: list[float] = []
        felt: dict[str, tuple[Rows, ...]] = {}
        for kind, about in KINDS.items():
            of_levels = []
            for level, width in about.levels.items():
                groups = sorted({each[level] for each in belongs})
                place = {name: len(names) + index for index, name in enumerate(groups)}
                names += [(kind, level, name) for name in groups]
                deviation += [width] * len(groups)
                of_levels.append(np.array([place[each[level]] for each in belongs], dtype=np.intp))
            felt[kind] = tuple(of_levels)
        return cls(tuple(names), np.array(deviation), felt)

    def shifts(self, vector: Values) -> Shifts:
        """Shifts of every run, for one vector of parameters or for one vector a run."""
        pick = (lambda at: vector[at]) if vector.ndim == 1 else (lambda at: vector[np.arange(len(at)), at])
        return Shifts(**{kind: sum((pick(at) for at in levels), np.float64(0.0)) for kind, levels in self.felt.items()})

    def vector(self, constants: Constants) -> Values:
        """The values that some constants give them."""
        known = dict(constants.items())
        return np.array([known.get(name, 0.0) for name in self.names])

    def constants(self, vector: Values, origin: str, base: Constants | None = None) -> Constants:
        """Constants with these values, and those of a base for all that no run felt."""
        shifts: dict[str, dict[str, dict[str, float]]] = {
            kind: {level: {} for level in about.levels} for kind, about in KINDS.items()
        }
        for (kind, level, name), value in base.items() if base else ():
            shifts[kind][level][name] = value
        for (kind, level, name), value in zip(self.names, vector, strict=True):
            shifts[kind][level][name] = round(float(value), 4)
        return Constants(shifts, origin)


class ConstantsFit:
    """A fit of constants to runs.

    Parameters
    ----------
    cases
        The runs, each with a measured step time.
    start
        Constants to start from, and to which the result is drawn; those of the catalogue unless given.
    trust
        How much more than the catalogue's these are to be believed.
    """

    def __init__(self, cases: Sequence[MappedRun], start: Constants | None = None, trust: float = 1.0) -> None:
        self.batch = RunBatch(cases)
        self.parameters = Parameters.of(cases)
        self.measured = np.array([case.run.measured.step_time_s for case in cases], dtype=np.float64)
        self.sources = [case.run.collection for case in cases]
        self.centre = self.parameters.vector(start or UNFITTED)
        self._stiffness = trust * _PRIOR / self.parameters.deviation**2

    def residuals(self, vector: Values) -> Values:
        """Logarithm of predicted over measured time."""
        return np.log(self.batch.times(self.parameters.shifts(vector)) / self.measured)

    def jacobian(self, vector: Values) -> Jacobian:
        """Derivatives of the residuals; runs feel only their own shifts, so all of one kind are moved at once."""
        at = self.parameters.shifts(vector)
        here = np.log(self.batch.times(at))
        slopes = {}
        for kind in KINDS:
            slopes[kind] = (np.log(self.batch.times(_moved(at, kind, _DIFFERENCE))) - here) / _DIFFERENCE
        return slopes

    def solve(self, used: Mask) -> Values:
        """The parameters of least robust cost, from the centre of the priors.

        A wide loss first, under which no run is an outlier, leads to the neighbourhood of the best of several minima;
        the narrow one then settles there (graduated non-convexity). Nothing starts at a solution that other runs made.

        Parameters
        ----------
        used
            Which runs are fitted to.
        """
        vector = self.centre
        for scale, iterations in _STAGES:
            vector = self._settle(used, vector, scale, iterations)
        return vector

    def _settle(self, used: Mask, start: Values, scale: float, iterations: int) -> Values:
        """Levenberg-Marquardt on reweighted least squares."""
        vector, slow, damping = start.copy(), 0, 1e-3
        weights, stiffness = self._weights(used), self._stiffness * scale**2
        residuals = self.residuals(vector)
        cost = self._cost(weights, residuals, vector, scale)
        for _ in range(iterations):
            slopes = self._design(self.jacobian(vector))
            pull = weights / (1.0 + (residuals / scale) ** 2)
            curvature = slopes.T @ (slopes * pull[:, None]) + np.diag(stiffness)
            gradient = slopes.T @ (pull * residuals) + stiffness * (vector - self.centre)
            better = None
            for _ in range(_TRIES):
                step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
                tried = vector + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
                new_residuals = self.residuals(tried)
                lower = self._cost(weights, new_residuals, tried, scale)
                if lower < cost:
                    better = tried
                    break
                damping = max(8.0 * damping, 1e-3)
            if better is None:
                break
            slow = slow + 1 if (cost - lower) / cost < _ENOUGH else 0
            vector, residuals, cost, damping = better, new_residuals, lower, damping / 6.0
            if slow > 1:
                break
        return vector

    def _weights(self, used: Mask) -> Values:
        """Weight of every run: large sources count less than in proportion, others than those used not at all."""
        number = Counter(source for source, use in zip(self.sources, used, strict=True) if use)
        share = {source: min(1.0, (_SOURCE_ROWS / count) ** _SOURCE_POWER) for source, count in number.items()}
        return np.array([share.get(source, 0.0) for source in self.sources]) * used

    def _cost(self, weights: Values, residuals: Values, vector: Values, scale: float) -> float:
        """What is minimised: a Cauchy loss and the priors."""
        loss = weights @ np.log1p((residuals / scale) ** 2)
        return float(scale**2 * (loss + self._stiffness @ (vector - self.centre) ** 2))

    def _design(self, jacobian: Jacobian) -> Values:
        """Derivatives of every residual by every parameter."""
        size = len(self.measured)
        design = np.zeros((size, len(self.parameters.names)))
        for kind, levels in self.parameters.felt.items():
            for at in levels:
                design[np.arange(size), at] = jacobian[kind]
        return design


def _moved(shifts: Shifts, kind: str, by: float) -> Shifts:
    """Shifts with one kind moved."""
    return Shifts(**{**vars(shifts), kind: getattr(shifts, kind) + by})
