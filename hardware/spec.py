"""What a device, a link, a system and a price are: sheets whose figures name their sources."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hardware.fields import BESIDE, Also, Unit
from hardware.price import OwnPrice
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
from hardware.sheet import NO_FLAG, Count, Name, Provenance, Sheet, Words


class Peak(Sheet):
    """Dense peak rates of arithmetic, 16-bit and below with FP32 accumulation unless the name says otherwise."""

    fp64: ComputeRate | None = None
    """FP64 outside tensor cores."""
    fp64_tensor: ComputeRate | None = None
    """FP64 in tensor cores."""
    fp32: ComputeRate | None = None
    """FP32 outside tensor cores."""
    tf32: ComputeRate | None = None
    """TF32 in tensor cores."""
    fp16: ComputeRate | None = None
    """FP16 in matrix units, or outside them on a device that has none."""
    bf16: ComputeRate | None = None
    """BF16 in matrix units."""
    fp8: ComputeRate | None = None
    """FP8 in matrix units."""
    fp4: ComputeRate | None = None
    """FP4 in matrix units."""
    int8: IntegerRate | None = None
    """INT8 in matrix units."""
    fp16_fp16_accumulate: ComputeRate | None = None
    """FP16 in tensor cores with FP16 accumulation, where that is faster."""
    fp16_without_tensor_cores: ComputeRate | None = None
    """FP16 outside tensor cores."""
    bf16_without_tensor_cores: ComputeRate | None = None
    """BF16 outside tensor cores."""


class DeviceMemory(Sheet):
    """Memory of one device."""

    kind: Words
    """Technology, such as HBM2e or GDDR6X."""
    capacity: Bytes
    """What the label says."""
    usable: Bytes | None = None
    """What a program can allocate, where it was read off a device."""
    bandwidth: Bandwidth
    """Peak rate of reading and writing together."""


class Power(Sheet):
    """Electrical power of one device."""

    limit: Watts | None = None
    """Board power limit or thermal design power."""
    idle: Watts | None = None
    """Draw without work."""
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
    """Technology, such as pcie4x16 or nvlink3; its constants are in links.yaml."""
    links: Annotated[Count, Unit("link")] | None = None
    """Number of links of one device."""
    bandwidth_per_link: Bandwidth | None = None
    """Rate of one link in one direction."""
    bandwidth: Bandwidth | None = None
    """Rate of all links together in one direction."""
    bandwidth_both_directions: Bandwidth | None = None
    """Rate of all links together in both directions, as many data sheets print it; capsim prices by one direction."""
    topology: Topology | None = None
    """How a usual host wires these links."""
    note: Words | None = None
    """Anything a reader should know of these links."""


class Device(Sheet):
    """One accelerator."""

    id: Name
    """The word that names the device."""
    name: Words
    """Name in full, as the vendor writes it."""
    vendor: Words
    """Who makes it."""
    architecture: Words
    """Generation and chip, such as Ampere GA100; the family's failure rate goes by it."""
    kind: Literal["gpu", "tpu", "cpu"]
    """Kind of device; a stack runs on one kind."""
    device_class: Name
    """The set of kernel constants in classes/ that times work on this device: parts with one chip share it."""
    peak: Peak
    """Dense peak rates by number format; a format without a rate cannot be used."""
    memory: DeviceMemory
    """Memory of the device."""
    processors: Annotated[Count, Unit("processor")]
    """Streaming multiprocessors, compute units, 128x128 matrix units, or the cores that compute."""
    cores: Annotated[Count, Unit("core")] | None = None
    """Tensor cores of a TPU chip, where a chip has several."""
    clock: Hertz
    """Boost clock."""
    last_level_cache: Bytes | None = None
    """Size of the last cache before memory."""
    power: Power
    """Electrical power; give at least one of limit, mean and maximum."""
    host_link: Interconnect
    """What joins the device to its host."""
    scale_up: Interconnect | None = None
    """What joins the device to others of its node without the host, where it has such links."""
    note: Words | None = None
    """Anything a reader should know of the device."""

    @property
    def memory_capacity(self) -> float:
        """Memory a program can use [B]: the usable figure, or the label's where none was read."""
        return self.memory.usable or self.memory.capacity


