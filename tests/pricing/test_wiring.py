"""Links of systems as numbers: what carries a group, how fast, and how far around."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.catalogue import link_classes, load_system
from hardware.errors import InputError
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.requests import Collective, CollectiveKind, Send
from simulator.pricing.wiring import LEVELS, Level, Wiring, slice_shape, wiring
from tests.work.asking import plain

FAST = Level(
    reach=8.0,
    bandwidth=100.0,
    latency=2.0,
    latency_per_rank=0.5,
    ramp=0.0,
    efficiency=0.5,
    pair_loss=0.0,
    reduction_gain=1.0,
    reduction_ranks=1e9,
    reduction_ramp=0.0,
    reduction_loss=0.0,
    send_efficiency=0.25,
    after_others=0.0,
    network=0.0,
    bus=0.0,
    cube_mesh=0.0,
    mesh=0.0,
    torus=0.0,
    extents=(1.0, 1.0, 1.0),
    wraps=(0.0, 0.0, 0.0),
)
"""A switch of 8 devices: 50 B/s in a long collective, 25 B/s to a neighbour."""
NONE = replace(FAST, reach=1.0)
SLOW = replace(FAST, reach=64.0, bandwidth=10.0, latency=3.0)
FAR = replace(FAST, reach=128.0, bandwidth=1.0, latency=5.0, after_others=1.0)
TORUS = replace(FAST, reach=64.0, torus=1.0, extents=(4.0, 4.0, 4.0), wraps=(1.0, 1.0, 1.0))


def _time(request: Collective | Send, *levels: Level) -> float:
    """On levels from the inside; those that are not given join nothing."""
    device = AnalyticBackend.of(load_system("dgx-h100"), 8, "bf16")
    four = (*levels, *[NONE] * (4 - len(levels)))
    return plain(replace(device, wires=Wiring((four[0], four[1], four[2], four[3]))).time(request))


def _collective(kind: CollectiveKind, degree: float, *levels: Level, stride: float = 1.0, copies: float = 1.0) -> float:
    asked = Collective(kind=kind, message_bytes=1000.0, degree=degree, stride=stride, copies=copies)
    return _time(asked, *levels)


# One level


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        # Each of 4 ranks sends three quarters of the message over 50 B/s, and passes 3 ranks.
        ("all_gather", 2 + 3 * 0.5 + 750 / 50),
        ("reduce_scatter", 2 + 3 * 0.5 + 750 / 50),
        ("all_reduce", 2 + 2 * 3 * 0.5 + 2 * 750 / 50),
        ("all_to_all", 2 + 3 * 0.5 + 3 * 1000 / 4 / 50),
    ],
)
def test_a_collective_inside_a_switch(kind: CollectiveKind, seconds: float) -> None:
    assert _collective(kind, 4.0, FAST) == pytest.approx(seconds)
    assert _collective(kind, 1.0, FAST) == 0


def test_a_transfer_inside_a_switch() -> None:
    send = Send(message_bytes=1000.0, degree=4.0, stride=1.0)
    assert _time(send, FAST) == pytest.approx(2 + 0.5 + 1000 / 25)
    assert _time(replace(send, degree=2.0), FAST) == _time(send, FAST)
    assert _time(replace(send, degree=1.0), FAST) == 0
    assert _time(replace(send, stride=8.0), FAST) == 0  # no neighbour within reach


def test_a_switch_that_adds_up_gains_for_many_ranks() -> None:
    adding = replace(FAST, reduction_gain=2.0, reduction_ranks=4.0)
    assert _collective("all_reduce", 4.0, adding) == pytest.approx(2 + 3 + 30 / 2)
    assert _collective("all_reduce", 2.0, adding) == _collective("all_reduce", 2.0, FAST)
    assert _collective("all_gather", 4.0, adding) == _collective("all_gather", 4.0, FAST)


def test_small_messages_lose_by_the_ramp() -> None:
    assert _collective("all_gather", 4.0, replace(FAST, ramp=1.0)) == pytest.approx(
        _collective("all_gather", 4.0, FAST) + 750**0.5
    )


def test_a_pair_loses_a_share_of_its_rate() -> None:
    lossy = replace(FAST, pair_loss=0.5)
    assert plain(lossy.rate(2.0, 2.0, 1.0)) == 100 * 0.5 * 0.75
    assert plain(lossy.rate(4.0, 4.0, 1.0)) == 100 * 0.5 * 0.875


def test_links_of_a_mesh_add_up() -> None:
    """Each device has one to every other, and a group uses those among itself."""
    mesh = replace(FAST, mesh=1.0)
    assert [plain(mesh.rate(ranks, ranks, 1.0)) for ranks in (1.0, 2.0, 4.0, 8.0)] == [50, 50, 150, 350]


def test_a_cube_mesh_has_one_four_or_six_links() -> None:
    cube = replace(FAST, cube_mesh=1.0)
    assert [plain(cube.rate(ranks, ranks, 1.0)) for ranks in (2.0, 4.0, 8.0)] == pytest.approx([50 / 6, 200 / 6, 50])
    # Four ranks of both quads are a ring of single links; any pair, and any transfer, has one.
    assert plain(cube.rate(4.0, 4.0, 2.0)) == pytest.approx(100 / 6)
    assert plain(cube.rate(2.0, 2.0, 4.0)) == pytest.approx(50 / 6)
    send = Send(message_bytes=1000.0, degree=8.0, stride=1.0)
    assert _time(send, cube) == pytest.approx(2 + 0.5 + 1000 / (25 / 6))


# Several levels


def test_the_slowest_level_paces_and_each_adds_its_latency() -> None:
    """16 ranks: 8 in a switch, which cut the message into eighths, and 2 switches at 5 B/s."""
    both = _collective("all_gather", 16.0, FAST, SLOW)
    inside, across = 875 / 50, 500 / 8 / 5
    assert both == pytest.approx(2 + 7 * 0.5 + 3 + 0.5 + max(inside, across))
    slower = replace(SLOW, bandwidth=2.0)
    assert _collective("all_gather", 16.0, FAST, slower) == pytest.approx(2 + 3.5 + 3 + 0.5 + 500 / 8 / 1)
    assert _collective("all_gather", 8.0, FAST, SLOW) == _collective("all_gather", 8.0, FAST)


def test_ranks_apart_meet_outside_only() -> None:
    assert _collective("all_gather", 4.0, FAST, SLOW, stride=8.0) == pytest.approx(3 + 3 * 0.5 + 750 / 5)
    send = Send(message_bytes=1000.0, degree=4.0, stride=8.0)
    assert _time(send, FAST, SLOW) == pytest.approx(3 + 0.5 + 1000 / 2.5)
    assert _time(replace(send, stride=4.0), FAST, SLOW) == pytest.approx(3 + 0.5 + 1000 / 2.5)
    assert _time(replace(send, stride=2.0), FAST, SLOW) == pytest.approx(2 + 0.5 + 1000 / 25)


def test_what_joins_pods_follows_the_rest() -> None:
    """Its part of the collective does not overlap with that inside."""
    inside = _collective("all_gather", 64.0, FAST, SLOW)
    assert _collective("all_gather", 128.0, FAST, SLOW, FAR) == pytest.approx(inside + 5 + 0.5 + 500 / 64 / 0.5)


def test_an_all_to_all_sends_to_every_unit() -> None:
    """Of 16 ranks' messages half stays in the switch; 2 copies of a token to one switch travel once."""
    one = _collective("all_to_all", 16.0, FAST, replace(SLOW, latency_per_rank=0.0))
    assert one == pytest.approx(2 + 3.5 + 3 + max(7 * 1000 / 16 / 50, 1000 / 2 / 5))
    two = _collective("all_to_all", 16.0, FAST, replace(SLOW, latency_per_rank=0.0), copies=2.0)
    assert two == pytest.approx(2 + 3.5 + 3 + 1000 / 2 * (1 - 0.5**2) / 5)


