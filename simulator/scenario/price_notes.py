"""What is said of a price beside the cost that follows from it: whose it is, by which rule, how old, and what else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from hardware.price import Price
from hardware.spec import System
from simulator.scenario.offers import LASTS, Chosen, Job


def today() -> date:
    """The day on which prices are judged to be old; tests put another in its place."""
    return date.today()


def told(found: Chosen, job: Job, kind: str | None) -> Iterator[str]:
    """How a price was found that nobody said, and what is offered beside it."""
    price = found.price
    words = f"{price.kind} " if price.kind == "on-demand" or kind else ""
    size = f"{job.devices:,} device{'s' if job.devices > 1 else ''}"
    if found.rule == "given":
        return
    if found.rule == "own":
        why = "which rents this system" if price.id != "given" else "as the system's file says"
    elif found.rule == "median":
        why = f"since no {words}offer is stated to run {size} of {job.system.id}"
    elif found.rule == "discount":
        why = f"the median discount of {', '.join(found.providers)}, since none of their offers is stated to run {size}"
    else:
        inside = price.devices is None or price.devices >= job.devices
        fits = "" if inside else f" and joins its instances as {job.system.id} does ({network_words(price)})"
        why = f"the cheapest {words}offer that can run {size}{fits}"
    yield f"price: {offer_words(price)}, {why}"
    if price.devices is not None and not job.fills(price):
        idle = -job.devices % price.devices
        yield f"price: instances of {price.devices} are rented whole; {idle} more devices are paid for than counted"
    if found.beside:
        listed = (f"{offer.kind} {rate_words(offer)}, {offer_words(offer)}" for offer in found.beside)
        yield f"price: beside it {'; '.join(listed)}"


def offer_words(price: Price) -> str:
    """An offer by its name, provider and date."""
    floor = ", a list's lowest" if price.is_floor else ""
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


def warnings(found: Chosen | None, system: System, devices: int, *, kind: str | None) -> Iterator[str]:
    """What a cost should be read with: another kind of price than one thinks, or an old one.

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
    if found is None:
        yield f"no price of {device} is known; give one with --price, such as --price 2.50"
        return
    price = found.price
    if found.rule in ("given", "owned") or (isinstance(system.price, float) and found.rule == "own"):
        return
    if kind is None and price.kind != "on-demand":
        yield f"price: nobody is known to rent {device} on demand; {rate_words(price)} is of kind {price.kind}"
    if found.rule == "named" and not Job(system, devices).can_use(price):
        yield (
            f"price: {price.offer} of {price.provider} is not stated to run {devices:,} devices of {system.id}: "
            f"{network_words(price)}"
        )
    if price.is_floor:
        yield f"price: {rate_words(price)} is what the list of {price.provider} begins from, and few pay so little"
    age = price.age(today())
    if age is None or age > LASTS:
        old = "of unknown age" if age is None else f"{age.days} days old"
        yield f"price: {rate_words(price)} of {price.date} is {old}, and prices move; give today's with --price"
