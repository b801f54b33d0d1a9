"""The measured backend: fitted constants, corrected by the nearest shapes that were measured on the device.

Each primitive is served by one of four tiers: a shape that was measured, one near it, the fitted form, or, for what
nobody measured, the catalogue's constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from hardware.catalogue import load_device, plain_host
from hardware.classes import Precision
from hardware.errors import InputError
from hardware.measured import MeasuredProfile, Shapes, StackConstants
from hardware.spec import Device, System
from simulator.formulas.typing import Num
from simulator.pricing.analytic import AnalyticBackend, device_columns, wide_format
from simulator.pricing.nearest import NEAR, Nearest
from simulator.pricing.requests import (
    Collective,
    DecodeAttention,
    FusedAttention,
    HostCopy,
    MatrixProduct,
    Request,
    Send,
    Stream,
)
from simulator.pricing.wiring import wiring

if TYPE_CHECKING:
    from simulator.pricing.measured_links import MeasuredLinks

Tier = Literal["measured", "near", "fitted", "catalogue"]
TIERS: tuple[Tier, ...] = get_args(Tier)
_SAME = 1e-9
"""Distance of shapes that are equal."""


@dataclass(frozen=True)
class MeasuredBackend:
    """Prices primitives by a measured profile; one instance holds one system.

    Parameters
    ----------
    analytic
        The form with the profile's constants.
    profile
        What was measured.
    precision
        Of products.
    node
        Devices of one node, within which measured links count.
    software
        What was measured of the stack that runs the steps, if anything.
    emphasis
        A factor on every time that a tier serves: what a step does to it shows how much of the step is the tier's.
    """

    analytic: AnalyticBackend
    profile: MeasuredProfile
    precision: Precision
    node: int
    software: StackConstants | None = None
    emphasis: Mapping[Tier, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The backend's name."""
        return "measured"

    @classmethod
    def of(
        cls, system: System, devices: int, precision: Precision, profile: MeasuredProfile, stack: str = ""
    ) -> MeasuredBackend:
        """The backend of a part of a system at a precision, under a stack.

        Raises
        ------
        InputError
            Where the profile is of another class of device, or has no constants for the precision.
        """
        check(profile, system)
        columns = device_columns(system.device, precision, constants=profile.constants)
        wide = device_columns(system.device, wide_format(precision), constants=profile.constants)
        analytic = AnalyticBackend(columns, wiring(system, devices), wide)
        return cls(analytic, profile, precision, system.devices_per_node, profile.stacks.get(stack))

    @cached_property
    def _products(self) -> Nearest | None:
        return _nearest(self.profile.products.get(self.precision))

    @cached_property
    def _wide_products(self) -> Nearest | None:
        wide = wide_format(self.precision)
        return self._products if wide == self.precision else _nearest(self.profile.products.get(wide))

    @property
    def _attended(self) -> Precision:
        """The number format of attention: its products stay in 16 bits."""
        return wide_format(self.precision)

    @cached_property
    def _attentions(self) -> Nearest | None:
        return _nearest(self.profile.attentions.get(self._attended))

    @cached_property
    def _links(self) -> MeasuredLinks:
        from simulator.pricing.measured_links import MeasuredLinks

        return MeasuredLinks(self.profile.links)

    def _stressed(self, time: Num, tier: Tier) -> Num:
        """A time that one tier serves."""
        return time * self.emphasis.get(tier, 1.0)

    def _corrected(self, fitted: Num, nearest: Nearest | None, sizes: tuple[Num, ...], *, known: bool) -> Num:
        """A fitted time times what the nearest measured shapes say of it."""
        if nearest is None:
            return self._stressed(fitted, "fitted" if known else "catalogue")
        factor, distance = nearest.correction(*sizes)
        if not self.emphasis:
            return fitted * factor
        weights = [self.emphasis.get(tier, 1.0) for tier in TIERS]
        stress = np.where(distance <= _SAME, weights[0], np.where(distance <= NEAR, weights[1], weights[2]))
        return fitted * factor * stress

    def leaves_node(self, request: Collective) -> Num:
        """Whether the ranks of a group do not share a node: 1 or 0."""
        return self.analytic.leaves_node(request)

    def time(self, request: Request) -> Num:
        """Time of one call: as measured, corrected by what was measured nearby, or by the catalogue's constants [s]."""
        match request:
            case MatrixProduct():
                return self._product(request)
            case FusedAttention():
                return self._attention(request)
            case Stream():
                return self._stream(request)
            case Collective() | Send():
                return self._exchange(request)
            case HostCopy() | DecodeAttention():
                return self._stressed(self.analytic.time(request), "catalogue")
        return self.analytic.time(request)

    def _product(self, asked: MatrixProduct) -> Num:
        """A batch of matrix products."""
        sizes = (asked.m, asked.n, asked.k, asked.batch, float(asked.weight_gradient))
        nearest = self._wide_products if asked.wide else self._products
        known = (wide_format(self.precision) if asked.wide else self.precision) in self.profile.fitted
        if asked.packed_bytes is not None:  # what was measured is of weights in the format of the product
            return self._stressed(self.analytic.time(asked), "fitted" if known else "catalogue")
        return self._corrected(self.analytic.time(asked), nearest, sizes, known=known)

    def _attention(self, asked: FusedAttention) -> Num:
        """Fused attention, forward or backward."""
        sizes = (
            asked.queries,
            asked.keys,
            asked.batch,
            asked.heads,
            asked.key_value_heads,
            asked.mean_head_size,
            asked.causal,
            float(asked.backward),
        )
        known = self._attended in self.profile.attentions
        return self._corrected(self.analytic.time(asked), self._attentions, sizes, known=known)

    def _stream(self, asked: Stream) -> Num:
        """Kernels bound by memory, each kind at the rate that steps of the stack say of it."""
        known = self.software.streams.get(asked.kind.value) if self.software is not None else None
        if known is None:
            tier: Tier = "catalogue" if "memory" in self.profile.borrowed else "fitted"
            time = self._stressed(self.analytic.time(asked), tier)
        else:
            device = self.analytic.device
            rate = device.bandwidth * (known.backward if asked.backward else known.forward)
            time = self._stressed(asked.kernels * device.stream_launch + asked.moved_bytes / rate, "fitted")
        if self.software is None or not self.software.drawn:
            return time
        return time + self._stressed(np.asarray(asked.drawn) * self.software.drawn, "fitted")

    def _exchange(self, asked: Collective | Send) -> Num:
        """A collective or a transfer: as measured where the group lies within one node and moves all of its message."""
        form = self.analytic.time(asked)
        kind = "send" if isinstance(asked, Send) else asked.kind
        if kind not in self.profile.links:
            return self._stressed(form, "catalogue")
        ranks = 2.0 if isinstance(asked, Send) else asked.degree
        sent = asked.message_bytes if isinstance(asked, Send) else asked.paced_bytes
        time, known = self._links.time(kind, sent, ranks)
        whole = np.asarray(True if isinstance(asked, Send) else np.asarray(asked.copies) == 1.0, dtype=bool)
        near = np.asarray(asked.degree) * np.asarray(asked.stride) <= self.node
        inside = np.asarray(known, dtype=bool) & whole & near
        return np.where(inside, self._stressed(time, "fitted"), self._stressed(form, "catalogue"))

    def stressed(self, tier: Tier, factor: float) -> MeasuredBackend:
        """A backend like this one that multiplies every time of one tier by `factor`."""
        return replace(self, emphasis={tier: factor})


