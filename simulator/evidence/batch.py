"""Runs priced together, as arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from simulator.corpus.mapping import MappedRun, case_of
from simulator.corpus.runs import RefusedError, Run
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.constants import Constants, Shifts
from simulator.step.evaluation import evaluate
from simulator.step.memory import Memory
from simulator.step.time import step_time
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

Values = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Mapped:
    """Runs as scenarios, and those that are not."""

    cases: tuple[MappedRun, ...]
    refused: tuple[tuple[Run, RefusedError], ...]


def mapped(runs: Iterable[Run]) -> Mapped:
    """Make scenarios of runs; each that cannot be one is kept with its reason."""
    cases: list[MappedRun] = []
    refused: list[tuple[Run, RefusedError]] = []
    for run in runs:
        try:
            cases.append(case_of(run))
        except RefusedError as error:
            refused.append((run, error))
    return Mapped(tuple(cases), tuple(refused))


@dataclass(frozen=True)
class Priced:
    """What a step of each run takes."""

    time: Values
    """[s]"""
    memory: Memory
    """Of the fullest stage, in arrays [B]."""
    capacity: Values
    """Of a device [B]."""


@dataclass(frozen=True)
class _Group:
    """Runs whose models have equal structure."""

    rows: Rows
    scenarios: Scenarios
    backend: AnalyticBackend


class RunBatch:
    """Scenarios as arrays, in groups of equal structure.

    Parameters
    ----------
    cases
        The scenarios, at least one.
    """

    def __init__(self, cases: Sequence[MappedRun]) -> None:
        by_structure: defaultdict[Hashable, list[int]] = defaultdict(list)
        columns = [case.columns() for case in cases]
        for row, one in enumerate(columns):
            by_structure[one.structure].append(row)
        self.size = len(cases)
        self._groups = [
            _Group(
                np.array(rows, dtype=np.intp),
                Scenarios.stack([columns[row] for row in rows]),
                AnalyticBackend.stack([cases[row].backend() for row in rows]),
            )
            for rows in by_structure.values()
        ]

    def times(self, shifts: Shifts) -> Values:
        """Time of a step of every run alone, which is quicker than with its memory [s]."""
        time = np.empty(self.size)
        for group in self._groups:
            scenarios, backend = _shifted(group, shifts)
            time[group.rows] = step_time(program_of(scenarios), backend, broken_down=False).time
        return time

    def price(self, shifts: Shifts) -> Priced:
        """Time and memory of a step of every run.

        Parameters
        ----------
        shifts
            Of the constants, one number or one for each run.
        """
        time, capacity = np.empty(self.size), np.empty(self.size)
        memory = {part.name: np.empty(self.size) for part in fields(Memory)}
        for group in self._groups:
            evaluated = evaluate(*_shifted(group, shifts))
            time[group.rows] = evaluated.step.time
            capacity[group.rows] = group.backend.device.memory_capacity
            for name, values in memory.items():
                values[group.rows] = getattr(evaluated.memory, name)
        return Priced(time, Memory(**memory), capacity)


def _shifted(group: _Group, shifts: Shifts) -> tuple[Scenarios, AnalyticBackend]:
    """The scenarios of a group and what prices them, with their constants shifted."""
    moved = shifts.take(group.rows)
    stacks = moved.on_stacks(group.scenarios.stacks)
    return replace(group.scenarios, stacks=stacks), moved.on_backend(group.backend)


def shifts_of(cases: Sequence[MappedRun], constants: Constants) -> Shifts:
    """The shifts of every case, as arrays."""
    return own_shifts_of(cases, [constants] * len(cases))


def own_shifts_of(cases: Sequence[MappedRun], constants: Sequence[Constants]) -> Shifts:
    """The shifts of every case by its own constants."""
    return Shifts.stack(
        [
            own.of(case.stack, case.system, case.plan.precision or "bf16")
            for case, own in zip(cases, constants, strict=True)
        ]
    )
