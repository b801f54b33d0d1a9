"""What one device costs over time: an offer of the catalogue, a given price, or hardware of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from hardware import catalogue
from hardware.errors import InputError, about, shown
from hardware.quantity import parse, show
from hardware.reading import build, is_document
from hardware.spec import Overhead, Price, System
from simulator.formulas import money
from simulator.specs.running import Ownership, PriceKind

_OFFERS: dict[str, tuple[str, ...]] = {
    "on-demand": ("on-demand",),
    "spot": ("spot",),
    "reserved": ("reserved", "capacity-block"),
}
"""Kinds of offers of the catalogue by the kind of price that they are."""


def find_price(
    price: float | str | Path | Price | None,
    system: System,
    *,
    kind: str | None = None,
    ownership: Ownership | None = None,
    overhead: Overhead | None = None,
) -> Price | None:
    """The price of one of the system's devices.

    Parameters
    ----------
    price
        USD an hour, an offer or a provider of the catalogue, a file of offers, or nothing for the system's own offer or
        else the cheapest that can be had on demand.
    system
        What is rented or owned.
    kind
        on-demand, spot, reserved or owned; any unless given.
    ownership
        What an owned device costs.
    overhead
        Power usage effectiveness where it stands.

    Raises
    ------
    InputError
        Where the price is not positive, nobody of that name rents the device, there is no offer of that kind, or what
        is given contradicts itself.
    """
    owns = ownership or Ownership()
    _check_kind(kind)
    if kind == "owned" or (kind is None and price is None and owns.purchase_price is not None):
        return _owned(price, system, owns, overhead)
    if owns.given:
        name = next(iter(owns.given))
        written = owns.model_dump(mode="json")[name]
        raise InputError(
            f"{name}={shown(written)} belongs to price_kind=owned; give that kind and no price, or leave it out",
            fields=[f"ownership.{name}"],
        )
    if isinstance(price, Price):
        return _of_kind(price, kind)
    file = price if is_document(price) else None
    offers = _offers(file, system)
    fitting = [offer for offer in offers if kind is None or offer.kind in _OFFERS[kind]]
    if price is None or file is not None:
        return _usual(fitting, system) if kind is None else _cheapest(fitting, offers, system, kind, file)
    text = str(price).strip()
    if text[:1].isdecimal() or text[:1] in tuple("+-.$"):
        return _given(text, system, kind)
    found = [offer for offer in fitting if text.lower() in (offer.id, offer.provider.lower())]
    if not found:
        known = [offer.id for offer in fitting]
        raise InputError(
            f"price={shown(price)}: no such {f'{kind} ' if kind else ''}offer of {system.device.id}; give USD an hour"
            + (f" or one of {', '.join(known)}" if known else "")
        )
    return found[0]


def chosen_price(
    price: float | str | Price | None,
    system: System,
    *,
    kind: str | None,
    ownership: Ownership,
    overhead: Overhead,
    assumed: list[str],
) -> Price | None:
    """What `find_price` finds, and a note of what it was that nobody said."""
    with about("price"):
        found = find_price(price, system, kind=kind, ownership=ownership, overhead=overhead)
    if found is not None and found.kind == "owned":
        site = catalogue.sites()["default"].model_dump(mode="json")
        open_ones = [f"{name}={site[name]}" for name in ("lifetime", "electricity") if name not in ownership.given]
        assumed += [f"{', '.join(open_ones)}: usual for owned hardware"] if open_ones else []
    elif price is None and found is not None:
        words = f"{found.kind} " if found.kind == "on-demand" or kind else ""
        cheapest = f"the cheapest {words}offer of the catalogue"
        why = "which rents this system" if found.id == system.price else cheapest
        assumed.append(f"price: {found.offer} of {found.provider}, {why}")
    return found


def _check_kind(kind: str | None) -> None:
    """Refuse a kind of price that nobody knows."""
    if kind is not None and kind not in get_args(PriceKind):
        raise InputError(f"price_kind={shown(kind)}: valid: {', '.join(get_args(PriceKind))}", fields=["price_kind"])


def _of_kind(price: Price, kind: str | None) -> Price:
    """A price as it is, unless another kind is asked for."""
    if kind is not None and price.kind not in _OFFERS[kind]:
        raise InputError(f"price_kind={kind}: the given price is {price.kind}", fields=["price_kind"])
    return price


def _offers(file: Any, system: System) -> list[Price]:
    """The offers of a file of one's own, or of the catalogue, that rent the system's device."""
    offers = catalogue.prices() if file is None else catalogue.load_prices(file)
    fitting = [offer for offer in offers if offer.device == system.device.id]
    if file is not None and not fitting:
        known = ", ".join(dict.fromkeys(offer.device for offer in offers)) or "no device at all"
        raise InputError(f"{file}: has no offer of {system.device.id}, only of {known}")
    return fitting


def _usual(offers: Sequence[Price], system: System) -> Price | None:
    """The system's own offer, or else the cheapest on demand, or else the cheapest."""
    own = [offer for offer in offers if offer.id == system.price]
    on_demand = [offer for offer in offers if offer.kind == "on-demand"]
    return next(iter(own or on_demand or offers), None)


def _cheapest(fitting: Sequence[Price], offers: Sequence[Price], system: System, kind: str, file: Any = None) -> Price:
    """The system's own offer of a kind, or else the cheapest."""
    if not fitting:
        named = [name for name, kinds in _OFFERS.items() if any(offer.kind in kinds for offer in offers)]
        raise InputError(
            f"price_kind={kind}: {'the catalogue' if file is None else file} has no such offer of {system.device.id}; "
            "give its USD an hour as price" + (f", or a kind that it has: {', '.join(named)}" if named else ""),
            fields=["price_kind"],
        )
    return next((offer for offer in fitting if offer.id == system.price), fitting[0])


def _given(text: str, system: System, kind: str | None) -> Price:
    """A price that somebody wrote, in USD an hour unless with its unit."""
    try:
        parse(text, "price")
    except ValueError as error:
        raise InputError(f"price={shown(text)}: {error}") from None
    given = {"id": "given", "provider": "given", "offer": "given price", "device": system.device.id}
    return build(Price, {**given, "kind": kind or "reserved", "rate": text, "date": "as given"})


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