def _nearest(shapes: Shapes | None) -> Nearest | None:
    """The measured shapes of a number format, where there are any."""
    if shapes is None or not shapes.sizes:
        return None
    return Nearest(np.asarray(shapes.sizes, dtype=np.float64), np.asarray(shapes.residuals, dtype=np.float64))


def device_of(profile: MeasuredProfile) -> Device:
    """The device that a profile was measured on."""
    return load_device(profile.device) if isinstance(profile.device, str) else profile.device


def host_of(profile: MeasuredProfile) -> System:
    """A plain host of the device that a profile was measured on."""
    return plain_host(device_of(profile))


def suits(profile: MeasuredProfile, system: System) -> bool:
    """Whether a profile speaks for the devices of a system: the same ones, or others of their class."""
    return speaks_for(device_of(profile), system.device)


def speaks_for(measured: Device, device: Device) -> bool:
    """Whether what was measured on one device speaks for another: the same one, or one of its class."""
    return measured.id == device.id or measured.device_class == device.device_class


def check(profile: MeasuredProfile, system: System) -> None:
    """Refuse a profile for a system whose devices are of another class.

    Raises
    ------
    InputError
        One sentence that names both.
    """
    if not suits(profile, system):
        measured = device_of(profile)
        raise InputError(
            f"profile={profile.id}: was measured on {measured.id}, and {system.id} has {system.device.id}, a device of"
            f" another class; take a system with {measured.id}, or leave the profile out",
            fields=["profile"],
        )
