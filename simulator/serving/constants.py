"""Constants of engines that were fitted to runs: factors on rates and times, by levels that share what they can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hardware.reading import read_mapping
from simulator.formulas.typing import Num
from simulator.pricing.analytic import AnalyticBackend, Devices
from simulator.specs.columns import Columns

SHIPPED = Path(__file__).with_name("constants.yaml")
LEVELS = ("all", "stack", "release", "release and class", "release, class and format")


@dataclass(frozen=True)
class FactorKind:
    """A kind of factor: what it multiplies, and how far it may lie from 1 at each level."""

    meaning: str
    levels: Mapping[str, float]
    """Standard deviation of the logarithm at each level; 0 where a level has none."""


def _levels(every: float, stack: float, release: float, on_class: float, in_format: float = 0.0) -> dict[str, float]:
    return dict(zip(LEVELS, (every, stack, release, on_class, in_format), strict=True))


KINDS: dict[str, FactorKind] = {
    "products": FactorKind("rate of matrix products that arithmetic bounds", _levels(0.1, 0.1, 0.2, 0.25, 0.2)),
    "streaming": FactorKind("rate at which products stream weights", _levels(0.1, 0.1, 0.2, 0.2, 0.2)),
    "attention": FactorKind("rate of attention of prompts", _levels(0.1, 0.15, 0.2, 0.25)),
    "decode_attention": FactorKind("rate of attention over the cache", _levels(0.1, 0.15, 0.25, 0.4)),
    "kernels": FactorKind(
        "rate of element-wise kernels and normalisations, with what more fusion spares", _levels(0.1, 0.3, 0.3, 0.2)
    ),
    "links": FactorKind("rate of collectives", _levels(0.1, 0.15, 0.25, 0.3)),
    "gaps": FactorKind("time between kernels on the device", _levels(0.15, 0.25, 0.35, 0.3)),
    "launches": FactorKind("host time of a launch", _levels(0.2, 0.5, 0.8, 0.3)),
    "iterations": FactorKind("host time of an iteration", _levels(0.2, 0.5, 0.8, 0.3)),
    "prompts": FactorKind("host time of an iteration that reads prompts", _levels(0.2, 0.5, 0.8, 0.3)),
}
"""What is fitted; none for a single source or run."""


@dataclass(frozen=True)
class ServingFactors(Columns):
    """Logarithms of factors on the constants of an engine on a device; 0 changes nothing [1]."""

    products: Num = 0.0
    streaming: Num = 0.0
    attention: Num = 0.0
    decode_attention: Num = 0.0
    kernels: Num = 0.0
    links: Num = 0.0
    gaps: Num = 0.0
    launches: Num = 0.0
    iterations: Num = 0.0
    prompts: Num = 0.0

    def on_backend(self, backend: AnalyticBackend) -> AnalyticBackend:
        """A backend whose devices and links reach what the engine reaches on them."""
        bridge, inner, outer, cross = (
            replace(level, efficiency=level.efficiency * np.exp(self.links)) for level in backend.wires.levels
        )
        wires = replace(backend.wires, levels=(bridge, inner, outer, cross))
        return replace(backend, device=self._on(backend.device), wide=self._on(backend.wide), wires=wires)

    def _on(self, device: Devices) -> Devices:
        """A device with its rates and gaps."""
        streaming, decoding, kernels, gaps = (
            np.exp(each) for each in (self.streaming, self.decode_attention, self.kernels, self.gaps)
        )
        return replace(
            device,
            efficiency=device.efficiency * np.exp(self.products),
            weight_efficiency=device.weight_efficiency * streaming,
            bandwidth_efficiency=device.bandwidth_efficiency * streaming,
            attention_efficiency=device.attention_efficiency * np.exp(self.attention),
            decode_bandwidth_efficiency=device.decode_bandwidth_efficiency * decoding,
            decode_efficiency=device.decode_efficiency * decoding,
            stream_efficiency=device.stream_efficiency * kernels,
            reduce_efficiency=device.reduce_efficiency * kernels,
            gemm_launch=device.gemm_launch * gaps,
            attention_launch=device.attention_launch * gaps,
            stream_launch=device.stream_launch * gaps,
            decode_launch=device.decode_launch * gaps,
            decode_each=device.decode_each * gaps,
        )

    def held(self, device: Devices) -> ServingFactors:
        """The same within what is physical: no rate above the peak, no more than the whole bandwidth."""

        def most(factor: Num, *shares: Num) -> Num:
            largest = np.maximum.reduce([np.asarray(share, dtype=np.float64) for share in shares])
            return np.asarray(np.minimum(factor, -np.log(largest)))

        return replace(
            self,
            products=most(self.products, device.efficiency),
            streaming=most(self.streaming, device.weight_efficiency, device.bandwidth_efficiency),
            attention=most(self.attention, device.attention_efficiency),
            decode_attention=most(self.decode_attention, device.decode_bandwidth_efficiency),
        )


def levels_of(
    stack: str, device_class: str, weights: str, *, generates: bool = True, release: str = ""
) -> dict[str, str]:
    """The name of an engine on a device at each level.

    Parameters
    ----------
    stack, device_class, weights
        The engine, the class of the device and the format of stored weights.
    generates
        Whether it generates; encoding has constants of its own.
    release
        A time whose releases differ from today's; today unless given.

    Examples
    --------
    >>> levels_of("vllm", "h100-sxm", "fp8")["release, class and format"]
    'vllm of today on h100-sxm in fp8'
    """
    stored = "16 bits" if weights in ("bf16", "fp16") else weights
    does = stack if generates else f"{stack} that encodes"
    engine = f"{does} of {release or 'today'}"
    names = ("all", does, engine, f"{engine} on {device_class}", f"{engine} on {device_class} in {stored}")
    return dict(zip(LEVELS, names, strict=True))


@dataclass(frozen=True)
class ServingConstants:
    """Fitted factors: for each kind, by the name of a level, a logarithm."""

    factors: Mapping[str, Mapping[str, float]]
    origin: str = "catalogue"

    def of(
        self, stack: str, device_class: str, weights: str, *, generates: bool = True, release: str = ""
    ) -> ServingFactors:
        """The factors of an engine on a class of devices."""
        return self.of_levels(levels_of(stack, device_class, weights, generates=generates, release=release))

    def of_levels(self, levels: Mapping[str, str]) -> ServingFactors:
        """The factors of an engine by its name at each level."""
        names = levels.values()
        return ServingFactors(
            **{kind: sum((known.get(name, 0.0) for name in names), 0.0) for kind, known in self.factors.items()}
        )

    def items(self) -> Iterator[tuple[tuple[str, str], float]]:
        """Every factor with its kind and the name of its level."""
        for kind, known in self.factors.items():
            for name, value in known.items():
                yield (kind, name), value

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"origin": self.origin, "factors": {kind: dict(known) for kind, known in self.factors.items()}}


UNFITTED = ServingConstants({})


@cache
def fitted() -> ServingConstants:
    """The constants that come with the package."""
    document = read_mapping(SHIPPED)
    return ServingConstants(document["factors"], str(document["origin"]))
