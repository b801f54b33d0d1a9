"""Collectives across nodes: rings and trees over all ranks, chunks, racks, each kind of network, pairs of links."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.catalogue import load_device, load_system
from hardware.spec import System
from simulator.formulas import networks
from simulator.pricing.analytic import JITTER, MOST_JITTER, AnalyticBackend
from simulator.pricing.constants import Shifts
from simulator.pricing.requests import Collective, CollectiveKind, Send
from simulator.pricing.wiring import Level, Wiring, wiring
from tests.pricing.test_wiring import FAST, NONE, SLOW
from tests.profiling.multinode import bus_bandwidth, made, seconds_of
from tests.work.asking import plain

NETWORK = replace(SLOW, network=1.0)
"""Joins 8 switches of 8 devices: 5 B/s in a long collective."""
_GIB = 2.0**30


def _time(
    kind: CollectiveKind, degree: float, *levels: Level, stride: float = 1.0, size: float = 1000.0, jitter: float = 0.0
) -> float:
    four = (*levels, *[NONE] * (4 - len(levels)))
    backend = AnalyticBackend.of(load_system("dgx-h100"), 8, "bf16")
    wired_backend = replace(backend, wires=Wiring((four[0], four[1], four[2], four[3])), jitter=jitter)
    return plain(wired_backend.time(Collective(kind=kind, message_bytes=size, degree=degree, stride=stride)))


def _chunked(hops: float, transfer: float, passes: float = 2.0) -> float:
    return hops + transfer + plain(networks.pipelining_time(hops, transfer, passes=passes))


# By hand


def test_a_ring_passes_the_ranks_of_all_nodes() -> None:
    """Of 32 ranks each sends 31 of 32 parts over its switch, and a node of 8 as much over the network."""
    hops = 4 * 7 * 0.5 + 3 * 0.5
    assert _time("all_gather", 32.0, FAST, NETWORK) == pytest.approx(5 + _chunked(hops, 1000 * 31 / 32 / 8 / 5, 1))
    wide = replace(NETWORK, bandwidth=1000.0)
    assert _time("all_gather", 32.0, FAST, wide) == pytest.approx(5 + _chunked(hops, 1000 * 31 / 32 / 50, 1))


def test_an_all_reduce_is_a_tree_of_chains() -> None:
    """Seven hops inside and two between four nodes, up and down; as many bytes as a ring."""
    hops = 2 * 7 * 0.5 + 2 * 2 * 0.5
    sent = 2 * 1000 * 31 / 32 / 8
    assert _time("all_reduce", 32.0, FAST, NETWORK) == pytest.approx(2 + 3 + _chunked(hops, sent / 5))


def test_trees_of_two_nodes_cross_once_each_way() -> None:
    hops, slow = 2 * 7 * 0.5 + 2 * 0.5, replace(NETWORK, bandwidth=5.0)
    assert _time("all_reduce", 16.0, FAST, slow) == pytest.approx(2 + 3 + _chunked(hops, 1000 / 8 / 2.5))
    # Inside, the ranks of both pass everything on.
    assert _time("all_reduce", 16.0, FAST, NETWORK) == pytest.approx(2 + 3 + _chunked(hops, 2 * 1000 * 15 / 16 / 50))
    # Rings do not: an all-gather sends 15 of 16 parts.
    assert _time("all_gather", 16.0, FAST, NETWORK) == pytest.approx(
        2 + 3 + _chunked(2 * 7 * 0.5 + 0.5, 1000 * 15 / 16 / 8 / 5, 1)
    )


def test_ranks_of_different_nodes_only() -> None:
    assert _time("all_reduce", 4.0, FAST, NETWORK, stride=8.0) == pytest.approx(3 + _chunked(2 * 2 * 0.5, 2 * 750 / 5))
    assert _time("all_gather", 1.0, FAST, NETWORK) == 0
    assert _time("all_gather", 8.0, FAST, NETWORK) == _time("all_gather", 8.0, FAST)


def test_many_groups_of_different_size_at_once() -> None:
    """Groups inside a node and across nodes in one array."""
    backend = AnalyticBackend.of(load_system("superpod-h100"), 512, "bf16")
    degrees = [1.0, 8.0, 16.0, 64.0, 512.0]
    for kind in ("all_reduce", "all_gather", "all_to_all"):
        asked = Collective(kind=kind, message_bytes=1e8, degree=np.array(degrees), stride=1.0)
        alone = [plain(backend.time(replace(asked, degree=degree))) for degree in degrees]
        assert list(np.asarray(backend.time(asked))) == pytest.approx(alone, rel=1e-12)
        assert alone[0] == 0


def test_a_ring_over_bridged_pairs_crosses_the_bus_by_one_card_of_each() -> None:
    """Three quarters of the message twice over one slot, whatever the bridges carry."""
    pair, bus = replace(FAST, reach=2.0, bandwidth=1000.0), replace(SLOW, reach=8.0, bus=1.0)
    assert _time("all_reduce", 4.0, pair, bus) == pytest.approx(2 + 1 + 3 + 1 + 2 * 750 / 5)
    assert _time("all_reduce", 2.0, pair, bus) == _time("all_reduce", 2.0, pair)


@given(
    st.integers(0, 9),
    st.integers(0, 3),
    st.floats(0.0, 12.0),
    st.sampled_from(["all_reduce", "all_gather", "all_to_all"]),
)
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_better_links_never_slow_a_collective_across_nodes(
    ranks: int, apart: int, size: float, kind: CollectiveKind
) -> None:
    def time(*levels: Level) -> float:
        return _time(kind, 2.0**ranks, *levels, stride=2.0**apart, size=10.0**size)

    levels = [replace(FAST, reduction_gain=1.3, reduction_ranks=4.0, reduction_loss=0.2, reduction_ramp=0.1), NETWORK]
    before = time(*levels)
    assert before == 0 or 2**ranks > 1
    for better in ({"bandwidth": 2e3}, {"latency": 0.0}, {"latency_per_rank": 0.0}, {"efficiency": 1.0}):
        for at in range(2):
            others = list(levels)
            others[at] = replace(others[at], **better)  # type: ignore[arg-type]
            assert time(*others) <= before * (1 + 1e-12)
    endless = [replace(each, bandwidth=np.inf, latency=0.0, latency_per_rank=0.0) for each in (FAST, NETWORK)]
    assert time(*endless) == 0
    at_once = [replace(each, bandwidth=np.inf) for each in (FAST, NETWORK)]
    assert time(*at_once) == pytest.approx(_time(kind, 2.0**ranks, *at_once, stride=2.0**apart, size=0.0))


# As measured on two nodes and more


def _system(name: str, devices: int) -> System:
    return load_system(name).model_copy(update={"most_devices": devices, "default_devices": devices})


def _racks(number: int, kind: str = "infiniband") -> System:
    """Racks of 72 GB200 with 4 x 400 Gb/s a tray of four."""
    inside = {"kind": "nvlink5", "topology": "switch", "bandwidth": "900 GB/s", "in_network_reduction": True}
    network = {"kind": kind, "topology": "fabric", "bandwidth": "28800 Gb/s", "shared_by": 72}
    return made(load_device("gb200"), 72 * number, 72, inside, network if number > 1 else None)


@pytest.mark.parametrize(
    ("name", "devices", "microseconds", "within"),
    [
        ("superpod-h100", 16, 24.7, 0.2),
        ("superpod-h100", 32, 34.8, 0.2),
        ("aws-p4de.24xlarge", 16, 162, 0.1),
        ("aws-p5.48xlarge", 16, 71, 0.1),
        ("aws-p5en.48xlarge", 128, 167, 0.25),
        ("gcp-a3-megagpu-8g", 16, 124, 0.3),
    ],
)
def test_a_small_all_reduce_waits_for_its_network(name: str, devices: int, microseconds: float, within: float) -> None:
    """Generations of EFA differ; each doubling of nodes adds some 10 us of InfiniBand."""
    assert seconds_of(_system(name, devices), "all_reduce", 512.0) == pytest.approx(microseconds * 1e-6, rel=within)


def test_a_small_all_reduce_passes_the_devices_of_two_racks() -> None:
    """128 GB200: 182 to 197 us up to 1 KiB, 291 us for 1 MiB."""
    two = _racks(2, "roce").model_copy(update={"devices_per_node": 64, "most_devices": 128, "default_devices": 128})
    assert seconds_of(two, "all_reduce", 512.0) == pytest.approx(185e-6, rel=0.08)
    assert seconds_of(two, "all_reduce", 2.0**20) == pytest.approx(291e-6, rel=0.15)


def test_racks_slow_an_all_reduce_though_the_network_has_room() -> None:
    """Large messages: 892 to 930 GB/s in a rack, 740 to 810 over two, 750 over three, 406 over twenty."""
    bandwidths = [bus_bandwidth(_racks(number), "all_reduce", 16 * _GIB) / 1e9 for number in (1, 2, 3, 20)]
    assert bandwidths == pytest.approx([892, 770, 750, 406], rel=0.2)
    assert bandwidths[3] / bandwidths[0] == pytest.approx(0.5, abs=0.1)
    # Half of that at 1 GiB only.
    assert bus_bandwidth(_racks(20), "all_reduce", _GIB) / 1e9 < 0.8 * bandwidths[3]


@pytest.mark.parametrize(
    ("name", "devices", "kind", "gigabytes", "within"),
    [
        # Trees of two nodes, and switches that add up; rings and trees of more are under the line of 400 GB/s.
        ("superpod-h100", 16, "all_reduce", 465, 0.06),
        ("superpod-h100", 32, "all_reduce", 345, 0.08),
        ("superpod-h100", 64, "all_reduce", 350, 0.10),
        ("dgx-b200", 16, "all_reduce", 690, 0.09),
        ("aws-p4de.24xlarge", 16, "all_reduce", 78, 0.05),
        ("aws-p5.48xlarge", 16, "all_reduce", 462, 0.06),
        ("aws-p5en.48xlarge", 128, "all_reduce", 370, 0.05),
        ("gcp-a3-megagpu-8g", 16, "all_reduce", 336, 0.07),
        ("gcp-a3-megagpu-8g", 16, "all_gather", 188.6, 0.05),
        ("gcp-a3-highgpu-8g", 16, "all_gather", 60, 0.2),
    ],
)
def test_long_collectives_reach_what_was_measured(
    name: str, devices: int, kind: CollectiveKind, gigabytes: float, within: float
) -> None:
    assert bus_bandwidth(_system(name, devices), kind, 8 * _GIB) / 1e9 == pytest.approx(gigabytes, rel=within)


@pytest.mark.parametrize("name", ["superpod-h100", "superpod-a100", "aws-p5en.48xlarge", "server-mi300x"])
@pytest.mark.parametrize("nodes", [3, 4, 16, 128])
def test_beyond_two_nodes_no_collective_beats_the_line(name: str, nodes: int) -> None:
    system = _system(name, 8 * nodes)
    assert system.inter_node is not None
    for kind in ("all_reduce", "all_gather", "reduce_scatter"):
        share = bus_bandwidth(system, kind, 64 * _GIB) / system.inter_node.bandwidth
        assert 0.7 < share < 1.0


# One link a pair


def _point_to_point(devices: int, per_pair: str) -> System:
    """Devices each of which has a link to every other."""
    inside = {"kind": "xgmi", "topology": "mesh", "bandwidth": per_pair}
    return made(load_device("mi300x"), devices, 8, inside, None)


@pytest.mark.parametrize(
    ("per_pair", "pair", "all_of_8"),
    [("64 GB/s", 64, 448), ("37.5 GB/s", 37.5, 262.5), ("75 GB/s", 75, 525)],
    ids=["MI300X", "Gaudi 2: 3 ports of 100 Gb/s a pair", "Gaudi 3: 3 ports of 200 Gb/s a pair"],
)
def test_a_group_uses_the_links_among_itself(per_pair: str, pair: float, all_of_8: float) -> None:
    level = wiring(_point_to_point(8, per_pair), 8).levels[1]
    of_two, of_eight = (plain(level.rate(ranks, ranks, 1.0)) for ranks in (2.0, 8.0))
    assert (of_two / 1e9 / 0.72, of_eight / 1e9 / 0.72) == pytest.approx((pair, all_of_8))


def test_two_of_eight_mi300x_have_one_link() -> None:
    """Measured: 47.7 GB/s of two, 312.9 of eight."""
    backend = AnalyticBackend.of(load_system("server-mi300x"), 8, "bf16")

    def bus(ranks: float) -> float:
        asked = Collective(kind="all_reduce", message_bytes=4 * _GIB, degree=ranks, stride=1.0)
        return 2.0 * (ranks - 1.0) / ranks * 4 * _GIB / plain(backend.time(asked)) / 1e9

    assert [bus(2.0), bus(8.0)] == pytest.approx([47.7, 312.9], rel=0.06)


def test_a_torus_inside_a_node() -> None:
    """Sixteen chips of Trainium in a torus of 4 x 4: a row has two links of four, all have four, a pair one."""
    inside: dict[str, Any] = {"kind": "ici", "topology": "torus", "bandwidth": "48 GB/s", "dimensions": (4, 4)}
    network = {"kind": "efa2", "topology": "fabric", "bandwidth": "1600 Gb/s", "shared_by": 16}
    level = wiring(made(load_device("tpu-v4"), 64, 16, inside, network), 64).levels[1]
    links = [plain(level.rate(ranks, ranks, 1.0)) / (48e9 * 0.9) for ranks in (2.0, 4.0, 16.0, 64.0)]
    assert links == pytest.approx([1, 2, 4, 4])


@pytest.mark.parametrize(("rate", "kind", "measured"), [("31.5 GB/s", "pcie4x16", 23.5), ("63 GB/s", "pcie5x16", 48.3)])
def test_four_cards_bridged_in_pairs_go_at_the_rate_of_the_bus(rate: str, kind: str, measured: float) -> None:
    """All-reduce of 58 MiB over 4 A100 and H100, of which pairs are bridged."""
    inside = {"kind": kind, "topology": "host-bridge", "bandwidth": rate}
    bridge = {"kind": "nvlink4-bridge", "topology": "pairs", "bandwidth": "300 GB/s"}
    bridged = made(load_device("a100-pcie-80gb"), 4, 4, inside, None, bridge)
    assert bus_bandwidth(bridged, "all_reduce", 58 * 2.0**20) / 1e9 == pytest.approx(measured, rel=0.4)


@pytest.mark.parametrize(("name", "microseconds"), [("superpod-h100", 19.0), ("superpod-a100", 24.0)])
def test_a_small_transfer_between_nodes(name: str, microseconds: float) -> None:
    """2 and 10 KB between neighbours of two nodes, as vidur measured it."""
    backend = AnalyticBackend.of(load_system(name), 16, "bf16")
    send = Send(message_bytes=2000.0, degree=2.0, stride=8.0)
    assert plain(backend.time(send)) == pytest.approx(microseconds * 1e-6, rel=0.25)


def test_a_transfer_between_two_v100_of_a_cube_mesh_has_one_link() -> None:
    backend = AnalyticBackend.of(load_system("dgx-1-v100"), 8, "fp16")
    send = Send(message_bytes=1e9, degree=8.0, stride=1.0)
    assert plain(backend.time(send)) == pytest.approx(1e9 / (25e9 * 0.8), rel=0.01)


# The slowest node


def test_a_collective_waits_for_the_slowest_node() -> None:
    """The largest of N normal times exceeds the mean by sqrt(2 ln N) deviations at most, and nearly so for many."""
    rng = np.random.default_rng(7)
    for nodes in (2, 16, 512):
        excess = rng.normal(1.0, 0.03, (4000, nodes)).max(axis=1).mean() - 1.0
        bound = plain(networks.slowest_excess(float(nodes), deviation=0.03))
        assert excess < bound
    assert excess > 0.85 * bound


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "all_to_all"])
def test_what_is_waited_grows_with_the_nodes(kind: CollectiveKind) -> None:
    """Everything but the fixed times of the links, and nothing inside a node."""
    asked: dict[str, Any] = {"size": 1e6}
    assert _time(kind, 8.0, FAST, NETWORK, jitter=0.5, **asked) == _time(kind, 8.0, FAST, NETWORK, **asked)
    for nodes in (2, 4, 8):
        steady = _time(kind, 8.0 * nodes, FAST, NETWORK, **asked) - 5
        shaken = _time(kind, 8.0 * nodes, FAST, NETWORK, jitter=0.5, **asked) - 5
        assert shaken == pytest.approx(steady * (1 + 0.5 * (2 * np.log(nodes)) ** 0.5))


def test_constants_of_runs_say_how_much_is_waited() -> None:
    backend = AnalyticBackend.of(load_system("superpod-h100"), 512, "bf16")
    assert backend.jitter == JITTER
    asked = Collective(kind="all_reduce", message_bytes=1e9, degree=np.array([8.0, 64.0, 512.0]), stride=1.0)

    def shaken(by: float) -> list[float]:
        backends = (Shifts(stragglers=each).on_backend(backend) for each in (by, -30.0))
        some, none = (np.asarray(each.time(asked)) for each in backends)
        return list(some / none - 1.0)

    def waited(deviation: float) -> list[float]:
        return [deviation * (2 * np.log(nodes)) ** 0.5 for nodes in (1, 8, 64)]

    assert shaken(np.log(0.1 / JITTER)) == pytest.approx(waited(0.1), abs=0.01)
    # No more than what separates clusters that were tuned from those that were not.
    assert shaken(5.0) == pytest.approx(waited(MOST_JITTER), abs=0.01)
