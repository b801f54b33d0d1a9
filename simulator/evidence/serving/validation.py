"""Predictions of serving held against runs: each figure by constants that were not fitted to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from simulator.corpus.serving import runs
from simulator.corpus.serving.mapping import ServedCase
from simulator.corpus.serving.schema import METRICS, ServingRun
from simulator.evidence.serving import held_out
from simulator.evidence.serving.errors import traits_of
from simulator.evidence.serving.held_out import HeldOutFigures
from simulator.evidence.serving.order import PairScore, pairs_in_order
from simulator.evidence.serving.predictions import Observations, Predictor, predictions
from simulator.evidence.serving.pricing import PricedCase, ServedBatch, Values
from simulator.evidence.serving.refit import priced
from simulator.serving.constants import KINDS, ServingConstants, fitted

REPORTED = ("ttft_s", "tpot_s", "total_latency_s", "output_tokens_per_s", "sequences_per_s", "memory_gb")
"""What a report tells first."""
GROUPS = ("source", "device", "stack", "task")


@dataclass(frozen=True)
class ServedOutcome:
    """One figure of a run beside its prediction."""

    id: str
    metric: str
    measured: float
    predicted: float
    low: float
    high: float
    source: str
    device: str
    stack: str
    task: str
    known_stack: float
    """Predicted by constants that saw its source, but not its configuration."""
    known_low: float
    known_high: float
    unfitted: float
    """Predicted by the catalogue's constants, before any fit."""


@dataclass(frozen=True)
class FigureScore:
    """Errors of one kind of figure."""

    rows: int
    median_abs_error: float
    p90_abs_error: float
    bias: float
    macro_median_abs_error: float
    """Mean over sources of their medians."""
    interval_coverage_90: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers."""
        return dict(vars(self))


@dataclass(frozen=True)
class ServingValidation:
    """What the comparison found."""

    rows: int
    refused: dict[str, int]
    """Why runs were not priced, and how many."""
    outcomes: tuple[ServedOutcome, ...]
    pairs: dict[str, PairScore]
    """How well the better of two settings is named, by scheme."""
    unknown_keys: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values: inference, inference_runs and what is around them."""
        told = [metric for metric in METRICS if any(each.metric == metric for each in self.outcomes)]
        return {
            "inference": {metric: self._metric(metric) for metric in told},
            "inference_rows": self.rows,
            "inference_refused": self.refused,
            "inference_ranking": {scheme.replace(" ", "_"): pairs.to_dict() for scheme, pairs in self.pairs.items()},
            "inference_unknown_keys": self.unknown_keys,
            "inference_seconds": self.seconds,
            "inference_runs": [
                {name: None if value != value else value for name, value in vars(each).items()}
                for each in self.outcomes
            ],
        }

    def _metric(self, metric: str) -> dict[str, Any]:
        """Scores of one metric: of new sources, of known stacks, before any fit, and by group."""
        part = [each for each in self.outcomes if each.metric == metric]
        return {
            **score(part, "new source").to_dict(),
            "known_stack": score(part, "known stack").to_dict(),
            "unfitted": score(part, "nothing fitted").to_dict(),
            **{f"by_{name}": {key: each.to_dict() for key, each in by(part, name).items()} for name in GROUPS},
        }


def score(outcomes: Sequence[ServedOutcome], scheme: str) -> FigureScore:
    """Score predictions of one kind of figure."""
    fields = {
        "new source": ("predicted", "low", "high"),
        "known stack": ("known_stack", "known_low", "known_high"),
        "nothing fitted": ("unfitted", "unfitted", "unfitted"),
    }[scheme]
    predicted, low, high = (np.array([getattr(each, name) for each in outcomes]) for name in fields)
    measured = np.array([each.measured for each in outcomes])
    sources = np.array([each.source for each in outcomes])
    errors = np.abs(predicted / measured - 1.0)
    sure = np.isfinite(low) & np.isfinite(high) & (low < high)
    covered = (low <= measured) & (measured <= high)
    return FigureScore(
        rows=len(outcomes),
        median_abs_error=float(np.median(errors)),
        p90_abs_error=float(np.quantile(errors, 0.9)),
        bias=float(np.median(predicted / measured) - 1.0),
        macro_median_abs_error=float(np.mean([np.median(errors[sources == name]) for name in np.unique(sources)])),
        interval_coverage_90=float(np.mean(covered[sure])) if sure.any() else None,
    )


