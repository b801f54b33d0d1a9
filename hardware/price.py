"""What renting a device costs.

An offer of a provider, with the conditions that decide whether a job can use it; and prices that somebody was offered:
USD an hour of one device, with the unit or without.
"""

from __future__ import annotations

import datetime as dates
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PlainSerializer, model_validator

from hardware.fields import Unit
from hardware.quantity import Bandwidth, Lifetime, PriceRate, parse, show
from hardware.sheet import Count, Name, Sheet, Words

Kind = Literal["on-demand", "spot", "capacity-block", "marketplace", "reserved", "owned"]
"""How an offer is sold.

on-demand
    By the hour, by a provider from its own data centres, until the customer gives it back.
spot
    The same or a marketplace's machine, until somebody takes it back.
capacity-block
    For days or weeks that are booked in advance.
marketplace
    By the hour, machines of third parties that one site lists (Vast.ai, RunPod Community, Akash, SF Compute).
reserved
    For a term that is paid to its end.
owned
    Bought.
"""
_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,79}", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")


class Network(Sheet):
    """What joins the instances of an offer."""

    kind: Name
    """A kind of link, or none where instances are not joined."""
    bandwidth: Bandwidth | None = None
    """Rate of one instance in one direction, where it is stated."""


class Price(Sheet):
    """What one device costs over time: by whom, when, where, and for what jobs."""

    id: Name
    """The word that names the offer; in a file of offers its key."""
    provider: Words
    """Who rents it out."""
    offer: Words
    """What the provider calls it."""
    device: Name
    """The device that is rented, as the catalogue calls it."""
    kind: Kind
    """Terms: for as long as wanted, until preempted, or for a fixed term."""
    term: Lifetime | None = None
    """Term for which a reserved device is paid, where that is stated."""
    rate: PriceRate
    """Price of one device, with its share of the host."""
    rate_low: PriceRate | None = None
    """Lowest price of one device: in the cheapest region, or of the lowest offer."""
    rate_median: PriceRate | None = None
    """Median price of one device over all regions that offer it."""
    rate_high: PriceRate | None = None
    """Highest price of one device: in the dearest region, or of the highest offer."""
    is_floor: bool = False
    """Whether it is what a list begins from ("from", "starting at"), which few or nobody pay."""
    region: Words | None = None
    """Where it is rented, or of what the rate is the median."""
    devices: Annotated[Count, Unit("device")] | None = None
    """How many devices one instance holds, as a node of a system does; of racks and slices those of the largest."""
    network: Network | None = None
    """What joins the instances; not given where it is not stated."""
    largest_cluster: Annotated[Count, Unit("device")] | None = None
    """Devices of the largest group of instances that can be had, where that is stated."""
    date: Words
    """Day of the figure, as exactly as it is known."""

    @model_validator(mode="after")
    def _rates_are_ordered(self) -> Self:
        low, high = self.rate_low or self.rate, self.rate_high or self.rate
        middle = self.rate if self.rate_median is None else self.rate_median
        if not low <= self.rate <= high or not low <= middle or (self.rate_high and middle > high):
            raise ValueError("rate and rate_median must lie between rate_low and rate_high")
        return self

    @property
    def day(self) -> dates.date | None:
        """The day of the figure, or the first of its month; nothing where not even that is known."""
        written = _DAY.search(self.date)
        try:
            return dates.date(int(written[1]), int(written[2]), int(written[3] or 1)) if written else None
        except ValueError:
            return None

    def age(self, today: dates.date) -> dates.timedelta | None:
        """How old the figure is; nothing where its day is not known."""
        return None if self.day is None else today - self.day


def is_rate(text: str) -> bool:
    """Whether text that says a price is an amount, and not the name of an offer."""
    return text[:1].isdecimal() or text[:1] in ("+", "-", ".", "$")


def dollars_an_hour(value: float | str) -> float:
    """A price of one device [USD/s] that is written in USD an hour, with its unit or without.

    Raises
    ------
    ValueError
        Where it is none.

    Examples
    --------
    >>> dollars_an_hour(2.1) == dollars_an_hour("2.10 USD/h")
    True
    """
    return parse(value.strip() if isinstance(value, str) else value, "price")


def _read(value: Any) -> float | str:
    """A negotiated price in SI, or the id of an offer."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return dollars_an_hour(value)
    if isinstance(value, str) and is_rate(value.strip()):
        return dollars_an_hour(value)
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise ValueError("give USD an hour of one device, such as 2.10, or the id of an offer")


def _written(value: float | str) -> str:
    """What `_read` reads as the same."""
    return value if isinstance(value, str) else show(value, "price")


OwnPrice = Annotated[float | str, BeforeValidator(_read), PlainSerializer(_written, when_used="json"), Unit("USD/h")]
"""A negotiated price of one device [USD/s], or the id of an offer."""


__all__ = ["Kind", "Network", "OwnPrice", "Price", "dollars_an_hour", "is_rate"]