class Link(Sheet):
    """One level of wiring: what joins the devices of a pair, a node, a cluster or several pods."""

    kind: Name
    """The technology; its constants (latency, achievable share of the rate) are in links.yaml."""
    topology: Topology
    """How the devices of this level are wired; switch is all-to-all, fabric a network between nodes."""
    bandwidth: Bandwidth
    """Rate in one direction, of `shared_by` devices together; for a torus of one link."""
    shared_by: Annotated[Count, Unit("device")] = 1
    """How many devices share the rate, such as 8 devices on one node's network cards."""
    in_network_reduction: bool = False
    """Whether switches add up an all-reduce (NVLink SHARP)."""
    dimensions: tuple[Annotated[Count, Unit("device")], ...] | None = None
    """Largest extent of a torus along each of up to three axes; a torus needs it."""
    wrap_multiple: Annotated[Count, Unit("device")] | None = None
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
    """Memory of the host."""
    processors: Words | None = None
    """Processors of the host, such as 2 x EPYC 7742."""
    power: Watts | None = None
    """Maximum draw of the whole node with its devices."""


class System(Sheet):
    """Devices wired together. Levels from the inside: bridge, intra_node, inter_node, cross_pod."""

    id: Name
    """The word that names the system."""
    name: Words
    """Name in full."""
    device: Annotated[Device, Also(str, "a device's name or file")]
    """The accelerator that it consists of."""
    devices_per_node: Annotated[Count, Unit("device")]
    """How many devices one node has."""
    most_devices: Annotated[Count, Unit("device")]
    """How many devices the system can be built to, over all pods."""
    default_devices: Annotated[Count, Unit("device")]
    """How many devices are meant where nobody says."""
    bridge: Link | None = None
    """Between the two devices of a pair, where a bridge joins them."""
    intra_node: Link | None = None
    """Between the devices of one node."""
    inter_node: Link | None = None
    """Between nodes of one pod; for TPU the torus that joins all chips of a pod."""
    devices_per_pod: Annotated[Count, Unit("device")] | None = None
    """How many devices one pod has, where several pods are joined; it goes with cross_pod."""
    cross_pod: Link | None = None
    """Between pods."""
    host: Host = Host()
    """The machine around the devices of one node."""
    price: OwnPrice | None = None
    """What one of its devices was negotiated to cost, or the offer in prices/ that rents this system."""
    note: Words | None = None
    """Anything a reader should know of the system."""

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
    """The word that names the grid."""
    name: Words
    """Name of the place in full."""
    intensity: CarbonIntensity
    """Emissions of the electricity that is used there."""


class Overhead(Sheet):
    """Power usage effectiveness of a kind of data centre: energy of the site over energy of its machines."""

    id: Name
    """The word that names the kind of data centre."""
    name: Words
    """Name in full."""
    ratio: Annotated[float, Field(ge=1, le=5), NO_FLAG, Unit("1")]
    """Energy of the site over energy of its machines."""


class Failures(Sheet):
    """How often devices of one family end a training run before its time."""

    id: Name
    """The word that names the family."""
    name: Words
    """Name in full."""
    architectures: tuple[Words, ...] = ()
    """What the architectures of these devices begin with; none for the family of all others."""
    failure_rate: EventRate
    """Failures of one device with its share of hosts, network and software."""
    preemption_rate: EventRate
    """How often one spot instance that is held alone is preempted."""


class Site(Sheet):
    """What a place offers to long runs, and what its machines and electricity cost."""

    id: Name
    """The word that names the site."""
    name: Words
    """Name in full."""
    restart: Seconds
    """Time from an interruption to the first new step: noticing, replacing, starting, reading the checkpoint."""
    preemption_grouping: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_FLAG, Unit("1")]
    """How much spot instances share their fate: 0 if each is preempted by itself, 1 if all are together."""
    capacity_wait: Seconds
    """Time from a preemption until capacity is back."""
    storage_bandwidth_per_device: Bandwidth
    """Rate at which all devices together write a checkpoint, over their number."""
    lifetime: Lifetime
    """Time over which the price of owned hardware is spread."""
    electricity: EnergyPrice
    """Price of electricity where devices are owned."""


class Figure(Provenance):
    """A published measurement or rate that no field of a specification holds, in the words and unit of its source."""

    subject: Words
    """The device, link or run that the figure is about."""
    what: Words
    """What was measured."""
    value: Annotated[float | str, Unit(BESIDE)]
    """The figure, as its source prints it."""
    unit: str = ""
    """Unit of the value, as its source prints it."""
    conditions: Words | None = None
    """Under which it was measured."""


__all__ = [
    "Device",
    "DeviceMemory",
    "Failures",
    "Figure",
    "Grid",
    "Host",
    "Interconnect",
    "Link",
    "Overhead",
    "Peak",
    "Power",
    "Provenance",
    "Seconds",
    "Site",
    "System",
    "Topology",
    "Words",
]