@given(st.integers(0, 6), st.integers(0, 3), st.sampled_from(["all_reduce", "all_gather", "all_to_all"]))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_better_links_never_slow_a_collective(ranks: int, apart: int, kind: CollectiveKind) -> None:
    def time(*levels: Level) -> float:
        return _collective(kind, 2.0**ranks, *levels, stride=2.0**apart)

    before = time(FAST, SLOW, FAR)
    for better in ({"bandwidth": 2e3}, {"latency": 0.0}, {"latency_per_rank": 0.0}, {"efficiency": 1.0}):
        for at in range(3):
            levels = [FAST, SLOW, FAR]
            levels[at] = replace(levels[at], **better)  # type: ignore[arg-type]
            assert time(*levels) <= before * (1 + 1e-12)
    endless = [replace(each, bandwidth=np.inf, latency=0.0, latency_per_rank=0.0) for each in (FAST, SLOW, FAR)]
    assert time(*endless) == 0


# Torus


def test_a_group_uses_the_axes_of_a_torus_that_it_spans() -> None:
    """A closed ring has two links, a part of an axis one, an axis that is not used none."""
    for degree, stride, links in ((4, 1, 2), (2, 1, 1), (16, 1, 4), (64, 1, 6), (4, 4, 2), (16, 4, 4), (8, 1, 3)):
        assert plain(TORUS.rate(float(degree), float(degree), float(stride))) == 50 * links
    open_ = replace(TORUS, wraps=(0.0, 0.0, 0.0))
    assert plain(open_.rate(64.0, 64.0, 1.0)) == 50 * 3
    assert plain(TORUS.rate(1.0, 1.0, 1.0)) == 50


