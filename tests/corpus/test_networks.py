"""Wiring from free words: links inside a node, networks between nodes, slices of TPU pods."""

from __future__ import annotations

from typing import Any

import pytest

from hardware.spec import System
from simulator.corpus.mapping import case_of
from tests.evidence.examples import made, published


def _system(**changes: Any) -> System:
    return case_of(made(**{f"hardware__{name}": value for name, value in changes.items()})).system


_NETWORKS = [
    ("8x HDR", "a100", "infiniband", 1600),
    ("8x HDR200 InfiniBand per node (Selene)", "a100", "infiniband", 1600),
    ("HDR200 IB, 4 HCAs per node", "a100", "infiniband", 800),
    ("NDR400", "h100", "infiniband", 3200),
    ("8x NDR400 IB per node (Eos)", "h100", "infiniband", 3200),
    ("3.2 Tb/s InfiniBand", "h100", "infiniband", 3200),
    ("1.6 Tb/s", "a100", "infiniband", 1600),
    ("InfiniBand 25 GB/s per GPU", "a100", "infiniband", 1600),
    ("dual-rail EDR", "v100", "infiniband", 200),
    ("DGX-1: 4x EDR 100Gb IB", "v100", "infiniband", 400),
    ("DGX reference: 400/800 Gb/s InfiniBand per GPU (not restated)", "h100", "infiniband", 3200),
    ("RoCE 400 Gb/s per GPU, 1:7 oversubscribed between pods", "h100", "roce", 3200),
    ("1600 Gbps per node RoCE", "a100", "roce", 1600),
    ("4x 100 Gb RoCE per node", "a100", "roce", 400),
    ("8x 200G RDMA NICs per node (CLOS)", "a100", "roce", 1600),
    ("Slingshot-11, 4x 200 Gb/s", "a100", "slingshot", 800),
    ("AWS EFA (p5-class nodes, 3.2 Tb/s nominal)", "h100", "efa2", 3200),
    ("AWS p4d, 4x100G EFA", "a100", "efa", 400),
    ("AWS EFA", "a100", "efa", 400),
    ("EFA", "h100", "efa2", 3200),
    ("AWS p5en", "h200", "efa3", 3200),
    ("EFA", "b200", "efa3", 3200),
    ("GCP A3 (4x 200 Gbps NIC per node; NIC figure recalled)", "h100", "tcpx", 800),
    ("GPUDirect-TCPX", "h100", "tcpx", 800),
    ("TCPXO on A3 Mega", "h100", "tcpxo", 1600),
    ("25 GbE", "v100", "ethernet", 25),
    ("Ethernet 100G", "a100", "ethernet", 100),
    ("2x 100GbE", "a100", "ethernet", 200),
    ("Jean Zay: 4x Omni-Path 100 Gb/s per node", "a100", "omni-path", 400),
    ("Storage: 2x ConnectX-6 IB HDR 200Gb/sec, Compute: 8x ConnectX-6 IB HDR 200Gb/sec", "a100", "infiniband", 1600),
    ("Compute: 1x ConnectX-6 IB HDR 200Gb/sec, Management: 1x Ethernet 1Gb/Sec", "a100", "infiniband", 200),
    (None, "a100", "infiniband", 1600),
    ("none", "h100", "infiniband", 3200),
    ("not stated", "b200", "infiniband", 3200),
]


@pytest.mark.parametrize(("words", "device", "kind", "gigabits"), _NETWORKS)
def test_networks_between_nodes(words: str | None, device: str, kind: str, gigabits: float) -> None:
    run = made(hardware__inter=words, hardware__device=device, plan__precision="fp16")
    link = case_of(run).system.inter_node
    assert link is not None
    assert (link.kind, link.shared_by) == (kind, 8)
    assert link.bandwidth == pytest.approx(gigabits * 1e9 / 8)


def test_one_node_needs_no_network() -> None:
    assert _system(devices=8).inter_node is None
    one = _system(devices=16, devices_per_node=None, inter="single node")
    assert (one.devices_per_node, one.inter_node) == (16, None)


@pytest.mark.parametrize(
    ("device", "intra", "kind", "topology"),
    [
        ("a100", None, "nvlink3", "switch"),
        ("a100", "nvlink3 nvswitch", "nvlink3", "switch"),
        ("a100", "PCIe 4.0", "pcie4x16", "host-bridge"),
        ("a100-pcie-80gb", "NVLINK BRIDGE", "pcie4x16", "host-bridge"),
        ("h100", "nvlink4 (PCIe to the host)", "nvlink4", "switch"),
        ("v100", "nvlink2 hybrid cube mesh", "nvlink2", "cube-mesh"),
        ("v100", "nvlink2 nvswitch", "nvlink2", "switch"),
        ("rtx-3090", None, "pcie4x16-no-p2p", "host-bridge"),
        ("rtx-a6000", None, "pcie4x16", "host-bridge"),
        ("mi300x", None, "xgmi", "mesh"),
    ],
)
def test_links_inside_a_node(device: str, intra: str | None, kind: str, topology: str) -> None:
    run = made(hardware__device=device, hardware__intra=intra, plan__precision="fp16")
    link = case_of(run).system.intra_node
    assert link is not None
    assert (link.kind, link.topology) == (kind, topology)


def test_a_bridge_joins_two_cards_where_the_words_say_so() -> None:
    two = {"device": "rtx-3090", "devices": 2, "devices_per_node": 2}
    bridged = _system(**two, intra="NVLink bridge").bridge
    assert bridged is not None
    assert (bridged.kind, bridged.bandwidth) == ("nvlink-bridge", 56.25e9)
    assert _system(**two, intra="not stated (PCIe; NVLink bridge unknown)").bridge is None
    assert _system(**{**two, "devices": 4, "devices_per_node": 4}, intra="NVLink bridge").bridge is None


@pytest.mark.parametrize("intra", [None, "nvlink5 NVL72 domain"])
def test_an_nvlink_domain_is_larger_than_a_host(intra: str | None) -> None:
    system = _system(device="gb200", devices=256, devices_per_node=4 if intra else None, intra=intra)
    assert system.devices_per_node == 72
    assert system.inter_node is not None
    assert system.inter_node.bandwidth_per_device == pytest.approx(50e9)


def test_slices_of_pods_are_joined_by_the_data_centre() -> None:
    joined = _system(device="tpu-v5e", devices=512, slices=2)
    assert (joined.devices_per_pod, joined.most_devices) == (256, 512)
    whole = _system(device="tpu-v5p", devices=64)
    assert whole.inter_node is not None
    assert whole.inter_node.topology == "torus"


def test_a_tpu_v3_multipod_is_one_mesh() -> None:
    run = published("mlperf-v0.7-google-tpu-v3-8192-jax")
    system = case_of(run).system
    assert (system.id, system.cross_pod) == ("tpu-v3-multipod", None)
