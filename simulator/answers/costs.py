"""What is said of a price beside the cost that follows from it, and of costs that rest on different kinds of prices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hardware.price import Price
from simulator.scenario.offers import Chosen

if TYPE_CHECKING:
    from simulator.answers.estimate import Estimate

_UNKNOWN = "no price"
_EXAMPLES = 3
"""Systems that are named for each kind of price."""


def plain_price(chosen: Chosen | None) -> dict[str, Any] | None:
    """The price of a job and how it was found, as plain values; nothing where none is known."""
    if chosen is None:
        return None
    return {
        "rule": chosen.rule,
        **_plain(chosen.price),
        "providers": list(chosen.providers),
        "beside": [_plain(offer) for offer in chosen.beside],
    }


def _plain(price: Price) -> dict[str, Any]:
    """An offer as plain values."""
    network = price.network
    return {
        "usd_per_device_hour": float(f"{price.rate * 3600:.9g}"),
        "kind": price.kind,
        "id": price.id,
        "provider": price.provider,
        "offer": price.offer,
        "date": price.date,
        "region": price.region,
        "devices_per_instance": price.devices,
        "network": None if network is None else network.kind,
        "is_floor": price.is_floor,
    }


def _kind(price: dict[str, Any] | None) -> str:
    """What a price is: of a kind of offers, given, owned, or not known."""
    if price is None:
        return _UNKNOWN
    return str(price["rule"] if price["rule"] in ("given", "owned") else price["kind"])


def price_words(price: dict[str, Any] | None) -> str:
    """How a price came about, in the fewest words: its kind, and that it is a median.

    Parameters
    ----------
    price
        As `plain_price` gives it.
    """
    several = "" if price is None else f"{len(price['providers'])} provider{'s' if len(price['providers']) > 1 else ''}"
    how = {"median": f", median of {several}", "discount": f", median discount of {several}"}
    return _kind(price) + ("" if price is None else how.get(price["rule"], ""))


def rate_words(price: dict[str, Any] | None) -> str:
    """A price of one device and how it came about.

    Parameters
    ----------
    price
        As `plain_price` gives it.
    """
    return _UNKNOWN if price is None else f"${price['usd_per_device_hour']:.2f} a device-hour, {price_words(price)}"


def kinds_of(answers: Iterable[Estimate]) -> dict[str, list[str]]:
    """The kinds of prices that answers rest on, with the systems that are priced so.

    Parameters
    ----------
    answers
        That stand side by side.
    """
    systems_by_kind: dict[str, dict[str, None]] = {}
    for answer in answers:
        systems_by_kind.setdefault(_kind(answer.run.price), {})[answer.system] = None
    return {kind: list(systems) for kind, systems in systems_by_kind.items()}


def mixed(answers: Iterable[Estimate]) -> str | None:
    """One sentence where answers that are compared are priced by different kinds of prices, else nothing.

    Those without a price show that beside them.

    Parameters
    ----------
    answers
        That stand side by side.
    """
    systems_by_kind = {kind: systems for kind, systems in kinds_of(answers).items() if kind != _UNKNOWN}
    if len(systems_by_kind) < 2:
        return None
    parts = [f"{kind} ({_listed(systems)})" for kind, systems in systems_by_kind.items()]
    return f"costs rest on different kinds of prices: {'; '.join(parts)}"


def flat(price: dict[str, Any] | None) -> dict[str, Any]:
    """A price as columns of a table.

    Parameters
    ----------
    price
        As `plain_price` gives it.
    """
    names = {"usd_per_device_hour": "usd_per_device_hour", "kind": "price_kind", "rule": "price_rule"}
    names |= {"provider": "price_provider", "offer": "price_offer", "date": "price_date"}
    return {column: None if price is None else price[name] for name, column in names.items()}


def _listed(names: list[str]) -> str:
    """A few names, and how many more there are."""
    more = len(names) - _EXAMPLES
    return ", ".join(names[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
