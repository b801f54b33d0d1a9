"""What renting a device costs: one offer of a provider, with the conditions that decide whether a job can use it."""

from __future__ import annotations

import datetime as dates
import re
from typing import Literal, Self

from pydantic import model_validator

from hardware.quantity import Bandwidth, Lifetime, PriceRate
from hardware.spec import Count, Name, Sheet, Words

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
_DAY = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")


class Network(Sheet):
    """What joins the instances of an offer."""

    kind: Name
    """A kind of link, or none where instances are not joined."""
    bandwidth: Bandwidth | None = None
    """Of one instance in one direction, where it is stated."""


class Price(Sheet):
    """What one device costs over time: by whom, when, where, and for what jobs."""

    id: Name
    provider: Words
    offer: Words
    device: Name
    kind: Kind
    term: Lifetime | None = None
    """For which a reserved device is paid, where that is stated."""
    rate: PriceRate
    """Of one device."""
    rate_low: PriceRate | None = None
    """In the cheapest region, or of the lowest offer."""
    rate_median: PriceRate | None = None
    """Over all regions that offer it."""
    rate_high: PriceRate | None = None
    """In the dearest region, or of the highest offer."""
    is_floor: bool = False
    """Whether it is what a list begins from ("from", "starting at"), which few or nobody pay."""
    region: Words | None = None
    """Where, or of what the rate is the median."""
    devices: Count | None = None
    """How many one instance holds, as a node of a system does; of racks and slices those of the largest."""
    network: Network | None = None
    """Between instances; not given where it is not stated."""
    largest_cluster: Count | None = None
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
        found = _DAY.search(self.date)
        try:
            return dates.date(int(found[1]), int(found[2]), int(found[3] or 1)) if found else None
        except ValueError:
            return None

    def age(self, today: dates.date) -> dates.timedelta | None:
        """How old the figure is; nothing where its day is not known."""
        return None if self.day is None else today - self.day


__all__ = ["Kind", "Network", "Price"]
