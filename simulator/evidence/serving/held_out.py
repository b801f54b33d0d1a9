"""Cross-validation of the factors of engines, and what it leaves: constants, predictions and errors, as data."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hardware.writing import write_bytes
from simulator.evidence.serving.errors import ServingErrors, traits_of
from simulator.evidence.serving.fitting import Mask, ServingFit
from simulator.evidence.serving.predictions import predictions
from simulator.evidence.serving.pricing import PricedCase, Values

SHIPPED = Path(__file__).with_name("held_out.json.gz")
FOLDS = 5
ServingScheme = Literal["new source", "known stack"]
SCHEMES: tuple[ServingScheme, ...] = ("new source", "known stack")
_COLUMNS = ("id", "metric", "measured", "source", "device", "task")


def serving_fold_of(case: PricedCase) -> int:
    """The part of the runs that one belongs to: all runs of a configuration are left out together."""
    run = case.case.run
    configuration = (run.collection, run.model.name, run.hardware.device, run.hardware.devices, case.case.stack)
    return zlib.crc32(repr(configuration).encode()) % FOLDS


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of runs beside predictions by constants that never saw them."""

    columns: dict[str, NDArray[Any]]
    """Words and measurements of every figure."""
    predicted: dict[str, Values]
    """By scheme, and where nothing was fitted."""
    groups: dict[str, NDArray[np.str_]]
    traits: dict[str, NDArray[Any]]
    factors: dict[str, dict[str, float]]
    """On intervals, by scheme and metric."""
    ends: dict[str, Values] = field(default_factory=dict)
    """Factors of the intervals' ends on what is predicted, by scheme and end, where they are stored."""

    def errors(self, scheme: str, metric: str) -> ServingErrors | None:
        """Errors of one metric; nothing where there are none."""
        part = self.columns["metric"] == metric
        if part.sum() < _FEWEST:
            return None
        return ServingErrors(
            sources=self.columns["source"][part],
            groups=self.groups[scheme][part],
            traits={name: values[part] for name, values in self.traits.items()},
            scores=np.log(self.columns["measured"][part] / self.predicted[scheme][part]),
            factor=self.factors.get(scheme, {}).get(metric, 1.0),
        )

    def limits(self, scheme: str) -> tuple[Values, Values]:
        """Least and most of every figure, by errors on other sources or other folds."""
        low, high = self.factors_of_ends(scheme)
        return self.predicted[scheme] * low, self.predicted[scheme] * high

    def factors_of_ends(self, scheme: str) -> tuple[Values, Values]:
        """The same over what is predicted."""
        if f"{scheme} low" in self.ends:
            return self.ends[f"{scheme} low"], self.ends[f"{scheme} high"]
        size = len(self.columns["metric"])
        low, high = np.full(size, np.nan), np.full(size, np.nan)
        for metric in np.unique(self.columns["metric"]):
            errors = self.errors(scheme, metric)
            if errors is None:
                continue
            part = self.columns["metric"] == metric
            least, most = errors.around(errors.traits, errors.groups)
            low[part], high[part] = np.exp(least), np.exp(most)
        return low, high


_FEWEST = 8
"""Figures of a metric from which on there is an interval."""


def cross_validated(fit: ServingFit) -> HeldOutFigures:
    """Fit without every source and without every fold in turn, each time from the catalogue's constants.

    Each run is then priced anew, by the constants that never saw it.

    Parameters
    ----------
    fit
        Of all runs, which were priced at the factors that all of them say, so that prices nearby need no new pass.
    """
    cases = fit.cases
    before = _priced(fit, np.zeros_like(fit.at))
    groups = {
        "new source": np.array([each.case.run.collection for each in cases]),
        "known stack": np.array([str(serving_fold_of(each)) for each in cases]),
    }
    predicted = {"nothing fitted": before}
    for scheme, names in groups.items():
        factors = np.zeros_like(fit.at)
        for name in np.unique(names):
            part: Mask = names == name
            factors[part] = fit.places.factors(fit.solve(~part))[part]
        predicted[scheme] = _priced(fit, factors)
    return figures_of(fit, predicted, groups)


