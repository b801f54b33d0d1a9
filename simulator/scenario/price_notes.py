"""What is said of a price beside the cost that follows from it: whose it is, by which rule, how old, and what else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

from hardware.price import Price
from hardware.spec import System
from simulator.scenario.offers import LASTS, Chosen, Job

_DIGITS = 11
"""Of the longest number of seconds that is a date."""


def today() -> date:
    """The day on which prices are judged to be old: that of the clock, or of SOURCE_DATE_EPOCH where that is set.

    Only what is said depends on it, no number does.
    """
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = float(said) if said.isdecimal() and len(said) <= _DIGITS else time.time()
    return datetime.fromtimestamp(seconds, tz=UTC).date()


def told(chosen: Chosen, job: Job, kind: str | None) -> Iterator[str]:
    """How a price was found that nobody wrote, how old it is, and what is offered beside it.

    An offer that was named is told where it is old.

    Parameters
    ----------
    found
        The price of a job.
    job
        What is to run.
    kind
        Of price that was asked for, if one was.
    """
    price = chosen.price
    if price.id in ("given", "owned"):
        if chosen.rule == "own":
            yield f"price: {rate_words(price)}, as the file of {job.system.id} says"
        return
    old = _age(price)
    if chosen.rule != "named" or old:
        yield f"price: {offer_words(price)}, {_why(chosen, job, kind)}{old}"
    if price.devices is not None and not job.fills(price):
        idle = -job.devices % price.devices
        yield f"price: instances of {price.devices} are rented whole; {idle} more devices are paid for than counted"
    if chosen.beside:
        listed = (f"{offer.kind} {rate_words(offer)}, {offer_words(offer)}" for offer in chosen.beside)
        yield f"price: beside it {'; '.join(listed)}"


def _why(chosen: Chosen, job: Job, kind: str | None) -> str:
    """The rule by which a price was found."""
    price = chosen.price
    words = f"{price.kind} " if price.kind == "on-demand" or kind else ""
    size = f"{job.devices:,} device{'s' if job.devices > 1 else ''}"
    if chosen.rule == "own":
        return "which rents this system"
    if chosen.rule == "named":
        return "as named"
    if chosen.rule == "file":
        return f"the cheapest {words}offer of the file"
    if chosen.rule == "median":
        return f"since no {words}offer is stated to run {size} of {job.system.id}"
    if chosen.rule == "discount":
        return (
            f"the median discount of {', '.join(chosen.providers)}, since none of their offers is stated to run {size}"
        )
    inside = price.devices is None or price.devices >= job.devices
    joined = "" if inside else f" and joins its instances as {job.system.id} does ({network_words(price)})"
    return f"the cheapest {words}offer that can run {size}{joined}"


def _age(price: Price) -> str:
    """That a price is old, where it is."""
    age = price.age(today())
    if age is None:
        return "; its day is not known, give today's with --price"
    return f"; {age.days} days old, give today's with --price" if age > LASTS else ""


def offer_words(price: Price) -> str:
    """An offer by its name, provider and date."""
    floor = ', a "from" price' if price.is_floor else ""
    return f"{price.offer} of {price.provider} ({price.date}{floor})"


def rate_words(price: Price) -> str:
    """A price as it is written."""
    return f"{price.rate * 3600:.2f} USD/h"


def network_words(price: Price) -> str:
    """What is stated of the network of an offer."""
    network = price.network
    if network is None:
        return "the network between its instances is not stated"
    if network.kind == "none":
        return "its instances are not joined"
    if network.bandwidth is None:
        return network.kind
    seen = network.provenance.get("bandwidth")
    recalled = ", only recalled" if seen is not None and seen.seen == "recalled" else ""
    return f"{network.kind} at {network.bandwidth * 8 / 1e9:,.0f} Gb/s{recalled}"


def warnings(chosen: Chosen | None, system: System, devices: int, *, kind: str | None) -> Iterator[str]:
    """What a cost should be read with: another kind of price than one thinks, or one that few pay.

    Parameters
    ----------
    found
        The price of a job, if there is one.
    system, devices
        The job.
    kind
        That was asked for, if one was.
    """
    device = system.device.id
    if chosen is None:
        yield f"no price of {device} is known; give one with --price, such as --price 2.50"
        return
    price = chosen.price
    if chosen.rule in ("given", "owned") or (isinstance(system.price, float) and chosen.rule == "own"):
        return
    if kind is None and price.kind != "on-demand" and chosen.rule != "file":
        yield f"price: nobody is known to rent {device} on demand; {rate_words(price)} is of kind {price.kind}"
    asked = chosen.rule == "named" or (chosen.rule == "file" and price.devices is not None)
    if asked and not Job(system, devices).can_use(price):
        yield (
            f"price: {price.offer} of {price.provider} is not stated to run {devices:,} devices of {system.id}: "
            f"{network_words(price)}"
        )
    if price.is_floor:
        yield f"price: {rate_words(price)} is what the list of {price.provider} begins from, and few pay so little"
