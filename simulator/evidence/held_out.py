"""Constants and errors of cross-validation: what each run is priced with where it must not have been fitted on."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from hardware.writing import write_bytes
from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run
from simulator.evidence import errors as errors_of
from simulator.evidence.batch import Values
from simulator.evidence.errors import Scheme
from simulator.evidence.fitting import ConstantsFit, Mask
from simulator.evidence.intervals import LEVEL, HeldOutErrors, interval_score, widening
from simulator.evidence.traits import traits_of
from simulator.pricing.constants import Constants

FOLDS = 5
_WAYS = tuple((reach, prior) for reach in (0.3, 0.5, 0.7) for prior in (2.0, 5.0, 20.0))
"""Distances at which runs weigh e times less, and numbers of runs like a scenario that say as much as all do."""


def fold_of(run: Run) -> int:
    """The part of the runs that one belongs to: all runs of a configuration are left out together."""
    configuration = (run.collection, run.model.name, run.hardware.device, run.hardware.devices)
    return zlib.crc32(repr(configuration).encode()) % FOLDS


@dataclass(frozen=True)
class HeldOut:
    """Constants fitted without each source and without each fold, and the errors that they make there."""

    by_source: dict[str, Constants]
    by_fold: tuple[Constants, ...]
    errors: dict[Scheme, HeldOutErrors]

    @property
    def ids(self) -> frozenset[str]:
        """Runs that were fitted to."""
        return frozenset(self._groups["new source"])

    @cached_property
    def _groups(self) -> dict[Scheme, dict[str, str]]:
        """What was left out to price each run that was fitted to, by its id."""
        return {
            scheme: dict(zip(errors.ids.tolist(), errors.groups.tolist(), strict=True))
            for scheme, errors in self.errors.items()
        }

    def group_of(self, run: Run, scheme: Scheme) -> str | None:
        """What was left out to price a run, which its id tells; none where no fit saw it."""
        return self._groups[scheme].get(run.id)

    def constants_of(self, run: Run, scheme: Scheme) -> Constants | None:
        """Constants that never saw a run; none where no fit saw it."""
        group = self.group_of(run, scheme)
        if group is None:  # runs that are suspect were never fitted to, but their source may have been
            return self.by_source.get(run.collection) if run.suspect is not None else None
        return self.by_source[group] if scheme == "new source" else self.by_fold[int(group)]


def cross_validate(fit: ConstantsFit, cases: Sequence[MappedRun], used: Mask) -> HeldOut:
    """Fit without every source and without every fold in turn, each time from the catalogue's constants.

    A start at the solution for all runs would remember those that are left out.

    Parameters
    ----------
    fit
        Of all runs.
    cases
        The runs.
    used
        Which of them are fitted to at all.
    """
    sources, folds = np.array(fit.sources), np.array([fold_of(case.run) for case in cases])
    names = sorted(set(fit.sources))
    parts = [sources == name for name in names] + [folds == fold for fold in range(FOLDS)]
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_remember, initargs=(fit,)) as workers:
        vectors = list(workers.map(_solve, [used & ~part for part in parts]))
    errors: dict[Scheme, Values] = {"new source": np.zeros(len(cases)), "known stack": np.zeros(len(cases))}
    for place, (vector, part) in enumerate(zip(vectors, parts, strict=True)):
        errors["new source" if place < len(names) else "known stack"][part] = fit.residuals(vector)[part]
    constants = [fit.parameters.constants(vector, "cross-validation") for vector in vectors]
    groups: dict[Scheme, Any] = {"new source": sources, "known stack": folds}
    seen = [case for case, use in zip(cases, used, strict=True) if use]
    return HeldOut(
        by_source=dict(zip(names, constants[: len(names)], strict=True)),
        by_fold=tuple(constants[len(names) :]),
        errors={
            scheme: errors_of_cases(seen, -errors[scheme][used], group[used].astype(str))
            for scheme, group in groups.items()
        },
    )


_FITS: list[ConstantsFit] = []
"""The fit that a process of the cross-validation works on."""


def _remember(fit: ConstantsFit) -> None:
    """Keep what all parts share."""
    _FITS[:] = [fit]


def _solve(used: Mask) -> Values:
    """Fit to some of the runs."""
    return _FITS[0].solve(used)


def errors_of_cases(cases: Sequence[MappedRun], logarithms: Values, groups: Any) -> HeldOutErrors:
    """Scores of runs, and what makes the intervals around each narrow and cover it often enough."""
    listed = [traits_of(case) for case in cases]
    errors = HeldOutErrors(
        ids=np.array([case.run.id for case in cases]),
        sources=np.array([case.run.collection for case in cases]),
        groups=groups,
        traits={name: np.array([each[name] for each in listed]) for name in listed[0]},
        scores=logarithms,
        factor=1.0,
    )
    wide = widening(errors.nearest_of_others)
    ways = [replace(errors, scores=logarithms / wide, reach=reach, prior=prior) for reach, prior in _WAYS]
    return min((_covering(each, wide) for each in ways), key=lambda way: way[0])[1]


def _covering(errors: HeldOutErrors, wide: Values) -> tuple[float, HeldOutErrors]:
    """Interval score of errors whose common factor lets intervals cover what they say, and these errors.

    The score is a mean in which large sources count less than in proportion.
    """
    low, high = errors.around_each()
    # An end on the wrong side of the prediction covers nothing, however far it is moved.
    least = np.finfo(np.float64).tiny
    needed = np.where(
        errors.scores > 0.0, errors.scores / np.maximum(high, least), errors.scores / np.minimum(low, -least)
    )
    factor = float(np.quantile(needed, LEVEL))
    ends = (np.minimum(low, 0.0) * wide * factor, np.maximum(high, 0.0) * wide * factor)
    worth = interval_score(errors.scores * wide, *ends)
    return float(np.average(worth, weights=errors.weights)), replace(errors, factor=factor)


def save(held_out: HeldOut, path: Path) -> None:
    """Write everything in compact form, the same bytes for the same content.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
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
    packed = gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=9, mtime=0)
    write_bytes(path, packed)


def _plain(errors: HeldOutErrors) -> dict[str, Any]:
    """Errors as lists."""
    return {
        "ids": errors.ids.tolist(),
        "sources": errors.sources.tolist(),
        "groups": errors.groups.tolist(),
        "traits": {name: values.tolist() for name, values in errors.traits.items()},
        "scores": [round(float(score), 4) for score in errors.scores],
        "factor": round(errors.factor, 4),
        "reach": errors.reach,
        "prior": errors.prior,
    }


@cache
def shipped() -> HeldOut:
    """What the package's own constants were cross-validated with."""
    return replace(
        stored_constants(), errors={scheme: errors_of.shipped_errors(scheme) for scheme in errors_of.SCHEMES}
    )


def stored_constants() -> HeldOut:
    """The same without its errors, which may be those of earlier formulas."""
    document = errors_of.document()
    names = [(kind, level, name) for kind, level, name in document["parameters"]]

    def constants(values: list[float]) -> Constants:
        shifts: dict[str, dict[str, dict[str, float]]] = {}
        for (kind, level, name), value in zip(names, values, strict=True):
            shifts.setdefault(kind, {}).setdefault(level, {})[name] = value
        return Constants(shifts, "cross-validation")

    return HeldOut(
        by_source={source: constants(values) for source, values in document["by_source"].items()},
        by_fold=tuple(constants(values) for values in document["by_fold"]),
        errors={},
    )
