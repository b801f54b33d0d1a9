"""The wiring of a published run, read from free words."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from hardware.catalogue import link_classes, load_system
from hardware.reading import build
from hardware.spec import Device, Interconnect, System
from simulator.corpus.fabrics import fabric_of
from simulator.corpus.notes import Notes
from simulator.corpus.runs import Run
from simulator.corpus.words import plain

_PODS = re.compile(r"\d+ (?:pods|slices) ?(?:x|of) ?(\d{1,6}) chips")
_SLICES = re.compile(r"(?<![a-z\d-])(\d{1,4}) (?:pods|slices)\b")
_DOMAIN = re.compile(r"nvl(\d+)")
_GEFORCE = re.compile(r"^(rtx-[2-5]0\d\d|gtx|titan)")
_BUS = re.compile(r"pci-?e")
_UNLINKED = re.compile(
    r"\b(?:no|without|not|w/o) nv-?(?:link|switch)|nv-?link (?:is )?(?:not used|unused|off|disabled)"
)
"""Words that say that boards with links of their own did not use them. PCIe alone does not say so of an SXM board,
which it joins to its host; neither does "N/A"."""
_BOARDS = re.compile(r"sxm|oam|\b[hd]gx\b|^gh?b?[23]00")
"""Names of devices whose boards have links of their own."""
_CERTAIN_LINK = re.compile(r"nvlink ?\d|nvswitch|sxm")
_BRIDGED = re.compile(r"nvlink|bridge")
_NOT_BRIDGED = re.compile(r"unknown|no nvlink|without|no bridge|not bridged")
_PER_NODE = (("v100-sxm3", 16), ("gb[23]00", 72), ("mi250x|gh200", 4))
"""Devices that the inner links of a usual host join, where it is not eight."""


def system_of(run: Run, device: Device, devices: int, notes: Notes | None = None) -> System:
    """The system that a run's words describe, large enough for it.

    Parameters
    ----------
    run
        The run.
    device
        Its device.
    devices
        How many of them.
    notes
        Receives how words were read, and what was assumed.

    Raises
    ------
    RefusedError
        Where words leave open what joined the nodes.
    """
    notes = notes if notes is not None else Notes()
    if device.kind == "tpu":
        return _noted(run, _torus(run, device, devices), notes)
    per_node = _per_node(run, device, devices, notes)
    document: dict[str, Any] = {
        "id": f"published-{device.id}",
        "name": f"Published host of {device.name}",
        "device": device,
        "devices_per_node": per_node,
        "most_devices": max(devices, per_node),
        "default_devices": devices,
        "intra_node": _inside(run, device, notes),
    }
    bridge = _bridge(run, device) if devices == 2 else None  # more of them meet on the bus, which paces the ring
    if bridge is not None:
        document["bridge"] = bridge
        notes.read("hardware.intra", "words for a bridge", f"system.bridge = {bridge['kind']} between two cards")
    if devices > per_node:
        document["inter_node"] = _between(run, device, per_node, notes)
    return build(System, document)


def _torus(run: Run, device: Device, devices: int) -> System:
    """A pod, or several slices of pods joined by the data-centre network."""
    multipod = device.id == "tpu-v3" and devices > 1024
    pod = _shipped("tpu-v3-multipod" if multipod else f"{device.id}-pod")
    of_slice = _chips_of_slice(run, devices)
    if 1 <= of_slice < devices and pod.cross_pod is not None:
        return pod.model_copy(update={"devices_per_pod": int(of_slice), "most_devices": devices})
    if pod.devices_per_pod is not None and devices <= pod.devices_per_pod:
        return pod
    return pod.model_copy(update={"most_devices": max(devices, pod.most_devices)})


def _chips_of_slice(run: Run, devices: int) -> float:
    """Chips of one slice, as figures or words tell; zero where they tell of no slices."""
    hardware = run.hardware
    words = plain(f"{hardware.intra or ''} {hardware.inter or ''}")
    if hardware.chips_per_slice or hardware.slices:
        return hardware.chips_per_slice or devices / (hardware.slices or 1.0)
    told, several = _PODS.search(words), _SLICES.search(words)
    return float(told[1]) if told else devices / float(several[1]) if several and float(several[1]) else 0.0


def _noted(run: Run, system: System, notes: Notes) -> System:
    """The system, with a note on how its words were read."""
    words = plain(run.hardware.inter)
    if words:
        result = f"system = {system.id}, pods of {system.devices_per_pod or system.most_devices:,} chips"
        notes.read("hardware.inter", "slices of a torus", result, word=words)
    return system


@cache
def _shipped(name: str) -> System:
    """A system of the catalogue."""
    return load_system(name)


def _per_node(run: Run, device: Device, devices: int, notes: Notes) -> int:
    """Devices that the inner links join: of a node, or of a whole NVLink domain."""
    hardware = run.hardware
    domain = _DOMAIN.search(plain(hardware.intra))
    if domain:
        notes.read("hardware.intra", "an NVLink domain", f"system.devices_per_node = {domain[1]}", word=domain[0])
        return max(int(domain[1]), 1)
    if hardware.devices_per_node is None and re.search(r"single[ -](node|server|host|machine)", plain(hardware.inter)):
        return devices
    usual = next((number for pattern, number in _PER_NODE if re.match(pattern, device.id)), 8)
    if hardware.devices_per_node is None:
        notes.assume(f"devices of a node: {min(usual, devices)}, as hosts of the device usually have")
    return max(int(hardware.devices_per_node or min(usual, devices)), 1)


def _inside(run: Run, device: Device, notes: Notes) -> dict[str, Any]:
    """The link inside a node: the device's own where the words do not say otherwise, or the host's bus."""
    words = plain(run.hardware.intra)
    board = device.scale_up
    own = board is not None and board.topology in ("switch", "cube-mesh", "mesh")
    link = _bus(device) if board is None or not own or _unlinked(run, words) else _board(run, board, words)
    result = f"system.intra_node = {link['kind']}, {link['topology']}"
    if words:
        notes.read("hardware.intra", "what joins devices of a node", result, word=words)
    else:
        notes.assume(f"links inside a node: {link['kind']}, as the device has them")
    if own and _BUS.search(words) and not _CERTAIN_LINK.search(words) and not _unlinked(run, words):
        notes.assume("links inside a node: the board's own; PCIe joins it to its host")
    return link


def _unlinked(run: Run, words: str) -> bool:
    """Whether words say that the links of a board were not used, or that devices of unknown form were on the bus."""
    on_bus = bool(_BUS.search(words)) and not _CERTAIN_LINK.search(words)
    return bool(_UNLINKED.search(words)) or (on_bus and not _BOARDS.search(plain(run.hardware.device)))


def _bus(device: Device) -> dict[str, Any]:
    """The host's bus."""
    kind = device.host_link.kind
    if _GEFORCE.search(device.id) and f"{kind}-no-p2p" in link_classes():
        kind = f"{kind}-no-p2p"
    return {"kind": kind, "topology": "host-bridge", "bandwidth": f"{device.host_link.bandwidth} B/s"}


