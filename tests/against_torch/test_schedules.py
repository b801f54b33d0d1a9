"""Formulas of pipelines against a replay of torch's schedules, in integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest

from measure.count.schedules import Replay, ScheduleName, orders, replay
from measure.verification.pipelines import idle_time
from simulator.formulas import chunked_pipeline, pipeline

TIMES = [(1, 2, 1), (2, 3, 1), (1, 3, 1), (2, 5, 2), (3, 5, 2), (4, 7, 3)]
"""Forward, backward, and of the backward pass the gradient of the weights."""
SHAPES = [(2, 2), (2, 8), (3, 9), (4, 4), (4, 8), (4, 16), (8, 16), (8, 32)]
"""Stages and micro-batches."""


def of_torch(
    name: ScheduleName, stages: int, micro_batches: int, times: tuple[int, int, int], virtual: int = 1
) -> Replay:
    forward, backward, weight = times
    return replay(
        name, stages, micro_batches, virtual_stages=virtual, forward=forward, backward=backward, weight=weight
    )


@pytest.mark.parametrize("times", TIMES, ids=str)
@pytest.mark.parametrize(("stages", "micro_batches"), SHAPES)
@pytest.mark.parametrize("name", ["GPipe", "1F1B"])
def test_one_chunk(name: ScheduleName, stages: int, micro_batches: int, times: tuple[int, int, int]) -> None:
    schedule = of_torch(name, stages, micro_batches, times)
    assert set(schedule.idle) == {idle_time(name, stages, 1, times)}
    for rank, held in enumerate(schedule.in_flight):
        all_at_once = float(name == "GPipe")
        assert held == pipeline.in_flight(stages, rank, micro_batches=micro_batches, all_at_once=all_at_once)


@pytest.mark.parametrize("times", TIMES, ids=str)
@pytest.mark.parametrize("virtual", [2, 3, 4])
@pytest.mark.parametrize(("stages", "micro_batches"), SHAPES)
@pytest.mark.parametrize("name", ["Interleaved1F1B", "LoopedBFS"])
def test_interleaved(
    name: ScheduleName, stages: int, micro_batches: int, virtual: int, times: tuple[int, int, int]
) -> None:
    schedule = of_torch(name, stages, micro_batches, times, virtual)
    assert set(schedule.idle) == {idle_time(name, stages, virtual, times)}
    for rank, held in enumerate(schedule.in_flight):
        formula = pipeline.in_flight(
            stages,
            rank,
            micro_batches=micro_batches,
            virtual_stages=virtual,
            all_at_once=float(name == "LoopedBFS"),
        )
        assert float(held) == formula


@pytest.mark.parametrize("times", [*TIMES, (1, 3, 2), (2, 5, 3), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("virtual", [1, 2, 3])
@pytest.mark.parametrize(("stages", "micro_batches"), SHAPES)
def test_zero_bubbles(stages: int, micro_batches: int, virtual: int, times: tuple[int, int, int]) -> None:
    schedule = of_torch("InterleavedZeroBubble", stages, micro_batches, times, virtual)
    assert set(schedule.idle) == {idle_time("InterleavedZeroBubble", stages, virtual, times)}
    for rank, held in enumerate(schedule.in_flight):
        assert held == pipeline.in_flight(
            stages, rank, micro_batches=micro_batches, virtual_stages=virtual, zero_bubble=1.0
        )


OF_V = [*TIMES, (2, 5, 1), (5, 11, 5), (5, 9, 2)]
"""Times of passes whose input gradients take as long as the forward pass, or longer."""


@pytest.mark.parametrize("times", [times for times in OF_V if times[0] <= times[1] - times[2]], ids=str)
@pytest.mark.parametrize(("stages", "micro_batches"), [shape for shape in SHAPES if shape[1] >= 2 * shape[0]])
@pytest.mark.parametrize("name", ["ZBVZeroBubble", "DualPipeV"])
def test_the_shape_of_a_v(name: ScheduleName, stages: int, micro_batches: int, times: tuple[int, int, int]) -> None:
    schedule = of_torch(name, stages, micro_batches, times, 2)
    assert set(schedule.idle) == {idle_time(name, stages, 2, times)}
    paired = float(name == "DualPipeV")
    formula = pipeline.in_flight(
        stages, 0.0, micro_batches=micro_batches, virtual_stages=2.0, zero_bubble=1.0 - paired, paired=paired
    )
    assert set(schedule.in_flight) == {Fraction(float(formula))}


@pytest.mark.parametrize("times", [(1, 2, 1), (2, 3, 1), (1, 3, 1), (3, 5, 2)], ids=str)
@pytest.mark.parametrize("micro_batches", range(2, 16, 2))
def test_few_micro_batches_in_the_shape_of_a_v(micro_batches: int, times: tuple[int, int, int]) -> None:
    """ZB-V with fewer than two micro-batches a stage: within a twentieth of the time that fills the pipeline."""
    forward, backward, weight = times
    whole = forward + backward
    share = chunked_pipeline.v_shaped_idle_share(
        8.0, float(micro_batches), forward_share=forward / whole, weight_gradient_share=weight / whole
    )
    idle = of_torch("ZBVZeroBubble", 8, micro_batches, times, 2).idle[0]
    assert float(idle) == pytest.approx(float(share) * 7 * 2 * whole, abs=0.05 * 7 * 2 * whole)


@pytest.mark.parametrize(("stages", "micro_batches"), SHAPES)
def test_step_time(stages: int, micro_batches: int) -> None:
    schedule = of_torch("1F1B", stages, micro_batches, (2, 3, 1))
    assert schedule.time == pipeline.step_time(5.0, 5.0 * stages, micro_batches=micro_batches, idle_share=1.0)


@pytest.mark.parametrize(
    "name", ["GPipe", "1F1B", "Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"]
)
def test_every_micro_batch_passes_every_chunk(name: ScheduleName) -> None:
    virtual = 1 if name in ("GPipe", "1F1B") else 2
    actions = [action for rank in orders(name, 4, 8, virtual) for action in rank]
    for kinds in ("F", "IB", "WB"):
        done = [(action.chunk, action.micro_batch) for action in actions if action.kind in kinds]
        assert sorted(done) == [(chunk, number) for chunk in range(4 * virtual) for number in range(8)]
