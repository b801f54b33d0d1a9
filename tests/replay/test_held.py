"""What stages hold over a step: the peak of the closed formula to the byte, and curves that end where they began."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simulator
from simulator.replay.held import HeldOverTime, held_over_time, saved_by_operator
from simulator.replay.orders import PassKind
from simulator.replay.timeline import StageRun, Timeline, timeline
from simulator.step.memory import on_stage
from simulator.work.program import Program, program_of
from tests.stacks import unrestricted

SCHEDULES = [
    ("1f1b", 1, 16, "none"),
    ("1f1b", 1, 2, "selective"),
    ("gpipe", 1, 16, "none"),
    ("gpipe", 2, 8, "full"),
    ("interleaved", 2, 16, "selective"),
    ("interleaved", 3, 16, "none"),
    ("interleaved", 2, 10, "none"),
    ("interleaved", 2, 4, "full"),
    ("zero-bubble", 1, 16, "none"),
    ("zero-bubble", 2, 16, "none"),
    ("zero-bubble", 1, 2, "full"),
    ("looped-bfs", 2, 8, "none"),
    ("zero-bubble-v", 2, 16, "none"),
    ("zero-bubble-v", 2, 8, "full"),
    ("dualpipe-v", 2, 8, "none"),
]
"""Schedule, chunks, micro-batches and recomputation, on four stages."""


def step_of(schedule: str = "1f1b", chunks: int = 1, micro_batches: int = 16, recompute: str = "none") -> Timeline:
    plan: dict[str, Any] = {
        "pp": 4,
        "micro_batch": 1,
        "schedule": schedule,
        "virtual_stages": chunks,
        "recompute": recompute,
    }
    return timeline(
        simulator.resolve(
            "gpt2-1.5b",
            "dgx-a100-640gb",
            devices=8,
            stack=unrestricted("megatron-lm"),
            plan=plan,
            workload={"global_batch": 2 * micro_batches},
        )
    )


def held_on(step: Timeline) -> list[tuple[StageRun, HeldOverTime, Program]]:
    program = program_of(step.scenario.columns())
    return [(stage, held_over_time(step, stage, program), program) for stage in step.stages]


def number(value: object) -> float:
    return float(np.asarray(value))


@pytest.mark.parametrize(("schedule", "chunks", "micro_batches", "recompute"), SCHEDULES)
def test_the_peak_is_that_of_the_formula(schedule: str, chunks: int, micro_batches: int, recompute: str) -> None:
    """To the byte on every stage."""
    for stage, held, program in held_on(step_of(schedule, chunks, micro_batches, recompute)):
        expected = number(on_stage(program, float(stage.index)).total)
        assert held.peak.total == pytest.approx(expected, abs=1.0)
        assert held.peak.total == pytest.approx(float(np.max(held.total)), abs=1.0)


@pytest.mark.parametrize(("schedule", "chunks", "micro_batches", "recompute"), SCHEDULES)
def test_curves_begin_and_end_with_nothing(schedule: str, chunks: int, micro_batches: int, recompute: str) -> None:
    step = step_of(schedule, chunks, micro_batches, recompute)
    for _, held, _ in held_on(step):
        assert np.all(np.diff(held.times) >= 0.0)
        assert held.times[0] == 0.0
        assert held.times[-1] == step.step_time
        assert np.all(held.activations >= 0.0)
        assert [held.activations[index] for index in (0, 1, -2, -1)] == [0.0] * 4
        # What the last pass leaves is rounding.
        assert held.activations[-3] <= 1e-9 * np.max(held.activations)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_saved_tensors_add_up_to_what_a_micro_batch_keeps(recompute: str) -> None:
    for stage, held, program in held_on(step_of(recompute=recompute)):
        saved = dict(saved_by_operator(program, stage))
        assert all(size > 0.0 for size in saved.values())
        kept = number(on_stage(program, float(stage.index)).activations)
        assert sum(saved.values()) * held.peak.in_flight == pytest.approx(kept, rel=1e-12)
        assert ("inputs of recomputed layers" in saved) == (recompute == "full")


def test_tensors_of_the_peak_add_up_to_it() -> None:
    for _, held, _ in held_on(step_of("interleaved", 2)):
        sizes = [size for _, size in held.peak.tensors]
        assert sum(sizes) == pytest.approx(held.peak.total, rel=1e-12)
        assert sizes == sorted(sizes, reverse=True)


def test_two_micro_batches_by_hand() -> None:
    """The last stage of 1F1B keeps one at a time: up in each forward pass, down in each backward pass."""
    step = step_of(micro_batches=2)
    *_, (stage, held, program) = held_on(step)
    one = number(on_stage(program, 3.0).activations)
    assert [PassKind(kind).name for kind in stage.order.kinds] == ["FORWARD", "BACKWARD", "FORWARD", "BACKWARD"]
    kept = (held.activations[2:-2] / one).tolist()
    assert kept == pytest.approx([0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0], abs=1e-12)
    assert held.times[2:-2].tolist() == [
        time
        for begin, end in zip(stage.start + stage.received, stage.end, strict=True)
        for time in (float(begin), float(end))
    ]
    working = number(on_stage(program, 3.0).buffers)
    assert held.buffers.tolist() == [0.0, 0.0, *[0.0, 0.0, working, working] * 2, working, working]
    assert held.peak.in_flight == pytest.approx(1.0)
    assert held.peak.task == "backward pass of micro-batch 1"
    assert held.peak.time == stage.start[1]


def test_what_is_there_all_the_time() -> None:
    """Parameters, gradients, states and what is reserved, as the formula has them; and the memory of a device."""
    for stage, held, program in held_on(step_of()):
        memory = on_stage(program, float(stage.index))
        for name in ("parameters", "gradients", "optimizer", "reserved"):
            assert held.constant[name] == number(getattr(memory, name))
        assert held.total[0] == pytest.approx(sum(held.constant.values()))
        assert held.capacity == 80e9 or held.capacity == pytest.approx(79.3 * 2**30, rel=0.01)


def test_without_a_program_it_makes_its_own() -> None:
    step = step_of(micro_batches=2)
    program = program_of(step.scenario.columns())
    with_one, without = held_over_time(step, step.stages[0], program), held_over_time(step, step.stages[0])
    assert with_one.peak == without.peak


@pytest.mark.parametrize(
    ("model", "system", "plan"),
    [
        ("llama-3-8b", "dgx-h100", {"sharding": "zero3", "micro_batch": 1}),
        ("t5-3b", "dgx-a100-640gb", {"micro_batch": 1}),
        ("albert-xxlarge", "dgx-a100-640gb", {"micro_batch": 4}),
        ("mixtral-8x7b", "dgx-h100", {"ep": 8, "micro_batch": 1, "recompute": "full"}),
        ("palm-62b", "tpu-v4-pod", {"tp": 8, "micro_batch": 1}),
    ],
)
def test_without_a_pipeline_the_peak_is_that_of_the_estimate(model: str, system: str, plan: dict[str, Any]) -> None:
    scenario = simulator.resolve(model, system, plan=plan)
    step = timeline(scenario)
    (stage,) = step.stages
    assert held_over_time(step, stage).peak.total == pytest.approx(
        simulator.answer(scenario).memory_bytes["total"], rel=1e-12
    )
