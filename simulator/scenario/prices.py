"""What one device costs over time: an offer of the catalogue, a given price, or hardware of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from hardware import catalogue
from hardware.errors import InputError, about, nearest, shown, unknown
from hardware.price import Price, dollars_an_hour, is_rate
from hardware.quantity import show
from hardware.reading import build, is_document
from hardware.spec import Overhead, System
from simulator.formulas import money
from simulator.scenario.offers import GROUPS, Chosen, Job, cheapest, discounted, newest, preferred, usual
from simulator.scenario.price_notes import told
from simulator.specs.running import Ownership, PriceKind

Prices = Mapping[str, float | str]
"""Negotiated prices, USD an hour of one device, by the system or the device that they are of."""


_NAMED = 5
"""Offers or providers that an error names."""


def find_price(
    price: float | str | Path | Price | None,
    system: System,
    *,
    devices: int | None = None,
    kind: str | None = None,
    ownership: Ownership | None = None,
    overhead: Overhead | None = None,
    prices: Prices | None = None,
) -> Chosen | None:
    """The price of one of the devices of a job, and how it was found.

    Parameters
    ----------
    price
        USD an hour, an offer or a provider of the catalogue, a file of offers, or nothing for what the system's file
        says, else the cheapest offer on demand that can run the job, else the median of providers.
    system
        What is rented or owned.
    devices
        Of the job; as many as the system usually has unless given.
    kind
        on-demand, spot, reserved, marketplace or owned; what is usual unless given.
    ownership
        What an owned device costs.
    overhead
        Power usage effectiveness where it stands.
    prices
        What was negotiated, by system or device; it outranks `price`.

    Raises
    ------
    InputError
        Where the price is not positive, nobody of that name rents the device, there is no offer of that kind or none
        that is cheaper than on demand, or what is given contradicts itself.
    """
    owns = ownership or Ownership()
    _check_kind(kind)
    agreed = agreed_price(prices, system)
    said = price if agreed is None else agreed
    if kind == "owned" or (kind is None and said is None and owns.purchase_price is not None):
        return Chosen(_owned(said, system, owns, overhead), "owned")
    if owns.stated:
        name = next(iter(owns.stated))
        written = owns.model_dump(mode="json")[name]
        raise InputError(
            f"{name}={shown(written)} belongs to price_kind=owned; give that kind and no price, or leave it out",
            fields=[f"ownership.{name}"],
        )
    if isinstance(said, Price):
        return Chosen(_of_kind(said, kind), "given")
    number = system.default_devices if devices is None else devices
    if is_document(said):
        return _of_file(said, Job(system, number), kind)
    text = None if said is None else str(said).strip()
    if text is not None and is_rate(text):
        return Chosen(_price_told(text, system, kind), "given")
    offers = [offer for offer in catalogue.prices() if offer.device == system.device.id]
    job = Job(system, number, newest(offers))
    if text is not None:
        return _named(text, job, offers, kind, shown(price))
    if isinstance(system.price, float):
        return Chosen(_price_told(show(system.price, "price"), system, kind), "own")
    return usual(job, offers) if kind is None else _kind_of(job, offers, kind)


def chosen_price(
    price: float | str | Path | Price | None,
    system: System,
    devices: int,
    kind: str | None,
    prices: Prices | None,
    *,
    ownership: Ownership,
    overhead: Overhead,
    assumed: list[str],
) -> Chosen | None:
    """What `find_price` finds, and a note of what it was that nobody said."""
    with about("prices"):
        check_prices(prices, [system])
    with about("price"):
        chosen = find_price(
            price, system, devices=devices, kind=kind, ownership=ownership, overhead=overhead, prices=prices
        )
    if chosen is not None and chosen.rule == "owned":
        site = catalogue.sites()["default"].model_dump(mode="json")
        open_ones = [f"{name}={site[name]}" for name in ("lifetime", "electricity") if name not in ownership.stated]
        assumed += [f"{', '.join(open_ones)}: usual for owned hardware"] if open_ones else []
    elif chosen is not None:
        assumed += told(chosen, Job(system, devices), kind)
    return chosen


def check_prices(prices: Prices | None, systems: Sequence[System]) -> None:
    """Refuse negotiated prices that are none, or are of what nobody knows.

    Parameters
    ----------
    prices
        By system or device.
    systems
        Those at hand, which may be files of the user's.

    Raises
    ------
    InputError
        With the nearest names.
    """
    own = {name for system in systems for name in (system.id, system.device.id)}
    known = {*own, *catalogue.names("systems"), *catalogue.names("devices")}
    for name, rate in (prices or {}).items():
        if name.strip().lower() not in known:
            raise unknown("system of a price", name, sorted(known), fields=["prices"])
        _parsed(rate, f"prices: {name}={shown(rate)}")


def agreed_price(prices: Prices | None, system: System) -> str | None:
    """What was negotiated for a system, or else for its device."""
    said = {name.strip().lower(): rate for name, rate in (prices or {}).items()}
    return next((str(said[name]).strip() for name in (system.id, system.device.id) if name in said), None)


def _check_kind(kind: str | None) -> None:
    """Refuse a kind of price that nobody knows."""
    if kind is not None and kind not in get_args(PriceKind):
        raise InputError(f"price_kind={shown(kind)}: valid: {', '.join(get_args(PriceKind))}", fields=["price_kind"])


def _of_kind(price: Price, kind: str | None) -> Price:
    """A price as it is, unless another kind is asked for."""
    if kind is not None and price.kind not in GROUPS[kind]:
        raise InputError(f"price_kind={kind}: the given price is {price.kind}", fields=["price_kind"])
    return price


def _of_file(file: Any, job: Job, kind: str | None) -> Chosen:
    """The cheapest offer of a file of one's own; of what it does not state of its instances nothing is asked."""
    offers, device = catalogue.load_prices(file), job.system.device.id
    its = [offer for offer in offers if offer.device == device]
    if not its:
        known = ", ".join(dict.fromkeys(offer.device for offer in offers)) or "no device at all"
        raise InputError(f"{file}: has no offer of {device}, only of {known}")
    groups = GROUPS.values() if kind is None else [GROUPS[kind]]
    by_kind = ([offer for offer in its if offer.kind in kinds] for kinds in groups)
    of_kind = next((offers for offers in by_kind if offers), [])
    able = [offer for offer in of_kind if offer.devices is None or job.can_use(offer)] or of_kind
    own = [offer for offer in of_kind if offer.id == job.system.price]
    best = cheapest(own or preferred(able, job))
    if best is None:
        raise _lacking(kind, str(file), device, its)
    return Chosen(best, "file")


