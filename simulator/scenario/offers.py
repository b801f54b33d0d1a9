"""Which offers of the catalogue count for a job: those that can run it, and of these what a price is taken from.

An offer counts for a job that fits into one of its instances. For a larger one it counts where the network between its
instances is stated and at least as fast as that of the system asked, and where its largest cluster suffices. Where none
does, what counts is the median of providers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Literal

from hardware.price import Network, Price
from hardware.quantity import show
from hardware.reading import build
from hardware.spec import Link, System

Rule = Literal["own", "cheapest", "median", "discount", "named", "file", "given", "owned"]
"""How a price was found: the offer that rents this very system or what was negotiated for it, the cheapest offer that
counts, the median of providers, that with the median discount of providers, an offer or provider that was named, an
offer of a file of one's own, a price that was given, or what an owned device costs."""

LASTS = timedelta(days=90)
"""For which a price is taken as it is."""
GROUPS: dict[str, tuple[str, ...]] = {
    "on-demand": ("on-demand",),
    "marketplace": ("marketplace",),
    "reserved": ("reserved", "capacity-block"),
    "spot": ("spot",),
}
"""Kinds of offers by the kind of price that they are; the first of which there is an offer is what is usual."""
_REMOTE = ("infiniband", "roce", "slingshot", "efa", "efa2", "efa3")
"""Networks whose cards reach the memory of devices; plain Ethernet does not stand for one of them."""
_ROUNDING = 0.99
_PROVIDERS = 3
"""Providers with a recent price of which a median is taken; where there are fewer, older prices count too."""
_LONGEST_TERM = 1.01 * 31557600.0
"""The longest term that is taken unless an offer is named: nobody commits to three years for one run [s]."""


@dataclass(frozen=True)
class Job:
    """What is to run: so many devices of a system."""

    system: System
    devices: int
    newest: date | None = None
    """The day of the newest price of its device; ages do not matter unless given."""

    @property
    def node(self) -> int:
        """Devices that have to lie in one instance; a torus has no nodes."""
        link = self.system.inter_node
        torus = link is not None and link.topology == "torus"
        return 1 if torus else min(self.devices, self.system.devices_per_node)

    def can_use(self, offer: Price) -> bool:
        """Whether an offer can run it, by what is stated of the offer."""
        if offer.id == self.system.price:
            return True
        if offer.devices is None or offer.devices < self.node:
            return self.devices == 1
        if offer.largest_cluster is not None and offer.largest_cluster < self.devices:
            return False
        return offer.devices >= self.devices or _suffices(offer.network, offer.devices, self.system.inter_node)

    def is_current(self, offer: Price) -> bool:
        """Whether no price of its device is newer by more than a price lasts."""
        return self.newest is None or (offer.day is not None and self.newest - offer.day <= LASTS)

    def fills(self, offer: Price) -> bool:
        """Whether it leaves no device of its last instance idle."""
        return offer.devices is None or is_slice(offer) or self.devices % offer.devices == 0


def is_slice(offer: Price) -> bool:
    """Whether an instance is cut to any size from a torus."""
    return offer.network is not None and offer.network.kind == "ici"


def _suffices(network: Network | None, devices: int, needed: Link | None) -> bool:
    """Whether a network between instances of so many devices does what a link between nodes does."""
    if network is None or needed is None:
        return False
    if "ici" in (network.kind, needed.kind):
        return network.kind == needed.kind
    if network.bandwidth is None or (needed.kind in _REMOTE and network.kind not in _REMOTE):
        return False
    return network.bandwidth / devices >= _ROUNDING * needed.bandwidth_per_device


@dataclass(frozen=True)
class Chosen:
    """The price of a job, and how it was found."""

    price: Price
    rule: Rule
    providers: tuple[str, ...] = ()
    """Of which it is the median."""
    beside: tuple[Price, ...] = ()
    """Offers of other kinds that can run the job, the cheapest of each, and a cheaper one that does not decide."""


def preferred(offers: Sequence[Price], job: Job) -> list[Price]:
    """Of offers those that decide: prices and not floors, current before older, instances that the job fills."""

    def wanted(all_of: list[Price], is_good: Callable[[Price], bool]) -> list[Price]:
        return [offer for offer in all_of if is_good(offer)] or all_of

    priced = wanted(list(offers), lambda offer: not offer.is_floor)
    return wanted(wanted(priced, job.is_current), job.fills)


def cheapest(offers: Iterable[Price]) -> Price | None:
    """The cheapest; of equal ones the newest."""
    days = {offer.id: offer.day.toordinal() if offer.day else 0 for offer in offers}
    return min(offers, key=lambda offer: (offer.rate, -days[offer.id], offer.id), default=None)


def newest(offers: Iterable[Price]) -> date | None:
    """The day of the newest of some offers, where one of them has a day."""
    days = [offer.day for offer in offers if offer.day is not None]
    return max(days) if days else None


def usual(job: Job, offers: Sequence[Price]) -> Chosen | None:
    """What a job costs where nobody says of which kind: on demand, or what there is of the kind that comes next."""
    own = next((offer for offer in offers if offer.id == job.system.price), None)
    if own is not None:
        return Chosen(own, "own", beside=_beside(job, offers, own))
    for kinds in GROUPS.values():
        of_kinds = [offer for offer in offers if offer.kind in kinds]
        if of_kinds:
            chosen = _of_one_kind(job, of_kinds)
            return replace(chosen, beside=_beside(job, offers, chosen.price))
    return None


