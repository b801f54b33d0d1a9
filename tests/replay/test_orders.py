"""Orders of passes: small ones worked out by hand, and what holds of all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from simulator.replay.orders import Order, PassKind, Pipeline, pipeline_of, virtual_stage

SCHEDULES = ("gpipe", "1f1b", "interleaved", "looped-bfs", "zero-bubble", "zero-bubble-v", "dualpipe-v")
BENT = ("zero-bubble-v", "dualpipe-v")


def pipelines(schedule: str) -> Iterator[tuple[Pipeline, int]]:
    """Pipelines of a schedule over stages, micro-batches and chunks, each with its micro-batches."""
    for stages, micro_batches in product((1, 2, 3, 4, 5, 8), (1, 2, 5, 8, 10, 16, 19)):
        for chunks in (2,) if schedule in BENT else (1,) if schedule == "1f1b" else (1, 2, 3):
            if schedule != "dualpipe-v" or micro_batches >= 2 * stages:
                pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches, chunks=chunks)
                assert (len(pipeline.orders), pipeline.chunks) == (stages, chunks)
                yield pipeline, micro_batches


def passes(order: Order) -> list[tuple[int, int, int]]:
    """Kind, chunk and micro-batch of each pass."""
    return list(zip(order.kinds.tolist(), order.chunks.tolist(), order.micro_batches.tolist(), strict=True))


def written(order: Order) -> str:
    """An order as the papers draw it: kind, micro-batch from 1, and a prime for each further chunk."""
    return " ".join(f"{'FBIW'[kind]}{number + 1}{chunk * chr(39)}" for kind, chunk, number in passes(order))


@pytest.mark.parametrize(
    ("schedule", "chunks", "expected"),
    [
        # Huang et al., figure 2c, with backward passes in the order of the forward passes.
        ("gpipe", 1, ("F1 F2 B1 B2", "F1 F2 B1 B2")),
        ("gpipe", 2, ("F1 F2 F1' F2' B1' B2' B1 B2", "F1 F2 F1' F2' B1' B2' B1 B2")),
        ("looped-bfs", 2, ("F1 F2 F1' F2' B2' B1' B2 B1", "F1 F2 F1' F2' B2' B1' B2 B1")),
        ("1f1b", 1, ("F1 F2 B1 B2", "F1 B1 F2 B2")),
        # Narayanan et al.: 2 (p - r - 1) + (v - 1) p forward passes before the first turn: 4 and 2.
        ("interleaved", 2, ("F1 F2 F1' F2' B1' B2' B1 B2", "F1 F2 F1' B1' F2' B2' B1 B2")),
        # Qi et al., figure 2 (ZB-H1): weight gradients follow at once on the first rank, one later on the second.
        ("zero-bubble", 1, ("F1 F2 I1 W1 I2 W2", "F1 I1 F2 I2 W1 W2")),
    ],
)
def test_two_stages_and_two_micro_batches(schedule: str, chunks: int, expected: tuple[str, ...]) -> None:
    pipeline = pipeline_of(schedule, stages=2, micro_batches=2, chunks=chunks)
    assert tuple(written(order) for order in pipeline.orders) == expected


def test_one_forward_one_backward_on_four_stages() -> None:
    """Figure 4 of arXiv 2104.04473: 3, 2, 1 and no forward passes before the turns begin."""
    orders = pipeline_of("1f1b", stages=4, micro_batches=5).orders
    assert written(orders[0]) == "F1 F2 F3 F4 B1 F5 B2 B3 B4 B5"
    assert written(orders[1]) == "F1 F2 F3 B1 F4 B2 F5 B3 B4 B5"
    assert written(orders[2]) == "F1 F2 B1 F3 B2 F4 B3 F5 B4 B5"
    assert written(orders[3]) == "F1 B1 F2 B2 F3 B3 F4 B4 F5 B5"


def test_zero_bubbles_in_the_shape_of_a_v_on_one_stage() -> None:
    """Both chunks are on the one rank: forward through both, and back, each followed by its weight gradients."""
    (order,) = pipeline_of("zero-bubble-v", stages=1, micro_batches=2).orders
    assert written(order) == "F1 F1' I1' W1' F2 I1 W1 F2' I2' W2' I2 W2"


def test_groups_are_larger_where_stages_do_not_divide_the_micro_batches() -> None:
    """Ten micro-batches on four stages run in groups of five: five through each chunk before the next."""
    last = pipeline_of("interleaved", stages=4, micro_batches=10, chunks=2).orders[3]
    forward = [each for each in written(last).split() if each.startswith("F")]
    once = [f"F{number}{prime}" for prime in ("", "'") for number in range(1, 6)]
    assert forward == [*once, *(f"F{number}{prime}" for prime in ("", "'") for number in range(6, 11))]


def test_chunks_in_a_loop_and_in_the_shape_of_a_v() -> None:
    loop = [[virtual_stage(rank, chunk, stages=4, v_shaped=False) for chunk in (0, 1)] for rank in range(4)]
    bent = [[virtual_stage(rank, chunk, stages=4, v_shaped=True) for chunk in (0, 1)] for rank in range(4)]
    assert loop == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert bent == [[0, 7], [1, 6], [2, 5], [3, 4]]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_micro_batch_passes_every_chunk_once(schedule: str) -> None:
    """One forward pass of each, and one of either kind of backward pass with the weight gradients that belong to it."""
    for pipeline, micro_batches in pipelines(schedule):
        each = list(product(range(pipeline.chunks), range(micro_batches)))
        for order in pipeline.orders:
            kinds = ((PassKind.FORWARD,), (PassKind.BACKWARD, PassKind.INPUT_GRADIENTS))
            for wanted in (*kinds, (PassKind.BACKWARD, PassKind.WEIGHT_GRADIENTS)):
                assert sorted((chunk, number) for kind, chunk, number in passes(order) if kind in wanted) == each


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_runs_before_what_it_needs(schedule: str) -> None:
    """On a rank a backward pass follows its forward pass, and weight gradients follow input gradients."""
    for pipeline, _ in pipelines(schedule):
        for order in pipeline.orders:
            place = {row: index for index, row in enumerate(passes(order))}
            for (kind, chunk, number), index in place.items():
                if kind in (PassKind.BACKWARD, PassKind.INPUT_GRADIENTS):
                    assert place[PassKind.FORWARD, chunk, number] < index
                if kind == PassKind.WEIGHT_GRADIENTS:
                    assert place[PassKind.INPUT_GRADIENTS, chunk, number] < index


def test_what_a_schedule_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 micro-batches on 4 stages, not 7"):
        pipeline_of("dualpipe-v", stages=4, micro_batches=7)
    with pytest.raises(ValueError, match="one chunk a stage, not 2"):
        pipeline_of("1f1b", stages=4, micro_batches=8, chunks=2)
