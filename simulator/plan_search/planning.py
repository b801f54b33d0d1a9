"""`simulator.plan`: the question asked backwards. What to rent, to finish by a date or within a budget."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hardware import catalogue
from hardware.errors import InputError, about, shown
from hardware.quantity import UNITS
from simulator.plan_search.cases import cases_of
from simulator.plan_search.sweeping import SHARES, Option, Refused, collected
from simulator.specs.loading import load_model

_RELAXED = (1.1, 1.25, 1.5, 2.0)
"""Factors by which deadline and budget are relaxed, to tell what that buys."""
_CONFIDENCE = 0.8
"""Probability with which a deadline or a budget is to be kept unless said otherwise."""
_LONGEST = 100 * 365.25 * 86400.0
"""Deadlines beyond a hundred years are mistakes [s]."""
_UNITS = {**UNITS["time"], **UNITS["lifetime"]}
_UNITS |= {"days": _UNITS["d"]} | {name.removesuffix("s"): _UNITS[name] for name in ("weeks", "months", "years")}
_KINDS = ("on-demand", "spot", "reserved")


@dataclass(frozen=True)
class Relaxed:
    """What a longer deadline or a larger budget buys."""

    factor: float
    deadline_s: float | None
    budget_usd: float | None
    option: Option | None


@dataclass(frozen=True)
class Outlook:
    """Options for a run, and which of them are worth a look."""

    model: str
    deadline_s: float | None
    budget_usd: float | None
    confidence: float
    options: tuple[Option, ...]
    """The best plan for every system and number of devices that can do it, the fastest first."""
    front: tuple[Option, ...]
    """Those that no other beats in both time and money."""
    front_with_carbon: tuple[Option, ...]
    """Those that no other beats in time, money and emissions."""
    cheapest: Option | None
    """Meets the deadline, and the budget where there is one; the cheapest such option."""
    fastest: Option | None
    """Stays within the budget, and the deadline where there is one; the fastest such option."""
    later: tuple[Relaxed, ...]
    """Cheapest options for longer deadlines."""
    dearer: tuple[Relaxed, ...]
    """Fastest options for larger budgets."""
    nearest: Relaxed | None
    """Where nothing keeps the limits, the option for which they would have to be relaxed least."""
    refused: tuple[Refused, ...]
    seconds: float
    whole: bool
    """Whether all options were seen, or somebody interrupted."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""

        def plain(option: Option | None) -> dict[str, Any] | None:
            return None if option is None else {**option.to_dict(), **self.chances(option)}

        def relaxed(one: Relaxed) -> dict[str, Any]:
            return {**vars(one), "option": plain(one.option)}

        same = ("model", "deadline_s", "budget_usd", "confidence", "seconds", "whole")
        return {
            **{name: getattr(self, name) for name in same},
            "cheapest": plain(self.cheapest),
            "fastest": plain(self.fastest),
            "nearest": None if self.nearest is None else relaxed(self.nearest),
            "front": [plain(option) for option in self.front],
            "front_with_carbon": [plain(option) for option in self.front_with_carbon],
            "later": [relaxed(each) for each in self.later],
            "dearer": [relaxed(each) for each in self.dearer],
            "options": [plain(option) for option in self.options],
            "refused": [vars(each) for each in self.refused],
        }

    def chances(self, option: Option) -> dict[str, float | None]:
        """Probabilities that an option keeps the deadline and the budget, where there is one."""
        found: dict[str, float | None] = {}
        if self.deadline_s is not None:
            found["chance_of_deadline"] = option.chance(self.deadline_s)
        if self.budget_usd is not None:
            found["chance_of_budget"] = option.chance_of_cost(self.budget_usd)
        return found


