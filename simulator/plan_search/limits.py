"""What a run must keep: memory that stays free, a deadline, a budget."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from hardware.amounts import is_number, read_number
from hardware.errors import InputError, shown
from hardware.quantity import read_amount
from simulator.formulas import money
from simulator.scenario.scenario import Scenario

_LONGEST = 100 * 365.25 * 86400.0
"""Deadlines beyond a hundred years are mistakes [s]."""
_DATE = re.compile(r"\s*(\d{4}-\d\d-\d\d)\s*", re.ASCII)


@dataclass(frozen=True)
class Limits:
    """What plans of a search must keep."""

    headroom: float = 0.0
    """Share of a device's memory that stays free [1]."""
    deadline_s: float | None = None
    budget_usd: float | None = None

    @classmethod
    def read(cls, headroom: Any = 0.0, deadline: Any = None, budget: Any = None) -> Limits:
        """Check what somebody wishes.

        Raises
        ------
        InputError
            Where nothing could keep it.
        """
        return cls(read_headroom(headroom), read_deadline(deadline), read_budget(budget))

    def memory(self, scenario: Scenario) -> float:
        """Predicted memory of a device up to which plans fit, as surely as is wished, and leave the headroom [B]."""
        return (1.0 - self.headroom) * scenario.room

    def step_time(self, scenario: Scenario) -> float:
        """Time of a step with which a run without failures just ends in time and within the budget [s].

        Raises
        ------
        InputError
            Where nobody knows the length of the run, or there is a budget and nobody knows the price.
        """
        for name, limit in (("deadline", self.deadline_s), ("budget", self.budget_usd)):
            if limit is not None:
                check_length(name, known=scenario.workload.says_length)
        steps, longest = scenario.workload.total_steps, float("inf")
        if self.deadline_s is not None:
            longest = self.deadline_s / steps
        if self.budget_usd is not None:
            if scenario.price is None:
                device = scenario.system.device.id
                raise InputError(
                    f"budget={self.budget_usd:g}: no price of {device} is known; give one, such as price=2.5",
                    fields=["price"],
                )
            second = float(money.cost(money.device_seconds(steps, float(scenario.devices)), scenario.price.rate))
            longest = min(longest, self.budget_usd / second)
        return longest


def check_length(limit: str, *, known: bool) -> None:
    """Refuse a limit of a run of which nothing says how long it is.

    Parameters
    ----------
    limit
        What was asked for.
    known
        Whether something says how long the run is.

    Raises
    ------
    InputError
        With the remedy.
    """
    if not known:
        raise InputError(
            f"{limit}: nothing says how long the run is; give tokens, such as --tokens 300e9, or steps",
            fields=[limit, "workload.tokens", "workload.steps"],
        )


def read_headroom(headroom: Any) -> float:
    """A share of the memory, from a number or text such as ``10%``.

    Raises
    ------
    InputError
        Where it is no share that leaves something.
    """
    share = read_number(headroom) if isinstance(headroom, str) else headroom
    if not (is_number(share) and 0.0 <= share < 1.0):
        raise InputError(f"headroom={shown(headroom)}: give a share of the memory from 0 to below 1, such as 10%")
    return float(share)


def read_deadline(deadline: Any, *, today: date | None = None) -> float | None:
    """A deadline as seconds, from a number, or text such as ``60d`` or the date until which a run may take.

    Parameters
    ----------
    deadline
        Seconds, text, or nothing.
    today
        From when a run goes on until a date; today unless given.

    Raises
    ------
    InputError
        Where it is no time, or none that a run could have.
    """
    seconds = deadline
    if isinstance(deadline, str) and (written := _DATE.fullmatch(deadline)):
        seconds = _seconds_until(written[1], today or date.today())
    elif isinstance(deadline, str):
        try:
            seconds = read_amount(deadline, "deadline")
        except ValueError:
            raise InputError(
                f"deadline={shown(deadline)}: write a time with its unit, such as 60d, '8 weeks' or '1 year', or a date"
                " such as 2027-03-31"
            ) from None
    if seconds is not None and not (is_number(seconds) and 0.0 < seconds <= _LONGEST):
        raise InputError(f"deadline={shown(deadline)}: give a time between zero and 100 years, such as 60d")
    return None if seconds is None else float(seconds)


def _seconds_until(text: str, today: date) -> float:
    """Time from today until the same hour of a later day [s]."""
    try:
        days = (date.fromisoformat(text) - today).days
    except ValueError:
        raise InputError(f"deadline={shown(text)}: there is no such day; write year-month-day") from None
    if days < 1:
        raise InputError(f"deadline={shown(text)}: is not after today, {today.isoformat()}; give a later date")
    return days * 86400.0


def read_budget(budget: Any) -> float | None:
    """An amount of money as USD, from a number or text such as ``$12k``.

    Raises
    ------
    InputError
        Where it is none, or none that a run could cost.
    """
    dollars = budget
    if isinstance(budget, str):
        try:
            dollars = read_amount(budget, "sum of money")
        except ValueError as error:
            raise InputError(f"budget={shown(budget)}: {error}") from None
    if dollars is not None and not (is_number(dollars) and 0.0 < dollars < 1e15):
        raise InputError(f"budget={shown(budget)}: give a positive amount of USD, such as 5e6 or $12k")
    return None if dollars is None else float(dollars)
