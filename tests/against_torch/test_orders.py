"""Orders in which a replay runs the passes of a pipeline's ranks, against the lists of torch's own schedule classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from measure.count.schedules import Action, Kind, ScheduleName, orders
from measure.count.schedules import replay as on_paper_of
from simulator.replay.orders import Pipeline, pipeline_of
from simulator.replay.running import Transfer, replay

STAGES = (2, 3, 4, 8)
MICRO_BATCHES = (1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 24, 32)
KINDS: tuple[Kind, ...] = ("F", "B", "I", "W")
"""Of torch, in the order of `PassKind`."""


def actions_of(pipeline: Pipeline) -> list[list[Action]]:
    """The passes of every rank in torch's words."""
    return [
        [
            Action(KINDS[kind], pipeline.virtual_stage(rank, chunk), micro_batch)
            for kind, chunk, micro_batch in zip(
                order.kinds.tolist(), order.chunks.tolist(), order.micro_batches.tolist(), strict=True
            )
        ]
        for rank, order in enumerate(pipeline.orders)
    ]


def of_torch(name: ScheduleName, stages: int, chunks: int) -> Iterator[tuple[int, list[list[Action]]]]:
    """Numbers of micro-batches that torch's class takes, each with the list of every rank."""
    for micro_batches in MICRO_BATCHES:
        try:
            listed = orders(name, stages, micro_batches, chunks)
        except ValueError:
            # Torch refuses fewer micro-batches than stages, or a number that its rounds do not divide.
            continue
        yield micro_batches, listed


def assert_alike(schedule: str, name: ScheduleName, stages: int, chunks: int, least: int) -> None:
    """Whether all orders that torch has are those of the replay, and whether torch has so many."""
    compared = 0
    for micro_batches, listed in of_torch(name, stages, chunks):
        pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches, chunks=chunks)
        assert actions_of(pipeline) == listed, micro_batches
        compared += 1
    assert compared >= least


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(("schedule", "name"), [("gpipe", "GPipe"), ("1f1b", "1F1B")])
def test_one_chunk(schedule: str, name: ScheduleName, stages: int) -> None:
    """Kinds one by one, and backward micro-batches.

    Of torch's list of 1F1B only the kinds of passes are used at run time: in 2.13 it numbers forward passes from one on
    the last rank (0, 1, 1, 2, ...), and lists too many. `measure.count.schedules` counts the passes of each kind from
    zero instead; since a rank with one chunk takes micro-batches in order, that is what such a rank runs.
    """
    assert_alike(schedule, name, stages, 1, least=7)


@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(
    ("schedule", "name"),
    [("interleaved", "Interleaved1F1B"), ("looped-bfs", "LoopedBFS"), ("zero-bubble", "InterleavedZeroBubble")],
)
def test_chunks_in_a_loop(schedule: str, name: ScheduleName, stages: int, chunks: int) -> None:
    """Also for micro-batches that are no multiple of the stages, in groups larger than the stages."""
    assert_alike(schedule, name, stages, chunks, least=9)


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(
    ("schedule", "name", "least"), [("zero-bubble-v", "ZBVZeroBubble", 12), ("dualpipe-v", "DualPipeV", 4)]
)
def test_chunks_in_the_shape_of_a_v(schedule: str, name: ScheduleName, stages: int, least: int) -> None:
    """Of DualPipeV a pair that torch runs at once stands as its forward pass and the backward pass behind it."""
    assert_alike(schedule, name, stages, 2, least=least)


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(
    ("schedule", "name", "chunks"),
    [
        ("gpipe", "GPipe", 1),
        ("1f1b", "1F1B", 1),
        ("interleaved", "Interleaved1F1B", 2),
        ("looped-bfs", "LoopedBFS", 3),
        ("zero-bubble", "InterleavedZeroBubble", 2),
        ("zero-bubble-v", "ZBVZeroBubble", 2),
        ("dualpipe-v", "DualPipeV", 2),
    ],
)
def test_passes_take_as_long_as_on_paper(schedule: str, name: ScheduleName, chunks: int, stages: int) -> None:
    """Makespans to the second, of passes of 3 s forward, 5 s input gradients and 2 s weight gradients."""
    seconds = np.array([3.0, 7.0, 5.0, 2.0])
    for micro_batches in (2 * stages, 2 * stages + 1, 4 * stages):
        try:
            on_paper = on_paper_of(name, stages, micro_batches, virtual_stages=chunks, forward=3, backward=7, weight=2)
        except ValueError:
            continue
        pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches, chunks=chunks)
        times = replay(pipeline, [seconds[order.kinds] for order in pipeline.orders], Transfer())
        assert times.finish == on_paper.time