def test_a_ring_on_a_torus_passes_along_its_axes() -> None:
    """4 + 4 + 4 ranks less one for each axis but the first, instead of 64."""
    assert plain(TORUS.steps(64.0, 64.0, 1.0)) == 10
    assert plain(TORUS.steps(16.0, 16.0, 1.0)) == 7
    assert plain(TORUS.steps(4.0, 4.0, 4.0)) == 4
    assert plain(FAST.steps(8.0, 8.0, 1.0)) == 8
    both = Level.stack([TORUS, FAST])
    assert list(np.asarray(both.steps(8.0, 8.0, 1.0))) == [5, 8]
    assert list(np.asarray(both.rate(8.0, 8.0, 1.0))) == [150, 50]
    assert list(np.asarray(both.crossing_time(1000.0, 16.0, 1.0))) == [1000 * 4 / 8 / 50, 0]


def test_an_all_to_all_crosses_the_middle_of_each_axis() -> None:
    assert plain(TORUS.crossing_time(1000.0, 64.0, 1.0)) == 1000 * 4 / 8 / 50
    longer = replace(TORUS, extents=(4.0, 8.0, 2.0))
    assert plain(longer.crossing_time(1000.0, 64.0, 1.0)) == 1000 * 8 / 8 / 50
    assert plain(longer.crossing_time(1000.0, 4.0, 1.0)) == 1000 * 4 / 8 / 50
    assert plain(FAST.crossing_time(1000.0, 8.0, 1.0)) == 0
    assert _collective("all_to_all", 64.0, TORUS) == pytest.approx(
        2 + 9 * 0.5 + max(63 * 1000 / 64 / (50 * 6), 1000 * 4 / 8 / 50)
    )


@pytest.mark.parametrize(
    ("most", "devices", "multiple", "shape"),
    [
        ((16, 16, 16), 64, 4, (4, 4, 4)),
        ((16, 16, 16), 128, 4, (4, 4, 8)),
        ((16, 16), 256, 16, (16, 16, 1)),
        ((16, 16), 1, 16, (1, 1, 1)),
        ((16, 16, 16), 2, 1, (1, 1, 2)),
        ((12, 16, 16), 3072, 4, (12, 16, 16)),
        ((4, 4, 4), 6, 4, (1, 2, 3)),
        ((2, 8), 16, 4, (2, 8, 1)),
        ((16, 16), 16, 16, (4, 4, 1)),
        ((2, 2, 8), 32, 4, (2, 2, 8)),
    ],
)
def test_a_slice_is_as_near_to_a_cube_as_fits(
    most: tuple[int, ...], devices: int, multiple: int, shape: tuple[int, int, int]
) -> None:
    assert slice_shape(most, devices, multiple) == shape


