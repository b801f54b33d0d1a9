"""A run: cases in order of what they tell, within a budget, each on disk before the next begins."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from measure.clock.cases import Tier
from simulator.profiling.records.record import Case, Result

_RESERVE = 0.02
"""Share of the budget that is kept for what a forecast misses."""


class CaseRunner(Protocol):
    """What measures a case."""

    def run(self, case: Case) -> Result:
        """The outcome, whatever it is."""


class CostForecast(Protocol):
    """What knows how long cases take."""

    def cost(self, case: Case) -> float:
        """Expected time of a case [s]."""

    def learn(self, case: Case, took_s: float) -> None:
        """Take in how long one took [s]."""


class Keeper(Protocol):
    """Where results go."""

    def add(self, result: Result) -> None:
        """Keep a result for good."""


_MOST_SHARE: dict[Tier, float] = {"first": 1.0, "probe": 1.0, "whole": 0.4, "step": 0.1}
_USUAL_SHARE = 0.03
"""Of the budget that one case may take before it has to wait for all others."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    number: int
    """Cases that are behind it, those of earlier runs among them."""
    planned: int
    left_s: float
    """Until it ends: by budget, or by what is left to do."""
    case: Case


@dataclass
class Summary:
    """What became of a run."""

    outcomes: Counter[str] = field(default_factory=Counter)
    before: int = 0
    """Cases that an earlier run had finished."""
    left_out: int = 0
    """Cases that did not fit in the budget."""
    took_s: float = 0.0
    interrupted: bool = False


def finished(results: Iterable[Result]) -> set[str]:
    """Keys of cases that need no repetition: all but those whose samples could not be believed."""
    return {result.case.key for result in results if result.outcome != "rejected"}


@dataclass
class MeasuringSession:
    """One run.

    Parameters
    ----------
    bench
        Measures.
    forecast
        Expects.
    keeper
        Keeps.
    budget_s
        Time that the run may take from `started` [s].
    clock
        Tells the time [s].
    tell
        Hears how far the run is.
    """

    bench: CaseRunner
    forecast: CostForecast
    keeper: Keeper
    budget_s: float
    clock: Callable[[], float] = time.monotonic
    tell: Callable[[Progress], None] | None = None

    def run(
        self, plan: Sequence[tuple[Tier, Case]], *, done: Collection[str] = (), started: float | None = None
    ) -> Summary:
        """Measure what the budget allows.

        Parameters
        ----------
        plan
            Cases, the most telling first.
        done
            Keys of cases that need not be measured again.
        started
            When the budget began, as the clock tells; now unless given.
        """
        begin = self.clock() if started is None else started
        left = self._ordered([entry for entry in plan if entry[1].key not in done])
        summary = Summary(before=len(plan) - len(left))
        end = begin + self.budget_s * (1.0 - _RESERVE)
        try:
            while left:
                case = left.pop(0)
                if self.clock() + self.forecast.cost(case) > end:
                    summary.left_out += 1
                    continue
                self._say(case, left, summary, len(plan), end)
                result = self.bench.run(case)
                self.keeper.add(result)
                if result.outcome == "measured":  # what fails takes next to no time
                    self.forecast.learn(case, result.took_s)
                summary.outcomes[result.outcome] += 1
        except KeyboardInterrupt:
            summary.interrupted = True
            summary.left_out += len(left) + 1
        summary.took_s = self.clock() - begin
        return summary

    def _ordered(self, plan: Sequence[tuple[Tier, Case]]) -> list[Case]:
        """As planned, but what would take a large part of the budget comes last, unless it calibrates."""
        dear = {
            case.key
            for tier, case in plan
            if self.forecast.cost(case) > _MOST_SHARE.get(tier, _USUAL_SHARE) * self.budget_s
        }
        cases = [case for _, case in plan]
        return [case for case in cases if case.key not in dear] + [case for case in cases if case.key in dear]

    def _say(self, case: Case, left: Sequence[Case], summary: Summary, planned: int, end: float) -> None:
        """Tell how far the run is."""
        if self.tell is None:
            return
        time_left = max(end - self.clock(), 0.0)
        needed = self.forecast.cost(case)
        for later in left:
            if needed >= time_left:
                break
            needed += self.forecast.cost(later)
        number = summary.before + summary.left_out + sum(summary.outcomes.values())
        self.tell(Progress(number, planned, min(needed, time_left), case))