def _priced(fit: ServingFit, factors: Values) -> Values:
    """Every figure at some factors, a row for each run."""
    passes = fit.batch.passes(factors, derivatives=False)
    return np.exp(predictions(fit.predictor, fit.seen, passes, np.zeros_like(factors))[0])


def figures_of(fit: ServingFit, predicted: dict[str, Values], groups: dict[str, NDArray[np.str_]]) -> HeldOutFigures:
    """Predictions as data, with what makes intervals of them cover what they say."""
    rows, cases = fit.seen.rows, fit.cases
    runs = [cases[row].case.run for row in rows]
    columns = {
        "id": np.array([run.id for run in runs]),
        "metric": fit.seen.metrics,
        "measured": fit.seen.measured,
        "source": np.array([run.collection for run in runs]),
        "device": np.array([cases[row].case.device.id for row in rows]),
        "task": np.array([run.task for run in runs]),
    }
    traits = {name: values[rows] for name, values in traits_of(cases).items()}
    of_figures = {scheme: names[rows] for scheme, names in groups.items()}
    return calibrated(HeldOutFigures(columns, predicted, of_figures, traits, {}))


def calibrated(whole: HeldOutFigures) -> HeldOutFigures:
    """The same with the factors that make intervals cover what they say."""
    factors: dict[str, dict[str, float]] = {}
    for scheme in SCHEMES:
        factors[scheme] = {}
        for metric in np.unique(whole.columns["metric"]).tolist():
            errors = replace(whole, factors={}).errors(scheme, metric)
            if errors is not None:
                factors[scheme][metric] = round(errors.calibrated().factor, 4)
    return replace(whole, factors=factors)


def only(figures: HeldOutFigures, keep: Mask) -> HeldOutFigures:
    """Some of the figures."""
    return HeldOutFigures(
        columns={name: values[keep] for name, values in figures.columns.items()},
        predicted={name: values[keep] for name, values in figures.predicted.items()},
        groups={name: values[keep] for name, values in figures.groups.items()},
        traits={name: values[keep] for name, values in figures.traits.items()},
        factors=figures.factors,
    )


def save(figures: HeldOutFigures, path: Path) -> None:
    """Write everything in compact form, the same bytes for the same content.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    ends: dict[str, Values] = {}
    for scheme in SCHEMES:
        ends[f"{scheme} low"], ends[f"{scheme} high"] = figures.factors_of_ends(scheme)
    document = {
        "ends": {name: np.round(values, 4).tolist() for name, values in ends.items()},
        "columns": {name: _plain(values) for name, values in figures.columns.items()},
        "predicted": {name: _plain(values) for name, values in figures.predicted.items()},
        "groups": {name: _plain(values) for name, values in figures.groups.items() if name != "new source"},
        "traits": {name: _plain(values) for name, values in figures.traits.items()},
        "factors": figures.factors,
    }
    write_bytes(path, gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=9, mtime=0))


def _plain(values: NDArray[Any]) -> Any:
    """A column as a list: numbers of five digits, and words by their place among those that occur."""
    if values.dtype.kind == "f":
        return [float(f"{value:.5g}") for value in values.tolist()]
    words, places = np.unique(values, return_inverse=True)
    if len(words) > len(values) // 2:
        return values.tolist()
    return {"words": words.tolist(), "places": places.tolist()}


def _column(stored: Any) -> NDArray[Any]:
    """A column as it was."""
    if isinstance(stored, dict):
        return np.asarray(np.array(stored["words"])[np.array(stored["places"], dtype=np.intp)])
    return np.array(stored)


@cache
def shipped_figures() -> HeldOutFigures:
    """What the package's own constants were cross-validated with."""
    return load(SHIPPED)


def load(path: Path) -> HeldOutFigures:
    """Read what was saved."""
    document = json.loads(gzip.decompress(path.read_bytes()))
    columns, predicted, groups, traits, ends = (
        {name: _column(values) for name, values in document[part].items()}
        for part in ("columns", "predicted", "groups", "traits", "ends")
    )
    groups = {"new source": columns["source"], **groups}
    return HeldOutFigures(columns, predicted, groups, traits, document["factors"], ends)


def sources_of(cases: Sequence[PricedCase]) -> list[str]:
    """Sources of runs, each once."""
    return sorted({each.case.run.collection for each in cases})
