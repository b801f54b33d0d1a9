"""Prices of the kinds of work in a training step, fitted to steps that were timed.

Kernels that are timed alone say most of it, and are where the fit starts; steps say the rest: what caches, the
allocator and the neighbouring kernels change, and what nobody times alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.pricing.requests import StreamKind
from simulator.profiling.fit.anatomy import Anatomy, PassWork
from simulator.profiling.records.reading import StepTime
from simulator.step.passes import BACKWARD_LAUNCH, slower

Values = NDArray[np.float64]
PARTS = ("forward", "backward", "optimizer")
USUAL_PRICE = 1.5
"""Of bytes over bandwidth, for a kind of stream that nothing is known of."""
_NOISE = 0.04
"""Deviation of the logarithm of a measured part that no price explains."""
_SHORT = 1e-3
"""Parts as short as this [s] say half as much as long ones."""
_LAUNCHES = (0.0, -1.4, -0.7, 0.7, 1.4, 2.1, 2.8)
"""Logarithms of factors on the host time of a launch that are tried."""
_OPEN = 0.8
"""Deviation of the logarithm of a price that nothing is known of."""
_HARDLY = 0.8
"""Steps do not determine a price where they leave it more than this share of the deviation that it had before."""


@dataclass(frozen=True)
class Prices:
    """What each kind of work costs; all positive."""

    products: float = 1.0
    """Factor on the backend's time of matrix products."""
    attention: float = 1.0
    forward: Mapping[StreamKind, float] = field(default_factory=dict)
    """Factor on bytes over bandwidth, by kind of stream."""
    backward: Mapping[StreamKind, float] = field(default_factory=dict)
    drawn: float = 0.0
    """Time of one random number [s]."""
    stream_launch: float = 3e-6
    """Launch time of a kernel on the device [s]."""
    launch: float = 0.0
    """Of starting one on the host [s]."""
    optimizer: float = 1.0
    """Factor on the least traffic of the optimizer over the bandwidth."""
    sums: float = 1.2
    overhead: float = 0.0
    """Of a step, beside its parts [s]."""


def seconds_of_pass(work: PassWork, prices: Prices, *, backward: bool) -> tuple[float, float]:
    """Time of one pass on the device and on the host [s]."""
    rates = prices.backward if backward else prices.forward
    moved = sum(seconds * rates.get(kind, USUAL_PRICE) for kind, seconds in work.streams.items())
    device = prices.products * work.products + prices.attention * work.attention + moved
    device += prices.drawn * work.drawn + prices.stream_launch * work.stream_kernels
    host = prices.launch * work.kernels * (BACKWARD_LAUNCH if backward else 1.0)
    return device, host


def seconds_of(parts: Anatomy, prices: Prices) -> dict[str, float]:
    """Time of each part of a step, and of the whole [s]."""
    ahead = seconds_of_pass(parts.forward, prices, backward=False)
    back = seconds_of_pass(parts.backward, prices, backward=True)
    summed = prices.sums * parts.sums
    updated = prices.optimizer * parts.optimizer + prices.stream_launch * parts.optimizer_kernels
    updated = max(updated, prices.launch * parts.optimizer_kernels)
    both = _slower(ahead[0] + back[0] + summed, ahead[1] + back[1])
    return {
        "forward": _slower(*ahead),
        "backward": _slower(back[0] + summed, back[1]),
        "optimizer": updated,
        "whole": both + updated + prices.overhead,
    }


def _slower(device: float, host: float) -> float:
    """As in a step of the simulator."""
    return max(float(slower(device, host)), device)


@dataclass(frozen=True)
class Prior:
    """Where a fit starts, and how sure that is: deviations of the logarithm of each price."""

    prices: Prices
    sure: Mapping[str, float] = field(default_factory=dict)

    def deviation(self, name: str) -> float:
        """The standard deviation of the logarithm of one price, where `name` is that of a field of the prices."""
        return self.sure.get(name, _OPEN)


@dataclass(frozen=True)
class StepRatesFit:
    """Prices that were fitted."""

    prices: Prices
    told: frozenset[str] = frozenset()
    """Those that the steps determine."""
    guessed: tuple[str, ...] = ()
    """Those that nothing was known of before, and that the steps do not determine."""


