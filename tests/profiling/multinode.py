"""Measured collectives over several nodes beside what the catalogue's constants say of them.

``python -m tests.profiling.multinode`` prints measured over predicted time by network, collective, devices and size.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.catalogue import link_classes, load_device
from hardware.reading import build
from hardware.spec import Device, System
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.requests import CollectiveKind, link_request
from simulator.profiling.tables.reading import SHIPPED
from tests.work.asking import plain

TABLE = SHIPPED / "collectives_multinode.csv.gz"
BANDS = (("<64K", 64e3), ("-1M", 1.1e6), ("-8M", 9e6), ("-64M", 7e7), ("-512M", 6e8), (">512M", np.inf))
"""Sizes of messages, by what they end with [B]."""
_NEAREST = {"gh200-120gb": "gh200-96gb", "h100-pcie+a100-pcie": "a100-pcie-80gb", "amd-instinct-unnamed": "mi300x"}
"""Devices of the catalogue with the links of those of the table."""


@dataclass(frozen=True)
class MeasuredRow:
    """A row of the table."""

    words: dict[str, str]

    @property
    def seconds(self) -> float:
        """As measured [s]."""
        return float(self.words["us"]) / 1e6

    @property
    def size(self) -> float:
        """Of the message [B]."""
        return float(self.words["bytes"])

    @property
    def counts(self) -> bool:
        """Whether nobody called the set-up broken, and the call was not the first that touched its memory."""
        outlier = "outlier" in self.words["note"] and self.words["in_place"] == "no"
        return self.words["healthy"] != "no" and not outlier

    @property
    def group(self) -> tuple[str, ...]:
        """What the rows of one measurement share."""
        names = ("fabric", "op", "device", "n_devices", "domain", "nvls", "mode", "healthy", "source")
        return tuple(self.words[name] for name in names)

    @property
    def ratio(self) -> float:
        """Measured over predicted time."""
        kind: Any = self.words["op"]
        return self.seconds / seconds_of(system_of(self.words), kind, self.size)


def rows() -> list[MeasuredRow]:
    """Every row of the table."""
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        return [MeasuredRow(words) for words in csv.DictReader(line for line in file if not line.startswith("#"))]


def system_of(words: dict[str, str]) -> System:
    """The machines of a row: devices, what joins them inside a switched domain, and the network between domains."""
    device = load_device(_NEAREST.get(words["device"], words["device"]))
    devices, domain = int(words["n_devices"]), int(words["domain"])
    inside = _inside(device, reduces=words["nvls"] != "no")
    network = None
    if words["fabric"] != "none":
        hosts = max(domain / float(words["devices_per_node"]), 1.0)
        rate = f"{float(words['inter_gbps_per_node']) * hosts} Gb/s"
        network = {"kind": words["fabric"], "topology": "fabric", "bandwidth": rate, "shared_by": domain}
    return made(device, devices, domain, inside, network)


def made(
    device: Device,
    devices: int,
    domain: int,
    inside: dict[str, Any],
    network: dict[str, Any] | None,
    bridge: dict[str, Any] | None = None,
) -> System:
    """A system that is no larger than what is asked of it."""
    document: dict[str, Any] = {"id": "measured", "name": "Measured", "device": device, "devices_per_node": domain}
    document |= {"most_devices": devices, "default_devices": devices, "intra_node": inside}
    levels = {"bridge": bridge, "inter_node": network}
    return build(System, document | {name: link for name, link in levels.items() if link})


def _inside(device: Device, *, reduces: bool) -> dict[str, Any]:
    """The link between devices of one domain, as their data sheet has it."""
    board, host = device.scale_up, device.host_link
    if board is None or board.topology not in ("switch", "cube-mesh", "mesh"):
        return {"kind": host.kind, "topology": "host-bridge", "bandwidth": f"{host.bandwidth} B/s"}
    rate = board.bandwidth_per_link if board.topology == "mesh" else board.bandwidth
    reduces = reduces and link_classes()[board.kind].reduction_gain > 1.0
    link = {"kind": board.kind, "topology": board.topology, "bandwidth": f"{rate} B/s"}
    return link | {"in_network_reduction": reduces}


def seconds_of(system: System, kind: CollectiveKind, size: float) -> float:
    """Time of a collective of all devices of a system by the catalogue's constants [s]."""
    devices = system.default_devices
    asked = link_request(kind, size, degree=float(devices))
    return plain(AnalyticBackend.of(system, devices, "fp16").time(asked))


def bus_bandwidth(system: System, kind: CollectiveKind, size: float) -> float:
    """What nccl-tests print for it [B/s]."""
    n = float(system.default_devices)
    return size * (2.0 if kind == "all_reduce" else 1.0) * (n - 1.0) / n / seconds_of(system, kind, size)


def band(size: float) -> str:
    """The name of the band that a size belongs to."""
    return next(name for name, end in BANDS if size < end)


def table(measured: Sequence[MeasuredRow]) -> str:
    """Median of measured over predicted time of every measurement and band of sizes."""
    ratios: defaultdict[tuple[str, ...], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in measured:
        ratios[row.group][band(row.size)].append(row.ratio)
    lines = [f"{'measured / predicted':88}" + "".join(f"{name:>8}" for name, _ in BANDS)]
    for group, bands in sorted(ratios.items()):
        figures = (f"{np.median(bands[name]):8.2f}" if bands[name] else " " * 8 for name, _ in BANDS)
        lines.append(f"{' '.join(group)[:87]:88}" + "".join(figures))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([row for row in rows() if row.counts]))  # noqa: T201
