"""What keeps a long run going, and who owns its machines: what the user says of failures, checkpoints and ownership."""

from __future__ import annotations

from typing import Annotated, Literal

from hardware.fields import Also
from hardware.quantity import Bandwidth, EnergyPrice, EventRate, Lifetime, Money, Seconds
from hardware.sheet import Sheet

PriceKind = Literal["on-demand", "spot", "reserved", "marketplace", "owned"]


class Reliability(Sheet):
    """How often a run is interrupted and what it does about it; what is not given comes from the catalogue."""

    failure_rate: EventRate | None = None
    """Failures of one device."""
    preemption_rate: EventRate | None = None
    """How often one spot instance that is held alone is preempted."""
    capacity_wait: Seconds | None = None
    """Time from a preemption until capacity is back; it is not paid."""
    restart: Seconds | None = None
    """Time from an interruption to the first new step."""
    checkpoint_every: Seconds | None = None
    """Work between checkpoints; Daly's optimum unless given."""
    storage_bandwidth: Bandwidth | None = None
    """Rate at which all devices together write a checkpoint."""


class Ownership(Sheet):
    """What an owned device costs; what is not given comes from the catalogue, but for the price."""

    purchase_price: Annotated[Money | None, Also(float, "a number of USD")] = None
    """Price of one device with its share of host and network."""
    lifetime: Lifetime | None = None
    """Time over which that price is spread."""
    electricity: EnergyPrice | None = None
    """Price of electricity."""

    @property
    def stated(self) -> dict[str, float]:
        """The fields that are given."""
        return {name: value for name, value in self if value is not None}
