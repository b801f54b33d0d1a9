"""Constants and errors of cross-validation: what each run is priced with where it must not have been fitted on."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from simulator.calibration import Constants
from simulator.evidence import errors as errors_of
from simulator.evidence.batch import Values
from simulator.evidence.errors import Scheme
from simulator.evidence.fitting import Fit, Mask
from simulator.evidence.intervals import LEVEL, Errors, traits_of, widening
from simulator.evidence.mapping import Case
from simulator.evidence.runs import Run

FOLDS = 5
_ITERATIONS = 4
"""Of a fit that starts from the solution on all runs."""


def fold_of(run: Run) -> int:
    """The part of the runs that one belongs to: all runs of a configuration are left out together."""
    configuration = (run.collection, run.model.name, run.hardware.device, run.hardware.devices)
    return zlib.crc32(repr(configuration).encode()) % FOLDS


@dataclass(frozen=True)
class HeldOut:
    """Constants fitted without each source and without each fold, and the errors that they make there."""

    by_source: dict[str, Constants]
    by_fold: tuple[Constants, ...]
    ids: frozenset[str]
    """Runs that were fitted to."""
    errors: dict[Scheme, Errors]

    def constants_of(self, run: Run, scheme: Scheme) -> Constants | None:
        """Constants that never saw a run; none where no fit saw it."""
        if run.id not in self.ids:
            return None
        return self.by_source[run.collection] if scheme == "new source" else self.by_fold[fold_of(run)]

    def group_of(self, run: Run, scheme: Scheme) -> str | None:
        """What was left out to price a run; none where no fit saw it."""
        if run.id not in self.ids:
            return None
        return run.collection if scheme == "new source" else str(fold_of(run))


def cross_validate(fit: Fit, cases: Sequence[Case], used: Mask, solution: Values) -> HeldOut:
    """Fit without every source and without every fold in turn.

    Parameters
    ----------
    fit
        Of all runs.
    cases
        The runs.
    used
        Which of them are fitted to at all.
    solution
        The parameters of the fit to all of them.
    """
    jacobian = fit.jacobian(solution)
    sources, folds = np.array(fit.sources), np.array([fold_of(case.run) for case in cases])

    def without(part: Mask) -> tuple[Constants, Values]:
        vector = fit.solve(used & ~part, solution, jacobian, _ITERATIONS)
        return fit.parameters.constants(vector, "cross-validation"), fit.residuals(vector)[part]

    by_source, by_fold = {}, []
    errors: dict[Scheme, Values] = {"new source": np.zeros(len(cases)), "known stack": np.zeros(len(cases))}
    for source in sorted(set(fit.sources)):
        by_source[source], errors["new source"][sources == source] = without(sources == source)
    for fold in range(FOLDS):
        constants, errors["known stack"][folds == fold] = without(folds == fold)
        by_fold.append(constants)
    groups: dict[Scheme, Any] = {"new source": sources, "known stack": folds}
    seen = [case for case, use in zip(cases, used, strict=True) if use]
    return HeldOut(
        by_source=by_source,
        by_fold=tuple(by_fold),
        ids=frozenset(case.run.id for case in seen),
        errors={
            scheme: _errors(seen, -errors[scheme][used], group[used].astype(str)) for scheme, group in groups.items()
        },
    )


def _errors(cases: Sequence[Case], logarithms: Values, groups: Any) -> Errors:
    """Scores of runs, and the factor with which the intervals around each cover it often enough."""
    listed = [traits_of(case) for case in cases]
    errors = Errors(
        ids=np.array([case.run.id for case in cases]),
        sources=np.array([case.run.collection for case in cases]),
        groups=groups,
        traits={name: np.array([each[name] for each in listed]) for name in listed[0]},
        scores=logarithms,
        factor=1.0,
    )
    wide = widening(errors.nearest_of_others())
    scored = replace(errors, scores=logarithms / wide)
    low, high = scored.around_each()
    needed = np.where(scored.scores > 0.0, scored.scores / high, scored.scores / low)
    return replace(scored, factor=float(np.quantile(needed, LEVEL)))


def save(held_out: HeldOut, path: Path) -> None:
    """Write everything in compact form, the same bytes for the same content."""
    parameters = sorted({name for constants in held_out.by_fold for name, _ in constants.items()})

    def vector(constants: Constants) -> list[float]:
        known = dict(constants.items())
        return [known.get(name, 0.0) for name in parameters]

    document = {
        "parameters": parameters,
        "by_source": {source: vector(constants) for source, constants in held_out.by_source.items()},
        "by_fold": [vector(constants) for constants in held_out.by_fold],
        "errors": {scheme: _plain(errors) for scheme, errors in held_out.errors.items()},
    }
    path.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=9, mtime=0))


def _plain(errors: Errors) -> dict[str, Any]:
    """Errors as lists."""
    return {
        "ids": errors.ids.tolist(),
        "sources": errors.sources.tolist(),
        "groups": errors.groups.tolist(),
        "traits": {name: values.tolist() for name, values in errors.traits.items()},
        "scores": [round(float(score), 4) for score in errors.scores],
        "factor": round(errors.factor, 4),
    }


@cache
def shipped() -> HeldOut:
    """What the package's own constants were cross-validated with."""
    document = errors_of.document()
    names = [(kind, level, name) for kind, level, name in document["parameters"]]

    def constants(values: list[float]) -> Constants:
        shifts: dict[str, dict[str, dict[str, float]]] = {}
        for (kind, level, name), value in zip(names, values, strict=True):
            shifts.setdefault(kind, {}).setdefault(level, {})[name] = value
        return Constants(shifts, "cross-validation")

    errors = {scheme: errors_of.shipped_errors(scheme) for scheme in errors_of.SCHEMES}
    return HeldOut(
        by_source={source: constants(values) for source, values in document["by_source"].items()},
        by_fold=tuple(constants(values) for values in document["by_fold"]),
        ids=frozenset(document["errors"]["new source"]["ids"]),
        errors=errors,
    )
