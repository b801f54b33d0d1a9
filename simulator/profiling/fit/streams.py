"""Prices of kernels that are bound by memory, from kernels that were timed alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware.classes import MemoryConstants
from hardware.measured import HeldOutScore
from simulator.formulas.kernels import stream_time
from simulator.pricing.requests import StreamKind
from simulator.profiling.fit.held_out import halves, score
from simulator.profiling.records.rows import Mask, Streams

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Alike:
    """A kernel that a kind of stream consists of, for the most part."""

    operations: tuple[str, ...]
    share: float
    """Bytes that the kernel moves at least, over those that the simulator counts of the stream in single operations."""


FORWARD: Mapping[StreamKind, Alike] = {
    StreamKind.NORMALISATION: Alike(("layer_norm", "rms_norm"), 2 / 3),
    StreamKind.FINAL_NORMALISATION: Alike(("layer_norm", "rms_norm"), 2 / 3),
    StreamKind.ACTIVATION: Alike(("gelu", "relu"), 2 / 3),
    StreamKind.GATED_ACTIVATION: Alike(("silu_gate",), 3 / 5),
    StreamKind.RESIDUAL: Alike(("add",), 3 / 5),
    StreamKind.SOFTMAX: Alike(("softmax",), 2 / 3),
    StreamKind.ROTARY: Alike(("rotary",), 1.0),
    StreamKind.CROSS_ENTROPY: Alike(("cross_entropy",), 1.0),
}
BACKWARD: Mapping[StreamKind, Alike] = {
    StreamKind.NORMALISATION: Alike(("layer_norm_backward", "rms_norm_backward"), 3 / 4),
    StreamKind.FINAL_NORMALISATION: Alike(("layer_norm_backward", "rms_norm_backward"), 3 / 4),
    StreamKind.ACTIVATION: Alike(("gelu_backward", "relu_backward"), 3 / 4),
    StreamKind.GATED_ACTIVATION: Alike(("silu_gate_backward",), 5 / 9),
    StreamKind.SOFTMAX: Alike(("softmax_backward",), 3 / 5),
    StreamKind.ROTARY: Alike(("rotary",), 1.0),
    StreamKind.CROSS_ENTROPY: Alike(("cross_entropy_backward",), 1.0),
}
_REDUCING = ("layer_norm", "rms_norm", "softmax")
_PLAIN = ("add", "mul", "relu", "cast")
"""Element-wise kernels without arithmetic to speak of; an activation function may be paced by its own."""
_LONG = 1e-4
"""Calls that take longer [s] are paced by the memory, shorter ones by their launch too."""


def launch_of(rows: Streams, bandwidth: float) -> float | None:
    """Time of a kernel that hardly moves anything [s], or none where only large ones were timed."""
    small = rows.moved_bytes < 0.1 * bandwidth * rows.seconds
    short = small & (rows.seconds < _LONG)
    return float(np.quantile(rows.seconds[short], 0.1)) if short.sum() >= 3 else None


def price_of(rows: Streams, operations: tuple[str, ...], bandwidth: float) -> float | None:
    """Median time of such kernels over that of their least traffic at full bandwidth, or none where none was timed."""
    wanted = rows.where(np.isin(rows.operation, operations))
    if not len(wanted):
        return None
    large = wanted.where(wanted.moved_bytes >= np.median(wanted.moved_bytes))
    return float(np.median(large.seconds * bandwidth / large.moved_bytes))


def prices_of(rows: Streams, kinds: Mapping[StreamKind, Alike], bandwidth: float) -> dict[StreamKind, float]:
    """The price of each kind of stream whose kernel was timed: a factor on its bytes over the bandwidth."""
    measured = {kind: price_of(rows, alike.operations, bandwidth) for kind, alike in kinds.items()}
    return {kind: price * kinds[kind].share for kind, price in measured.items() if price is not None}


def drawn_of(rows: Streams, bandwidth: float) -> float:
    """Time of one random number [s]: what a dropout takes beyond its traffic, 0 where that hides it."""
    wanted = rows.where(rows.operation == "dropout")
    if not len(wanted):
        return 0.0
    elements = wanted.rows * wanted.columns
    beyond = (wanted.seconds - wanted.moved_bytes / (0.7 * bandwidth)) / elements
    usual = float(np.median(wanted.seconds / elements))
    share = float(np.median(beyond))
    return share if share > 0.25 * usual else 0.0


def efficiency_of(rows: Streams, bandwidth: float, *, reduces: bool) -> float | None:
    """Share of the bandwidth that element-wise kernels or those that reduce rows reach; none where few are large."""
    large = rows.where(np.isin(rows.operation, _REDUCING if reduces else _PLAIN) & (rows.seconds > _LONG))
    if len(large) < 3:
        return None
    return float(np.clip(np.median(large.moved_bytes / large.seconds) / bandwidth, 1e-3, 2.0))


@dataclass(frozen=True)
class LearnedMemory:
    """What kernels that are bound by memory say."""

    values: dict[str, float]
    """Constants that were determined, under their names in `MemoryConstants`."""
    scores: dict[str, HeldOutScore]
    """Of each constant, how far off kernels are that it paces, by a fit to the others."""


def learn(rows: Streams, bandwidth: float, start: MemoryConstants) -> LearnedMemory:
    """Fit the constants to all rows, and score each on half of the sizes by a fit to the other half.

    Parameters
    ----------
    rows
        Kernels that were timed alone.
    bandwidth
        Of the device [B/s].
    start
        The catalogue's constants.
    """
    values = _values(rows, bandwidth)
    if not values:
        return LearnedMemory(values, {})
    fitted = halves(np.stack([rows.rows, rows.columns], axis=1))
    some, asked = rows.where(fitted), rows.where(~fitted)
    known = _values(some, bandwidth)
    trial = start.model_copy(update=known)
    reduces, short = _reduces(asked), asked.seconds <= _LONG
    plain = np.isin(asked.operation, _PLAIN)
    parts = {
        "efficiency": ("element-wise kernels", plain & ~short),
        "normalisation_efficiency": ("normalisation and softmax", reduces & ~short),
        "launch": ("short kernels", (plain | reduces) & short),
    }
    predicted, before = (seconds(asked, memory, bandwidth) for memory in (trial, start))
    scores = {
        name: score(
            "stream", what, asked.seconds[part], fitted=len(some), predicted=predicted[part], before=before[part]
        )
        for name, (what, part) in parts.items()
        if name in known and name in values and np.any(part)
    }
    return LearnedMemory(values, scores)


def _values(rows: Streams, bandwidth: float) -> dict[str, float]:
    """Constants that rows determine."""
    said = {
        "efficiency": efficiency_of(rows, bandwidth, reduces=False),
        "normalisation_efficiency": efficiency_of(rows, bandwidth, reduces=True),
        "launch": launch_of(rows, bandwidth),
    }
    return {name: float(f"{value:.4g}") for name, value in said.items() if value is not None}


def seconds(rows: Streams, memory: MemoryConstants, bandwidth: float) -> Values:
    """Times of kernels that are bound by memory [s]."""
    efficiency = np.where(_reduces(rows), memory.normalisation_efficiency, memory.efficiency)
    time = stream_time(rows.moved_bytes, 1.0, bandwidth=bandwidth, efficiency=efficiency, launch=memory.launch)
    return np.asarray(time, dtype=np.float64)


def _reduces(rows: Streams) -> Mask:
    """Which kernels reduce rows, forward or backward."""
    starts = [np.char.startswith(rows.operation, name) for name in (*_REDUCING, "cross_entropy")]
    return np.asarray(np.logical_or.reduce(starts), dtype=np.bool_)
