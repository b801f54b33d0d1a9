"""Searches that leave memory free, end in time or stay within a budget: against every plan of small spaces."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest

from hardware.errors import InputError
from simulator.plan_search.limits import read_budget, read_deadline, read_headroom
from simulator.plan_search.searching import Search, search, searched
from simulator.specs.plan import Plan
from simulator.terminal import search as report
from tests.plan_search.cases import SMALL, everything, shortest, small

DAY = 86400.0


@cache
def _search(name: str, **wishes: Any) -> Search:
    return searched(small(name), Plan(), False, **wishes)


def _middle(name: str) -> float:
    """A step time that half of the plans that fit do not take [s]."""
    return float(np.median(everything(name).fitting().time))


@pytest.mark.parametrize("name", SMALL)
def test_memory_that_stays_free(name: str) -> None:
    plans = everything(name)
    share = float(np.median(plans.memory)) * (1.0 + 1e-9) / small(name).room
    outcome = _search(name, headroom=1.0 - share)
    kept = plans.memory <= share * small(name).room
    assert 0 < outcome.feasible == outcome.priced == int(kept.sum()) < len(plans.plans)
    assert outcome.rejected["memory"] == len(plans.plans) - outcome.feasible
    assert shortest(outcome).step_time_s == pytest.approx(plans.time[kept].min(), rel=1e-12)
    assert outcome.limits.headroom == 1.0 - share


@pytest.mark.parametrize("name", SMALL)
def test_a_deadline(name: str) -> None:
    slowest, fitting = _middle(name), everything(name).fitting()
    steps = small(name).workload.total_steps
    outcome = _search(name, deadline=slowest * steps * (1 + 1e-9), objective="memory", top=1)
    kept = fitting.time <= slowest * (1 + 1e-9)
    assert (outcome.priced, outcome.feasible) == (len(fitting.plans), int(kept.sum()))
    assert outcome.rejected["limits"] == outcome.priced - outcome.feasible
    assert outcome.best[0].memory_bytes["total"] == fitting.memory[kept].min()
    assert outcome.best[0].run.time_s <= slowest * steps * (1 + 1e-9)


@pytest.mark.parametrize("name", ["bert", "tpu"])
def test_a_budget(name: str) -> None:
    best = _search(name, top=1).best[0]
    assert best.run.cost_usd is not None
    outcome = _search(name, budget=1.2 * best.run.cost_usd, top=1000)
    assert 0 < outcome.feasible < outcome.priced
    assert all((one.run.cost_usd or 0.0) <= 1.2 * best.run.cost_usd for one in outcome.best)
    assert _search(name, budget=1.2 * best.run.cost_usd, deadline=1.1 * best.run.time_s).feasible < outcome.feasible


def test_the_front_and_the_table_keep_the_limits() -> None:
    wishes = {"deadline": _middle("bert") * small("bert").workload.total_steps, "headroom": 0.3}
    outcome = _search("bert", pareto="time,memory", by="tp,pp", **wishes)
    capacity = small("bert").system.device.memory_capacity
    assert outcome.pareto
    assert outcome.fastest is not None
    for one in outcome.pareto:
        assert one.run.time_s <= wishes["deadline"]
        assert one.memory_bytes["total"] <= outcome.room_bytes == 0.7 * small("bert").room < 0.7 * capacity
    times = [cell.step_time_s for cell in outcome.fastest.cells if cell.step_time_s is not None]
    assert min(times) == shortest(outcome).step_time_s
    assert max(times) <= _middle("bert")


def test_what_comes_nearest_where_nothing_is_fast_enough() -> None:
    quickest = shortest(_search("bert", top=1))
    outcome = _search("bert", deadline=0.5 * quickest.run.time_s)
    assert (outcome.best, outcome.feasible) == ((), 0)
    assert outcome.priced == outcome.rejected["limits"] > 0
    assert outcome.nearest is not None
    assert outcome.nearest.plan == quickest.plan
    assert report.why_nothing(outcome) == (
        f"no plan is left: {outcome.priced:,} fit, and all of them are slower or dearer than asked"
    )
    words = report.nearest_words(outcome, outcome.nearest)
    assert report.plan_words(quickest) in words
    assert "too much" not in words


def test_what_comes_nearest_where_nothing_leaves_so_much_free() -> None:
    outcome = search("bert-large", "dgx-1-v100", workload={"sequence_length": 512, "global_batch": 8}, headroom="90 %")
    assert (outcome.best, outcome.priced) == ((), 0)
    assert outcome.nearest is not None
    assert outcome.nearest.fits  # but not in a tenth of the memory
    assert report.nearest_words(outcome, outcome.nearest).endswith("too much")


def test_json_says_what_was_asked() -> None:
    answer = _search("bert", headroom=0.25, deadline="2d", by="sharding,recompute", top=1).to_dict()
    assert (answer["headroom"], answer["deadline_s"], answer["budget_usd"]) == (0.25, 2 * DAY, None)
    assert answer["fastest"]["by"] == ["sharding", "recompute"]


@pytest.mark.parametrize(
    ("value", "share"), [(0, 0.0), (0.1, 0.1), ("10%", 0.1), (" 10 % ", 0.1), ("0.25", 0.25), (0.9, 0.9)]
)
def test_shares_of_memory(value: Any, share: float) -> None:
    assert read_headroom(value) == share


@pytest.mark.parametrize("value", ["all", "100%", -0.1, 1.0, True, None, float("nan"), "", "1e", "10 GB"])
def test_no_shares_of_memory(value: Any) -> None:
    with pytest.raises(InputError, match=r"^headroom=.*: give a share of the memory from 0 to below 1, such as 10%$"):
        read_headroom(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(
            (None, None),
            (60, 60.0),
            ("2d", 2 * DAY),
            ("8 weeks", 56 * DAY),
            ("1 year", 365.25 * DAY),
            ("48 h", 2 * DAY),
        ),
        *(("1,000 days", 1000 * DAY), ("2026-03-01", 2 * DAY), (" 2027-02-27 ", 365 * DAY)),
    ],
)
def test_deadlines(value: Any, seconds: float | None) -> None:
    assert read_deadline(value, today=date(2026, 2, 27)) == seconds


def test_a_date_counts_from_today() -> None:
    in_a_week = date.today() + timedelta(days=7)
    assert read_deadline(in_a_week.isoformat()) in (6 * DAY, 7 * DAY)  # it may be midnight


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-02-26", "is not after today, 2026-02-27; give a later date"),
        ("2026-02-27", "is not after today"),
        ("2026-02-30", "there is no such day; write year-month-day"),
        ("0000-01-01", "there is no such day"),
        ("2126-03-01", "give a time between zero and 100 years"),
        ("27-02-2027", "write a time with its unit, such as 60d, '8 weeks' or '1 year', or a date such as 2027-03-31"),
        ("6m", "write a time with its unit"),  # minutes or months
    ],
)
def test_dates_that_are_no_deadlines(text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"^deadline='{text}': {words}"):
        read_deadline(text, today=date(2026, 2, 27))


@pytest.mark.parametrize("value", ["soon", "d", -1, "0 s", "200 years", True, "5"])
def test_no_deadlines(value: Any) -> None:
    with pytest.raises(InputError, match=r"^deadline="):
        read_deadline(value)


@pytest.mark.parametrize(
    ("value", "dollars"),
    [(None, None), (5e6, 5e6), ("5e6", 5e6), ("$12k", 12e3), ("12,000 USD", 12e3), ("1.5M", 1.5e6)],
)
def test_budgets(value: Any, dollars: float | None) -> None:
    assert read_budget(value) == dollars


@pytest.mark.parametrize("text", ["lots", "$", "5 EUR", "nan", "--5", "9" * 10_000, ""])
def test_texts_that_are_no_budgets(text: str) -> None:
    with pytest.raises(InputError, match=r"^budget=.* is not a (sum of money|unit of sum of money)"):
        read_budget(text)


@pytest.mark.parametrize("value", [0, -5.0, "$-5", True, 1e15, float("nan")])
def test_no_budgets(value: Any) -> None:
    with pytest.raises(InputError, match=r"^budget=.*: give a positive amount of USD, such as 5e6 or \$12k$"):
        read_budget(value)


def test_a_budget_needs_a_price() -> None:
    work = {"sequence_length": 512, "global_batch": 8}
    with pytest.raises(InputError, match=r"^budget=1000: no price of v100-sxm3-32gb is known") as refused:
        search("bert-large", "dgx-2", workload=work, budget=1000.0)
    assert list(refused.value.fields) == ["price"]
    assert search("bert-large", "dgx-2", workload=work, budget=1e5, price=1.0, top=1).best