@pytest.mark.parametrize(("most", "devices"), [((4, 4), 17), ((4, 4), 32), ((2, 2, 2), 5)])
def test_a_slice_that_does_not_fit_is_a_sentence(most: tuple[int, ...], devices: int) -> None:
    with pytest.raises(InputError, match=f"no slice of a torus of {most[0]} x .* has {devices} devices"):
        slice_shape(most, devices, 1)


# Systems


def test_a_node_and_its_fabric_are_two_levels() -> None:
    system, classes = load_system("superpod-h100"), link_classes()
    levels = dict(zip(LEVELS, wiring(system, 64).levels, strict=True))
    assert {name for name, level in levels.items() if not level.absent} == {"intra_node", "inter_node"}
    for name, link in (("intra_node", system.intra_node), ("inter_node", system.inter_node)):
        assert link is not None
        level, constants = levels[name], classes[link.kind]
        assert level.bandwidth == link.bandwidth_per_device
        for constant in ("latency", "latency_per_rank", "ramp", "efficiency", "pair_loss", "send_efficiency"):
            assert getattr(level, constant) == getattr(constants, constant)
        assert level.reduction_ranks == constants.reduction_ranks
        assert level.reduction_gain == (constants.reduction_gain if link.in_network_reduction else 1.0)
        assert (level.torus, level.mesh, level.cube_mesh, level.after_others) == (0, 0, 0, 0)
    assert levels["intra_node"].reach == 8
    absent = levels["bridge"]
    assert plain(absent.rate(1.0, 1.0, 1.0)) > 0
    assert (absent.after_others, absent.torus, absent.extents, absent.wraps) == (0, 0, (1, 1, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("name", "devices", "level", "flag"),
    [
        ("dgx-1-v100", 8, 1, "cube_mesh"),
        ("server-mi300x", 8, 1, "mesh"),
        ("tpu-v4-pod", 64, 2, "torus"),
        ("palm-2pod", 6144, 3, "after_others"),
    ],
)
def test_wirings_of_a_kind_of_their_own(name: str, devices: int, level: int, flag: str) -> None:
    levels = wiring(load_system(name), devices).levels
    flags = {
        (at, kind): getattr(each, kind)
        for at, each in enumerate(levels)
        for kind in ("cube_mesh", "mesh", "torus", "after_others")
    }
    assert flags[level, flag] == 1
    assert {key for key, value in flags.items() if value and key[1] == flag} == {(level, flag)}


@pytest.mark.parametrize(
    ("name", "devices", "extents", "wraps"),
    [
        ("tpu-v4-pod", 64, (4, 4, 4), (1, 1, 1)),
        ("tpu-v4-pod", 8, (2, 2, 2), (0, 0, 0)),
        ("tpu-v4-pod", 128, (4, 4, 8), (1, 1, 1)),
        ("tpu-v5e-pod", 256, (16, 16, 1), (1, 1, 0)),
        ("tpu-v5e-pod", 64, (8, 8, 1), (0, 0, 0)),
    ],
)
def test_slices_of_a_torus_close_to_rings_where_they_can(name: str, devices: int, extents: Any, wraps: Any) -> None:
    level = next(each for each in wiring(load_system(name), devices).levels if each.torus)
    assert (level.extents, level.wraps) == (extents, wraps)


def test_a_link_of_no_known_kind_is_a_sentence() -> None:
    system = load_system("dgx-h100")
    assert system.intra_node is not None
    odd = system.model_copy(update={"intra_node": system.intra_node.model_copy(update={"kind": "string"})})
    with pytest.raises(InputError, match=r"kind of link \(intra_node\)"):
        wiring(odd, 8)
