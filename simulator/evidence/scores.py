"""How far predictions are from measurements, in the figures that the reports show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from simulator.evidence.intervals import interval_score

Scheme = Literal["new source", "known stack", "nothing fitted"]
"""What the constants had seen: no run of the source, other configurations of it, or no run at all."""


@dataclass(frozen=True)
class Outcome:
    """One run beside its prediction."""

    id: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float
    source: str
    device: str
    stack: str
    task: str
    suspect: bool
    known_stack_s: float
    """Predicted by constants that saw its source, but not its configuration."""
    known_low_s: float
    known_high_s: float
    unfitted_s: float
    """Predicted by the catalogue's constants, before any fit."""

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.by("new source").error

    @property
    def covered(self) -> bool:
        """Whether the interval holds the measurement."""
        return self.by("new source").covered

    def by(self, scheme: Scheme) -> Prediction:
        """What constants say of the run, and how sure they are."""
        if scheme == "new source":
            return Prediction(self.measured_s, self.predicted_s, self.low_s, self.high_s)
        if scheme == "known stack":
            return Prediction(self.measured_s, self.known_stack_s, self.known_low_s, self.known_high_s)
        return Prediction(self.measured_s, self.unfitted_s, self.unfitted_s, self.unfitted_s)


@dataclass(frozen=True)
class Prediction:
    """One prediction beside the measurement, with its interval; one that nothing was fitted for has none."""

    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted_s / self.measured_s - 1.0

    @property
    def covered(self) -> bool:
        """Whether the interval holds the measurement."""
        return self.low_s <= self.measured_s <= self.high_s


@dataclass(frozen=True)
class Score:
    """Errors of some predictions."""

    rows: int
    median_abs_error: float
    mean_abs_error: float
    p90_abs_error: float
    bias: float
    """Median of the signed errors."""
    coverage_90: float
    """Share of measurements inside their interval."""
    low: float
    high: float
    """Typical limits of the intervals, as factors on the prediction (medians)."""
    width: float
    """Mean width of the intervals, as a logarithm."""
    interval_score: float
    """Mean of that width with misses, each 20 times the distance by which the measurement lies outside."""

    def to_dict(self) -> dict[str, float]:
        """As plain numbers."""
        return dict(vars(self))


def score(measured: Iterable[float], predicted: Iterable[float], low: Iterable[float], high: Iterable[float]) -> Score:
    """Score predictions; all in seconds, or all in bytes."""
    truth, guess, least, most = (
        np.array(list(values), dtype=np.float64) for values in (measured, predicted, low, high)
    )
    errors = guess / truth - 1.0
    return Score(
        rows=len(truth),
        median_abs_error=float(np.median(np.abs(errors))),
        mean_abs_error=float(np.mean(np.abs(errors))),
        p90_abs_error=float(np.quantile(np.abs(errors), 0.9)),
        bias=float(np.median(errors)),
        coverage_90=float(np.mean((least <= truth) & (truth <= most))),
        low=float(np.median(least / guess)),
        high=float(np.median(most / guess)),
        width=float(np.mean(np.log(most / least))),
        interval_score=float(np.mean(interval_score(np.log(truth), np.log(least), np.log(most)))),
    )


def scored(outcomes: Sequence[Outcome], scheme: Scheme) -> Score:
    """Score what constants say."""
    weighed = [each.by(scheme) for each in outcomes]
    return score(
        (each.measured_s for each in weighed),
        (each.predicted_s for each in weighed),
        (each.low_s for each in weighed),
        (each.high_s for each in weighed),
    )


def headline(outcomes: Sequence[Outcome]) -> Score:
    """Score what constants say that never saw a run's source."""
    return scored(outcomes, "new source")


def known_stack(outcomes: Sequence[Outcome]) -> Score:
    """Score what constants say that saw a run's source but not its configuration."""
    return scored(outcomes, "known stack")


def unfitted(outcomes: Sequence[Outcome]) -> Score:
    """Score the catalogue's constants; they have no interval."""
    return scored(outcomes, "nothing fitted")


Scoring = Callable[[Sequence[Outcome]], Score]
SCORINGS: dict[Scheme, Scoring] = {"new source": headline, "known stack": known_stack, "nothing fitted": unfitted}


def by(outcomes: Iterable[Outcome], name: str, scoring: Scoring = headline) -> dict[str, Score]:
    """Scores of groups that share a trait, largest group first."""
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        groups[getattr(each, name)].append(each)
    return {key: scoring(rows) for key, rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))}


def macro(outcomes: Iterable[Outcome], scoring: Scoring = headline) -> float:
    """Median over sources of the median error of each, so that one big source cannot hide the others."""
    return float(np.median([score.median_abs_error for score in by(outcomes, "source", scoring).values()]))


def plain(scores: dict[str, Score]) -> dict[str, Any]:
    """Scores as plain numbers."""
    return {name: score.to_dict() for name, score in scores.items()}
