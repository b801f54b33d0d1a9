"""Measurements as columns of numbers, whatever file they come from: what fits and scores work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Words = NDArray[np.str_]


@dataclass(frozen=True)
class TimedCalls:
    """Columns of equal length; `seconds` is the time of one call."""

    seconds: Values

    def __len__(self) -> int:
        return len(self.seconds)

    def where(self, mask: Mask) -> Self:
        """The rows that a mask picks."""
        return replace(self, **{each.name: getattr(self, each.name)[mask] for each in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of several, one after the other."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


@dataclass(frozen=True)
class Products(TimedCalls):
    """Matrix products C[m, n] = A[m, k] B[k, n]."""

    dtype: Words
    m: Values
    n: Values
    k: Values
    batch: Values
    weight_gradient: Values
    """1 where the product is the gradient of a weight."""
    sustained: Values
    """1 where it ran for seconds, at the clocks of long load."""

    @property
    def flops(self) -> Values:
        """Arithmetic of each [FLOP]."""
        return 2.0 * self.batch * self.m * self.n * self.k

    @property
    def large(self) -> Mask:
        """Those that a training step is made of: every side at least 512."""
        return np.minimum(np.minimum(self.m * self.batch, self.n), self.k) >= 512


@dataclass(frozen=True)
class Attentions(TimedCalls):
    """Fused attention."""

    dtype: Words
    kernel: Words
    queries: Values
    keys: Values
    batch: Values
    heads: Values
    key_value_heads: Values
    head_size: Values
    causal: Values
    backward: Values


@dataclass(frozen=True)
class Streams(TimedCalls):
    """Kernels bound by memory."""

    operation: Words
    dtype: Words
    rows: Values
    columns: Values
    moved_bytes: Values
    """The least that a call reads and writes [B]."""


@dataclass(frozen=True)
class Collectives(TimedCalls):
    """Collectives; `message_bytes` is the whole reduced, gathered, scattered or exchanged tensor."""

    kind: Words
    degree: Values
    nodes: Values
    message_bytes: Values


@dataclass(frozen=True)
class Measurements:
    """All rows of one device."""

    products: Products
    attentions: Attentions
    streams: Streams
    collectives: Collectives

    def lasting(self, shortest: float) -> Measurements:
        """The calls that take at least so long [s]."""
        return Measurements(
            self.products.where(self.products.seconds >= shortest),
            self.attentions.where(self.attentions.seconds >= shortest),
            self.streams.where(self.streams.seconds >= shortest),
            self.collectives.where(self.collectives.seconds >= shortest),
        )

    @classmethod
    def joined(cls, parts: Sequence[Measurements]) -> Measurements:
        """The rows of several."""
        return cls(
            Products.joined([part.products for part in parts]),
            Attentions.joined([part.attentions for part in parts]),
            Streams.joined([part.streams for part in parts]),
            Collectives.joined([part.collectives for part in parts]),
        )
