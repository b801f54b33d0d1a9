"""A replayed step beside the closed formula: the same compute, the same traffic, and better hardware is never worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import simulator
from hardware.errors import InputError
from simulator.pricing.analytic import AnalyticBackend
from simulator.replay.orders import PassKind
from simulator.replay.sums import slowest_stage, sums_of
from simulator.replay.timeline import Timeline, _replayed, timeline
from simulator.scenario.scenario import Scenario
from simulator.step.passes import timed_tasks
from simulator.work.messages import tasks_of_stage
from simulator.work.program import Program, program_of
from simulator.work.tasks import Resource
from tests.stacks import unrestricted
from tests.step.drawing import scenarios
from tests.step.test_random_hardware import _improved

_WAITS = {"gradient_reduction", "parameter_gather", "pipeline_bubble", "host", "reference_model"}
"""Parts that are waited for, or hold such waits: they depend on what runs beside them, which the replay knows better
than the formula."""
_AT_ENDS = {"pipeline_transfer", "optimizer"}
"""Parts that the formula takes of a stage between two others, or of the fullest."""
CASES: dict[str, tuple[str, str, int, str | None, dict[str, Any], dict[str, Any]]] = {
    "data parallel": ("bert-large", "dgx-a100-640gb", 8, "pytorch-ddp", {"micro_batch": 16}, {}),
    "tensor parallel": (
        "llama-2-7b",
        "dgx-h100",
        16,
        "megatron-lm",
        {"tp": 4, "sequence_parallel": True, "sharding": "zero1", "micro_batch": 1},
        {},
    ),
    "1f1b": (
        "gpt3-6.7b",
        "superpod-a100",
        64,
        "megatron-lm",
        {"tp": 2, "pp": 8, "micro_batch": 1, "recompute": "selective"},
        {"global_batch": 128},
    ),
    "gpipe": (
        "gpt2-1.5b",
        "dgx-a100-640gb",
        8,
        "megatron-lm",
        {"pp": 4, "micro_batch": 1, "schedule": "gpipe"},
        {"global_batch": 64},
    ),
    "interleaved": (
        "gpt3-175b",
        "superpod-a100",
        512,
        "megatron-lm",
        {"tp": 8, "pp": 8, "virtual_stages": 3, "micro_batch": 1, "recompute": "full"},
        {"global_batch": 256},
    ),
    "zero bubble": (
        "llama-2-13b",
        "dgx-h100",
        32,
        "megatron-lm",
        {"pp": 4, "tp": 2, "schedule": "zero-bubble", "micro_batch": 1},
        {"global_batch": 128},
    ),
    "context parallel": (
        "llama-3-8b",
        "dgx-h100",
        32,
        "megatron-lm",
        {"cp": 4, "tp": 2, "micro_batch": 1},
        {"sequence_length": 32768, "global_batch": 32},
    ),
    "experts": (
        "mixtral-8x7b",
        "dgx-h100",
        64,
        "megatron-lm",
        {"ep": 8, "pp": 4, "micro_batch": 1, "sharding": "zero1"},
        {"global_batch": 256},
    ),
    "zero2": (
        "llama-2-7b",
        "dgx-a100-640gb",
        16,
        "deepspeed",
        {"sharding": "zero2", "micro_batch": 1, "recompute": "full"},
        {"global_batch": 64},
    ),
    "zero3": ("llama-3-8b", "dgx-h100", 64, "pytorch-fsdp", {"sharding": "zero3", "micro_batch": 1}, {}),
    "adapters": (
        "llama-3.1-8b",
        "dgx-a100-640gb",
        8,
        "huggingface",
        {"micro_batch": 1, "recompute": "full"},
        {"lora_rank": 16, "global_batch": 64},
    ),
    "preferences": (
        "llama-3.1-8b",
        "dgx-h100",
        16,
        "huggingface",
        {"micro_batch": 2, "sharding": "zero3"},
        {"preference": "dpo", "global_batch": 64},
    ),
    "offload": (
        "llama-2-7b",
        "dgx-a100-640gb",
        8,
        "deepspeed",
        {"micro_batch": 1, "offload_optimizer": True, "sharding": "zero2"},
        {"global_batch": 64},
    ),
    "tpu": ("palm-62b", "tpu-v4-pod", 256, None, {"tp": 8, "micro_batch": 1}, {"global_batch": 512}),
    "encoder and decoder": ("t5-3b", "dgx-a100-640gb", 8, None, {}, {"global_batch": 64}),
    "shared layers": ("albert-xxlarge", "dgx-a100-640gb", 8, None, {}, {"global_batch": 256}),
}


def scenario_of(name: str) -> Scenario:
    model, system, devices, stack, plan, work = CASES[name]
    chosen = unrestricted(stack) if stack else None
    return simulator.resolve(model, system, devices=devices, stack=chosen, plan=plan, workload=work)


@pytest.fixture(scope="module")
def replayed() -> dict[str, Timeline]:
    return {name: timeline(scenario_of(name)) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_compute_is_that_of_the_breakdown(replayed: dict[str, Timeline], name: str) -> None:
    """Part by part on the slowest stage; and what is waited for differs by less than a hundredth of the step."""
    step = replayed[name]
    parts = sums_of(step, slowest_stage(step)).parts
    expected = simulator.answer(step.scenario).breakdown_s
    waits = _WAITS | (_AT_ENDS if len(step.stages) > 1 else set())
    if name == "zero bubble":
        # Without weight gradients beside them, sums of input gradients hide less.
        waits = waits | {"tensor_parallel"}
    for part in set(parts) | set(expected):
        ours, theirs = parts.get(part, 0.0), expected.get(part, 0.0)
        if part in waits:
            assert abs(ours - theirs) < 0.01 * step.step_time, part
        else:
            assert ours == pytest.approx(theirs, rel=1e-9), part


@pytest.mark.parametrize("name", CASES)
def test_the_step_takes_about_as_long(replayed: dict[str, Timeline], name: str) -> None:
    step = replayed[name]
    assert step.closed_form == pytest.approx(simulator.answer(step.scenario).step_time_s, rel=1e-12)
    assert abs(step.difference) < 0.01
    assert step.difference == step.step_time / step.closed_form - 1.0


@pytest.mark.parametrize("name", CASES)
def test_the_parts_of_every_stage_add_up_to_the_step(replayed: dict[str, Timeline], name: str) -> None:
    step = replayed[name]
    for stage in step.stages:
        assert sum(sums_of(step, stage).parts.values()) == pytest.approx(step.step_time, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_links_carry_what_the_program_lists(replayed: dict[str, Timeline], name: str) -> None:
    """On every stage, each lane beside the device is busy as long as its tasks take, priced one by one."""
    step = replayed[name]
    program, backend = program_of(step.scenario.columns()), step.scenario.backend()
    for stage in step.stages:
        first, last = float(stage.index == 0), float(stage.index == len(step.stages) - 1)
        expected: dict[tuple[Resource, str], float] = {}
        for task, number in tasks_of_stage(program, first=first, last=last):
            for timed, seconds in timed_tasks([task], backend):
                if timed.resource is not Resource.DEVICE and float(seconds) > 0.0:
                    part = "recompute" if timed.phase.value == "recompute" else timed.part
                    key = timed.resource, part
                    expected[key] = expected.get(key, 0.0) + float(seconds) * float(number)
        busy = {key: seconds for key, seconds in sums_of(step, stage).busy.items() if key[0] is not Resource.DEVICE}
        assert busy == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_layers_are_all_there(replayed: dict[str, Timeline], name: str) -> None:
    """Once over all stages, the ends where they belong, and each chunk on time."""
    step = replayed[name]
    held = [chunk for stage in step.stages for chunk in stage.held]
    assert sum(chunk.layers for chunk in held) == pytest.approx(step.scenario.model.layers + _decoders(step.scenario))
    assert [sum(chunk.first for chunk in held), sum(chunk.last for chunk in held)] == [1, 1]
    for stage in step.stages:
        assert np.all(stage.start[1:] >= stage.end[:-1])
        assert stage.start[0] >= stage.before.duration
        assert stage.finish <= step.step_time


def _decoders(scenario: Scenario) -> int:
    """Layers of a decoder behind an encoder."""
    return scenario.model.decoder_layers or 0


def test_a_plan_with_chunks_in_turns_is_interleaved() -> None:
    """Named either way it is the same step; with one chunk interleaving is 1F1B."""

    def finish(schedule: str, chunks: int) -> float:
        plan = {"pp": 4, "micro_batch": 1, "schedule": schedule, "virtual_stages": chunks}
        stack = unrestricted("megatron-lm")
        work = {"global_batch": 32}
        return timeline(
            simulator.resolve("gpt2-1.5b", "dgx-a100-640gb", devices=8, stack=stack, plan=plan, workload=work)
        ).step_time

    assert finish("1f1b", 2) == finish("interleaved", 2) < finish("1f1b", 1) == finish("interleaved", 1)


def test_unequal_stages() -> None:
    """Fewer layers on the ends: each stage holds its own, and takes time in proportion."""
    plan = {"pp": 4, "tp": 8, "micro_batch": 1, "first_stage_layers": 30, "last_stage_layers": 30}
    stack, work = unrestricted("megatron-lm"), {"global_batch": 64}
    step = timeline(simulator.resolve("llama-3.1-405b", "dgx-h100", devices=64, stack=stack, plan=plan, workload=work))
    assert [stage.held[0].layers for stage in step.stages] == [30.0, 33.0, 33.0, 30.0]
    inside, last = (step.stages[index].passes[0, PassKind.FORWARD].piece.busy() for index in (1, 3))
    attention = Resource.DEVICE, "attention"
    assert last[attention] / inside[attention] == pytest.approx(30 / 33, rel=1e-12)
    assert abs(step.difference) < 0.02


def test_an_estimate_has_its_timeline() -> None:
    plan = {"pp": 2, "micro_batch": 1}
    answer = simulator.estimate("gpt2-1.5b", "dgx-a100-640gb", plan=plan)
    step = answer.timeline()
    assert step.closed_form == pytest.approx(answer.step_time_s, rel=1e-12)
    assert step.step_time == simulator.timeline(simulator.resolve("gpt2-1.5b", "dgx-a100-640gb", plan=plan)).step_time


def _finish(scenario: Scenario, program: Program, backend: AnalyticBackend) -> float:
    """When the last stage is done with such hardware [s]."""
    _, stages = _replayed(scenario, program, backend)
    return max(stage.finish for stage in stages)


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios(8), st.sampled_from([1.05, 1.5, 4.0]))
def test_no_better_figure_slows_a_replay(scenario: Scenario, more: float) -> None:
    """Devices, memory, links and latencies, one kind at a time."""
    program, backend = program_of(scenario.columns()), scenario.backend()
    plan = scenario.plan
    assume(float(np.asarray(program.scenarios.plans.micro_batches)) * (plan.pp or 1) <= 1000)
    assert isinstance(backend, AnalyticBackend)
    before, *after = ((name, _finish(scenario, program, each)) for name, each in _improved(backend, more).items())
    assert {name: time / before[1] for name, time in after if time > before[1] * (1.0 + 1e-9)} == {}


def test_bad_input_is_refused_as_by_an_estimate() -> None:
    with pytest.raises(InputError, match="tp=7"):
        simulator.timeline(simulator.resolve("bert-large", "dgx-a100-640gb", plan={"tp": 7}))