def fit(steps: Sequence[StepTime], parts: Sequence[Anatomy], prior: Prior, *, host: bool) -> StepRatesFit:
    """Fit prices to steps, by a robust loss of logarithms with a prior.

    Parameters
    ----------
    steps
        What was timed; none leaves the prior.
    parts
        Their work.
    prior
        Where to start.
    host
        Whether the host starts kernels while the device works, as for a GPU.
    """
    if not steps:
        return StepRatesFit(prior.prices)
    names = _names(parts, prior.prices, host=host)
    start = np.array([_get(prior.prices, name) for name in names])
    deviations = np.array([prior.deviation(name) for name in names])
    measured = [_measured(step) for step in steps]

    def residuals(logs: Values) -> Values:
        prices = _with(prior.prices, dict(zip(names, start * np.exp(logs), strict=True)))
        deviating: list[float] = []
        for work, times in zip(parts, measured, strict=True):
            said = seconds_of(work, prices)
            deviating += [np.log(said[name] / time) / noise for name, (time, noise) in times.items()]
        return np.concatenate([np.array(deviating), logs / deviations])

    from scipy.optimize import least_squares

    begin = _beginning(names, residuals)
    solved = least_squares(residuals, begin, loss="soft_l1", bounds=(-3.0, 3.0), x_scale=0.3)
    prices = _with(prior.prices, dict(zip(names, start * np.exp(solved.x), strict=True)))
    left = np.sqrt(np.diag(np.linalg.inv(solved.jac.T @ solved.jac))) / deviations
    told = frozenset(name for name, share in zip(names, left, strict=True) if share <= _HARDLY)
    return StepRatesFit(prices, told, tuple(name for name in names if name not in told and name not in prior.sure))


def _beginning(names: Sequence[str], residuals: Callable[[Values], Values]) -> Values:
    """Where a fit begins: with the launch that fits best as all else is; while the device hides it no slope tells."""
    tried = [
        np.where(np.array(names) == "launch", shift, 0.0) for shift in _LAUNCHES if shift == 0 or "launch" in names
    ]

    def lost(logs: Values) -> float:
        return float(np.sum(np.sqrt(1.0 + np.square(residuals(logs)))))

    return min(tried, key=lost)


def _measured(step: StepTime) -> dict[str, tuple[float, float]]:
    """Each timed part with the deviation of its logarithm; the whole counts double."""
    measured = {"whole": (step.seconds, _NOISE / 2.0)}
    for name in PARTS:
        if step.parts.get(name, 0.0) > 0.0:
            measured[name] = (step.parts[name], _NOISE * (1.0 + _SHORT / step.parts[name]))
    return measured


def _names(parts: Sequence[Anatomy], prices: Prices, *, host: bool) -> list[str]:
    """The parameters that the steps say something of."""
    names = ["products", "stream_launch", "optimizer"]
    if any(work.forward.attention for work in parts):
        names.append("attention")
    if any(work.forward.drawn for work in parts) and prices.drawn:
        names.append("drawn")
    if any(work.sums for work in parts):
        names.append("sums")
    if host:
        names += ["launch", "overhead"]
    for direction in ("forward", "backward"):
        kinds = {kind.value for work in parts for kind in getattr(work, direction).streams}
        names += [f"{direction}:{kind}" for kind in sorted(kinds)]
    return names


def _get(prices: Prices, name: str) -> float:
    """The value of a parameter."""
    direction, _, kind = name.partition(":")
    value = getattr(prices, direction)
    return float(value.get(StreamKind(kind), USUAL_PRICE)) if kind else float(value)


def _with(prices: Prices, values: Mapping[str, float]) -> Prices:
    """Prices with some parameters changed."""
    plain = {name: value for name, value in values.items() if ":" not in name}
    forward, backward = dict(prices.forward), dict(prices.backward)
    for name, value in values.items():
        direction, _, kind = name.partition(":")
        if kind:
            (forward if direction == "forward" else backward)[StreamKind(kind)] = value
    return Prices(**{**vars(prices), **plain, "forward": forward, "backward": backward})