def _board(run: Run, board: Interconnect, words: str) -> dict[str, Any]:
    """The links of the device's own board."""
    topology = board.topology
    if topology == "cube-mesh" and ("switch" in words or (run.hardware.devices_per_node or 8) <= 4):
        topology = "switch"
    rate = board.bandwidth_per_link if topology == "mesh" else board.bandwidth
    reduces = link_classes()[board.kind].reduction_gain > 1.0
    return {"kind": board.kind, "topology": topology, "bandwidth": f"{rate} B/s", "in_network_reduction": reduces}


def _bridge(run: Run, device: Device) -> dict[str, Any] | None:
    """The bridge between pairs of cards, where the words say that there is one."""
    words, board = plain(run.hardware.intra), device.scale_up
    if board is None or board.topology != "pairs" or not _BRIDGED.search(words) or _NOT_BRIDGED.search(words):
        return None
    kind = board.kind if board.kind.endswith("-bridge") else "nvlink-bridge"
    return {"kind": kind, "topology": "pairs", "bandwidth": f"{board.bandwidth} B/s"}


def _between(run: Run, device: Device, per_node: int, notes: Notes) -> dict[str, Any]:
    """The network between nodes, as the words say or as the device's reference host has it."""
    hosts = 1.0
    if _DOMAIN.search(plain(run.hardware.intra)):
        hosts = max(per_node / (run.hardware.devices_per_node or per_node), 1.0)
    fabric = fabric_of(run.hardware.inter, device=device.id, per_node=per_node, hosts=hosts, notes=notes)
    rate = f"{fabric.gigabits!r} Gb/s"
    return {"kind": fabric.kind, "topology": "fabric", "bandwidth": rate, "shared_by": per_node}
