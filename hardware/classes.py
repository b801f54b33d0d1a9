"""Constants of kernels and links: what share of its data sheet a device class or a wire reaches in practice.

Each set belongs to a device class, since parts that share a chip, its clocks and its power limit share them. The
constants of GEMM are those of the six-parameter form in ``simulator.formulas.matmul``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hardware.fields import Unit
from hardware.quantity import Seconds
from hardware.sheet import NO_FLAG, Count, Fraction, Name, NotNegative, Positive, Ratio, Seen, Sheet, Words

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4"]
_UNITS = {"mxfp8": "fp8", "nvfp4": "fp4"}


def peak_field(precision: str) -> str:
    """The peak rate of a data sheet that products in a format go by: formats with scales in blocks share units.

    >>> peak_field("mxfp8"), peak_field("nvfp4"), peak_field("bf16")
    ('fp8', 'fp4', 'bf16')
    """
    return _UNITS.get(precision, precision)


MatrixUnit = Literal["tensor-core", "systolic-array", "vector"]


class SourcedConstants(Sheet):
    """A set of constants that were fitted or taken together."""

    source: Words
    """Where the constants come from, in words."""
    seen: Seen
    """How they were seen: fitted to figures of the author's own, to quoted ones, derived from others, or recalled."""
    note: Words | None = None
    """Anything a reader should know of them."""


class GemmConstants(SourcedConstants):
    """The six numbers of the matrix-multiplication model, for one number format."""

    efficiency: Ratio
    """Share of the peak rate inside the main loop; above 1 where a card clocks above its nominal boost."""
    bandwidth_efficiency: Ratio
    """Share of the memory bandwidth while streaming operands."""
    launch: Seconds
    """Time of an empty kernel as the device sees it."""
    fill: Annotated[NotNegative, Unit("element")]
    """Depth of the inner dimension that is lost to filling the pipeline."""
    small_tile: Annotated[NotNegative, Unit("element")]
    """Extra traffic of small output tiles."""
    sustained: Fraction
    """Clock under long load over clock in short bursts."""


class AttentionConstants(SourcedConstants):
    """Fused (flash) attention, for one number format."""

    efficiency: Ratio
    """Share of the peak rate in the forward pass at head size 128."""
    backward_efficiency: Ratio
    """Share of the peak rate in the backward pass, whose arithmetic is 2.5 times the forward's."""
    bandwidth_efficiency: Ratio
    """Share of the memory bandwidth while streaming queries, keys and values."""
    launch: Seconds
    """Time of an empty kernel as the device sees it."""
    fill: Annotated[NotNegative, Unit("position")]
    """Keys' worth of time spent to fill the pipeline of one block of queries."""


class MemoryConstants(SourcedConstants):
    """Kernels that are bound by memory."""

    efficiency: Ratio
    """Share of the memory bandwidth that element-wise kernels reach."""
    normalisation_efficiency: Ratio
    """Share of the memory bandwidth that normalisation and softmax reach, which reduce over rows."""
    launch: Seconds
    """Time of an empty kernel as the device sees it."""


class DecodingConstants(SourcedConstants):
    """Kernels of inference that stream weights, or keys and values."""

    bandwidth_efficiency: Ratio
    """Share of the memory bandwidth that attention over a long cache reaches."""
    launch: Seconds
    """Time of the smallest attention over a cache, with the kernel that joins its parts."""
    each: Seconds
    """Time in which one multiprocessor begins and ends one key head of one sequence."""
    ramp: Annotated[NotNegative, Unit("s/sqrt(B)")] = 0.0
    """Time lost while the rate rises."""
    efficiency: Ratio
    """Share of the peak rate of products with the query heads that share a key head."""
    weight_efficiency: Ratio
    """Share of the memory bandwidth that products of few rows reach."""


class DeviceClass(Sheet):
    """The constants that all devices of one class share."""

    id: Name
    """The word that names the class."""
    title: Words
    """The devices that belong to it."""
    matrix_unit: MatrixUnit
    """Which model of tiles applies: output tiles over multiprocessors, 128x128 systolic arrays, or none, as in the
    vector units of processor cores."""
    weight_gradient_efficiency: Ratio = 1.0
    """Efficiency of the weight-gradient product over that of the forward product."""
    gemm: dict[Precision, GemmConstants]
    """Matrix products, by number format; a format without constants cannot be used."""
    attention: dict[Precision, AttentionConstants] = {}
    """Fused attention, by number format."""
    causal_block: Annotated[Positive, Unit("position")] = 128.0
    """Keys that fused attention leaves out at a time, where all of them come after a block of queries."""
    portable_attention: Fraction = 1.0
    """Rate of attention kernels written for the generation before (FlashAttention-2 on Hopper) over that of those
    above."""
    memory: MemoryConstants
    """Kernels that are bound by memory."""
    decoding: DecodingConstants | None = None
    """Kernels of inference; assumed from those of other products where nobody measured them."""
    note: Words | None = None
    """Anything a reader should know of the class."""

    def is_aligned(self, precision: Precision) -> bool:
        """Whether odd widths of rows slow its products down: tensor cores load whole lines, and fp32 does not use them.

        In the tables of V100 and T4 fp32 products with 30,522 columns reach the rate of their even neighbours.
        """
        return self.matrix_unit == "tensor-core" and precision != "fp32"


class LinkClass(Sheet):
    """The constants of one link technology, for collectives over n devices.

    ``time = latency + latency_per_rank (n - 1) + ramp sqrt(min(volume, 16 MiB)) + volume / (efficiency bandwidth)``

    Over a network between nodes the ramp follows from the delay of the hops instead.
    """

    id: Name
    """The word that names the technology."""
    title: Words
    """Name in full."""
    latency: Seconds
    """Fixed time of a collective."""
    latency_per_rank: Seconds
    """Time that each device but the first adds to it; delay of one hop of a network between nodes."""
    ramp: Annotated[NotNegative, Unit("s/sqrt(B)")] = 0.0
    """Time lost while the rate rises with message size; it goes without where nodes are joined."""
    efficiency: Ratio
    """Share of the nominal rate of one direction that a long collective over many devices reaches."""
    pair_loss: Annotated[float, Field(ge=-2, le=1), NO_FLAG, Unit("1")] = 0.0
    """Lost share of the rate for n devices, times n: a group of 2 loses half of this. Negative where a shared bridge
    serves few devices better than many."""
    reduction_gain: Ratio = 1.0
    """Rate of an all-reduce added up in the switch over that of one among the devices."""
    reduction_ranks: Annotated[Count, Unit("device")] = 2
    """Fewest devices for which the switch adds up."""
    reduction_ramp: Annotated[NotNegative, Unit("s/sqrt(B)")] | None = None
    """Ramp of an all-reduce added up in the switch, where it differs from the ramp of others."""
    reduction_loss: Annotated[NotNegative, Unit("1")] = 0.0
    """How much longer an all-reduce added up in the switch takes for each doubling of the switched domains that it
    spans."""
    send_efficiency: Ratio = 0.8
    """Share of the nominal rate of one direction that a point-to-point transfer reaches."""
    note: Words | None = None
    """Anything a reader should know of the technology."""

    @property
    def of_one_hop(self) -> float:
        """Time of the smallest message over one hop [s]."""
        return self.latency + self.latency_per_rank
