"""The fit of the factors that are shipped, and its cross-validation: `python -m simulator.evidence.serving.refit`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hardware.writing import write_text, yaml_text
from simulator.corpus.runs import RefusedError
from simulator.corpus.serving import runs
from simulator.corpus.serving.mapping import serving_case_of
from simulator.corpus.serving.schema import ServingRun
from simulator.evidence.serving import held_out
from simulator.evidence.serving.fitting import ServingFit
from simulator.evidence.serving.held_out import HeldOutFigures
from simulator.evidence.serving.pricing import PricedCase, priced_case_of
from simulator.serving.constants import SHIPPED, ServingConstants

_ROUNDS = 2
"""How often all runs are priced anew at what was fitted."""


@dataclass(frozen=True)
class PricedRuns:
    """Runs that are priced, and why others are not."""

    cases: tuple[PricedCase, ...]
    refused: tuple[tuple[ServingRun, RefusedError], ...]


def priced(published: Iterable[ServingRun]) -> PricedRuns:
    """Make scenarios of runs."""
    cases: list[PricedCase] = []
    refused: list[tuple[ServingRun, RefusedError]] = []
    for run in published:
        try:
            cases.append(priced_case_of(serving_case_of(run)))
        except RefusedError as error:
            refused.append((run, error))
    return PricedRuns(tuple(cases), tuple(refused))


def fitted_to(published: Iterable[ServingRun]) -> tuple[ServingFit, ServingConstants]:
    """Fit factors to runs."""
    fit = ServingFit(priced(published).cases)
    every = np.ones(len(fit.cases), dtype=bool)
    vector = fit.solve(every)
    for _ in range(_ROUNDS):
        fit.linearise(vector)
        vector = fit.solve(every, vector)
    sources = held_out.sources_of(fit.cases)
    origin = f"fitted to {len(fit.cases):,} published runs of {len(sources)} sources: {', '.join(sources)}"
    return fit, fit.places.constants(vector, origin)


def write(constants: ServingConstants, figures: HeldOutFigures) -> None:
    """Write what is shipped; figures of sources that may not be are left out."""
    write_text(SHIPPED, yaml_text(constants.to_dict()))
    allowed = np.isin(figures.columns["source"], list(runs.licences()))
    held_out.save(held_out.calibrated(held_out.only(figures, allowed)), held_out.SHIPPED)


def main(paths: list[str]) -> None:
    """Fit to the shipped runs and to those of further files, and write constants and cross-validation."""
    more = runs.load(paths)[1] if paths else ()
    fit, constants = fitted_to((*runs.shipped(), *more))
    write(constants, held_out.cross_validated(fit))


if __name__ == "__main__":
    main(sys.argv[1:])
