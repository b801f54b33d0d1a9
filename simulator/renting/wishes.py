"""Options for a run beside what somebody wishes: a deadline, a budget, and how surely they are to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hardware.amounts import is_number, read_number
from hardware.errors import InputError, shown
from simulator.answers.costs import kinds_of
from simulator.plan_search.limits import check_length, read_budget, read_deadline
from simulator.renting.sweeping import SHARES, Option, Refused, Swept, ordered

CONFIDENCE = 0.8
"""Probability with which a deadline or a budget is to be kept unless said otherwise."""
_RELAXED = (1.1, 1.25, 1.5, 2.0)
"""Factors by which deadline and budget are relaxed, to tell what that buys."""


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

    @classmethod
    def of(
        cls,
        outcomes: Sequence[Option | Refused],
        *,
        deadline: float | str | None = None,
        budget: float | str | None = None,
        confidence: float | str = CONFIDENCE,
    ) -> Outlook:
        """What to make of the cases that `simulator.rent` or `simulator.sweep` has seen until now, all of one model.

        Parameters
        ----------
        found
            One at least.
        deadline, budget, confidence
            As in `simulator.rent`.

        Raises
        ------
        InputError
            Where there are none, or of several models, or a limit is none, or nothing says how long the run is.
        """
        models = sorted({each.model for each in outcomes})
        if len(models) != 1:
            raise InputError(f"options: give those of one model; these are of {', '.join(models) or 'none'}")
        options = [each for each in outcomes if isinstance(each, Option)]
        refused = [each for each in outcomes if isinstance(each, Refused)]
        swept = Swept(*ordered(options, refused), whole=False)
        return cls.under(Wish.read(deadline, budget, confidence), models[0], swept, seconds=0.0)

    @classmethod
    def under(cls, wish: Wish, model: str, swept: Swept, *, seconds: float) -> Outlook:
        """What to make of the options of a sweep under some wish."""
        options, refused, whole = swept
        wish.check_length(known=_known_length(options))
        return cls(
            model=model,
            **wish.answers(options),
            options=tuple(options),
            front=_front(options, carbon=False),
            front_with_carbon=_front(options, carbon=True),
            refused=tuple(refused),
            seconds=seconds,
            whole=whole,
        )

    def within(
        self,
        *,
        deadline: float | str | None = None,
        budget: float | str | None = None,
        confidence: float | str = CONFIDENCE,
    ) -> Outlook:
        """The options that were found, judged by other limits without a new search.

        Parameters
        ----------
        deadline, budget, confidence
            As in `simulator.rent`.

        Raises
        ------
        InputError
            Where a limit is none, or nothing says how long the run is.

        Examples
        --------
        >>> from simulator.renting.rent import rent
        >>> outlook = rent("bert-large", deadline="60d", systems="workstation-rtx-3090", max_devices=2)
        >>> outlook.within(budget=1e6).fastest.devices, outlook.within(budget=1.0).fastest
        (2, None)
        """
        wish = Wish.read(deadline, budget, confidence)
        wish.check_length(known=self.known_length)
        return replace(self, **wish.answers(self.options))

    @property
    def known_length(self) -> bool:
        """Whether something says how long the run is; else times and costs are of a billion tokens."""
        return _known_length(self.options)

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
            "price_kinds": kinds_of(option.estimate for option in self.options),
        }

    def keeps(self, option: Option) -> bool:
        """Whether an option keeps the limits as surely as is asked."""
        return Wish(self.deadline_s, self.budget_usd, self.confidence).keeps(option)

    def chances(self, option: Option) -> dict[str, float | None]:
        """Probabilities that an option keeps the deadline and the budget, where there is one."""
        chances: dict[str, float | None] = {}
        if self.deadline_s is not None:
            chances["chance_of_deadline"] = option.chance(self.deadline_s)
        if self.budget_usd is not None:
            chances["chance_of_budget"] = option.chance_of_cost(self.budget_usd)
        return chances


@dataclass(frozen=True)
class Wish:
    """Limits, and how surely they are to be kept."""

    deadline: float | None
    budget: float | None
    confidence: float

    @classmethod
    def read(cls, deadline: float | str | None, budget: float | str | None, confidence: float | str) -> Wish:
        """Check what somebody wishes.

        Raises
        ------
        InputError
            Where nothing could meet it.
        """
        share = read_number(confidence) if isinstance(confidence, str) else confidence
        if not (is_number(share) and SHARES[0] <= share <= SHARES[-1]):
            most = f"{SHARES[0]:g} to {SHARES[-1]:g}"
            raise InputError(f"confidence={shown(confidence)}: give a probability from {most}, such as {CONFIDENCE}")
        return cls(read_deadline(deadline), read_budget(budget), float(share))

    def check_length(self, *, known: bool) -> None:
        """Refuse limits of a run of which nothing says how long it is.

        Parameters
        ----------
        known
            Whether something says so.

        Raises
        ------
        InputError
            With the remedy.
        """
        for name in ("deadline", "budget"):
            if getattr(self, name) is not None:
                check_length(name, known=known)

    def answers(self, options: Sequence[Option]) -> dict[str, Any]:
        """The fields of an `Outlook` that follow from the wish."""
        return {
            "deadline_s": self.deadline,
            "budget_usd": self.budget,
            "confidence": self.confidence,
            "cheapest": self.cheapest(options) if self.deadline is not None else None,
            "fastest": self.fastest(options) if self.budget is not None else None,
            "later": _later(options, self),
            "dearer": _dearer(options, self),
            "nearest": _nearest(options, self),
        }

    def relaxed(self, *, deadline: float = 1.0, budget: float = 1.0) -> Wish:
        """A wish whose limits are these times the factors; a limit that is not set stays so."""
        return Wish(
            None if self.deadline is None else deadline * self.deadline,
            None if self.budget is None else budget * self.budget,
            self.confidence,
        )

    def keeps(self, option: Option) -> bool:
        """Whether an option probably keeps the limits."""
        in_time = self.deadline is None or option.chance(self.deadline) >= self.confidence
        return in_time and (self.budget is None or (option.chance_of_cost(self.budget) or 0.0) >= self.confidence)

    def cheapest(self, options: Sequence[Option]) -> Option | None:
        """The cheapest option that keeps the limits; where none has a price the one of fewest device-hours."""
        kept = [option for option in options if self.keeps(option)]
        return min(kept, key=lambda one: (one.cost_usd, one.devices * one.time_s), default=None)

    def fastest(self, options: Sequence[Option]) -> Option | None:
        """The fastest option that keeps the limits."""
        kept = [option for option in options if self.keeps(option)]
        return min(kept, key=lambda one: (one.time_s, one.cost_usd), default=None)

    def lacks(self, option: Option) -> float:
        """Factor by which the limits would have to be relaxed for an option to keep them."""
        wide = option.factor(self.confidence)
        late = 0.0 if self.deadline is None else option.time_s * wide / self.deadline
        return max(late, 0.0 if self.budget is None else option.cost_usd * wide / self.budget)


def _known_length(options: Sequence[Option]) -> bool:
    """Whether something says how long the run is that options are for."""
    return all(option.estimate.run.of == "run" for option in options)


def _later(options: Sequence[Option], wish: Wish) -> tuple[Relaxed, ...]:
    """What longer deadlines save."""
    wishes = [] if wish.deadline is None else [(factor, wish.relaxed(deadline=factor)) for factor in _RELAXED]
    return tuple(Relaxed(factor, more.deadline, more.budget, more.cheapest(options)) for factor, more in wishes)


def _dearer(options: Sequence[Option], wish: Wish) -> tuple[Relaxed, ...]:
    """What larger budgets speed up."""
    wishes = [] if wish.budget is None else [(factor, wish.relaxed(budget=factor)) for factor in _RELAXED]
    return tuple(Relaxed(factor, more.deadline, more.budget, more.fastest(options)) for factor, more in wishes)


def _nearest(options: Sequence[Option], wish: Wish) -> Relaxed | None:
    """Where nothing keeps the limits, what would need least of both."""
    if any(wish.keeps(option) for option in options):
        return None
    nearest = min(options, key=lambda one: (wish.lacks(one), one.time_s), default=None)
    if nearest is None or wish.lacks(nearest) == float("inf"):
        return None
    factor = wish.lacks(nearest)
    more = wish.relaxed(deadline=factor, budget=factor)
    return Relaxed(factor, more.deadline, more.budget, nearest)


def _front(options: Sequence[Option], *, carbon: bool) -> tuple[Option, ...]:
    """Options with a price that no other beats in all respects; of equal ones the one of fewest devices."""

    def worth(option: Option) -> tuple[float, ...]:
        both = (option.time_s, option.cost_usd)
        return (*both, option.co2_kg) if carbon else both

    priced = [option for option in options if option.cost_usd < float("inf") and option.time_s < float("inf")]
    priced.sort(key=lambda option: (*worth(option), option.devices, option.system))
    kept: list[Option] = []
    for option in priced:
        values = worth(option)
        if not any(all(a <= b for a, b in zip(worth(other), values, strict=True)) for other in kept):
            kept.append(option)
    return tuple(kept)
