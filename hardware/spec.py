"""What a device, a link, a system and a price are: frozen, no unknown fields, each figure with its source.

A figure in a file is written ``{value: 312 TFLOP/s, source: [nvidia-a100-blog], seen: primary, note: ...}``, or
plainly ``312 TFLOP/s`` where the writer names no source. In code it is a float in SI, and `Sheet.provenance` tells
where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticKnownError

from hardware.quantity import (
    Bandwidth,
    Bytes,
    CarbonIntensity,
    ComputeRate,
    EnergyPrice,
    EventRate,
    Hertz,
    IntegerRate,
    Lifetime,
    Seconds,
    Watts,
)
from hardware.rates import OwnPrice

Seen = Literal["primary", "secondary", "derived", "recalled", "unstated"]
"""How a figure was seen: in the vendor's or author's own text, in a quotation of it, by arithmetic on such figures,
from memory only, or without any statement."""


def _not_a_flag(value: Any) -> Any:
    """Refuse true and false where a number is meant: Python would take them for 1 and 0."""
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


NO_FLAG = BeforeValidator(_not_a_flag)
Count = Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG]
Fraction = Annotated[float, Field(ge=1e-6, le=1, allow_inf_nan=False), NO_FLAG]
Positive = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False), NO_FLAG]
NotNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), NO_FLAG]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$", max_length=80)]
Words = Annotated[str, Field(min_length=1, max_length=600)]


class Provenance(BaseModel):
    """Where one figure comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: tuple[str, ...] = ()
    """Keys of sources.yaml, or a citation in words."""
    seen: Seen = "unstated"
    note: Words | None = None


def _provenance(name: str, given: dict[str, Any]) -> Provenance:
    """Validate the source of a figure; an error names the figure."""
    try:
        return Provenance.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        inside = InitErrorDetails(
            type=problem["type"], loc=(name, *problem["loc"]), input=problem["input"], ctx=problem.get("ctx", {})
        )
        raise ValidationError.from_exception_data("Provenance", [inside]) from None


class Sheet(BaseModel):
    """A table of figures that remembers the source of each."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    _provenance: dict[str, Provenance] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _unwrap(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take value and source of each figure apart."""
        if not isinstance(data, Mapping):
            return handler(data)
        plain: dict[str, Any] = {}
        provenance: dict[str, Provenance] = {}
        for name, figure in data.items():
            if isinstance(figure, Mapping) and "value" in figure:
                plain[name] = figure["value"]
                provenance[name] = _provenance(name, {key: figure[key] for key in figure if key != "value"})
            else:
                plain[name] = figure
        sheet = handler(plain)
        sheet._provenance.update(provenance)
        return sheet

    @property
    def provenance(self) -> Mapping[str, Provenance]:
        """The source of each figure that names one, by field."""
        return self._provenance

    def figures(self, prefix: str = "") -> Iterator[tuple[str, Any, Provenance | None]]:
        """Walk over every figure below this sheet: dotted name, value, source."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Sheet):
                yield from value.figures(f"{prefix}{name}.")
            elif isinstance(value, dict) and value and all(isinstance(part, Sheet) for part in value.values()):
                for key, part in value.items():
                    yield from part.figures(f"{prefix}{name}.{key}.")
            else:
                yield f"{prefix}{name}", value, self._provenance.get(name)

    def shown(self, prefix: str = "") -> dict[str, Any]:
        """The figures as `figures` names them, quantities with their unit."""
        written = self.model_dump(mode="json")
        return {name: _at(written, name.removeprefix(prefix)) for name, _, _ in self.figures(prefix)}


def _at(written: Any, dotted: str) -> Any:
    """The value at a dotted name of nested dictionaries."""
    for part in dotted.split("."):
        written = written[part]
    return written


class Peak(Sheet):
    """Dense peak rates of arithmetic, 16-bit and below with FP32 accumulation unless the name says otherwise."""

    fp64: ComputeRate | None = None
    fp64_tensor: ComputeRate | None = None
    fp32: ComputeRate | None = None
    tf32: ComputeRate | None = None
    fp16: ComputeRate | None = None
    bf16: ComputeRate | None = None
    fp8: ComputeRate | None = None
    fp4: ComputeRate | None = None
    int8: IntegerRate | None = None
    fp16_fp16_accumulate: ComputeRate | None = None
    fp16_without_tensor_cores: ComputeRate | None = None
    bf16_without_tensor_cores: ComputeRate | None = None


class Memory(Sheet):
    """Memory of one device."""

    kind: Words
    capacity: Bytes
    """What the label says."""
    usable: Bytes | None = None
    """What a program can allocate, where it was read off a device."""
    bandwidth: Bandwidth


class Power(Sheet):
    """Electrical power of one device."""

    limit: Watts | None = None
    """Board power limit or thermal design power."""
    idle: Watts | None = None
    mean: Watts | None = None
    """Mean under load in a fleet, where a vendor published one."""
    maximum: Watts | None = None
    """Highest measured."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.limit is None and self.mean is None and self.maximum is None:
            raise ValueError("give at least one of limit, mean, maximum")
        return self

    @property
    def rated(self) -> float:
        """The highest known draw [W]."""
        return max(value for value in (self.limit, self.maximum, self.mean) if value is not None)


