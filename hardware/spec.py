"""What a device, a link, a system and a price are: sheets whose figures name their sources."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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
    PriceRate,
    Seconds,
    Watts,
)
from hardware.sheet import NO_FLAG, Count, Name, Provenance, Sheet, Words


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


class DeviceMemory(Sheet):
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
    device_class: Name
    """The set of kernel constants in classes/ that times work on this device: parts with one chip share it."""
    peak: Peak
    memory: DeviceMemory
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
    """The technology; its constants (latency, achievable share of the rate) are in links.yaml."""
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
    price: Name | None = None
    """The offer in prices/ that rents this system, where it is one."""
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


class Price(Sheet):
    """What one device costs over time, by whom and when."""

    id: Name
    provider: Words
    offer: Words
    device: Name
    kind: Literal["on-demand", "spot", "capacity-block", "marketplace", "reserved", "owned"]
    rate: PriceRate
    """Of one device."""
    rate_low: PriceRate | None = None
    rate_high: PriceRate | None = None
    date: Words


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
    """How often a spot offer of one device is taken back."""


class Site(Sheet):
    """What a place offers to long runs, and what its machines and electricity cost."""

    id: Name
    name: Words
    restart: Seconds
    """From an interruption to the first new step: noticing, replacing, starting, reading the checkpoint."""
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
    "Price",
    "Seconds",
    "Site",
    "System",
    "Topology",
]