def by(outcomes: Sequence[ServedOutcome], name: str, scheme: str = "new source") -> dict[str, FigureScore]:
    """Scores of each source, device, stack or task, those with most figures first."""
    groups: dict[str, list[ServedOutcome]] = {}
    for each in outcomes:
        groups.setdefault(getattr(each, name), []).append(each)
    order = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return {key: score(group, scheme) for key, group in order}


def validate_serving(
    published: Iterable[ServingRun] | None = None, constants: ServingConstants | None = None
) -> ServingValidation:
    """Compare predictions with runs.

    Parameters
    ----------
    published
        Runs; those that are shipped unless given, whose predictions are shipped with them.
    constants
        To price runs with that no fit saw; the shipped ones unless given.

    Notes
    -----
    A run that was fitted to is predicted by constants of cross-validation that never saw it, other runs by the shipped
    constants, with intervals by the errors on new sources, or of known stacks where its source was fitted to.
    """
    start = time.perf_counter()
    if published is None:
        figures = held_out.shipped_figures()
        outcomes = shipped_outcomes()
        return ServingValidation(
            rows=len(set(figures.columns["id"].tolist())),
            refused={},
            outcomes=outcomes,
            pairs=_pairs(outcomes, figures.traits["workload"]),
            unknown_keys={},
            seconds=time.perf_counter() - start,
        )
    every = tuple(published)
    made = priced(every)
    reasons = Counter(error.reason for _, error in made.refused)
    outcomes, workloads = _of_cases(made.cases, constants or fitted())
    return ServingValidation(
        rows=len(every),
        refused=dict(reasons.most_common()),
        outcomes=outcomes,
        pairs=_pairs(outcomes, workloads),
        unknown_keys=dict(runs.unknown_keys(every).most_common()),
        seconds=time.perf_counter() - start,
    )


def _pairs(outcomes: Sequence[ServedOutcome], workloads: np.ndarray) -> dict[str, PairScore]:
    """How well settings of one source are ordered."""
    fields = {"new source": "predicted", "known stack": "known_stack", "nothing fitted": "unfitted"}
    measured, metrics = np.array([each.measured for each in outcomes]), [each.metric for each in outcomes]
    alike = [f"{each.source} {each.metric} {load}" for each, load in zip(outcomes, workloads, strict=True)]
    return {
        scheme: pairs_in_order(alike, metrics, measured, np.array([getattr(each, name) for each in outcomes]))
        for scheme, name in fields.items()
        if len(outcomes)
    }


@cache
def shipped_outcomes() -> tuple[ServedOutcome, ...]:
    """Figures of shipped runs."""
    return _of_figures(held_out.shipped_figures())


def _of_figures(figures: HeldOutFigures) -> tuple[ServedOutcome, ...]:
    """Figures of shipped runs."""
    limits = {scheme: figures.limits(scheme) for scheme in held_out.SCHEMES}
    return tuple(
        ServedOutcome(
            id=str(figures.columns["id"][place]),
            metric=str(figures.columns["metric"][place]),
            measured=float(figures.columns["measured"][place]),
            predicted=float(figures.predicted["new source"][place]),
            low=float(limits["new source"][0][place]),
            high=float(limits["new source"][1][place]),
            source=str(figures.columns["source"][place]),
            device=str(figures.columns["device"][place]),
            stack=str(figures.traits["stack"][place]),
            task=str(figures.columns["task"][place]),
            known_stack=float(figures.predicted["known stack"][place]),
            known_low=float(limits["known stack"][0][place]),
            known_high=float(limits["known stack"][1][place]),
            unfitted=float(figures.predicted["nothing fitted"][place]),
        )
        for place in range(len(figures.columns["id"]))
    )


