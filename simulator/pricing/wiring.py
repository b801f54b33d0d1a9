"""A system's links as columns of numbers, level by level from the inside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from hardware.catalogue import link_classes
from hardware.errors import InputError, unknown
from hardware.spec import Link, System
from simulator.formulas import collectives, networks
from simulator.formulas.typing import Num
from simulator.specs.columns import Columns

LEVELS = ("bridge", "intra_node", "inter_node", "cross_pod")


@dataclass(frozen=True)
class Level(Columns):
    """One level of wiring as numbers; a level that a system lacks joins one device."""

    reach: Num
    """Devices that one unit of the level joins."""
    bandwidth: Num
    """Of one device in one direction; of one link on a torus and in a mesh."""
    latency: Num
    latency_per_rank: Num
    ramp: Num
    efficiency: Num
    pair_loss: Num
    reduction_gain: Num
    reduction_ranks: Num
    reduction_ramp: Num
    """The ramp of an all-reduce that the switch adds up."""
    reduction_loss: Num
    """Of its rate, for each doubling of the units that a network joins."""
    send_efficiency: Num
    after_others: Num
    """Whether its part of a collective follows that of the levels inside instead of overlapping with it."""
    network: Num
    """Whether it is a network between nodes, over which rings and trees pass the ranks of all nodes."""
    bus: Num
    """Whether a ring that comes from bridged pairs crosses it by one device of each pair."""
    cube_mesh: Num
    mesh: Num
    torus: Num
    extents: tuple[Num, Num, Num]
    wraps: tuple[Num, Num, Num]

    @property
    def absent(self) -> bool:
        """Whether no system has the level, so that it adds nothing to any time."""
        return not np.any(np.asarray(self.reach) > 1.0)

    def rate(self, fan_out: Num, degree: Num, stride: Num) -> Num:
        """Rate at which one device sends in a long collective [B/s]."""
        ring = collectives.ring_rate(
            np.maximum(fan_out, 1.0), bandwidth=self.bandwidth, efficiency=self.efficiency, pair_loss=self.pair_loss
        )
        cube = np.where(np.asarray(self.cube_mesh) > 0, collectives.cube_mesh_share(fan_out, stride), 1.0)
        links = np.where(np.asarray(self.mesh) > 0, np.maximum(fan_out - 1.0, 1.0), 1.0)
        if not self._is_torus:
            return ring * cube * links
        used, _ = self._torus_use(degree, stride)
        return ring * cube * np.where(np.asarray(self.torus) > 0, np.maximum(used, 1.0), links)

    def steps(self, fan_out: Num, degree: Num, stride: Num) -> Num:
        """Ranks that a ring passes: on a torus the sum of the extents instead of their product."""
        if not self._is_torus:
            return fan_out
        _, hops = self._torus_use(degree, stride)
        return np.where(np.asarray(self.torus) > 0, hops + 1.0, fan_out)

    def crossing_time(self, message_bytes: Num, degree: Num, stride: Num) -> Num:
        """Time that an all-to-all needs at least to cross the middle of a torus, 0 on other wiring [s]."""
        if not self._is_torus:
            return 0.0
        slowest: Num = 0.0
        inside: Num = 1.0
        for extent, wraps in zip(self.extents, self.wraps, strict=True):
            used = networks.torus_extent(degree, stride, inside=inside, extent=extent)
            crossing = networks.torus_crossing_time(
                message_bytes, used, extent=extent, wraps=wraps, bandwidth=self.bandwidth * self.efficiency
            )
            slowest = np.maximum(slowest, crossing)
            inside = inside * np.asarray(extent)
        return np.where(np.asarray(self.torus) > 0, slowest, 0.0)

    def send_rate(self) -> Num:
        """Rate of a transfer from one device to a neighbour [B/s]: over one link of a mesh."""
        one = np.where(np.asarray(self.cube_mesh) > 0, collectives.cube_mesh_share(2.0), 1.0)
        return self.bandwidth * self.send_efficiency * one

    @property
    def _is_torus(self) -> bool:
        """Whether the level of any system is a torus."""
        return bool(np.any(np.asarray(self.torus) > 0))

    def _torus_use(self, degree: Num, stride: Num) -> tuple[Num, Num]:
        """Links of one device that serve a group on the torus, and hops around it."""
        links: Num = 0.0
        hops: Num = 0.0
        inside: Num = 1.0
        for extent, wraps in zip(self.extents, self.wraps, strict=True):
            used = networks.torus_extent(degree, stride, inside=inside, extent=extent)
            links = links + networks.torus_links(used, extent, wraps=wraps)
            hops = hops + used - 1.0
            inside = inside * np.asarray(extent)
        return links, hops


@dataclass(frozen=True)
class Wiring(Columns):
    """All levels of a system."""

    levels: tuple[Level, Level, Level, Level]


def wiring(system: System, devices: int) -> Wiring:
    """The wiring of a part of a system.

    Parameters
    ----------
    system
        The whole system.
    devices
        How many of its devices are used; on a torus they decide the shape of the slice.
    """
    present = {name: (reach, link) for name, reach, link in system.levels}
    level = {name: _level(name, *present[name], devices) if name in present else _absent() for name in LEVELS}
    if "bridge" in present and system.intra_node is not None:
        level["intra_node"] = replace(level["intra_node"], bus=1.0)
    return Wiring(
        levels=(level["bridge"], level["intra_node"], level["inter_node"], level["cross_pod"]),
    )


def _absent() -> Level:
    """A level that joins nothing."""
    none = (1.0, 1.0, 1.0)
    return Level(
        reach=1.0,
        bandwidth=1.0,
        latency=0.0,
        latency_per_rank=0.0,
        ramp=0.0,
        efficiency=1.0,
        pair_loss=0.0,
        reduction_gain=1.0,
        reduction_ranks=2.0,
        reduction_ramp=0.0,
        reduction_loss=0.0,
        send_efficiency=1.0,
        after_others=0.0,
        network=0.0,
        bus=0.0,
        cube_mesh=0.0,
        mesh=0.0,
        torus=0.0,
        extents=none,
        wraps=(0.0, 0.0, 0.0),
    )


def _level(name: str, reach: float, link: Link, devices: int) -> Level:
    """Turn one link into numbers."""
    classes = link_classes()
    if link.kind not in classes:
        raise unknown(f"kind of link ({name})", link.kind, sorted(classes), fields=["system"])
    constants = classes[link.kind]
    extents, wraps = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    if link.dimensions is not None:
        shape = slice_shape(link.dimensions, min(devices, int(reach)), link.wrap_multiple or 1)
        multiple = link.wrap_multiple or 1
        extents = (float(shape[0]), float(shape[1]), float(shape[2]))
        wraps = tuple(float(extent % multiple == 0) for extent in shape)  # type: ignore[assignment]
    gains = link.in_network_reduction
    return Level(
        reach=reach,
        bandwidth=link.bandwidth_per_device,
        latency=constants.latency,
        latency_per_rank=constants.latency_per_rank,
        ramp=constants.ramp,
        efficiency=constants.efficiency,
        pair_loss=constants.pair_loss,
        reduction_gain=constants.reduction_gain if gains else 1.0,
        reduction_ranks=float(constants.reduction_ranks),
        reduction_ramp=constants.ramp if constants.reduction_ramp is None or not gains else constants.reduction_ramp,
        reduction_loss=constants.reduction_loss,
        send_efficiency=constants.send_efficiency,
        after_others=float(name == "cross_pod"),
        network=float(name == "inter_node" and link.topology == "fabric"),
        bus=0.0,
        cube_mesh=float(link.topology == "cube-mesh"),
        mesh=float(link.topology == "mesh"),
        torus=float(link.topology == "torus"),
        extents=extents,
        wraps=wraps,
    )


def slice_shape(most: tuple[int, ...], devices: int, multiple: int) -> tuple[int, int, int]:
    """Shape of the slice of a torus that holds a number of devices, inner axis first.

    The shape nearest to a cube; among equals the one with most axes that are multiples of `multiple`, which close
    to rings.

    Raises
    ------
    InputError
        Where no box of that many devices fits.

    Examples
    --------
    >>> slice_shape((12, 16, 16), 3072, 4), slice_shape((16, 16, 16), 64, 4), slice_shape((16, 16), 32, 16)
    ((12, 16, 16), (4, 4, 4), (4, 8, 1))
    """
    limits = sorted(most) + [1] * (3 - len(most))
    divisors = [d for d in range(1, min(max(limits), devices) + 1) if devices % d == 0]
    boxes = [
        (a, b, devices // (a * b))
        for a, b in product(divisors, divisors)
        if devices % (a * b) == 0 and _fits(limits, (a, b, devices // (a * b)))
    ]
    if not boxes:
        raise InputError(
            f"no slice of a torus of {' x '.join(map(str, most))} has {devices} devices", fields=["devices"]
        )

    def shapeliness(box: tuple[int, int, int]) -> tuple[float, int, tuple[int, int, int]]:
        used = box[: len(most)]
        return max(used) / min(used), -sum(extent % multiple == 0 for extent in used), box

    return min(boxes, key=shapeliness)


def _fits(limits: list[int], box: tuple[int, int, int]) -> bool:
    """Whether a box fits inside the limits, axis by axis."""
    return all(extent <= limit for extent, limit in zip(box, limits, strict=True))
