"""Layers in a row whose parameters are sharded, by hand: gathers ahead of each, scatters behind."""

from __future__ import annotations

import pytest

from simulator.formulas.collectives import exposed
from simulator.replay.rows import BlockRow, Placed, Shards
from simulator.replay.spans import Piece
from simulator.work.tasks import Phase, Resource
from tests.replay.making import compute, exchange, laid, overlaps, times_of

LINKS = Resource.DATA_LINKS


def row_of(
    *seconds: float,
    overlap: float,
    gather: float = 0.0,
    scatter: float = 0.0,
    sums: float = 0.0,
    host: float = 0.0,
    late: float = 0.0,
    follows: bool = True,
    goes_on: bool = False,
    until: float = 0.0,
) -> Piece:
    """Blocks of so many seconds each, with as long a gather, a scatter and a sum of gradients of every one."""
    phase = Phase.BACKWARD
    tasks = [
        (exchange(gather, "all_gather", part="parameter_gather", phase=phase, resource=LINKS), gather),
        (exchange(scatter, "reduce_scatter", part="parameter_gather", phase=phase, resource=LINKS), scatter),
        (compute(sums, "gradient_accumulation", phase=phase), sums),
    ]
    blocks = [Placed(f"layer {number}", laid(each, host), Shards(tuple(tasks))) for number, each in enumerate(seconds)]
    row = BlockRow(overlap, phase, follows=follows, goes_on=goes_on)
    for place, block in enumerate(blocks):
        row.add(block, blocks[place + 1] if place + 1 < len(blocks) else None, late)
    return row.piece(until)


def near(times: list[tuple[float, float]]) -> object:
    """Times but for what shows of a transfer that is much shorter than what it runs beside."""
    return [pytest.approx(each, abs=1e-5) for each in times]


def test_without_shards_blocks_follow_each_other() -> None:
    piece = row_of(2.0, 3.0, 4.0, overlap=1.0)
    assert times_of(piece) == [(0.0, 2.0), (2.0, 5.0), (5.0, 9.0)]
    assert piece.duration == 9.0
    assert [place for _, place, _ in piece.inner] == ["layer 0", "layer 1", "layer 2"]


def test_a_gather_hides_behind_the_block_before() -> None:
    """The first one runs beside the pass before, the others from the start of a block on: no one waits."""
    piece = row_of(100.0, 100.0, 100.0, overlap=1.0, gather=1.0)
    assert times_of(piece) == near([(0.0, 100.0), (100.0, 200.0), (200.0, 300.0)])
    assert times_of(piece, LINKS) == near([(0.0, 1.0), (1.0, 2.0), (100.0, 101.0)])
    assert piece.duration == pytest.approx(300.0, abs=1e-5)


def test_the_first_gather_of_one_micro_batch_shows() -> None:
    """Nothing of the step is ahead of it."""
    piece = row_of(100.0, 100.0, overlap=1.0, gather=1.0, follows=False)
    assert times_of(piece, waits=True)[0] == (0.0, 1.0)
    assert times_of(piece) == near([(1.0, 101.0), (101.0, 201.0)])
    assert times_of(piece, LINKS) == near([(0.0, 1.0), (1.0, 2.0)])


def test_without_overlap_every_gather_shows() -> None:
    piece = row_of(2.0, 2.0, 2.0, overlap=0.0, gather=1.0)
    assert times_of(piece) == [(1.0, 3.0), (4.0, 6.0), (7.0, 9.0)]
    assert times_of(piece, waits=True) == times_of(piece, LINKS) == [(0.0, 1.0), (3.0, 4.0), (6.0, 7.0)]
    assert piece.duration == 9.0


def test_half_an_overlap_begins_in_the_middle() -> None:
    """A gather of 100 s begins half a second before a block of one second ends, and 99.5 s of it show."""
    piece = row_of(1.0, 1.0, 1.0, overlap=0.5, gather=100.0)
    assert times_of(piece) == near([(99.5, 100.5), (200.0, 201.0), (300.5, 301.5)])
    assert times_of(piece, LINKS) == near([(0.0, 100.0), (100.0, 200.0), (200.5, 300.5)])
    assert piece.duration == pytest.approx(301.5, abs=1e-5)


def test_a_gather_longer_than_compute_sets_the_pace() -> None:
    """With a whole overlap one gather follows another on the links: 100 s a block, less the one of the pass before."""
    piece = row_of(1.0, 1.0, 1.0, overlap=1.0, gather=100.0)
    assert times_of(piece, LINKS) == near([(0.0, 100.0), (100.0, 200.0), (200.0, 300.0)])
    assert times_of(piece) == near([(99.0, 100.0), (200.0, 201.0), (300.0, 301.0)])


