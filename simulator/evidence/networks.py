"""The wiring of a published run, read from free words."""

from __future__ import annotations

import re
from typing import Any

from hardware.catalogue import link_profiles, load_system
from hardware.reading import build
from hardware.spec import Device, System
from simulator.evidence.runs import Run

_GENERATIONS = (
    ("b300", 8, 800.0),
    ("b200", 8, 400.0),
    ("h100|h200|h800", 8, 400.0),
    ("a100|a800|a30", 8, 200.0),
    ("", 4, 100.0),
)
"""Network cards of the reference host of each generation of devices, and the rate of one [Gb/s]."""
_KINDS = (
    ("omni-?path", "omni-path"),
    ("efa|aws", "efa"),
    ("roce|rdma nics", "roce"),
    ("tcpx|gcp a3|ethernet", "ethernet"),
    ("", "infiniband"),
)
_NODE = re.compile(r"(?P<rate>[\d.]+)\s*(?P<unit>[gt])b(?:ps|/s)?[^,;]{0,12}(?:per node|nominal)")
_CARDS = re.compile(r"(?P<cards>\d+)\s*x\s*(?:connectx-\d+ |mellanox[^\[]*\[[^\]]*\] |omni-path |ib )*")
_NAMED = re.compile(r"\b(?P<name>edr|hdr|ndr)\b")
_RATE = re.compile(r"(?P<rate>\d{2,3})\s*g")
_NAMES = {"edr": 100.0, "hdr": 200.0, "ndr": 400.0}
_DOMAIN = re.compile(r"nvl(\d+)")
_GEFORCE = re.compile(r"^(rtx-[2-5]0\d\d|gtx|titan)")
_MOST_NODES = 4096


def system_of(run: Run, device: Device, devices: int) -> System:
    """The system that a run's words describe, large enough for it.

    Parameters
    ----------
    run
        The run.
    device
        Its device.
    devices
        How many of them.
    """
    if device.kind == "tpu":
        return _torus(run, device, devices)
    per_node = _per_node(run, device, devices)
    document: dict[str, Any] = {
        "id": f"published-{device.id}",
        "name": f"Published host of {device.name}",
        "device": device,
        "devices_per_node": per_node,
        "most_devices": max(devices, per_node),
        "default_devices": devices,
        "intra_node": _inside(run, device),
    }
    if devices > per_node:
        document["inter_node"] = _between(run, device, per_node)
    return build(System, document)


def _torus(run: Run, device: Device, devices: int) -> System:
    """A pod, or several slices of pods joined by the data-centre network."""
    multipod = device.id == "tpu-v3" and devices > 1024
    pod = load_system("tpu-v3-multipod" if multipod else f"{device.id}-pod")
    slice_devices = int(run.hardware.chips_per_slice or 0)
    if slice_devices and slice_devices < devices and pod.cross_pod is not None:
        return pod.model_copy(update={"devices_per_pod": slice_devices, "most_devices": devices})
    if pod.devices_per_pod is not None and devices <= pod.devices_per_pod:
        return pod
    return pod.model_copy(update={"most_devices": max(devices, pod.most_devices)})


def _per_node(run: Run, device: Device, devices: int) -> int:
    """Devices that the inner links join: of a node, or of a whole NVLink domain."""
    domain = _DOMAIN.search((run.hardware.intra or "").lower())
    if domain:
        return int(domain[1])
    usual = 16 if device.id.startswith("v100-sxm3") else 8
    stated = int(run.hardware.devices_per_node or min(usual, devices))
    return max(stated, 1)


def _inside(run: Run, device: Device) -> dict[str, Any]:
    """The link inside a node: the device's own where the words do not say otherwise, or the host's bus."""
    words = (run.hardware.intra or "").lower()
    board = device.scale_up
    on_bus = re.search(r"pcie|n/a", words) and "nvlink 3.0" not in words
    if board is None or board.topology not in ("switch", "cube-mesh", "mesh") or on_bus:
        kind = device.host_link.kind
        if _GEFORCE.search(device.id) and f"{kind}-no-p2p" in link_profiles():
            kind = f"{kind}-no-p2p"
        return {"kind": kind, "topology": "host-bridge", "bandwidth": f"{device.host_link.bandwidth} B/s"}
    topology = board.topology
    if topology == "cube-mesh" and ("switch" in words or (run.hardware.devices_per_node or 8) <= 4):
        topology = "switch"
    rate = board.bandwidth_per_link if topology == "mesh" else board.bandwidth
    reduces = link_profiles()[board.kind].reduction_gain > 1.0
    return {
        "kind": board.kind,
        "topology": topology,
        "bandwidth": f"{rate} B/s",
        "in_network_reduction": reduces,
    }


def _between(run: Run, device: Device, per_node: int) -> dict[str, Any]:
    """The network between nodes, as the words say or as the device's reference host has it."""
    words = (run.hardware.inter or "").lower()
    if "compute:" in words:
        words = words.split("compute:", 1)[1]
    kind = next(kind for pattern, kind in _KINDS if re.search(pattern, words))
    gigabits = _gigabits(words, device, per_node)
    return {"kind": kind, "topology": "fabric", "bandwidth": f"{gigabits} Gb/s", "shared_by": per_node}


def _gigabits(words: str, device: Device, per_node: int) -> float:
    """The rate of a node's network [Gb/s]."""
    cards, rate = next((c, r) for pattern, c, r in _GENERATIONS if re.search(pattern, device.id))
    node = _NODE.search(words)
    if "per gpu" in words or _DOMAIN.search(words):
        return rate * per_node
    listed = _CARDS.search(words)
    if listed:
        after = words[listed.end() :]
        named, plain = _NAMED.search(words), _RATE.match(after.lstrip("hdrnei ")) or _RATE.search(after[:24])
        each = float(plain["rate"]) if plain else _NAMES[named["name"]] if named else rate
        return float(listed["cards"]) * each
    if node:
        return float(node["rate"]) * (1000.0 if node["unit"] == "t" else 1.0)
    # A reference host has so many cards for eight devices; a larger domain has as many for every eight.
    return cards * rate * max(per_node, 8) / 8.0 if per_node >= 4 else rate * per_node
