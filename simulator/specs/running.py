"""What keeps a long run going, and who owns its machines: what the user says of failures, checkpoints and ownership."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from hardware.quantity import Bandwidth, EnergyPrice, EventRate, Lifetime, Money, Seconds
from hardware.spec import Sheet

PriceKind = Literal["on-demand", "spot", "reserved", "marketplace", "owned"]


def _in_dollars(value: Any) -> Any:
    """Read a bare number as USD; there is no other currency to confuse it with."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_digits = isinstance(value, str) and value.strip()[-1:].isdecimal()
    return f"{value} USD" if is_number or is_digits else value


class Reliability(Sheet):
    """How often a run is interrupted and what it does about it; what is not given comes from the catalogue."""

    failure_rate: EventRate | None = None
    """Failures of one device."""
    preemption_rate: EventRate | None = None
    """How often one spot instance that is held alone is taken back."""
    capacity_wait: Seconds | None = None
    """From a pre-emption until capacity is back; it is not paid."""
    restart: Seconds | None = None
    """From an interruption to the first new step."""
    checkpoint_every: Seconds | None = None
    """Work between checkpoints; Daly's optimum unless given."""
    storage_bandwidth: Bandwidth | None = None
    """At which all devices together write a checkpoint."""


class Ownership(Sheet):
    """What an owned device costs; what is not given comes from the catalogue, but for the price."""

    purchase_price: Annotated[Money | None, BeforeValidator(_in_dollars)] = None
    """Of one device with its share of host and network."""
    lifetime: Lifetime | None = None
    """Over which that price is spread."""
    electricity: EnergyPrice | None = None

    @property
    def given(self) -> dict[str, float]:
        """The fields that are given."""
        return {name: value for name, value in self if value is not None}