def test_near_balance_some_of_a_gather_shows() -> None:
    """Equal times leave ``1 - 2^(-1/4)`` of it, as the closed formula has it: neither is even over a step."""
    piece = row_of(3.0, 3.0, overlap=1.0, gather=3.0)
    assert times_of(piece, waits=True)[0][1] == pytest.approx(3.0 * (1.0 - 2.0**-0.25))
    assert times_of(piece, waits=True)[0][1] == pytest.approx(float(exposed(3.0, 3.0)))


def test_the_last_scatter_shows_at_the_end() -> None:
    """Each goes out beside the block behind it; nothing is behind the last."""
    piece = row_of(100.0, 100.0, 100.0, overlap=1.0, scatter=1.0)
    assert times_of(piece) == [(0.0, 100.0), (100.0, 200.0), (200.0, 300.0)]
    assert times_of(piece, LINKS) == [(100.0, 101.0), (200.0, 201.0), (300.0, 301.0)]
    assert times_of(piece, waits=True) == [(300.0, 301.0)]


def test_the_last_scatter_goes_beside_the_next_pass() -> None:
    """As far as its first block has room: 100 s of a scatter of 130."""
    piece = row_of(100.0, 100.0, overlap=1.0, scatter=1.0, goes_on=True)
    assert times_of(piece, LINKS) == [(100.0, 101.0), (200.0, 201.0)]
    assert piece.duration == 200.0
    piece = row_of(100.0, overlap=1.0, scatter=130.0, goes_on=True)
    assert times_of(piece, LINKS) == [(100.0, 230.0)]
    assert times_of(piece, waits=True) == [(100.0, 130.0)]


def test_scatters_with_half_an_overlap() -> None:
    """They go out in the middle of the block behind, and the last one at once."""
    piece = row_of(100.0, 100.0, overlap=0.5, scatter=1.0)
    assert times_of(piece, LINKS) == [(150.0, 151.0), (200.0, 201.0)]


def test_scatters_longer_than_compute_queue() -> None:
    piece = row_of(1.0, 1.0, 1.0, overlap=1.0, scatter=100.0)
    assert times_of(piece) == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert times_of(piece, LINKS) == [(1.0, 101.0), (101.0, 201.0), (201.0, 301.0)]
    assert times_of(piece, waits=True) == [(3.0, 301.0)]


def test_a_scatter_goes_out_before_the_next_gather() -> None:
    """Both share the links: from the start of the second block on the first one's scatter, then the third's gather."""
    piece = row_of(100.0, 100.0, 100.0, overlap=1.0, gather=2.0, scatter=1.0)
    expected = [(0.0, 2.0), (2.0, 4.0), (100.0, 101.0), (101.0, 103.0), (200.0, 201.0), (300.0, 301.0)]
    assert times_of(piece, LINKS) == near(expected)
    assert not overlaps(piece)


def test_sums_of_gradients_and_launches_follow_their_block() -> None:
    """Two seconds of sums, and half of three seconds of launches that the device waits for."""
    piece = row_of(10.0, 10.0, overlap=1.0, sums=2.0, host=3.0, late=0.5)
    assert times_of(piece) == [(0.0, 10.0), (10.0, 12.0), (13.5, 23.5), (23.5, 25.5)]
    assert times_of(piece, waits=True) == [(12.0, 13.5), (25.5, 27.0)]
    assert piece.duration == 27.0


def test_a_pass_takes_the_time_that_its_host_sets() -> None:
    """Gathers of three seconds show whole without overlap; where they come while the device waits for launches, the
    pass takes its 16 s all the same.
    """
    alone = row_of(2.0, 2.0, overlap=0.0, gather=3.0, host=4.0)
    assert alone.duration == 10.0
    piece = row_of(2.0, 2.0, overlap=0.0, gather=3.0, host=4.0, late=0.75, until=16.0)
    assert times_of(piece, LINKS) == [(0.0, 3.0), (5.0, 8.0)]
    shown = float(exposed(3.0, 3.0))
    assert times_of(piece) == near([(3.0, 5.0), (8.0 + shown, 10.0 + shown)])
    assert times_of(piece, waits=True)[-1][1] == piece.duration == 16.0


def test_a_part_of_a_layer_shares_in_all() -> None:
    shards = Shards(((exchange(4.0, "all_gather"), 4.0), (exchange(2.0, "reduce_scatter"), 2.0))).times(0.25)
    assert [seconds for _, seconds in shards.of_kind("all_gather")] == [1.0]
    assert [seconds for _, seconds in shards.of_kind("reduce_scatter")] == [0.5]
    assert laid(8.0).piece.times(0.25).busy() == {(Resource.DEVICE, "feed_forward"): 2.0}
