"""Do predictions order plans as measurements do: runs that differ in their plan only, held against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.corpus.mapping import MappedRun

Values = NDArray[np.float64]
APART = 0.05
"""Plans whose measured times differ by less may come in any order."""
_MANY = 20
"""Runs of a source from which it can be the one that is explained least."""


@dataclass(frozen=True)
class PlanGroup:
    """Runs of one source, model, system, software, format and workload, with the plans that they tried."""

    source: str
    runs: int
    measured: Values
    """Time of each plan, in the mean where several runs had it [s]."""
    predicted: Values
    """[s]"""

    @property
    def regret(self) -> float:
        """How much longer the plan that is predicted fastest takes than the fastest, as a share of that."""
        first = self.measured[self.predicted == self.predicted.min()].mean()
        return float(first / self.measured.min() - 1.0)

    @property
    def disagreement(self) -> Values:
        """Logarithms of measured over predicted time, less their mean: what no common factor explains."""
        ratios = np.log(self.measured / self.predicted)
        return np.asarray(ratios - ratios.mean())

    @property
    def pairs(self) -> tuple[int, int]:
        """Pairs of plans whose measured times differ enough, and how many of them are predicted in their order."""
        one, other = np.triu_indices(len(self.measured), 1)
        apart = np.abs(np.log(self.measured[one] / self.measured[other])) >= np.log1p(APART)
        right = (self.measured[one] < self.measured[other]) == (self.predicted[one] < self.predicted[other])
        differs = self.predicted[one] != self.predicted[other]
        return int(apart.sum()), int((apart & right & differs).sum())


@dataclass(frozen=True)
class OrderScore:
    """How well predictions order plans."""

    groups: int
    runs: int
    regret_median: float
    """Over groups."""
    regret_mean: float
    pairs: int
    """Pairs of plans of a group whose measured times differ by 5 % and more."""
    pairs_right: float
    """Share of them that are predicted in their order."""

    @classmethod
    def of(cls, groups: Sequence[PlanGroup]) -> OrderScore:
        """Of some groups, at least one."""
        regrets, pairs = [group.regret for group in groups], np.array([group.pairs for group in groups])
        apart, right = (int(number) for number in pairs.sum(axis=0))
        return cls(
            groups=len(groups),
            runs=_runs(groups),
            regret_median=float(np.median(regrets)),
            regret_mean=float(np.mean(regrets)),
            pairs=apart,
            pairs_right=right / apart if apart else 1.0,
        )


@dataclass(frozen=True)
class PlanOrder:
    """How well predictions order plans: of all sources, and without the one whose plans they explain least."""

    whole: OrderScore
    least_explained: str
    """Of the sources with enough runs the one in whose groups measured over predicted time scatters most."""
    others: OrderScore | None
    """Without it; nothing where it is the only one."""
    by_source: dict[str, OrderScore]
    """The source with most runs first."""

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, strings and dictionaries."""
        return {
            **asdict(self.whole),
            "least_explained": self.least_explained,
            "without_least_explained": asdict(self.others) if self.others else {},
            "by_source": {name: asdict(score) for name, score in self.by_source.items()},
        }


def plan_order(cases: Sequence[MappedRun], predicted: Values) -> PlanOrder | None:
    """Score the order of plans by predictions, or nothing where no two runs differ in their plan only.

    Parameters
    ----------
    cases
        Runs with a measured step time; those that are suspect do not count.
    predicted
        Time of a step of each [s].
    """
    groups = groups_of(cases, predicted)
    if not groups:
        return None
    of_source: defaultdict[str, list[PlanGroup]] = defaultdict(list)
    for group in groups:
        of_source[group.source].append(group)
    names = sorted(of_source, key=lambda name: (-_runs(of_source[name]), name))
    least = max(
        [name for name in names if _runs(of_source[name]) >= _MANY] or names, key=lambda name: _scatter(of_source[name])
    )
    others = [group for group in groups if group.source != least]
    return PlanOrder(
        OrderScore.of(groups),
        least,
        OrderScore.of(others) if others else None,
        {name: OrderScore.of(of_source[name]) for name in names},
    )


def _runs(groups: Sequence[PlanGroup]) -> int:
    """Runs of groups."""
    return sum(group.runs for group in groups)


def _scatter(groups: Sequence[PlanGroup]) -> float:
    """Standard deviation of what no common factor of each group explains."""
    return float(np.std(np.concatenate([group.disagreement for group in groups])))


def groups_of(cases: Sequence[MappedRun], predicted: Values) -> list[PlanGroup]:
    """Groups of runs of at least two plans that agree in all else; `plan_order` says what is needed."""
    rows: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, case in enumerate(cases):
        if case.run.suspect is None:
            rows[_same(case)].append(row)
    groups = (_group([cases[row] for row in each], predicted[each]) for each in rows.values() if len(each) > 1)
    return [group for group in groups if len(group.measured) > 1]


def _same(case: MappedRun) -> Hashable:
    """What runs of a group share."""
    run, plan = case.run, case.plan
    words = (run.plan.framework, run.extra.container, run.plan.torch_compile, run.plan.compiler)
    arithmetic = (plan.precision, plan.optimizer, plan.attention)
    described = tuple(part.model_dump_json() for part in (case.model, case.workload, case.stack))
    return run.collection, run.task, run.hardware.device, case.system.id, case.devices, words, arithmetic, described


def _group(cases: Sequence[MappedRun], predicted: Values) -> PlanGroup:
    """One group; runs of the same plan count as one."""
    keyed = sorted(enumerate(case.plan.model_dump_json() for case in cases), key=lambda pair: pair[1])
    plans = [[row for row, _ in same] for _, same in groupby(keyed, key=lambda pair: pair[1])]
    measured = _measured(cases)
    return PlanGroup(
        source=cases[0].run.collection,
        runs=len(cases),
        measured=np.array([measured[rows].mean() for rows in plans]),
        predicted=np.array([predicted[rows].mean() for rows in plans]),
    )


def _measured(cases: Iterable[MappedRun]) -> Values:
    """Measured times [s]."""
    return np.array([case.run.measured.step_time_s for case in cases], dtype=np.float64)
