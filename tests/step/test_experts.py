"""Steps of mixtures of experts: what uneven routing, capacities and calls of the stack do to time and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import simulator
from simulator.answers.estimate import answer
from simulator.pricing.analytic import AnalyticBackend
from simulator.scenario.scenario import Scenario
from simulator.specs.stack import IN_ONE_KERNEL
from simulator.step.memory import peak_total
from simulator.step.time import step_time
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

_LOADS = np.array([1.0, 1.2, 1.5, 2.0, 3.0, 6.0, 16.0])


def _scenario(ep: int, **plan: Any) -> Scenario:
    split = {"dp": 64, "ep": ep, "tp": 1, "pp": 1, "cp": 1, "micro_batch": 1, **plan}
    return simulator.resolve(
        "qwen3-30b-a3b",
        "superpod-h100",
        devices=64,
        stack="megatron-lm",
        plan=split,
        workload={"sequence_length": 4096, "global_batch": 256},
    )


def _priced(scenario: Scenario, *, work: dict[str, Any] | None = None, stack: dict[str, Any] | None = None) -> Any:
    """Time of a step and bytes of the fullest device, of one call."""
    columns = scenario.columns()
    columns = replace(
        columns,
        workloads=replace(columns.workloads, **(work or {})),
        stacks=replace(columns.stacks, **(stack or {})),
    )
    return _both(columns, AnalyticBackend.of(scenario.system, scenario.devices, "bf16"))


def _both(columns: Scenarios, backend: AnalyticBackend) -> tuple[Any, Any]:
    tasks = program_of(columns)
    return np.asarray(step_time(tasks, backend).time), np.asarray(peak_total(tasks))


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("ep", [1, 2, 8, 64])
def test_more_imbalance_is_never_faster_nor_smaller(ep: int, recompute: str) -> None:
    time, size = _priced(_scenario(ep, recompute=recompute), work={"expert_imbalance": _LOADS})
    time, size = np.broadcast_to(time, _LOADS.shape), np.broadcast_to(size, _LOADS.shape)
    assert np.all(np.diff(time) >= 0.0)
    assert np.all(np.diff(size) >= 0.0)
    if ep == 1:
        assert time == pytest.approx(time[0])
        assert size == pytest.approx(size[0])
    else:
        assert time[-1] > 1.02 * time[0]


def test_balanced_experts_are_a_layer_of_their_tokens() -> None:
    """Many tokens, balanced: the experts take the time of one product of all of them within the last wave of tiles."""
    scenario = _scenario(8)
    backend = AnalyticBackend.of(scenario.system, 64, "bf16")
    columns = replace(scenario.columns(), stacks=replace(scenario.columns().stacks, experts_at_once=IN_ONE_KERNEL))
    columns = replace(columns, workloads=replace(columns.workloads, expert_imbalance=1.0))
    asked: Any = next(
        each.forward[0].request for each in program_of(columns).groups[0].operators if each.name == "feed-forward input"
    )
    rows = float(np.asarray(asked.m).reshape(-1)[0])
    assert rows == 4096 * 8 * 8 / 128
    together = float(np.asarray(backend.time(asked)).reshape(-1)[0])
    one = replace(asked, m=asked.m * asked.batch, batch=1.0)
    assert together == pytest.approx(float(np.asarray(backend.time(one)).reshape(-1)[0]), rel=0.06)


def test_a_loop_is_never_faster_than_streams_nor_these_than_one_kernel() -> None:
    at_once = np.array([1.0, 4.0, IN_ONE_KERNEL])
    for ep in (1, 8):
        time, _ = _priced(_scenario(ep), stack={"experts_at_once": at_once})
        assert time[0] > time[1] >= time[2]


@pytest.mark.parametrize("ep", [8, 64])
def test_a_capacity_takes_its_time_whatever_the_routing(ep: int) -> None:
    scenario = _scenario(ep, recompute="none")
    work = {"expert_imbalance": np.array([1.0, 8.0, 8.0]), "capacity_factor": np.array([1.5, 1.5, 1.0])}
    even = _priced(scenario, work={"expert_imbalance": 1.0})
    for limited, balanced in zip(_priced(scenario, work=work), even, strict=True):
        assert limited[0] == pytest.approx(limited[1])
        assert limited[2] == pytest.approx(balanced)
        assert limited[0] > 1.01 * balanced


def test_it_is_said_and_varied() -> None:
    """An answer says what it took for the routing, a what-if varies it, and the FLOPs stay."""
    scenario: dict[str, Any] = {
        "model": "mixtral-8x7b",
        "system": "superpod-h100",
        "devices": 64,
        "plan": {"tp": 1, "pp": 4, "ep": 8, "micro_batch": 1},
        "workload": {"global_batch": 256, "sequence_length": 4096},
    }
    usual = simulator.estimate(**scenario, stack="megatron-lm")
    assert any("expert_imbalance=1.3: as measured under an auxiliary loss" in each for each in usual.assumed)
    assert usual.workload["expert_imbalance"] == 1.3
    even = simulator.estimate(
        **{**scenario, "workload": {**scenario["workload"], "expert_imbalance": 1}}, stack="megatron-lm"
    )
    assert not any("imbalance" in each for each in even.assumed)
    assert even.step_time_s < usual.step_time_s
    assert even.mfu * even.step_time_s == pytest.approx(usual.mfu * usual.step_time_s)
    varied = simulator.whatif(**scenario, stack="megatron-lm", vary="workload.expert_imbalance=1,2,4")
    ratios = [row.time_ratio or 0.0 for row in varied.variations]
    assert ratios[0] < 1.0 < ratios[1] < ratios[2]
    limited = simulator.estimate(**scenario, stack="deepspeed")
    assert any("capacity_factor=1: as deepspeed does" in each for each in limited.assumed)


def test_the_published_plan_of_deepseek_v3_fits() -> None:
    """What the report names (arXiv 2412.19437, sections 3.2.1 and 3.3.3) makes it fit in 80 GB, and nothing else."""
    scenario = simulator.from_file("deepseek-v3")
    stated = answer(scenario)
    assert stated.fits_as_wished
    assert stated.step_time_low_s is not None
    assert stated.step_time_high_s is not None
    assert stated.step_time_low_s < 19.91 < stated.step_time_high_s
    plan = scenario.plan.model_copy(update={"activation_inputs_in_fp8": False})
    wide, narrow = (answer(each).memory_bytes["activations"] for each in (replace(scenario, plan=plan), scenario))
    # Of 4 layers, 16 micro-batches and 4,096 tokens both inputs, 2,048 wide, of 8 experts, of which the busiest rank
    # has 2.9 % more, and of a shared one.
    assert wide - narrow == pytest.approx(4 * 16 * 4096 * 2 * 2048 * 9, rel=0.03)
