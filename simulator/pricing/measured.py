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
from simulator.pricing.analytic import AnalyticBackend, device_columns
from simulator.pricing.backend import CollectiveKind
from simulator.pricing.nearest import NEAR, Nearest
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
        analytic = AnalyticBackend(columns, wiring(system, devices))
        return cls(analytic, profile, precision, system.devices_per_node, profile.stacks.get(stack))

    @cached_property
    def _products(self) -> Nearest | None:
        return _nearest(self.profile.products.get(self.precision))

    @property
    def _attended(self) -> Precision:
        """The number format of attention: its products stay in 16 bits."""
        return "bf16" if self.precision == "fp8" else self.precision

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

    def gemm(
        self,
        m: Num,
        n: Num,
        *,
        k: Num,
        batch: Num,
        element_bytes: Num,
        weight_gradient: Num,
        alignment: Num = 1.0,
    ) -> Num:
        """A batch of matrix products."""
        fitted = self.analytic.gemm(
            m,
            n,
            k=k,
            batch=batch,
            element_bytes=element_bytes,
            weight_gradient=weight_gradient,
            alignment=alignment,
        )
        known = self.precision in self.profile.fitted
        return self._corrected(fitted, self._products, (m, n, k, batch, weight_gradient), known=known)

    def attention(
        self,
        queries: Num,
        keys: Num,
        *,
        batch: Num,
        heads: Num,
        key_value_heads: Num,
        head_size: Num,
        causal: Num,
        backward: bool,
        portable: Num = 0.0,
    ) -> Num:
        """Fused attention, forward or backward."""
        fitted = self.analytic.attention(
            queries,
            keys,
            batch=batch,
            heads=heads,
            key_value_heads=key_value_heads,
            head_size=head_size,
            causal=causal,
            backward=backward,
            portable=portable,
        )
        sizes = (queries, keys, batch, heads, key_value_heads, head_size, causal, float(backward))
        return self._corrected(fitted, self._attentions, sizes, known=self._attended in self.profile.attentions)

    def stream(
        self,
        moved_bytes: Num,
        kernels: Num,
        *,
        reduces: bool,
        kind: str = "",
        backward: bool = False,
        drawn: Num = 0.0,
    ) -> Num:
        """Kernels bound by memory, each kind at the rate that steps of the stack say of it."""
        known = self.software.streams.get(kind.replace(" ", "-")) if self.software is not None else None
        if known is None:
            time = self.analytic.stream(moved_bytes, kernels, reduces=reduces)
            time = self._stressed(time, "catalogue" if "memory" in self.profile.borrowed else "fitted")
        else:
            device = self.analytic.device
            rate = device.bandwidth * (known.backward if backward else known.forward)
            time = self._stressed(kernels * device.stream_launch + moved_bytes / rate, "fitted")
        if self.software is None or not self.software.drawn:
            return time
        return time + self._stressed(np.asarray(drawn) * self.software.drawn, "fitted")

    def collective(
        self, kind: CollectiveKind, message_bytes: Num, *, degree: Num, stride: Num, copies: Num = 1.0
    ) -> Num:
        """A collective: as measured where the group lies within one node and moves all of its message."""
        form = self.analytic.collective(kind, message_bytes, degree=degree, stride=stride, copies=copies)
        return self._linked(form, kind, message_bytes, degree, stride, whole=np.asarray(copies) == 1.0)

    def send(self, message_bytes: Num, *, degree: Num, stride: Num) -> Num:
        """A transfer between neighbours."""
        form = self.analytic.send(message_bytes, degree=degree, stride=stride)
        return self._linked(form, "send", message_bytes, degree, stride, whole=np.asarray(True))

    def _linked(self, form: Num, kind: str, message_bytes: Num, degree: Num, stride: Num, *, whole: Num) -> Num:
        """The measured time of an exchange where one was measured, else that of the form."""
        if kind not in self.profile.links:
            return self._stressed(form, "catalogue")
        time, known = self._links.time(kind, message_bytes, 2.0 if kind == "send" else degree)
        near = np.asarray(degree) * np.asarray(stride) <= self.node
        inside = np.asarray(known, dtype=bool) & np.asarray(whole, dtype=bool) & near
        return np.where(inside, self._stressed(time, "fitted"), self._stressed(form, "catalogue"))

    def host_copy(self, moved_bytes: Num) -> Num:
        """A copy between device and host memory."""
        return self._stressed(self.analytic.host_copy(moved_bytes), "catalogue")

    def stressed(self, tier: Tier, factor: float) -> MeasuredBackend:
        """The same, with every time of one tier multiplied."""
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