def plan(
    model: Any,
    *,
    deadline: float | str | None = None,
    budget: float | None = None,
    systems: str | Sequence[Any] = "all",
    max_devices: int = 8192,
    price_source: str | None = None,
    confidence: float = _CONFIDENCE,
    plan: Any = None,
    where: str | None = None,
    every_plan: bool = False,
    cluster: str | None = None,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Outlook:
    """What to rent for a run: the best plan for every system and number of devices, and which of them to take.

    Parameters
    ----------
    model
        As `simulator.estimate` takes it.
    deadline
        Time in which the run has to end: seconds, or text with a unit such as ``60d``, ``8 weeks`` or ``1 years``.
    budget
        Money that it may cost [USD].
    systems
        Names or systems; ``all`` of the catalogue unless given.
    max_devices
        Devices at most.
    price_source
        A provider or a kind of price (on-demand, spot, reserved); the cheapest on-demand offers unless given.
    confidence
        Probability with which deadline and budget are to be kept.
    plan, where
        What holds for all plans, as in `simulator.search`.
    every_plan
        Whether every plan is priced for each case, as a search does; else those that most runs use, and all of them
        where none of those fits.
    cluster, processes
        Where it is computed, as in `simulator.sweep`.
    progress
        Called after each case with how many are done, and how many there are.
    options
        ``workload`` and all else that `simulator.estimate` takes.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> found = plan("bert-large", deadline="60d", systems="workstation-rtx-3090,dgx-h100", max_devices=2)
    >>> found.cheapest.chance(60 * 86400.0) >= 0.8, found.cheapest in found.options
    (True, True)
    """
    with about("model"):
        loaded = load_model(model)
    seconds = _seconds(deadline)
    _check(budget, confidence)
    wanted: dict[str, Any] = {"plan": plan, "where": where, "every_plan": every_plan}
    cases = cases_of([loaded], systems, max_devices=max_devices, **wanted, **{**options, **_priced(price_source)})
    start = time.perf_counter()
    found, refused, whole = collected(cases, cluster=cluster, processes=processes, progress=progress)
    wish = _Wish(seconds, budget, confidence)
    return Outlook(
        model=loaded.id,
        deadline_s=seconds,
        budget_usd=budget,
        confidence=confidence,
        options=tuple(found),
        front=_front(found, carbon=False),
        front_with_carbon=_front(found, carbon=True),
        cheapest=wish.cheapest(found) if seconds is not None else None,
        fastest=wish.fastest(found) if budget is not None else None,
        later=_later(found, wish),
        dearer=_dearer(found, wish),
        nearest=_nearest(found, wish),
        refused=tuple(refused),
        seconds=time.perf_counter() - start,
        whole=whole,
    )


def _seconds(deadline: float | str | None) -> float | None:
    """A deadline as seconds.

    Raises
    ------
    InputError
        Where it is no time, or none that a run could have.
    """
    seconds = deadline
    if isinstance(deadline, str):
        written = re.fullmatch(r"\s*([-+\d._eE]+)\s*([a-z]+)\s*", deadline)
        if written is not None and written[2] in _UNITS:
            with suppress(ValueError):
                seconds = float(written[1]) * _UNITS[written[2]]
    if isinstance(seconds, str):
        raise InputError(f"deadline={shown(deadline)}: write a time with its unit, such as 60d, '8 weeks' or '1 years'")
    if seconds is not None and not (_is_number(seconds) and 0.0 < seconds <= _LONGEST):
        raise InputError(f"deadline={shown(deadline)}: give a time between zero and 100 years, such as 60d")
    return seconds


def _check(budget: float | None, confidence: float) -> None:
    """Refuse wishes that nothing can meet."""
    if budget is not None and not (_is_number(budget) and 0.0 < budget < 1e15):
        raise InputError(f"budget={shown(budget)}: give a positive amount of USD, such as 5e6")
    if not (_is_number(confidence) and SHARES[0] <= confidence <= SHARES[-1]):
        most = f"{SHARES[0]:g} to {SHARES[-1]:g}"
        raise InputError(f"confidence={shown(confidence)}: give a probability from {most}, such as {_CONFIDENCE}")


def _is_number(value: Any) -> bool:
    """Whether a value is a number, which truth is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _priced(source: str | None) -> dict[str, str]:
    """The options that say whose prices count."""
    if source is None:
        return {}
    providers = sorted({offer.provider.lower() for offer in catalogue.prices()})
    if not isinstance(source, str) or source.lower() not in (*_KINDS, *providers):
        raise InputError(f"price_source={shown(source)}: valid: {', '.join((*_KINDS, *providers))}")
    return {"price_kind": source.lower()} if source.lower() in _KINDS else {"price": source}


@dataclass(frozen=True)
class _Wish:
    """Limits, and how surely they are to be kept."""

    deadline: float | None
    budget: float | None
    confidence: float

    def relaxed(self, *, deadline: float = 1.0, budget: float = 1.0) -> _Wish:
        """The same with limits times factors."""
        return _Wish(
            None if self.deadline is None else deadline * self.deadline,
            None if self.budget is None else budget * self.budget,
            self.confidence,
        )

    def keeps(self, option: Option) -> bool:
        """Whether an option probably keeps the limits."""
        in_time = self.deadline is None or option.chance(self.deadline) >= self.confidence
        return in_time and (self.budget is None or (option.chance_of_cost(self.budget) or 0.0) >= self.confidence)

    def cheapest(self, found: Sequence[Option]) -> Option | None:
        """The cheapest option that keeps the limits; where none has a price the one of fewest device-hours."""
        kept = [option for option in found if self.keeps(option)]
        return min(kept, key=lambda one: (one.cost_usd, one.devices * one.time_s), default=None)

    def fastest(self, found: Sequence[Option]) -> Option | None:
        """The fastest option that keeps the limits."""
        kept = [option for option in found if self.keeps(option)]
        return min(kept, key=lambda one: (one.time_s, one.cost_usd), default=None)

    def lacks(self, option: Option) -> float:
        """Factor by which the limits would have to be relaxed for an option to keep them."""
        wide = option.factor(self.confidence)
        late = 0.0 if self.deadline is None else option.time_s * wide / self.deadline
        return max(late, 0.0 if self.budget is None else option.cost_usd * wide / self.budget)


def _later(found: Sequence[Option], wish: _Wish) -> tuple[Relaxed, ...]:
    """What longer deadlines save."""
    wishes = [] if wish.deadline is None else [(factor, wish.relaxed(deadline=factor)) for factor in _RELAXED]
    return tuple(Relaxed(factor, more.deadline, more.budget, more.cheapest(found)) for factor, more in wishes)


def _dearer(found: Sequence[Option], wish: _Wish) -> tuple[Relaxed, ...]:
    """What larger budgets speed up."""
    wishes = [] if wish.budget is None else [(factor, wish.relaxed(budget=factor)) for factor in _RELAXED]
    return tuple(Relaxed(factor, more.deadline, more.budget, more.fastest(found)) for factor, more in wishes)


def _nearest(found: Sequence[Option], wish: _Wish) -> Relaxed | None:
    """Where nothing keeps the limits, what would need least of both."""
    if any(wish.keeps(option) for option in found):
        return None
    nearest = min(found, key=lambda one: (wish.lacks(one), one.time_s), default=None)
    if nearest is None or wish.lacks(nearest) == float("inf"):
        return None
    factor = wish.lacks(nearest)
    more = wish.relaxed(deadline=factor, budget=factor)
    return Relaxed(factor, more.deadline, more.budget, nearest)


def _front(found: Sequence[Option], *, carbon: bool) -> tuple[Option, ...]:
    """Options with a price that no other beats in all respects; of equal ones the one of fewest devices."""

    def worth(option: Option) -> tuple[float, ...]:
        both = (option.time_s, option.cost_usd)
        return (*both, option.co2_kg) if carbon else both

    priced = [option for option in found if option.cost_usd < float("inf") and option.time_s < float("inf")]
    priced.sort(key=lambda option: (*worth(option), option.devices, option.system))
    kept: list[Option] = []
    for option in priced:
        values = worth(option)
        if not any(all(a <= b for a, b in zip(worth(other), values, strict=True)) for other in kept):
            kept.append(option)
    return tuple(kept)
