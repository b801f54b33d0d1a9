"""Predictions held against published runs: each run priced by constants that were not fitted to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from simulator.corpus import runs
from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run
from simulator.evidence import held_out, memory, scores
from simulator.evidence.batch import RunBatch, Values, mapped, own_shifts_of, shifts_of
from simulator.evidence.memory import MemoryScore
from simulator.evidence.memory_errors import Calibration, calibration, told_by
from simulator.evidence.plan_order import PlanOrder, plan_order
from simulator.evidence.scores import SCORINGS, Outcome
from simulator.evidence.traits import traits_of
from simulator.pricing.constants import UNFITTED, Constants, Shifts, shipped

Item = TypeVar("Item")


@dataclass(frozen=True)
class Validation:
    """What the comparison found."""

    rows: int
    timed: int
    """Of them those that trained and tell the time of a step."""
    refused: dict[str, int]
    """Why runs were not priced, and how many."""
    memory: MemoryScore | None
    """Predicted bytes, and what fits, beside what runs tell of it."""
    chances: Calibration | None
    """Predicted probabilities of fitting beside what happened."""
    outcomes: tuple[Outcome, ...]
    """Runs that count."""
    suspect: tuple[Outcome, ...]
    """Runs that contradict themselves or their neighbours, scored apart."""
    ranking: Mapping[scores.Scheme, PlanOrder]
    """How well predictions order runs that differ in their plan only, where there are such."""
    unknown_keys: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        whole = scores.headline(self.outcomes) if self.outcomes else None
        known = scores.known_stack(self.outcomes) if self.outcomes else None
        before = scores.unfitted(self.outcomes) if self.outcomes else None
        figures = whole.to_dict() if whole else {}
        return {
            "rows": self.rows,
            "timed_training_rows": self.timed,
            "priced": len(self.outcomes) + len(self.suspect),
            "refused": self.refused,
            **{name: figures.get(name) for name in ("median_abs_error", "mean_abs_error", "p90_abs_error", "bias")},
            "macro_median_abs_error": scores.macro(self.outcomes) if self.outcomes else None,
            "interval_coverage_90": figures.get("coverage_90"),
            "interval_low": figures.get("low"),
            "interval_high": figures.get("high"),
            "seconds": self.seconds,
            "known_stack": _with_macro(known, self.outcomes, scores.known_stack),
            "unfitted": _with_macro(before, self.outcomes, scores.unfitted),
            "suspect": scores.headline(self.suspect).to_dict() if self.suspect else {},
            **{
                f"by_{name}": scores.plain(scores.by(self.outcomes, name))
                for name in ("source", "device", "task", "stack")
            },
            "by_source_known_stack": scores.plain(scores.by(self.outcomes, "source", scores.known_stack)),
            "ranking": self._ranking(),
            "memory": self.memory.to_dict() if self.memory else {},
            "fits_probability": self.chances.to_dict() if self.chances else {},
            "unknown_keys": self.unknown_keys,
            "runs": [vars(each) for each in (*self.outcomes, *self.suspect)],
        }

    def _ranking(self) -> dict[str, Any]:
        """How well constants order plans that never saw the source, and the other schemes under their names."""
        plain = {scheme: order.to_dict() for scheme, order in self.ranking.items()}
        headline = plain.pop("new source", {})
        return {**headline, **{scheme.replace(" ", "_"): order for scheme, order in plain.items()}}


def _with_macro(whole: scores.Score | None, outcomes: Sequence[Outcome], scoring: scores.Scoring) -> dict[str, Any]:
    """A score with its macro-average; empty where nothing was priced."""
    return {**whole.to_dict(), "macro_median_abs_error": scores.macro(outcomes, scoring)} if whole else {}


Progress = Callable[[str, int, int], None]
"""Called with what is done, how many of it are, and how many there are; what it raises ends the work."""


def validate(
    published: Iterable[Run] | None = None, constants: Constants | None = None, *, progress: Progress | None = None
) -> Validation:
    """Price runs and compare.

    Parameters
    ----------
    given
        Runs; those that are shipped unless given.
    constants
        To price with runs that no fit saw; the shipped ones unless given.
    progress
        Called often with what is done, how many of it are, and how many there are; what it raises ends the work.

    Notes
    -----
    A run that the shipped constants were fitted to is priced by constants of cross-validation that never saw it.
    """
    start, tell = time.perf_counter(), progress or _nobody
    every = tuple(runs.shipped() if published is None else published)
    trained = [run for run in every if run.task != "forward"]
    timed = [run for run in trained if run.measured.step_time_s is not None]
    mapping = mapped(_counted(timed, "runs read", tell))
    others = mapped(run for run in trained if run.measured.step_time_s is None and _tells_memory(run))
    reasons = Counter(error.reason for _, error in mapping.refused)
    reasons["forward pass only"] += sum(run.task == "forward" for run in every)
    reasons["no step time"] += len(every) - len(timed) - reasons["forward pass only"]
    outcomes = _outcomes(mapping.cases, constants or shipped(), tell) if mapping.cases else []
    held, chances = _memory((*mapping.cases, *others.cases), of_shipped=published is None)
    return Validation(
        rows=len(every),
        timed=len(timed),
        refused={reason: number for reason, number in reasons.most_common() if number},
        memory=held,
        chances=chances,
        outcomes=tuple(each for each in outcomes if not each.suspect),
        suspect=tuple(each for each in outcomes if each.suspect),
        ranking=_ranking(mapping.cases, outcomes),
        unknown_keys=dict(runs.unknown_keys(every).most_common()) if published is not None else {},
        seconds=time.perf_counter() - start,
    )


def _nobody(what: str, done: int, of: int) -> None:
    """Tell nobody how far it is."""


def _counted(every: Sequence[Item], what: str, tell: Progress) -> Iterator[Item]:
    """Each of several, and how far that is."""
    for done, each in enumerate(every):
        tell(what, done, len(every))
        yield each


def _tells_memory(run: Run) -> bool:
    """Whether a run says how much memory it took, or whether it fitted."""
    return run.measured.memory_gb is not None or run.measured.oom is not None


def _memory(cases: Sequence[MappedRun], *, of_shipped: bool) -> tuple[MemoryScore | None, Calibration | None]:
    """Score memory, to which no constant is fitted, and the probabilities of fitting."""
    if not cases:
        return None, None
    predicted = RunBatch(cases).price(Shifts()).memory
    return memory.compare(cases, predicted), calibration(told_by(cases, predicted), of_shipped=of_shipped)


def _outcomes(cases: Sequence[MappedRun], constants: Constants, tell: Progress) -> list[Outcome]:
    """Price cases by constants that never saw them."""
    batch, evidence = RunBatch(cases), held_out.shipped()
    predicted: dict[held_out.Scheme, Values] = {}
    limits: dict[held_out.Scheme, tuple[Values, Values]] = {}
    for scheme in evidence.errors:
        own = [evidence.constants_of(case.run, scheme) or constants for case in cases]
        predicted[scheme] = batch.price(own_shifts_of(cases, own)).time
        limits[scheme] = _limits(cases, evidence, scheme, tell)
    before = batch.price(shifts_of(cases, UNFITTED)).time
    new, known = predicted["new source"], predicted["known stack"]
    return [
        Outcome(
            id=case.run.id,
            measured_s=float(case.run.measured.step_time_s or 0.0),
            predicted_s=float(new[row]),
            low_s=float(new[row] * limits["new source"][0][row]),
            high_s=float(new[row] * limits["new source"][1][row]),
            source=case.run.collection,
            device=case.system.device.id,
            stack=case.stack.id,
            task=case.run.task,
            suspect=case.run.suspect is not None,
            known_stack_s=float(known[row]),
            known_low_s=float(known[row] * limits["known stack"][0][row]),
            known_high_s=float(known[row] * limits["known stack"][1][row]),
            unfitted_s=float(before[row]),
        )
        for row, case in enumerate(cases)
    ]


def _ranking(cases: Sequence[MappedRun], outcomes: Sequence[Outcome]) -> dict[scores.Scheme, PlanOrder]:
    """How well each kind of constants orders plans, where some of the runs differ in their plan only."""
    orders = {
        scheme: plan_order(cases, np.array([each.by(scheme).predicted_s for each in outcomes])) for scheme in SCORINGS
    }
    return {scheme: order for scheme, order in orders.items() if order is not None}


def _limits(
    cases: Sequence[MappedRun], evidence: held_out.HeldOut, scheme: held_out.Scheme, tell: Progress
) -> tuple[Values, Values]:
    """Factors of the interval around each case, by errors on other sources or other folds than its own."""
    errors = evidence.errors[scheme]
    low, high = np.empty(len(cases)), np.empty(len(cases))
    for row, case in enumerate(_counted(cases, f"intervals found, {scheme}", tell)):
        group = evidence.group_of(case.run, scheme)
        interval = errors.around(traits_of(case), among=None if group is None else errors.groups != group)
        low[row], high[row] = interval.low, interval.high
    return low, high
