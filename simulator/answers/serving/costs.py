"""What serving costs in money and energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hardware import catalogue
from hardware.errors import unknown
from simulator.answers.costs import plain_price
from simulator.formulas import money
from simulator.scenario.prices import chosen_price
from simulator.serving.scenario import ServingScenario
from simulator.specs.running import Ownership

_MILLION = 1e6


@dataclass(frozen=True)
class ServingBill:
    """What serving costs."""

    cost: dict[str, Any]
    """USD an hour, and of a million tokens; none where no price is known."""
    energy: dict[str, float]
    """At rated power, with the site's overhead."""


def bill(
    served: ServingScenario,
    requests_per_s: float,
    prefill_share: float,
    assumed: list[str],
    *,
    price: Any = None,
    price_kind: str | None = None,
    prices: Any = None,
    grid: str = "world",
    overhead: str = "default",
) -> ServingBill:
    """Money and energy of a load.

    Tokens of prompts bear the share of the time of devices that reading them takes, those of answers the rest, so that
    both together pay all of it.

    Parameters
    ----------
    served
        With its load.
    requests_per_s
        Of all replicas together [1/s].
    prefill_share
        Share of the time of devices that prompts take [1].
    assumed
        To which is added what nobody said.
    price, price_kind, prices, grid, overhead
        As of `simulator.estimate`.
    """
    site = _named(catalogue.overheads(), overhead, "overhead")
    electricity = _named(catalogue.grids(), grid, "grid")
    chosen = chosen_price(
        price,
        served.system,
        served.devices,
        price_kind,
        prices,
        ownership=Ownership(),
        overhead=site,
        assumed=assumed,
    )
    load = served.load
    assert load is not None
    sent, made = requests_per_s * load.input_tokens, requests_per_s * (load.output_tokens or 0.0)
    watts = served.devices * float(money.energy(1.0, served.system.power_per_device, overhead=site.ratio))
    energy = {
        "power_w": watts,
        "kwh_per_million_output_tokens": watts / made * _MILLION / 3.6e6 if made else None,
        "kwh_per_million_tokens": watts / (sent + made) * _MILLION / 3.6e6,
        "co2_kg_per_million_tokens": float(money.emissions(watts / (sent + made) * _MILLION, electricity.intensity)),
    }
    dollars = None if chosen is None else chosen.price.rate * served.devices

    def of_a_million(share: float, tokens_per_s: float) -> float | None:
        return None if dollars is None or tokens_per_s <= 0.0 else dollars * share / tokens_per_s * _MILLION

    cost = {
        "per_hour_usd": None if dollars is None else dollars * 3600.0,
        "per_million_input_tokens_usd": of_a_million(prefill_share, sent),
        "per_million_output_tokens_usd": of_a_million(1.0 - prefill_share, made),
        "price": plain_price(chosen),
    }
    return ServingBill(cost, {name: value for name, value in energy.items() if value is not None})


def _named(entries: Any, name: str, kind: str) -> Any:
    """An entry of the catalogue by name."""
    entry = entries.get(str(name).lower())
    if entry is None:
        raise unknown(kind, str(name), sorted(entries), fields=[kind])
    return entry
