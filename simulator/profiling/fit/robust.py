"""Constants that fit measured times: robust on the logarithm of time, bounded, and weakly held by what is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.profiling.records.rows import Values

_NOISE = 0.05
"""Deviation of the logarithm of time that a good form leaves; beyond it a row loses weight."""
_KNOWN = 0.25
"""The rows determine a constant where they leave it less than this share of its prior deviation."""
_DIFFERENCE = 1e-3
_EVALUATIONS = 60


@dataclass(frozen=True)
class Constant:
    """A number that a fit may move."""

    name: str
    start: float
    low: float
    high: float
    deviation: float
    """Of its prior, around `start`; of its logarithm where it is `relative`."""
    relative: bool = False

    def value(self, shift: float) -> float:
        """The constant, so many prior deviations from its start."""
        moved = self.start * np.exp(shift * self.deviation) if self.relative else self.start + shift * self.deviation
        return float(np.clip(moved, self.low, self.high))

    def rounded(self, value: float) -> float:
        """A value with the digits that mean something."""
        nothing = not self.relative and abs(value) < 1e-3 * self.deviation
        return 0.0 if nothing else float(f"{value:.4g}")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest shift; the start lies between them."""
        if self.relative:
            low, high = (float(np.log(end / self.start)) / self.deviation for end in (self.low, self.high))
        else:
            low, high = ((end - self.start) / self.deviation for end in (self.low, self.high))
        return min(low, -1e-6), max(high, 1e-6)


@dataclass(frozen=True)
class Solution:
    """What a fit found."""

    values: dict[str, float]
    determined: frozenset[str]
    """Names of the constants that the rows determine; the others are as they were, or about so."""


Logs = Callable[[Mapping[str, float]], Values]
"""Logarithm of the predicted time of every row, for some values of all constants."""


def solve(
    constants: Sequence[Constant], logs: Logs, measured: Values, weights: Values, *, goes_back: bool = True
) -> Solution:
    """Fit constants to the logarithms of measured times.

    Parameters
    ----------
    constants
        What may move.
    logs
        The form.
    measured
        Logarithm of each row's time.
    weights
        Of the rows; 1 counts fully.
    goes_back
        Whether a constant that the rows do not determine goes back to its start, and the others are fitted once more;
        else it stays where its prior and the little that the rows say leave it.
    """
    start = {each.name: each.start for each in constants}
    if not len(measured) or not constants:
        return Solution(start, frozenset())
    fit = _Fit(logs, measured, np.sqrt(weights) / _NOISE, start)
    shifts, slopes = fit.run(constants)
    kept = _determined(constants, slopes)
    determined = frozenset(each.name for each in kept)
    if goes_back and len(kept) < len(constants):
        constants = kept
        shifts, _ = fit.run(kept)
    solved = {each.name: each.rounded(each.value(float(x))) for each, x in zip(constants, shifts, strict=True)}
    return Solution({**start, **solved}, determined)


@dataclass(frozen=True)
class _Fit:
    """A problem of least squares in units of noise and of prior deviations."""

    logs: Logs
    measured: Values
    scale: Values
    start: dict[str, float]

    def run(self, constants: Sequence[Constant]) -> tuple[Values, Values]:
        """The best shifts, and how the weighted residuals change with each there."""
        if not constants:
            return np.zeros(0), np.zeros((0, 0))
        from scipy.optimize import least_squares  # only fits need it

        def residuals(shifts: Values) -> Values:
            off = self.logs({**self.start, **_values(constants, shifts)}) - self.measured
            return np.concatenate([off * self.scale, shifts])

        def slopes(shifts: Values) -> Values:
            here = residuals(shifts)
            moves = np.eye(len(shifts)) * _DIFFERENCE * np.where(shifts < high - _DIFFERENCE, 1.0, -1.0)
            return np.stack([(residuals(shifts + move) - here) / move.sum() for move in moves], axis=1)

        low, high = (np.array(ends) for ends in zip(*(each.bounds for each in constants), strict=True))
        solution = least_squares(
            residuals, np.zeros(len(constants)), jac=slopes, bounds=(low, high), loss="soft_l1", max_nfev=_EVALUATIONS
        )
        return solution.x, solution.jac  # scaled by the loss: outliers say nothing of what is determined


def _values(constants: Sequence[Constant], shifts: Values) -> dict[str, float]:
    return {each.name: each.value(float(shift)) for each, shift in zip(constants, shifts, strict=True)}


def _determined(constants: Sequence[Constant], slopes: Values) -> list[Constant]:
    """Leave out the least certain constant, one after the other, until the rows determine the rest."""
    kept = list(range(len(constants)))
    while kept:
        some = slopes[:, kept]
        deviations = np.sqrt(np.diag(np.linalg.inv(some.T @ some)))
        worst = len(kept) - 1 - int(np.argmax(deviations[::-1]))
        if deviations[worst] <= _KNOWN:
            break
        del kept[worst]
    return [constants[index] for index in kept]
