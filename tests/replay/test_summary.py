"""A timeline in numbers, and its picture letter by letter."""

from __future__ import annotations

import json

import numpy as np
import pytest

import simulator
from simulator.replay.orders import Order, pipeline_of
from simulator.replay.running import Transfer, replay
from simulator.replay.spans import Piece
from simulator.replay.summary import fill_of, picture, summaries, to_dict
from simulator.replay.sums import slowest_stage
from simulator.replay.timeline import StageRun, Timeline, timeline
from simulator.work.tasks import Resource
from tests.stacks import unrestricted


def stages_of(
    schedule: str, transfer: Transfer, *, stages: int = 2, micro_batches: int = 2, before: float = 0.0
) -> list[StageRun]:
    """Stages each pass of which takes a second, with three seconds at the end."""
    pipeline = pipeline_of(schedule, stages=stages, micro_batches=micro_batches)
    times = replay(pipeline, [np.ones(len(order)) for order in pipeline.orders], transfer, [before] * stages)
    return [
        StageRun(
            rank,
            (),
            pipeline.orders[rank],
            {},
            times.start[rank],
            times.end[rank],
            times.received[rank],
            times.waits_for[rank],
            Piece(before),
            ((times.finish, Piece(3.0)),),
        )
        for rank in range(stages)
    ]


def letters(stages: list[StageRun], end: float, width: int, start: float = 0.0) -> list[str]:
    return [picture(stage, start, end, width) for stage in stages]


def test_a_letter_a_second() -> None:
    """F1 F2 . B1 . B2 on the first stage, F1 B1 F2 B2 from one second on, on the last; then the optimizer."""
    assert letters(stages_of("1f1b", Transfer()), 10.0, 10) == ["FF.B.B===.", ".FBFB.===."]


def test_gradients_apart_and_transfers() -> None:
    """ZB-H1; and devices that receive for a second ahead of each pass that waits for another stage."""
    assert letters(stages_of("zero-bubble", Transfer()), 7.0, 7) == ["FF.IWIW", ".FIFIWW"]
    first, last = letters(stages_of("gpipe", Transfer(blocking=1.0)), 10.0, 10)
    assert first == "FF....rBrB"
    assert last == ".rFrFBB..."


def test_what_comes_before_and_windows() -> None:
    """A second ahead of the first pass is once a step; a window shows its own part, in finer steps too."""
    stages = stages_of("1f1b", Transfer(), before=1.0)
    assert letters(stages, 10.0, 10) == ["=FF.B.B===", "=.FBFB.==="]
    assert letters(stages, 4.0, 4, start=2.0) == ["FF..", "FFBB"]


def test_what_takes_most_of_a_part_is_shown() -> None:
    """Three seconds a letter of FF..BB=== and .FFBB.===."""
    assert letters(stages_of("gpipe", Transfer()), 9.0, 9) == ["FF..BB===", ".FFBB.==="]
    assert letters(stages_of("gpipe", Transfer()), 9.0, 3) == ["FB=", "FB="]


def test_an_order_without_passes_of_a_kind() -> None:
    """Forward only: no other letter appears."""
    order = Order(np.array([0, 0]), np.array([0, 0]), np.array([0, 1]))
    source = np.array([-1, -1])
    stage = StageRun(
        0,
        (),
        order,
        {},
        np.array([0.0, 1.0]),
        np.array([1.0, 2.0]),
        np.zeros(2),
        source,
        Piece(0.0),
        ((2.0, Piece(0.0)),),
    )
    assert picture(stage, 0.0, 4.0, 4) == "FF.."


@pytest.fixture(scope="module")
def step() -> Timeline:
    plan = {"pp": 4, "micro_batch": 1, "sharding": "zero1"}
    stack, work = unrestricted("megatron-lm"), {"global_batch": 32}
    return timeline(simulator.resolve("gpt2-1.5b", "dgx-a100-640gb", devices=8, stack=stack, plan=plan, workload=work))


def test_shares_of_a_stage_are_the_step(step: Timeline) -> None:
    for stage in summaries(step):
        together = stage.compute + stage.exposed + stage.host + stage.idle
        assert together == pytest.approx(step.step_time, rel=1e-12)
        assert stage.layers == 12.0
        assert stage.lane(Resource.DEVICE) == pytest.approx(stage.compute)


def test_the_fill_is_the_way_there_and_back(step: Timeline) -> None:
    """Until the first backward pass of the first stage is over: it has had four forward passes by then."""
    first = step.stages[0]
    assert fill_of(step) == first.end[4]
    assert first.order.kinds[:5].tolist() == [0, 0, 0, 0, 1]


def test_as_plain_values(step: Timeline) -> None:
    plain = json.loads(json.dumps(to_dict(step), allow_nan=False))
    assert plain["step_time_s"] == step.step_time
    assert plain["closed_form_s"] == step.closed_form
    assert plain["difference"] == step.difference
    assert [stage["stage"] for stage in plain["stages"]] == [0, 1, 2, 3]
    assert plain["slowest_stage"] == slowest_stage(step).index
    for stage in plain["stages"]:
        assert sum(stage["parts_s"].values()) == pytest.approx(step.step_time, rel=1e-12)
        assert set(stage["lanes_s"]) == {resource.value for resource in Resource}
        assert sum(stage["peak_memory"]["tensors_bytes"].values()) == pytest.approx(stage["peak_memory"]["bytes"])
        assert 0.0 <= stage["peak_memory"]["at_s"] <= step.step_time
    flights = [stage["peak_memory"]["micro_batches_in_flight"] for stage in plain["stages"]]
    assert flights == pytest.approx([4.0, 3.0, 2.0, 1.0])
