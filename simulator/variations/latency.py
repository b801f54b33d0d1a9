"""Links whose latency differs from their technology's.

A system names the technology of each link, and the constants of a technology belong to all systems. A variation of one
system's latencies therefore travels with the fitted constants, which every pricing of a scenario passes through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hardware.spec import System
from simulator.formulas.typing import Num
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.constants import Constants, Shifts
from simulator.pricing.wiring import LEVELS
from simulator.specs.stack import Stack

_AS_IT_IS: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class _Delays(Shifts):
    """Shifts, and factors on the latency of each level of wiring."""

    factors: tuple[Num, Num, Num, Num] = _AS_IT_IS

    def on_backend(self, backend: AnalyticBackend) -> AnalyticBackend:
        """A backend with shifted constants and links of other latency."""
        shifted = super().on_backend(backend)
        bridge, inner, outer, cross = (
            replace(level, latency=level.latency * factor, latency_per_rank=level.latency_per_rank * factor)
            for level, factor in zip(shifted.wires.levels, self.factors, strict=True)
        )
        return replace(shifted, wires=replace(shifted.wires, levels=(bridge, inner, outer, cross)))


@dataclass(frozen=True)
class _DelayedConstants(Constants):
    """Constants, and factors on the latency of each level of wiring."""

    factors: tuple[float, float, float, float] = _AS_IT_IS

    def of(self, stack: Stack, system: System, precision: str) -> Shifts:
        """The shifts of one scenario, with its latencies."""
        return _Delays(**vars(super().of(stack, system, precision)), factors=self.factors)


def with_latency(constants: Constants, factors: Mapping[str, float]) -> Constants:
    """Constants under which links have other latencies.

    Parameters
    ----------
    constants
        Where they start.
    factors
        On the latency of levels of wiring, the part that grows with the number of ranks included.
    """
    before = constants.factors if isinstance(constants, _DelayedConstants) else _AS_IT_IS
    bridge, inner, outer, cross = (
        factor * factors.get(level, 1.0) for level, factor in zip(LEVELS, before, strict=True)
    )
    return _DelayedConstants(constants.shifts, constants.origin, constants.profile, (bridge, inner, outer, cross))
