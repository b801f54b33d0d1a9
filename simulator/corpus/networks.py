"""The wiring of a published run, read from free words."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from hardware.catalogue import link_classes, load_system
from hardware.reading import build
from hardware.spec import Device, System
from simulator.corpus.rates import node_rate
from simulator.corpus.runs import Run
from simulator.corpus.words import first_rule, plain

_PODS = re.compile(r"\d+ (?:pods|slices) ?(?:x|of) ?(\d{1,6}) chips")
_DOMAIN = re.compile(r"nvl(\d+)")
_GEFORCE = re.compile(r"^(rtx-[2-5]0\d\d|gtx|titan)")
_ON_BUS = re.compile(r"pci-?e|n/a|no nvlink|without nvlink")
_CERTAIN_LINK = re.compile(r"nvlink ?\d|nvswitch|sxm")
_BRIDGED = re.compile(r"nvlink|bridge")
_NOT_BRIDGED = re.compile(r"unknown|no nvlink|without|no bridge|not bridged")
_PER_NODE = (("v100-sxm3", 16), ("gb[23]00", 72), ("mi250x|gh200", 4))
"""Devices that the inner links of a usual host join, where it is not eight."""


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
    bridge = _bridge(run, device) if devices == 2 else None  # more of them meet on the bus, which paces the ring
    if bridge is not None:
        document["bridge"] = bridge
    if devices > per_node:
        document["inter_node"] = _between(run, device, per_node)
    return build(System, document)


def _torus(run: Run, device: Device, devices: int) -> System:
    """A pod, or several slices of pods joined by the data-centre network."""
    multipod = device.id == "tpu-v3" and devices > 1024
    pod = _shipped("tpu-v3-multipod" if multipod else f"{device.id}-pod")
    hardware = run.hardware
    told = _PODS.search(plain(f"{hardware.intra or ''} {hardware.inter or ''}"))
    of_slice = hardware.chips_per_slice or (
        devices / hardware.slices if hardware.slices else float(told[1]) if told else 0
    )
    if 1 <= of_slice < devices and pod.cross_pod is not None:
        return pod.model_copy(update={"devices_per_pod": int(of_slice), "most_devices": devices})
    if pod.devices_per_pod is not None and devices <= pod.devices_per_pod:
        return pod
    return pod.model_copy(update={"most_devices": max(devices, pod.most_devices)})


@cache
def _shipped(name: str) -> System:
    """A system of the catalogue."""
    return load_system(name)


def _per_node(run: Run, device: Device, devices: int) -> int:
    """Devices that the inner links join: of a node, or of a whole NVLink domain."""
    hardware = run.hardware
    domain = _DOMAIN.search(plain(hardware.intra))
    if domain:
        return max(int(domain[1]), 1)
    if hardware.devices_per_node is None and re.search(r"single[ -](node|server|host|machine)", plain(hardware.inter)):
        return devices
    usual = next((number for pattern, number in _PER_NODE if re.match(pattern, device.id)), 8)
    return max(int(hardware.devices_per_node or min(usual, devices)), 1)


def _inside(run: Run, device: Device) -> dict[str, Any]:
    """The link inside a node: the device's own where the words do not say otherwise, or the host's bus."""
    words = plain(run.hardware.intra)
    board = device.scale_up
    on_bus = _ON_BUS.search(words) and not _CERTAIN_LINK.search(words)
    if board is None or board.topology not in ("switch", "cube-mesh", "mesh") or on_bus:
        kind = device.host_link.kind
        if _GEFORCE.search(device.id) and f"{kind}-no-p2p" in link_classes():
            kind = f"{kind}-no-p2p"
        return {"kind": kind, "topology": "host-bridge", "bandwidth": f"{device.host_link.bandwidth} B/s"}
    topology = board.topology
    if topology == "cube-mesh" and ("switch" in words or (run.hardware.devices_per_node or 8) <= 4):
        topology = "switch"
    rate = board.bandwidth_per_link if topology == "mesh" else board.bandwidth
    reduces = link_classes()[board.kind].reduction_gain > 1.0
    return {
        "kind": board.kind,
        "topology": topology,
        "bandwidth": f"{rate} B/s",
        "in_network_reduction": reduces,
    }


def _bridge(run: Run, device: Device) -> dict[str, Any] | None:
    """The bridge between pairs of cards, where the words say that there is one."""
    words, board = plain(run.hardware.intra), device.scale_up
    if board is None or board.topology != "pairs" or not _BRIDGED.search(words) or _NOT_BRIDGED.search(words):
        return None
    kind = board.kind if board.kind.endswith("-bridge") else "nvlink-bridge"
    return {"kind": kind, "topology": "pairs", "bandwidth": f"{board.bandwidth} B/s"}


def _between(run: Run, device: Device, per_node: int) -> dict[str, Any]:
    """The network between nodes, as the words say or as the device's reference host has it."""
    words = _of_compute(plain(_in_bits(run.hardware.inter or "")))
    rule = first_rule("fabrics", f"{words} {device.id}")
    kind, hosts = str(rule["kind"]), 1.0
    if _DOMAIN.search(plain(run.hardware.intra)):
        hosts = max(per_node / (run.hardware.devices_per_node or per_node), 1.0)
    usual = float(rule.get("node", 0.0))
    gigabits = node_rate(words, kind, device=device.id, per_node=per_node, hosts=hosts, usual=usual)
    return {"kind": kind, "topology": "fabric", "bandwidth": f"{gigabits!r} Gb/s", "shared_by": per_node}


def _in_bits(words: str) -> str:
    """Words with rates in bytes turned into bits."""
    return re.sub(
        r"(\d+(?:\.\d+)?) ?([GT])B(?:/s(?:ec)?|ps)", lambda match: f"{8.0 * float(match[1]):g} {match[2]}b/s", words
    )


def _of_compute(words: str) -> str:
    """The part about the network of computation, where networks of storage and management are told beside it."""
    section = re.search(r"comput\w*:(.*?)(?:storage:|management:|$)", words)
    return section[1] if section else words
