"""A measured profile: constants that were fitted to what one machine or one table of measurements says, as plain data.

`capsim calibrate` writes it, `--profile` reads it. It holds the constants, the residuals of the shapes that were
measured, how far off the fit was on rows that it had not seen, and which constants came from elsewhere.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from hardware.classes import DeviceClass, Precision
from hardware.fields import Unit
from hardware.quantity import Bandwidth, Bytes, Seconds
from hardware.sheet import NO_FLAG, Count, Name, Ratio, Seen, Sheet, Words
from hardware.spec import Device

FORMAT: Literal["capsim-profile"] = "capsim-profile"
VERSION: Literal[1] = 1

Residual = Annotated[float, Field(ge=-5.0, le=5.0, allow_inf_nan=False), NO_FLAG, Unit("1")]
Number = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False), NO_FLAG, Unit("element")]
Share = Annotated[float, Field(ge=-10.0, le=1e3, allow_inf_nan=False), NO_FLAG, Unit("1")]
CollectiveName = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
Phase = Literal["gemm", "attention", "stream", "optimizer", "collective", "step"]

PRODUCT_SIZES = ("m", "n", "k", "batch", "weight_gradient")
ATTENTION_SIZES = ("queries", "keys", "batch", "heads", "key_value_heads", "head_size", "causal", "backward")
MOST_SHAPES = 20_000


class Shapes(Sheet):
    """Shapes that were measured, and what the fitted form leaves of each: log(measured / fitted)."""

    sizes: Annotated[tuple[tuple[Number, ...], ...], Field(max_length=MOST_SHAPES)]
    """Sizes of each shape, in the order of `PRODUCT_SIZES` or `ATTENTION_SIZES`."""
    residuals: Annotated[tuple[Residual, ...], Field(max_length=MOST_SHAPES)]
    """log(measured / fitted) of each shape."""

    @model_validator(mode="after")
    def _match(self) -> Self:
        if len(self.sizes) != len(self.residuals):
            raise ValueError(f"{len(self.sizes)} shapes and {len(self.residuals)} residuals; each shape has one")
        if len({len(shape) for shape in self.sizes}) > 1:
            raise ValueError("all shapes need the same number of sizes")
        return self


class StreamConstants(Sheet):
    """Rates of one kind of kernel that is bound by memory, over the device's bandwidth."""

    forward: Ratio
    """Share of the bandwidth in the forward pass."""
    backward: Ratio
    """Share of the bandwidth in the backward pass."""


class LinkConstants(Sheet):
    """One collective over so many ranks: `simulator.formulas.collectives.measured_link_time`.

    ``latency + medium_cost s(S, medium_size) + large_cost s(S, large_size) + volume / rate`` with
    ``s(S, size) = S^2 / (S^2 + size^2)``. S is the whole message, by which a library chooses its protocol; the volume
    is what each rank sends.
    """

    latency: Seconds
    """Time of an empty message."""
    medium_cost: Seconds
    """What a message far beyond `medium_size` takes beyond an empty one."""
    medium_size: Bytes
    """Message at which half of `medium_cost` is reached."""
    large_cost: Seconds
    """What a message far beyond `large_size` takes beyond a medium one."""
    large_size: Bytes
    """Message at which half of `large_cost` is reached."""
    rate: Bandwidth
    """Volume over time of a long message."""


class StackConstants(Sheet):
    """What training steps say of the software that ran them."""

    launch: Seconds
    """Host time of starting one kernel."""
    step_overhead: Seconds
    """Host time of a step beside launches."""
    streams: dict[Name, StreamConstants] = {}
    """Rates of kernels that are bound by memory, by the simulator's names of streams, with hyphens for spaces."""
    drawn: Seconds = 0.0
    """Time of drawing one random number for dropout, where that is not hidden behind the memory's."""