Topology = Literal["switch", "cube-mesh", "pairs", "host-bridge", "mesh", "torus", "fabric"]
"""How the devices of one level are wired.

switch
    All-to-all through switches at full rate (NVSwitch).
cube-mesh
    The hybrid cube mesh of eight V100: 1, 4 or 6 of a device's links serve a group of 2, 4 or 8.
pairs
    A bridge between two cards.
host-bridge
    PCIe through the host, which all devices share.
mesh
    Each pair of devices has a link of its own (MI300X): a group of n uses n - 1 links.
torus
    Rings along two or three axes (TPU).
fabric
    A network between nodes: InfiniBand, RoCE, EFA, Ethernet.
"""


class Interconnect(Sheet):
    """The links that leave one device, as its data sheet gives them."""

    kind: Words
    links: Count | None = None
    bandwidth_per_link: Bandwidth | None = None
    """Of one link in one direction."""
    bandwidth: Bandwidth | None = None
    """Of all links together in one direction."""
    bandwidth_both_directions: Bandwidth | None = None
    topology: Topology | None = None
    """How a usual host wires these links."""
    note: Words | None = None


class Device(Sheet):
    """One accelerator."""

    id: Name
    name: Words
    vendor: Words
    architecture: Words
    kind: Literal["gpu", "tpu", "cpu"]
    profile: Name
    """The set of kernel constants in profiles/ that prices work on this device."""
    peak: Peak
    memory: Memory
    processors: Count
    """Streaming multiprocessors, compute units, 128x128 matrix units, or the cores that compute."""
    cores: Count | None = None
    """Tensor cores of a TPU chip, where a chip has several."""
    clock: Hertz
    """Boost clock."""
    last_level_cache: Bytes | None = None
    power: Power
    host_link: Interconnect
    scale_up: Interconnect | None = None
    note: Words | None = None

    @property
    def memory_capacity(self) -> float:
        """Memory a program can use [B]: the usable figure, or the label's where none was read."""
        return self.memory.usable or self.memory.capacity


class Link(Sheet):
    """One level of wiring: what joins the devices of a pair, a node, a cluster or several pods."""

    kind: Name
    """The technology; its constants (latency, achievable share of the rate) are in profiles/links.yaml."""
    topology: Topology
    bandwidth: Bandwidth
    """In one direction, of `shared_by` devices together; for a torus of one link."""
    shared_by: Count = 1
    """How many devices share the rate, such as 8 devices on one node's network cards."""
    in_network_reduction: bool = False
    """Whether switches add up an all-reduce (NVLink SHARP)."""
    dimensions: tuple[Count, ...] | None = None
    """Largest extent of a torus along each axis."""
    wrap_multiple: Count | None = None
    """A torus axis closes to a ring only where its extent is a multiple of this (4 on TPU v4: full cubes)."""

    @model_validator(mode="after")
    def _torus_has_dimensions(self) -> Self:
        if (self.topology == "torus") != (self.dimensions is not None):
            raise ValueError("dimensions belong to a torus, and a torus needs them")
        if self.dimensions is not None and len(self.dimensions) > 3:
            raise ValueError("a torus has at most 3 dimensions")
        return self

    @property
    def bandwidth_per_device(self) -> float:
        """In one direction [B/s]; for a torus of one link."""
        return self.bandwidth / self.shared_by


