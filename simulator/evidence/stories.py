"""One published run told whole: its predicted time in parts, the interval around it, and the runs most like it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simulator.corpus import runs
from simulator.corpus.mapping import MappedRun
from simulator.corpus.schema import Run
from simulator.evidence import held_out
from simulator.evidence.errors import SCHEMES, Scheme
from simulator.evidence.traits import traits_of
from simulator.pricing.constants import Constants, shipped
from simulator.step.evaluation import evaluate
from simulator.work.transformer import Scenarios

_NEAREST = 5
"""Runs that are named."""


@dataclass(frozen=True)
class Neighbour:
    """A run of the evidence that is like another."""

    id: str
    distance: float
    measured_s: float
    error: float
    """Predicted over measured time less 1, by constants that had not seen its source."""


@dataclass(frozen=True)
class RunStory:
    """What is predicted of a run, by constants that had not seen its source, and what that rests on."""

    constants: str
    """Where the constants come from."""
    predicted_s: float
    breakdown_s: dict[str, float]
    low_s: float
    high_s: float
    runs: int
    sources: int
    neighbours: tuple[Neighbour, ...]
    """Of other sources, the nearest first."""

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, strings, lists and dictionaries."""
        return asdict(self) | {"neighbours": [asdict(each) for each in self.neighbours]}


def story_of(case: MappedRun, constants: Constants | None = None) -> RunStory:
    """Tell of a run how long it is predicted to take, in parts, and by which other runs that is judged.

    Parameters
    ----------
    case
        The run as a scenario, whether or not it tells a time.
    constants
        To price it with, where no fit saw it; the shipped ones unless given.
    """
    scheme: Scheme = SCHEMES[0]
    evidence, run = held_out.shipped(), case.run
    errors, group = evidence.errors[scheme], evidence.group_of(run, scheme)
    own = evidence.constants_of(run, scheme) or constants or shipped()
    time, parts = _priced(case, own)
    others = errors.sources != run.collection if group is None else errors.groups != group
    traits = traits_of(case)
    interval = errors.around(traits, among=others)
    distances = np.where(others, errors.distances(traits), np.inf)
    rows = [int(row) for row in np.argsort(distances, kind="stable")[:_NEAREST] if np.isfinite(distances[row])]
    logarithms = errors.logarithms
    known = {each.id: each for each in runs.named(str(errors.ids[row]) for row in rows)}
    near = [(row, known[str(errors.ids[row])]) for row in rows if str(errors.ids[row]) in known]
    return RunStory(
        constants=own.origin,
        predicted_s=time,
        breakdown_s=parts,
        low_s=time * interval.low,
        high_s=time * interval.high,
        runs=interval.runs,
        sources=interval.sources,
        neighbours=tuple(_neighbour(each, float(distances[row]), float(logarithms[row])) for row, each in near),
    )


def _priced(case: MappedRun, constants: Constants) -> tuple[float, dict[str, float]]:
    """Time of a step and its parts, the longest first [s]."""
    shifts = constants.of(case.stack, case.system, case.plan.precision or "bf16")
    columns = case.columns()
    moved = Scenarios(columns.models, columns.workloads, columns.plans, shifts.on_stacks(columns.stacks))
    step = evaluate(moved, shifts.on_backend(case.backend())).step
    parts = {name: float(value) for name, value in step.parts.items() if float(value) != 0.0}
    return float(step.time), dict(sorted(parts.items(), key=lambda item: -item[1]))


def _neighbour(run: Run, distance: float, logarithm: float) -> Neighbour:
    """A run of the evidence."""
    return Neighbour(run.id, distance, float(run.measured.step_time_s or 0.0), float(np.expm1(-logarithm)))
