"""`simulator.rent`: the question asked backwards. What to rent, to finish by a date or within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hardware import catalogue
from hardware.errors import InputError, about, shown
from hardware.reading import placed
from simulator.plan_search.safety import read_chance
from simulator.renting.cases import cases_of
from simulator.renting.sweeping import Option, Refused, collected
from simulator.renting.wishes import CONFIDENCE, Outlook, Wish
from simulator.scenario.prices import Prices
from simulator.scenario.scenario import spec_of
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from simulator.specs.workload import Workload

KINDS = ("on-demand", "spot", "reserved", "marketplace")


def rent(
    model: Any,
    *,
    deadline: float | str | None = None,
    budget: float | str | None = None,
    systems: str | Sequence[Any] = "all",
    max_devices: int = 8192,
    price_source: str | None = None,
    prices: Prices | None = None,
    confidence: float | str = CONFIDENCE,
    plan: Any = None,
    where: str | None = None,
    every_plan: bool = False,
    rank: str = "safe",
    cluster: str | None = None,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Option | Refused], None] | None = None,
    **options: Any,
) -> Outlook:
    """What to rent for a run: the best plan for every system and number of devices, and which of them to take.

    Parameters
    ----------
    model
        As `simulator.estimate` takes it.
    deadline
        Time in which the run has to end: seconds, text with a unit such as ``60d``, ``8 weeks`` or ``1 year``, or the
        date until which it may take, from today, such as ``2027-03-31``.
    budget
        Money that it may cost: USD, or text such as ``$12k`` or ``1.5M``.
    systems
        Names or systems; ``all`` of the catalogue unless given.
    max_devices
        Devices at most.
    price_source
        A provider or a kind of price (on-demand, spot, reserved, marketplace); unless given what `estimate` takes.
    prices
        Negotiated prices, USD an hour of one device, by the system or device that they are of, as ``{"dgx-h100":
        2.10}``; they outrank `price_source`.
    confidence
        Probability with which deadline and budget are to be kept, such as 0.8 or ``80%``.
    plan, where
        What holds for all plans, as in `simulator.search`.
    every_plan
        Whether every plan is priced for each case, as a search does; else those that most runs use. Where none of these
        fits, the same with optimizer states offloaded are tried, and then, unless ``stack`` is given, both again with
        other stacks.
    rank
        What the best plan of a case is best by: what it stays below with the chance `confidence` (``safe``), or its
        ``expected`` time, as in `simulator.search`.
    cluster, processes
        Where it is computed, as in `simulator.sweep`.
    progress
        Called after each case with how many are done, and how many there are.
    seen
        Called before that with what came of the case; `Outlook.of` says what to make of some of them.
    options
        ``workload`` and all else that `simulator.estimate` takes.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> outlook = rent("bert-large", deadline="60d", systems="workstation-rtx-3090,dgx-h100", max_devices=2)
    >>> outlook.cheapest.chance(60 * 86400.0) >= 0.8, outlook.cheapest in outlook.options
    (True, True)
    """
    with about("model"):
        loaded = load_model(model)
    wish = Wish.read(deadline, budget, confidence)
    wish.check_length(known=_workload(options.get("workload"), loaded).says_length)
    wanted: dict[str, Any] = {"plan": plan, "where": where, "every_plan": every_plan}
    wanted["chance"] = read_chance(rank, wish.confidence if rank == "safe" else None)
    paid: dict[str, Any] = {**options, "prices": prices, **_priced(price_source)}
    cases = cases_of([loaded], systems, max_devices=max_devices, **wanted, **paid)
    start = time.perf_counter()
    swept = collected(cases, cluster=cluster, processes=processes, progress=progress, seen=seen)
    return Outlook.under(wish, loaded.id, swept, seconds=time.perf_counter() - start)


def _workload(told: Any, model: Model) -> Workload:
    """What is trained on, complete."""
    with placed(told, under="workload."):
        work: Workload = spec_of(Workload, told)
        return work.resolve(model)


def sources() -> tuple[str, ...]:
    """Whose prices can be asked for: kinds of price, then providers."""
    return (*KINDS, *sorted({offer.provider.lower() for offer in catalogue.prices()}))


def _priced(source: str | None) -> dict[str, str]:
    """The options that say whose prices count."""
    if source is None:
        return {}
    if not isinstance(source, str) or source.lower() not in sources():
        raise InputError(f"price_source={shown(source)}: valid: {', '.join(sources())}")
    return {"price_kind": source.lower()} if source.lower() in KINDS else {"price": source}