def _of_cases(cases: Sequence[PricedCase], constants: ServingConstants) -> tuple[tuple[ServedOutcome, ...], np.ndarray]:
    """Figures of other runs, and what decides which of them are compared in pairs."""
    if not cases:
        return (), np.array([])
    seen = Observations.of(cases)
    fitted_figures, plain = (_priced(cases, seen, each) for each in (constants, None))
    figures = held_out.shipped_figures()
    traits = {name: values[seen.rows] for name, values in traits_of(cases).items()}
    sources = np.array([each.case.run.collection for each in cases])[seen.rows]
    known = np.isin(sources, figures.columns["source"])
    stored = {(each.id, each.metric): each for each in (shipped_outcomes() if constants is fitted() else ())}
    told = np.array(
        [(cases[row].case.run.id, str(name)) in stored for row, name in zip(seen.rows, seen.metrics, strict=True)]
    )
    low, high = np.full(len(seen.rows), np.nan), np.full(len(seen.rows), np.nan)
    for scheme, part in (("known stack", known & ~told), ("new source", ~known & ~told)):
        least, most = _limits_of(figures, seen.only(part), {name: each[part] for name, each in traits.items()}, scheme)
        low[part], high[part] = least, most
    outcomes = []
    for place, row in enumerate(seen.rows):
        case, measured, metric = cases[row].case, float(seen.measured[place]), str(seen.metrics[place])
        if told[place]:  # these constants were fitted to it: what counts is what was said without it
            before = stored[case.run.id, metric]
            outcomes.append(replace(before, measured=measured, source=case.run.collection))
        else:
            figures_of = (float(fitted_figures[place]), float(plain[place]))
            limits = (float(low[place]), float(high[place]))
            outcomes.append(_outcome(case, metric, measured, figures_of, limits))
    return tuple(outcomes), traits["workload"]


def _outcome(
    case: ServedCase, metric: str, measured: float, figures: tuple[float, float], limits: tuple[float, float]
) -> ServedOutcome:
    """A figure of a run that no fit saw: as predicted and with nothing fitted, and factors around what is predicted."""
    guess, plain = figures
    low, high = (guess * factor for factor in limits)
    return ServedOutcome(
        id=case.run.id,
        metric=metric,
        measured=measured,
        predicted=guess,
        low=low,
        high=high,
        source=case.run.collection,
        device=case.device.id,
        stack=case.stack,
        task=case.run.task,
        known_stack=guess,
        known_low=low,
        known_high=high,
        unfitted=plain,
    )


def _priced(cases: Sequence[PricedCase], seen: Observations, constants: ServingConstants | None) -> Values:
    """Every figure at some constants, or at the catalogue's."""
    factors = np.zeros((len(cases), len(KINDS)))
    if constants is not None:
        for row, case in enumerate(cases):
            own = constants.of_levels(case.levels)
            factors[row] = [float(getattr(own, kind)) for kind in KINDS]
    passes = ServedBatch(cases).passes(factors, derivatives=False)
    return np.asarray(np.exp(predictions(Predictor(cases), seen, passes, np.zeros_like(factors))[0]))


def _limits_of(
    figures: HeldOutFigures, seen: Observations, traits: dict[str, np.ndarray], scheme: str
) -> tuple[Values, Values]:
    """Factors of the interval around each figure."""
    low, high = np.full(len(seen.rows), np.nan), np.full(len(seen.rows), np.nan)
    for metric in np.unique(seen.metrics):
        errors = figures.errors(scheme, metric)
        part = seen.metrics == metric
        if errors is not None:
            least, most = errors.around({name: values[part] for name, values in traits.items()})
            low[part], high[part] = np.exp(least), np.exp(most)
    return low, high