def _of_one_kind(job: Job, offers: Sequence[Price]) -> Chosen:
    """The cheapest that can run a job, or else the median of providers."""
    running = preferred([offer for offer in offers if job.can_use(offer)], job)
    best = cheapest(running)
    return _median(job, offers) if best is None else Chosen(best, "cheapest")


def _median(job: Job, offers: Sequence[Price]) -> Chosen:
    """The median over providers of the least that each asks; what lists begin from counts only for want of others."""
    asked = [offer for offer in offers if not offer.is_floor] or offers
    current = [offer for offer in asked if job.is_current(offer)]
    enough = len({offer.provider for offer in current}) >= _PROVIDERS
    each = _by_provider(current if enough else asked)
    rates = {provider: offer.rate for provider, offer in each.items()}
    days = sorted(offer.day.isoformat() for offer in each.values() if offer.day is not None)
    dates = " to ".join(dict.fromkeys((days[0], days[-1]))) if len(days) == len(each) else "partly undated"
    price = _derived(
        offers[0],
        "median",
        statistics.median(rates.values()),
        why=f"median of {', '.join(f'{name} {rate * 3600:.4g}' for name, rate in sorted(rates.items()))} USD/h",
        provider=_counted(len(rates)),
        offer="median",
        date=dates,
    )
    return Chosen(price, "median", tuple(sorted(rates)))


def _counted(number: int) -> str:
    """A number of providers."""
    return f"{number} provider{'s' if number > 1 else ''}"


def _by_provider(offers: Iterable[Price]) -> dict[str, Price]:
    """What each provider asks least; its floors count only where it has nothing else."""
    offers_by_provider: dict[str, list[Price]] = {}
    for offer in offers:
        offers_by_provider.setdefault(offer.provider, []).append(offer)
    least = {
        name: cheapest([one for one in its if not one.is_floor] or its) for name, its in offers_by_provider.items()
    }
    return {name: offer for name, offer in least.items() if offer is not None}


def _derived(like: Price, name: str, rate: float, *, why: str, **words: str) -> Price:
    """A price that no offer has, of the kind of one that there is unless another is said."""
    figure = {"value": show(float(rate), "price"), "source": [why], "seen": "derived"}
    return build(Price, {"id": name, "device": like.device, "kind": like.kind, "rate": figure, **words})


def discounted(job: Job, offers: Sequence[Price], kind: str) -> Chosen | None:
    """What a job costs by spot or reserved offers, where that is less than on demand; nothing where it is not.

    A discount is one within a provider: an offer that is as dear as what its provider asks on demand is none. A system
    that a provider rents is discounted by that provider only.

    Parameters
    ----------
    job
        What is to run.
    offers
        All of its device.
    kind
        spot or reserved.
    """
    normal = usual(job, [offer for offer in offers if offer.kind in ("on-demand", "marketplace")])
    listed = _listed(offers)
    limit = float("inf") if normal is None else normal.price.rate
    of_kind = [offer for offer in offers if offer.kind in GROUPS[kind] and (offer.term or 0.0) <= _LONGEST_TERM]
    of_kind = [offer for offer in of_kind if offer.rate < listed.get(offer.provider, float("inf"))]
    if normal is not None and normal.rule == "own":
        same = [offer for offer in of_kind if offer.provider == normal.price.provider]
        of_kind = [offer for offer in same if offer.offer.startswith(normal.price.offer)] or same
    running = [offer for offer in of_kind if job.can_use(offer) and offer.rate < limit]
    best = cheapest(preferred(running, job))
    if best is not None:
        rule: Rule = "own" if normal is not None and normal.rule == "own" else "cheapest"
        return Chosen(best, rule, beside=_beside(job, offers, best))
    if normal is None or normal.rule == "own" or any(job.can_use(offer) for offer in of_kind):
        return None
    return _with_median_discount(kind, of_kind, listed, normal.price)


def _listed(offers: Iterable[Price]) -> dict[str, float]:
    """What each provider asks at least for a device that nobody preempts and nobody has to keep."""
    by_kind = [[offer for offer in offers if offer.kind == kind] for kind in ("marketplace", "on-demand")]
    return {name: offer.rate for its in by_kind for name, offer in _by_provider(its).items()}


def _with_median_discount(kind: str, offers: Sequence[Price], listed: dict[str, float], normal: Price) -> Chosen | None:
    """The price on demand with the median discount of providers, where no offer of the kind can run the job."""
    shares = {
        name: offer.rate / listed[name] for name, offer in _by_provider(offers).items() if name in listed
    }  # all below one
    if not shares:
        return None
    share = statistics.median(shares.values())
    price = _derived(
        offers[0],
        "discount",
        share * normal.rate,
        why=f"{show(normal.rate, 'price')} of {normal.provider} less the discount of {', '.join(sorted(shares))}",
        provider=normal.provider,
        offer=f"{normal.offer} less {100 * (1 - share):.0f} %"[:600],
        kind=kind,
        date=normal.date,
    )
    return Chosen(price, "discount", tuple(sorted(shares)))


def _beside(job: Job, offers: Sequence[Price], taken: Price) -> tuple[Price, ...]:
    """The cheapest of each other kind that can run a job, and what is cheaper of the same and does not decide."""
    running = [offer for offer in offers if job.can_use(offer) and (offer.term or 0.0) <= _LONGEST_TERM]
    beside = []
    for kinds in GROUPS.values():
        of_kind = [offer for offer in running if offer.kind in kinds]
        cheaper = [offer for offer in of_kind if offer.rate < taken.rate]
        best = cheapest(cheaper if taken.kind in kinds else preferred(of_kind, job))
        beside += [best] if best is not None else []
    return tuple(beside)