def _lacking(kind: str | None, where: str, device: str, offers: Sequence[Price]) -> InputError:
    """That there is no offer of a kind among those of a device, and of which kinds there are."""
    named = [name for name, kinds in GROUPS.items() if any(offer.kind in kinds for offer in offers)]
    return InputError(
        f"price_kind={kind}: {where} has no such offer of {device}; give its USD an hour as price"
        + (f", or a kind that it has: {', '.join(named)}" if named else ""),
        fields=["price_kind"],
    )


def _named(text: str, job: Job, offers: Sequence[Price], kind: str | None, written: str) -> Chosen:
    """The offer that is named, or the one of a provider that suits a job best."""
    fitting = [offer for offer in offers if kind is None or offer.kind in GROUPS[kind]]
    exact = [offer for offer in fitting if offer.id == text.lower()]
    its = [offer for offer in fitting if offer.provider.lower() == text.lower()]
    kinds = next((kinds for kinds in GROUPS.values() if any(offer.kind in kinds for offer in its)), ())
    its = [offer for offer in its if offer.kind in kinds]
    named = exact or preferred([offer for offer in its if job.can_use(offer)] or its, job)
    best = cheapest(named)
    if best is None:
        providers = sorted({offer.provider.lower() for offer in fitting})
        known = nearest(text, [*providers, *(offer.id for offer in fitting)]) or providers
        raise InputError(
            f"price={written}: no such {f'{kind} ' if kind else ''}offer of {job.system.device.id}; give USD an hour"
            + (f", or one of capsim catalogue prices, such as {', '.join(known[:_NAMED])}" if known else "")
        )
    return Chosen(best, "named")


def _kind_of(job: Job, offers: Sequence[Price], kind: str) -> Chosen:
    """The price of a kind for a job."""
    device, of_kind = job.system.device.id, [offer for offer in offers if offer.kind in GROUPS[kind]]
    if not of_kind:
        raise _lacking(kind, "the catalogue", device, offers)
    listed = kind in ("on-demand", "marketplace")
    chosen = usual(job, of_kind) if listed else discounted(job, offers, kind)
    if chosen is None:
        raise InputError(
            f"price_kind={kind}: no such offer of {device} that can run it is cheaper than on demand; give its USD an "
            "hour as price, or leave the kind out",
            fields=["price_kind"],
        )
    return chosen


def _price_told(text: str, system: System, kind: str | None) -> Price:
    """A price that somebody wrote, in USD an hour unless with its unit."""
    _parsed(text, f"price={shown(text)}")
    plain = {"id": "given", "provider": "given", "offer": "given price", "device": system.device.id}
    return build(Price, {**plain, "kind": kind or "reserved", "rate": text, "date": "as given"})


def _parsed(rate: float | str, place: str) -> float:
    """A price that somebody wrote [USD/s]."""
    try:
        return dollars_an_hour(rate)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def _owned(price: Any, system: System, ownership: Ownership, overhead: Overhead | None) -> Price:
    """What hardware of one's own costs: its price over its life, and electricity at rated power."""
    if price is not None:
        rent = price.id if isinstance(price, Price) else price
        raise InputError(
            f"price={shown(rent)} is rent, which price_kind=owned does not pay; give purchase_price, what one device "
            "costs to buy, instead",
            fields=["price", "price_kind"],
        )
    if ownership.purchase_price is None:
        raise InputError(
            f"price_kind=owned needs purchase_price, what one {system.device.id} with its share of host and network "
            "costs to buy, such as --purchase-price 30000",
            fields=["price_kind"],
        )
    site = catalogue.sites()["default"]
    lifetime, electricity = ownership.lifetime or site.lifetime, ownership.electricity or site.electricity
    rate = money.owned_price(
        ownership.purchase_price,
        lifetime,
        power=system.power_per_device,
        overhead=1.0 if overhead is None else overhead.ratio,
        tariff=electricity,
    )
    over = f"{show(ownership.purchase_price, 'sum of money')} over {show(lifetime, 'lifetime')}"
    why = f"{over}, electricity at {show(electricity, 'energy price')}"
    figure = {"value": show(float(rate), "price"), "source": [why], "seen": "derived"}
    owned = {"id": "owned", "provider": "own site", "offer": "owned hardware", "device": system.device.id}
    return build(Price, {**owned, "kind": "owned", "rate": figure, "date": "as given"})
