"""Fitting constants: the package's own to its runs, and a user's to a few runs of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hardware.errors import InputError
from hardware.writing import write_text
from simulator.corpus import runs
from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run
from simulator.evidence import held_out
from simulator.evidence.batch import Mapped, mapped
from simulator.evidence.fitting import ConstantsFit, Mask
from simulator.pricing import constants as pricing
from simulator.pricing.constants import KINDS, Constants

_MOST_PARTS = 10
"""Parts into which own runs are cut, each of which is left out in turn."""
_TRUST = 3.0
"""How much more than the catalogue's the shipped constants are to be believed: few runs must not move them far."""
_NOTABLE = 0.02
"""A shift by less than this is not worth a line."""


@dataclass(frozen=True)
class FittedConstants:
    """Constants, the runs they were fitted to, and what they are good for."""

    constants: Constants
    cases: tuple[MappedRun, ...]
    refused: dict[str, int]
    """Why other runs were not used."""
    before: float
    """Median error with the constants at the start."""
    after: float
    """Median error on runs that were left out in turn."""
    moved: dict[str, float]
    """Constants that moved, and by how much."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "origin": self.constants.origin,
            "runs": len(self.cases),
            "runs_by_source": dict(Counter(case.run.collection for case in self.cases).most_common()),
            "refused": self.refused,
            "median_abs_error_before": self.before,
            "median_abs_error_left_out": self.after,
            "moved": self.moved,
        }


def timed(published: Iterable[Run]) -> Mapped:
    """Runs that trained and tell the time of a step, as scenarios."""
    return mapped(run for run in published if run.measured.step_time_s is not None and run.task != "forward")


def own(
    published: Iterable[Run], start: Constants | None = None, *, cases: Sequence[MappedRun] = ()
) -> FittedConstants:
    """Fit constants to a user's runs, drawn to those from which it starts.

    Parameters
    ----------
    given
        The runs; those marked as suspect do not count.
    start
        The shipped constants unless given.
    cases
        Runs that are scenarios already.

    Raises
    ------
    InputError
        Where none of the runs can be priced.
    """
    base = pricing.shipped() if start is None else start
    mapping = timed(published)
    cases = (*cases, *(case for case in mapping.cases if case.run.suspect is None))
    reasons = dict(Counter(error.reason for _, error in mapping.refused))
    if not cases:
        why = "; ".join(f"{reason} ({number})" for reason, number in reasons.items()) or "none trained with a step time"
        raise InputError(f"no run to fit to: {why}; a run needs a step time and a plan that can be priced")
    fit, every = ConstantsFit(cases, base, _TRUST), np.ones(len(cases), dtype=bool)
    solution = fit.solve(every)
    moved = {
        " ".join(name): round(float(to - start_at), 3)
        for name, to, start_at in zip(fit.parameters.names, solution, fit.centre, strict=True)
        if abs(to - start_at) >= _NOTABLE
    }
    return FittedConstants(
        constants=fit.parameters.constants(solution, _origin(cases), base),
        cases=cases,
        refused=reasons,
        before=_median(fit.residuals(fit.centre)),
        after=_left_out(fit, every),
        moved=dict(sorted(moved.items(), key=lambda item: -abs(item[1]))),
    )


def _left_out(fit: ConstantsFit, every: Mask) -> float:
    """Median error on runs that a fit to the others predicts; with one run, that of the start."""
    parts = np.arange(len(every)) % min(len(every), _MOST_PARTS)
    errors = np.empty(len(every))
    for part in np.unique(parts):
        out = parts == part
        errors[out] = fit.residuals(fit.solve(every & ~out))[out]
    return _median(errors)


def _median(residuals: Any) -> float:
    """Median error of logarithms of predicted over measured."""
    return float(np.median(np.abs(np.exp(residuals) - 1.0)))


def shipped() -> tuple[FittedConstants, held_out.HeldOut]:
    """Fit the package's constants to its runs, and cross-validate them."""
    mapping = timed(runs.shipped())
    used = np.array([case.run.suspect is None for case in mapping.cases])
    fit = ConstantsFit(mapping.cases)
    solution = fit.solve(used)
    seen = tuple(case for case, use in zip(mapping.cases, used, strict=True) if use)
    checked = held_out.cross_validate(fit, mapping.cases, used)
    known = checked.errors["known stack"]
    fitted = FittedConstants(
        constants=fit.parameters.constants(solution, _origin(seen)),
        cases=seen,
        refused=dict(Counter(error.reason for _, error in mapping.refused)),
        before=_median(fit.residuals(fit.centre)[used]),
        after=_median(-known.logarithms),
        moved={},
    )
    return fitted, checked


def _origin(cases: Sequence[MappedRun]) -> str:
    """Where constants come from, in words."""
    sources = len({case.run.collection for case in cases})
    return f"capsim fit: {len(cases):,} runs of {sources} source{'s' if sources > 1 else ''}"


def write(constants: Constants, cases: Sequence[MappedRun], path: Path) -> None:
    """Write constants with the runs that they were fitted to.

    The runs stand in a second document of the file, so that reading the constants stays quick.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    lines = ["# Written by capsim fit: shifts from the catalogue's constants, by what they belong to."]
    lines += [f"#   {kind}: {about.what}" for kind, about in KINDS.items()]
    used: dict[str, list[str]] = {}
    for case in cases:
        used.setdefault(case.run.collection, []).append(case.run.id)
    shifts = {
        kind: {level: dict(sorted(names.items())) for level, names in levels.items() if names}
        for kind, levels in constants.shifts.items()
    }
    head = yaml.safe_dump({"origin": constants.origin, "shifts": shifts}, sort_keys=False, width=100)
    tail = yaml.safe_dump({"runs": used}, sort_keys=True, width=118, default_flow_style=None)
    write_text(path, "\n".join(lines) + "\n" + head + "---\n" + tail)
