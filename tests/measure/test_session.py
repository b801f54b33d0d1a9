"""A run: order, budget, going on, and being interrupted."""

from __future__ import annotations

import pytest

from measure.clock.cases import Tier, plan_of, scope_of
from measure.runs.progress import clock_words, line
from measure.runs.session import MeasuringSession, Progress, finished
from simulator.profiling.records.record import Case, Result
from simulator.specs.loading import load_model
from tests.measure.fakes import gemm, measured

PLAN = plan_of(scope_of("cuda"), [load_model("bert-large")]).cases


class Lab:
    """A bench, a forecast, a clock and a record in one, in which time passes as a test says."""

    def __init__(self, *, cost_s: float = 1.0, wrong: float = 1.0, interrupt_at: int | None = None) -> None:
        self.time, self.cost_s, self.wrong, self.interrupt_at = 100.0, cost_s, wrong, interrupt_at
        self.kept: list[Result] = []
        self.begun = 0
        self.told: list[Progress] = []

    def run(self, case: Case) -> Result:
        assert len(self.kept) == self.begun  # all before are kept
        if self.begun == self.interrupt_at:
            raise KeyboardInterrupt
        self.begun += 1
        self.time += self.cost_s * self.wrong
        return measured(case)

    def cost(self, case: Case) -> float:
        return self.cost_s

    def learn(self, case: Case, took_s: float) -> None:
        """Nothing: a test wants to know what happens."""

    def add(self, result: Result) -> None:
        self.kept.append(result)

    def session(self, budget_s: float) -> MeasuringSession:
        return MeasuringSession(self, self, self, budget_s, clock=lambda: self.time, tell=self.told.append)


def test_a_minute_holds_the_probes_and_keeps_its_budget() -> None:
    lab = Lab()
    summary = lab.session(60.0).run(PLAN)
    assert {case.key for tier, case in PLAN if tier == "probe"} <= {result.case.key for result in lab.kept}
    assert lab.time <= 160.0
    assert summary.took_s <= 60.0
    assert len(lab.kept) + summary.left_out == len(PLAN)
    assert [result.case.key for result in lab.kept] == [case.key for _, case in PLAN[: len(lab.kept)]]


def test_the_budget_counts_from_when_it_began() -> None:
    lab = Lab()
    lab.session(60.0).run(PLAN, started=60.0)
    assert lab.time <= 120.0


def test_a_wrong_forecast_exceeds_the_budget_by_one_case_at_most() -> None:
    lab = Lab(wrong=5.0)
    lab.session(60.0).run(PLAN)
    assert lab.time <= 100.0 + 60.0 + 5.0


def test_what_does_not_fit_is_left_out_and_smaller_cases_follow() -> None:
    class Uneven(Lab):
        def cost(self, case: Case) -> float:
            return 50.0 if case.phase == "attention" else 0.01

        def run(self, case: Case) -> Result:
            self.cost_s = self.cost(case)
            return super().run(case)

    lab = Uneven()
    summary = lab.session(40.0).run(PLAN)
    assert summary.left_out == sum(case.phase == "attention" for _, case in PLAN)
    assert lab.time < 140.0


def test_dear_cases_wait_for_the_others() -> None:
    class Uneven(Lab):
        def cost(self, case: Case) -> float:
            return 20.0 if case.phase == "attention" else 0.001

    lab = Uneven(cost_s=0.001)
    lab.session(600.0).run(PLAN)
    phases = [result.case.phase for result in lab.kept]
    number = phases.count("attention")
    assert number > 3
    assert phases[-number:] == ["attention"] * number


def test_what_is_not_measured_teaches_nothing_of_time() -> None:
    class Failing(Lab):
        def run(self, case: Case) -> Result:
            return Result(case=case, outcome="out_of_memory", reason="too large", took_s=0.2)

        def learn(self, case: Case, took_s: float) -> None:
            raise AssertionError(case.words)

    lab = Failing()
    assert lab.session(60.0).run(PLAN[:5]).outcomes["out_of_memory"] == 5


def test_a_later_run_does_what_is_left() -> None:
    first, second = Lab(), Lab()
    first.session(60.0).run(PLAN)
    rejected = Result(case=first.kept[0].case, outcome="rejected", reason="too fast")
    done = finished([rejected, *first.kept[1:]])
    summary = second.session(1e6).run(PLAN, done=done)
    assert summary.before == len(first.kept) - 1
    assert second.kept[0].case == rejected.case
    assert len(second.kept) == len(PLAN) - len(first.kept) + 1


def test_ctrl_c_ends_cleanly() -> None:
    lab = Lab(interrupt_at=7)
    summary = lab.session(600.0).run(PLAN)
    assert summary.interrupted
    assert len(lab.kept) == 7
    assert summary.outcomes["measured"] + summary.left_out == len(PLAN)


def test_progress_tells_the_time_that_is_left() -> None:
    lab = Lab()
    plan: list[tuple[Tier, Case]] = [("probe", gemm(m)) for m in range(1, 11)]
    lab.session(600.0).run(plan)
    assert [progress.number for progress in lab.told] == list(range(10))
    assert lab.told[0].left_s == pytest.approx(10.0)
    assert lab.told[-1].left_s == pytest.approx(1.0)
    short = Lab()
    short.session(5.0).run(plan)
    assert short.told[0].left_s <= 5.0


def test_the_line_fits_the_terminal() -> None:
    progress = Progress(3, 10, 75.0, gemm(4096))
    assert line(progress, 200) == "######.............. 3 of 10, 1:15 min left: gemm linear m=4096 n=64 k=64 fp32"
    assert len(line(progress, 40)) == 39
    assert clock_words(3599.9) == "1:00 h"
