"""When passes run: makespans and held micro-batches of the closed formulas, transfers and late ranks by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from simulator.formulas import chunked_pipeline
from simulator.formulas import pipeline as formulas
from simulator.replay.orders import Order, PassKind, Pipeline, pipeline_of
from simulator.replay.running import PassTimes, Times, Transfer, replay

SHAPES = [(1, 1), (1, 4), (2, 2), (2, 8), (3, 9), (4, 4), (4, 8), (4, 16), (8, 16), (8, 32)]
"""Stages and micro-batches."""
SHARES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (3, 2, 1), (2, 3, 2), (1, 3, 1)]
"""Forward pass, input gradients and weight gradients of a whole stage."""


def timed(pipeline: Pipeline, forward: float, inputs: float, weights: float) -> list[Times]:
    """Time of each pass, where those of a whole stage are given and its chunks are alike."""
    each = np.array([forward, inputs + weights, inputs, weights]) / pipeline.chunks
    return [each[order.kinds] for order in pipeline.orders]


def most_held(order: Order, chunks: int) -> float:
    """Micro-batches whose activations a rank keeps at its peak, in units of its whole stage."""
    change = np.array([1, -1, 0, -1])[order.kinds]
    return float(np.max(np.cumsum(change))) / chunks


def hand(schedule: str, transfer: Transfer, ready: list[float] | None = None, *, micro_batches: int = 2) -> PassTimes:
    """Two stages of one chunk, each pass of which takes a second."""
    pipeline = pipeline_of(schedule, stages=2, micro_batches=micro_batches)
    return replay(pipeline, [np.ones(len(order)) for order in pipeline.orders], transfer, ready)


@pytest.mark.parametrize("share", SHARES, ids=str)
@pytest.mark.parametrize(("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), *product(["interleaved"], [2, 3, 4])])
def test_whole_backward_passes(schedule: str, chunks: int, share: tuple[int, int, int]) -> None:
    for stages, micro_batches in SHAPES:
        pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches, chunks=chunks)
        whole = float(sum(share))
        expected = formulas.step_time(
            whole, stages * whole, micro_batches=micro_batches, idle_share=formulas.idle_share(chunks)
        )
        assert replay(pipeline, timed(pipeline, *share), Transfer()).finish == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("chunks", [2, 3])
def test_loops_that_are_breadth_first_idle_like_interleaved_ones(chunks: int) -> None:
    for schedule, (stages, micro_batches) in product(("gpipe", "looped-bfs"), SHAPES):
        pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches, chunks=chunks)
        expected = 3.0 * (micro_batches + (stages - 1) / chunks)
        assert replay(pipeline, timed(pipeline, 1, 1, 1), Transfer()).finish == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", SHARES, ids=str)
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_zero_bubbles(chunks: int, share: tuple[int, int, int]) -> None:
    forward, _, weights = share
    whole = float(sum(share))
    idle = formulas.idle_share(
        chunks, zero_bubble=1.0, forward_share=forward / whole, weight_gradient_share=weights / whole
    )
    for stages, micro_batches in SHAPES:
        pipeline = pipeline_of("zero-bubble", stages=stages, micro_batches=micro_batches, chunks=chunks)
        expected = formulas.step_time(whole, stages * whole, micro_batches=micro_batches, idle_share=idle)
        assert replay(pipeline, timed(pipeline, *share), Transfer()).finish == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("share", [share for share in SHARES if share[0] <= share[1] >= share[2]], ids=str)
@pytest.mark.parametrize("schedule", ["zero-bubble-v", "dualpipe-v"])
def test_schedules_in_the_shape_of_a_v(schedule: str, share: tuple[int, int, int]) -> None:
    forward, _, weights = share
    whole = float(sum(share))
    for stages, micro_batches in SHAPES:
        if stages > 1 and micro_batches >= 2 * stages:
            idle = chunked_pipeline.v_shaped_idle_share(
                stages,
                micro_batches,
                paired=float(schedule == "dualpipe-v"),
                forward_share=forward / whole,
                weight_gradient_share=weights / whole,
            )
            pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches)
            expected = formulas.step_time(whole, stages * whole, micro_batches=micro_batches, idle_share=idle)
            times = replay(pipeline, timed(pipeline, *share), Transfer())
            assert times.finish == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("extra", [(0.5, 0.5), (1.0, 1.0), (0.3, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("chunks", [2, 4])
def test_slow_ends_are_waited_for_in_turn(chunks: int, extra: tuple[float, float]) -> None:
    """The first chunk of the first rank and the last one of the last rank take longer, by so much of a chunk."""
    for stages, micro_batches in ((4, 4), (4, 12), (8, 16)):
        pipeline = pipeline_of("interleaved", stages=stages, micro_batches=micro_batches, chunks=chunks)
        durations = timed(pipeline, chunks, chunks, chunks)
        for rank, chunk, more in ((0, 0, extra[0]), (stages - 1, chunks - 1, extra[1])):
            durations[rank] = durations[rank] * np.where(pipeline.orders[rank].chunks == chunk, 1.0 + more, 1.0)
        inside, first, last = (3.0 * (chunks + more) for more in (0.0, *extra))
        whole = (stages - 2) * inside + first + last
        expected = formulas.step_time(max(first, last), whole, micro_batches=micro_batches, idle_share=1.0 / chunks)
        turns = chunked_pipeline.ends_in_turn(stages, chunks, first_extra=first - inside, last_extra=last - inside)
        finish = replay(pipeline, durations, Transfer()).finish
        assert finish == pytest.approx(float(expected + turns), abs=0.12 * stages * 3.0 * extra[0] + 1e-9)


@pytest.mark.parametrize(
    ("schedule", "chunks"),
    [("gpipe", 1), ("gpipe", 2), ("1f1b", 1), *product(["interleaved"], [2, 3]), *product(["zero-bubble"], [1, 2, 3])],
)
def test_micro_batches_in_flight(schedule: str, chunks: int) -> None:
    for stages, micro_batches in SHAPES:
        pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches, chunks=chunks)
        for rank, order in enumerate(pipeline.orders):
            expected = formulas.in_flight(
                stages,
                rank,
                micro_batches=micro_batches,
                virtual_stages=chunks,
                all_at_once=float(schedule == "gpipe"),
                zero_bubble=float(schedule == "zero-bubble"),
            )
            assert most_held(order, chunks) == float(expected)


def unequal(*stages: float) -> float:
    """Makespan of six micro-batches by 1F1B on stages of so many seconds each, a third of them forward."""
    pipeline = pipeline_of("1f1b", stages=len(stages), micro_batches=6)
    durations = [
        np.where(order.kinds == PassKind.FORWARD, whole / 3, whole * 2 / 3)
        for order, whole in zip(pipeline.orders, stages, strict=True)
    ]
    return replay(pipeline, durations, Transfer()).finish


def test_the_slowest_stage_of_unequal_ones_sets_the_pace() -> None:
    """A slow last stage waits for two forward passes of 1 s, and two backward passes of 2 s follow it."""
    assert unequal(3.0, 3.0, 6.0) == pytest.approx(2.0 + 6 * 6.0 + 4.0, rel=1e-12)
    assert formulas.step_time(6.0, 12.0, micro_batches=6, idle_share=1.0) == 42.0


def test_a_slow_stage_inside_works_while_it_waits() -> None:
    """A slow stage inside waits 1 s for the first forward pass; then the last stage takes 4.5 s for both passes of the
    first micro-batch, beside 2 s of the second forward pass, and for both of the last beside 4 s of a backward pass.
    The formula has all 4.5 s idle once: it is above by as much as the stage works beside, less what it waits twice.
    """
    assert unequal(3.0, 6.0, 4.5) == pytest.approx(1.0 + 6 * 6.0 + (4.5 - 2.0) + (4.5 - 4.0) + 2.0, rel=1e-12)
    assert formulas.step_time(6.0, 13.5, micro_batches=6, idle_share=1.0) == 43.5


def test_passes_begin_as_soon_as_they_can() -> None:
    """The last stage has an activation after one second, the first a gradient once the last has turned it round."""
    times = hand("1f1b", Transfer())
    assert times.start[0].tolist() == [0.0, 1.0, 3.0, 5.0]
    assert times.start[1].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert [end.tolist() for end in times.end] == [[1.0, 2.0, 4.0, 6.0], [2.0, 3.0, 4.0, 5.0]]
    assert [source.tolist() for source in times.waits_for] == [[-1, -1, 1, 1], [0, -1, 0, -1]]
    assert times.finish == 6.0


def test_transfers_beside_compute_delay_what_they_bring_only() -> None:
    """Activations come at 1.5 and 2.5, gradients at 5.0 and 6.0: there and back half a second each."""
    times = hand("gpipe", Transfer(beside=0.5))
    assert times.start[1].tolist() == [1.5, 2.5, 3.5, 4.5]
    assert times.start[0].tolist() == [0.0, 1.0, 5.0, 6.0]
    assert not np.any(np.concatenate(times.received))
    assert times.finish == 7.0


def test_blocking_transfers_hold_the_device_of_the_receiver_up() -> None:
    """The last stage takes 1.5 s a forward pass, the first 1.5 s a backward pass, and each turns to it at once."""
    times = hand("gpipe", Transfer(blocking=0.5))
    assert times.start[1].tolist() == [1.0, 2.5, 4.0, 5.0]
    assert times.end[1].tolist() == [2.5, 4.0, 5.0, 6.0]
    assert times.start[0].tolist() == [0.0, 1.0, 5.0, 6.5]
    assert [each.tolist() for each in times.received] == [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.0, 0.0]]
    assert times.finish == 8.0


def test_both_ways_of_a_transfer_add_up() -> None:
    """Of half a second 0.2 beside compute, 0.3 blocking: F at 1.2 for 1.3 s, B back at 3.5 + 0.2 for 1.3 s."""
    times = hand("1f1b", Transfer(beside=0.2, blocking=0.3), micro_batches=1)
    assert times.start[1].tolist() == pytest.approx([1.2, 2.5])
    assert times.start[0].tolist() == pytest.approx([0.0, 3.7])
    assert times.finish == pytest.approx(5.0)


def test_chunks_of_one_rank_hand_over_without_a_transfer() -> None:
    """In the shape of a V the last rank has both chunks of the middle, and a single rank has all."""
    pipeline = pipeline_of("zero-bubble-v", stages=2, micro_batches=4)
    times = replay(pipeline, [np.ones(len(order)) for order in pipeline.orders], Transfer(1.0, 1.0))
    last = pipeline.orders[1]
    own = (last.kinds == PassKind.FORWARD) == (last.chunks == 1)
    assert set(times.waits_for[1][own].tolist()) == {-1}
    assert set(times.received[1][own].tolist()) == {0.0}
    alone = pipeline_of("interleaved", stages=1, micro_batches=3, chunks=2)
    assert replay(alone, [np.ones(len(alone.orders[0]))], Transfer(1.0, 1.0)).finish == 12.0


def test_ranks_that_begin_late() -> None:
    """The last stage is ready after three seconds, and everything that follows on it is two later."""
    times = hand("1f1b", Transfer(), [0.0, 3.0])
    assert times.start[1].tolist() == [3.0, 4.0, 5.0, 6.0]
    assert times.start[0].tolist() == [0.0, 1.0, 5.0, 7.0]
    assert hand("1f1b", Transfer(), [0.5, 0.0]).finish == 6.5


def test_a_circle_is_refused() -> None:
    """The first rank wants the gradient before it has sent the activation."""
    first = Order(np.array([PassKind.BACKWARD, PassKind.FORWARD]), np.zeros(2, int), np.zeros(2, int))
    last = Order(np.array([PassKind.FORWARD, PassKind.BACKWARD]), np.zeros(2, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="wait for each other"):
        replay(Pipeline((first, last), False, 1), [np.ones(2), np.ones(2)], Transfer())


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved", "looped-bfs", "zero-bubble", "zero-bubble-v"])
def test_nothing_overlaps_and_nothing_comes_early(schedule: str) -> None:
    """With times drawn at random, a rank does one thing at a time, and never what has not come."""
    chance = np.random.default_rng(5)
    pipeline = pipeline_of(schedule, stages=4, micro_batches=8, chunks=1 if schedule == "1f1b" else 2)
    durations = [chance.uniform(0.1, 2.0, len(order)) for order in pipeline.orders]
    times = replay(pipeline, durations, Transfer(0.2, 0.1), chance.uniform(0.0, 1.0, 4).tolist())
    ends = {}
    for rank, order in enumerate(pipeline.orders):
        assert np.all(times.start[rank][1:] >= times.end[rank][:-1])
        assert times.end[rank] - times.start[rank] - times.received[rank] == pytest.approx(durations[rank])
        rows = zip(order.kinds.tolist(), order.chunks.tolist(), order.micro_batches.tolist(), strict=True)
        for index, (kind, chunk, number) in enumerate(rows):
            if kind != PassKind.WEIGHT_GRADIENTS:
                stage = pipeline.virtual_stage(rank, chunk)
                ends[kind == PassKind.FORWARD, stage, number] = rank, times.start[rank][index], times.end[rank][index]
    for (forward, stage, number), (rank, start, _) in ends.items():
        before = ends.get((forward, stage - 1 if forward else stage + 1, number))
        if before is not None and before[0] != rank:
            assert start >= before[2] + 0.2