class HeldOutScore(Sheet):
    """How far off times of one phase were, on rows that the fit had not seen."""

    phase: Phase
    """Kind of work that was timed."""
    what: Words
    """Which rows: all, large products, steps, ..."""
    fitted: Annotated[int, Field(ge=0), NO_FLAG, Unit("measurement")]
    """Rows that were fitted."""
    scored: Annotated[int, Field(ge=1), NO_FLAG, Unit("measurement")]
    """Rows that were scored."""
    median: Share
    """Median of |predicted / measured - 1|."""
    p90: Share
    """90th percentile of |predicted / measured - 1|."""
    bias: Share
    """Sum of predicted over sum of measured times, minus 1."""
    with_residuals: Share | None = None
    """The median where the nearest measured shapes correct it."""
    before: Share | None = None
    """The median of the catalogue's constants on the same rows."""
    constants: Literal["fitted", "catalogue"] = "fitted"
    """Whose constants the profile has for such rows: the catalogue's, where the fit was further off than they are."""


def _said(device: Any) -> str:
    """Whether a device is named, or its sheet is given; in brackets, as errors leave out branches of unions."""
    return "[name]" if isinstance(device, str) else "[sheet]"


class MeasuredProfile(Sheet):
    """All that was learned from one record, or from one set of tables."""

    format: Literal["capsim-profile"] = FORMAT
    """What kind of file it is."""
    version: Annotated[Literal[1], NO_FLAG, Unit("version")] = VERSION
    """Version of the format."""
    id: Name
    """The word that names the profile."""
    title: Words
    """The machine or the table in full."""
    source: Words
    """Record or table, its date and the versions of the software."""
    seen: Seen
    """How the measurements were seen: made here or read in their author's text, quoted, derived, or recalled."""
    device: Annotated[Annotated[Name, Tag("[name]")] | Annotated[Device, Tag("[sheet]")], Discriminator(_said)]
    """Its name in the catalogue, or the whole sheet of a device that is not there."""
    constants: DeviceClass
    """Kernel constants of the device's class, with what was measured in their place."""
    fitted: tuple[Precision, ...] = ()
    """Number formats whose products were measured; the others' constants are borrowed."""
    links: dict[CollectiveName, dict[Count, LinkConstants]] = {}
    """Collectives inside a node, by number of ranks."""
    stacks: dict[Name, StackConstants] = {}
    """What training steps say of the software, by stack."""
    products: dict[Precision, Shapes] = {}
    """Matrix products that were measured, by number format."""
    attentions: dict[Precision, Shapes] = {}
    """Attention kernels that were measured, by number format."""
    held_out: Annotated[tuple[HeldOutScore, ...], Field(max_length=100)] = ()
    """How far off times were on rows that the fit had not seen."""
    borrowed: dict[Annotated[str, Field(max_length=80)], Words] = {}
    """Constants that the data could not determine, and where each comes from."""
    kept: dict[Annotated[str, Field(max_length=80)], Words] = {}
    """Constants that stay the catalogue's, since a fit was further off on rows it had not seen, and both errors."""

    @model_validator(mode="after")
    def _widths(self) -> Self:
        for name, tables, width in (
            ("products", self.products, len(PRODUCT_SIZES)),
            ("attentions", self.attentions, len(ATTENTION_SIZES)),
        ):
            for precision, shapes in tables.items():
                if shapes.sizes and len(shapes.sizes[0]) != width:
                    raise ValueError(f"{name}.{precision}: each shape needs {width} sizes, not {len(shapes.sizes[0])}")
        return self

    @property
    def device_id(self) -> str:
        """Name of the device, which the catalogue may not have."""
        return self.device if isinstance(self.device, str) else self.device.id

    @property
    def steps(self) -> int:
        """Training steps that were predicted without having been fitted."""
        return sum(score.scored for score in self.held_out if score.phase == "step")

    @property
    def spread(self) -> float | None:
        """Standard deviation of the logarithm of measured over predicted steps, where steps were held out."""
        for score in self.held_out:
            if score.phase == "step" and score.scored >= 5:
                return math.log1p(max(score.p90, 1e-3)) / 1.645
        return None