class Host(Sheet):
    """The machine around the devices of one node."""

    memory: Bytes | None = None
    processors: Words | None = None
    power: Watts | None = None
    """Maximum of the whole node with its devices."""


class System(Sheet):
    """Devices wired together. Levels from the inside: bridge, intra_node, inter_node, cross_pod."""

    id: Name
    name: Words
    device: Device
    devices_per_node: Count
    most_devices: Count
    """How many devices the system can be built to, over all pods."""
    default_devices: Count
    """How many devices are meant where nobody says."""
    bridge: Link | None = None
    intra_node: Link | None = None
    inter_node: Link | None = None
    """Between nodes of one pod; for TPU the torus that joins all chips of a pod."""
    devices_per_pod: Count | None = None
    cross_pod: Link | None = None
    host: Host = Host()
    price: OwnPrice | None = None
    """What one of its devices was negotiated to cost, or the offer in prices/ that rents this system."""
    note: Words | None = None

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if self.default_devices > self.most_devices:
            raise ValueError(f"default_devices={self.default_devices} exceeds most_devices={self.most_devices}")
        if self.most_devices > self.devices_per_node and self.inter_node is None:
            raise ValueError(
                f"most_devices={self.most_devices} exceeds one node: give inter_node, the link between nodes"
            )
        if (self.cross_pod is None) != (self.devices_per_pod is None):
            raise ValueError("cross_pod and devices_per_pod go together: give both or neither")
        return self

    @property
    def levels(self) -> tuple[tuple[str, float, Link], ...]:
        """Wiring from the inside: field name, how many devices the level joins, its link."""
        inside = [("bridge", 2.0, self.bridge), ("intra_node", float(self.devices_per_node), self.intra_node)]
        pod = float(self.devices_per_pod or self.most_devices)
        outside = [("inter_node", pod, self.inter_node), ("cross_pod", float(self.most_devices), self.cross_pod)]
        return tuple((name, reach, link) for name, reach, link in inside + outside if link is not None)

    @property
    def power_per_device(self) -> float:
        """Rated draw of one device with its share of the node [W]; of the device alone where the node's is unknown."""
        return self.host.power / self.devices_per_node if self.host.power else self.device.power.rated


class Grid(Sheet):
    """Emissions of the electricity of a place."""

    id: Name
    name: Words
    intensity: CarbonIntensity


class Overhead(Sheet):
    """Power usage effectiveness of a kind of data centre: energy of the site over energy of its machines."""

    id: Name
    name: Words
    ratio: Annotated[float, Field(ge=1, le=5), NO_FLAG]


class Failures(Sheet):
    """How often devices of one family end a training run before its time."""

    id: Name
    name: Words
    architectures: tuple[Words, ...] = ()
    """What the architectures of these devices begin with; none for the family of all others."""
    failure_rate: EventRate
    """Of one device with its share of hosts, network and software."""
    preemption_rate: EventRate
    """How often one spot instance that is held alone is taken back."""


class Site(Sheet):
    """What a place offers to long runs, and what its machines and electricity cost."""

    id: Name
    name: Words
    restart: Seconds
    """From an interruption to the first new step: noticing, replacing, starting, reading the checkpoint."""
    preemption_grouping: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_FLAG]
    """How much spot instances share their fate: 0 if each is taken back by itself, 1 if all are together."""
    capacity_wait: Seconds
    """From a pre-emption until capacity is back."""
    storage_bandwidth_per_device: Bandwidth
    """At which all devices together write a checkpoint, over their number."""
    lifetime: Lifetime
    """Over which the price of owned hardware is spread."""
    electricity: EnergyPrice


class Figure(Provenance):
    """A published measurement or rate that no field of a specification holds, in the words and unit of its source."""

    subject: Words
    what: Words
    value: float | str
    unit: str = ""
    conditions: Words | None = None


__all__ = [
    "Device",
    "Failures",
    "Figure",
    "Grid",
    "Host",
    "Interconnect",
    "Link",
    "Memory",
    "Overhead",
    "Peak",
    "Power",
    "Provenance",
    "Seconds",
    "Sheet",
    "Site",
    "System",
    "Topology",
]
