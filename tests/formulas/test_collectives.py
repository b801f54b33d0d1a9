"""Collectives: what each rank sends, over which links, and limits that no constant changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.formulas import collectives, networks


@pytest.mark.parametrize(
    ("degree", "stride", "reach", "within"),
    [(16, 1, 8, 8), (4, 1, 8, 4), (16, 4, 8, 2), (16, 3, 8, 2), (16, 16, 8, 1), (16, 1, 1, 1), (1, 1, 8, 1)],
)
def test_ranks_of_a_group_in_one_unit(degree: float, stride: float, reach: float, within: float) -> None:
    assert float(collectives.ranks_within(degree, stride, reach=reach)) == within


def test_what_a_ring_sends() -> None:
    """All ranks together send the message to all others."""
    for ranks in (2.0, 4.0, 8.0):
        sent = collectives.reduced_volume(1000.0, ranks, inner_ranks=1.0, passes=1.0)
        assert ranks * float(sent) == 1000 * (ranks - 1)
        assert float(collectives.reduced_volume(1000.0, ranks, inner_ranks=4.0, passes=2.0)) == float(sent) / 2
    assert float(collectives.reduced_volume(1000.0, 1.0, inner_ranks=1.0, passes=2.0)) == 0


def test_what_an_all_to_all_sends() -> None:
    """Of 16 ranks in units of 4 each sends three quarters of its message outside, with one copy of each token."""
    assert float(collectives.exchanged_volume(1600.0, 4.0, inner_ranks=4.0, degree=16.0, copies=1.0)) == pytest.approx(
        1200
    )
    assert float(collectives.exchanged_volume(1600.0, 16.0, inner_ranks=1.0, degree=16.0)) == pytest.approx(1500)
    two = collectives.exchanged_volume(1600.0, 4.0, inner_ranks=4.0, degree=16.0, copies=2.0)
    assert float(two) == pytest.approx(3 * 1600 / 2 * (1 - 0.75**2))
    assert float(collectives.exchanged_volume(1600.0, 1.0, inner_ranks=16.0, degree=16.0)) == 0


def test_copies_that_are_sent_once_go_on_inside() -> None:
    """Of 16 ranks in two units each sends 100 tokens, twice each: what crosses to a unit is passed on inside it."""
    inside = collectives.exchanged_volume(200.0, 8.0, inner_ranks=1.0, degree=16.0, copies=2.0)
    # A token goes to 16 (1 - (15 / 16)^2) = 31 / 16 ranks; the one that passes it on is one of eight of a unit.
    assert float(inside) == pytest.approx(100 * 31 / 16 * 7 / 8)
    across = collectives.exchanged_volume(200.0, 2.0, inner_ranks=8.0, degree=16.0, copies=2.0)
    assert float(across) == pytest.approx(100 * 0.75)


@pytest.mark.parametrize(("groups", "used", "others"), [(8, 4, 0.5 * (1 - 0.75**8) * 7), (8, 8, (1 - 0.875**8) * 7)])
def test_groups_limit_how_many_nodes_a_token_goes_to(groups: float, used: float, others: float) -> None:
    """DeepSeek-V3: 64 ranks of 8 nodes hold 8 groups; of the 7 other nodes a token of 8 copies goes to some."""
    limits = {"expert_groups": groups, "groups_per_token": used}
    sent = collectives.exchanged_volume(8.0, 8.0, inner_ranks=8.0, degree=64.0, copies=8.0, **limits)
    assert float(sent) == pytest.approx(others)
    every = collectives.exchanged_volume(8.0, 8.0, inner_ranks=8.0, degree=64.0, copies=8.0)
    assert float(sent) <= float(every) + 1e-12
    drawn = np.random.default_rng(0)
    nodes = [len(set(drawn.choice(drawn.permutation(int(groups))[: int(used)], 8))) for _ in range(20_000)]
    assert float(sent) == pytest.approx(np.mean(nodes) * 7 / 8, rel=0.01)


@pytest.mark.parametrize(
    ("ranks", "passes", "steps"),
    [(1, 1, None), (2, 1, 1), (8, 1, 7), (64, 1, 63), (2, 2, 2), (4, 2, 6), (8, 2, 12), (64, 2, 24), (1024, 2, 40)],
)
def test_rings_for_few_ranks_and_trees_for_many(ranks: float, passes: float, steps: float | None) -> None:
    latency = float(collectives.link_latency(ranks, passes, latency=100.0, latency_per_rank=1.0))
    assert latency == (0 if steps is None else 100 + steps)


def test_a_rate_rises_up_to_16_mebibytes() -> None:
    assert float(collectives.ramp_time(4.0, 3.0)) == 6
    assert float(collectives.ramp_time(16 * 2**20, 1.0)) == float(collectives.ramp_time(1e12, 1.0)) == 4096
    assert float(collectives.ramp_time(2**20, 1.0)) == 1024


_FITTED: dict[str, Any] = {
    "latency": 1.0,
    "medium_cost": 10.0,
    "medium_size": 1e3,
    "large_cost": 100.0,
    "large_size": 1e6,
    "rate": 1e9,
}


@pytest.mark.parametrize(
    ("size", "volume", "seconds"),
    [(0.0, 0.0, 1), (1e3, 0.0, 1 + 5), (1e6, 0.0, 1 + 10 + 50), (1e12, 0.0, 111), (1e12, 5e9, 116)],
)
def test_protocols_cost_more_and_carry_more(size: float, volume: float, seconds: float) -> None:
    assert float(collectives.measured_link_time(size, volume, **_FITTED)) == pytest.approx(seconds, rel=1e-4)


def test_a_group_of_two_loses_half_of_its_loss() -> None:
    how: dict[str, Any] = {"bandwidth": 100.0, "efficiency": 0.5, "pair_loss": 0.4}
    assert [float(collectives.ring_rate(k, **how)) for k in (1.0, 2.0, 4.0)] == pytest.approx([30, 40, 45])


def test_links_of_a_cube_mesh() -> None:
    shares = [float(collectives.cube_mesh_share(k)) for k in (1, 2, 3, 4, 5, 8)]
    assert shares == pytest.approx([1 / 6, 1 / 6, 4 / 6, 4 / 6, 1, 1])


# Torus of 4 x 4 x 8, numbered from the inside

_AXES = ((1.0, 4.0), (4.0, 4.0), (16.0, 8.0))


@pytest.mark.parametrize(
    ("degree", "stride", "used"),
    [
        (1, 1, (1, 1, 1)),
        (2, 1, (2, 1, 1)),
        (4, 1, (4, 1, 1)),
        (8, 1, (4, 2, 1)),
        (128, 1, (4, 4, 8)),
        (2, 2, (2, 1, 1)),
        (4, 2, (2, 2, 1)),
        (4, 4, (1, 4, 1)),
        (8, 16, (1, 1, 8)),
        (2, 32, (1, 1, 2)),
    ],
)
def test_axes_that_a_group_spans(degree: float, stride: float, used: tuple[float, ...]) -> None:
    extents = [float(networks.torus_extent(degree, stride, inside=inside, extent=e)) for inside, e in _AXES]
    assert extents == list(used)
    assert float(np.prod(extents)) == degree


@pytest.mark.parametrize(
    ("used", "extent", "wraps", "links"),
    [(1, 4, 1, 0), (2, 4, 1, 1), (4, 4, 1, 2), (4, 4, 0, 1), (2, 2, 1, 1), (3, 3, 1, 2), (1, 1, 1, 0)],
)
def test_links_of_an_axis(used: float, extent: float, wraps: float, links: float) -> None:
    """A ring of two has one neighbour, whichever way around."""
    assert float(networks.torus_links(used, extent, wraps=wraps)) == links


@pytest.mark.parametrize(
    ("used", "extent", "wraps", "seconds"),
    [(8, 8, 1, 100), (8, 8, 0, 200), (4, 8, 1, 100), (2, 2, 1, 50), (1, 8, 1, 0), (3, 3, 1, 37.5)],
)
def test_half_of_what_half_of_the_devices_send_crosses_the_middle(
    used: float, extent: float, wraps: float, seconds: float
) -> None:
    crossing_time = networks.torus_crossing_time(1000.0, used, extent=extent, wraps=wraps, bandwidth=10.0)
    assert float(crossing_time) == seconds


@given(st.integers(1, 64), st.floats(1.0, 1e9), st.floats(1.0, 1e9))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_larger_messages_take_longer(ranks: int, size: float, more: float) -> None:
    def sent(message: float) -> float:
        return float(collectives.reduced_volume(message, ranks, inner_ranks=1.0, passes=2.0))

    assert sent(size + more) >= sent(size)
    small, large = (
        float(collectives.measured_link_time(message, message, **_FITTED)) for message in (size, size + more)
    )
    assert large > small
    ramps = [float(collectives.ramp_time(message, 1e-8)) for message in (size, size + more)]
    assert ramps == sorted(ramps)
