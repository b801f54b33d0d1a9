"""What a step time must do, whatever its constants."""

from __future__ import annotations

import re
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from tests.stacks import unrestricted

_PLAN = {"tp": 1, "pp": 1, "micro_batch": 2, "recompute": "none"}
_WORK = {"sequence_length": 512, "global_batch": 256}


def _answer(plan: dict[str, Any] | None = None, **changes: Any) -> simulator.Estimate:
    arguments: dict[str, Any] = {
        "model": "bert-large",
        "system": "dgx-a100-640gb",
        "devices": 16,
        "stack": unrestricted("megatron-lm"),
        "workload": _WORK,
        **changes,
    }
    model, system = arguments.pop("model"), arguments.pop("system")
    return simulator.estimate(model, system, plan={**_PLAN, **(plan or {})}, **arguments)


def test_parts_add_up() -> None:
    for plan in ({}, {"tp": 4}, {"pp": 4}, {"pp": 4, "tp": 2, "recompute": "full"}, {"sharding": "zero3"}):
        answer = _answer(plan)
        assert sum(answer.breakdown_s.values()) == pytest.approx(answer.step_time_s, rel=1e-12)
        assert min(answer.breakdown_s.values()) >= 0.0
        kinds = {kind: sum(inside.values()) for kind, inside in answer.breakdown_by_kind.items()}
        assert kinds == pytest.approx({kind: share * answer.step_time_s for kind, share in answer.limits.items()})
        parts = {name: value for name, value in answer.memory_bytes.items() if name not in ("total", "capacity")}
        assert sum(parts.values()) == pytest.approx(answer.memory_bytes["total"], rel=1e-12)


def test_more_work_takes_longer() -> None:
    base = _answer()
    assert _answer(workload={**_WORK, "global_batch": 512}).step_time_s > base.step_time_s
    longer = {"base": "bert-large", "position_rows": 1024}
    assert _answer(model=longer, workload={**_WORK, "sequence_length": 1024}).step_time_s > base.step_time_s
    assert _answer(model={"base": "bert-large", "layers": 48}).step_time_s > base.step_time_s
    assert _answer({"recompute": "full"}).step_time_s > base.step_time_s
    assert _answer({"recompute": "full"}).executed_flops_per_step > base.executed_flops_per_step
    assert _answer({"recompute": "full"}).model_flops_per_step == base.model_flops_per_step


def test_better_hardware_is_faster() -> None:
    assert _answer(system="dgx-h100").step_time_s < _answer().step_time_s
    assert _answer(system="dgx-a100-640gb").step_time_s < _answer(system="dgx-1-v100-32gb").step_time_s


def test_a_bubble_is_that_of_its_schedule() -> None:
    one = _answer({"pp": 4, "dp": 4, "micro_batch": 2}).breakdown_s["pipeline_bubble"]
    two = _answer({"pp": 4, "dp": 4, "micro_batch": 2, "virtual_stages": 2}).breakdown_s["pipeline_bubble"]
    assert 0.0 < two < one
    assert "pipeline_bubble" not in _answer().breakdown_s


@pytest.mark.parametrize("schedule", ["zero-bubble-v", "dualpipe-v"])
def test_a_v_idles_less_than_one_forward_one_backward(schedule: str) -> None:
    """And has its two chunks of layers without being told."""
    straight = _answer({"pp": 4, "dp": 4, "micro_batch": 2})
    bent = _answer({"pp": 4, "dp": 4, "micro_batch": 2, "schedule": schedule})
    assert bent.plan["virtual_stages"] == 2
    assert bent.breakdown_s["pipeline_bubble"] < 0.6 * straight.breakdown_s["pipeline_bubble"]
    assert bent.breakdown_s["feed_forward"] == pytest.approx(straight.breakdown_s["feed_forward"])


@pytest.mark.parametrize(
    ("plan", "batch", "message"),
    [
        (
            {"schedule": "zero-bubble-v", "virtual_stages": 3},
            256,
            "two chunks of layers a device, not virt",
        ),
        (
            {"schedule": "dualpipe-v", "first_stage_layers": 2},
            256,
            "leave first_stage_layers and",
        ),
        ({"schedule": "dualpipe-v"}, 32, "needs two micro-batches for each of pp=4 stages, and there are 4"),
        ({"schedule": "zero-bubble-v", "pp": 1, "dp": 16}, 256, "needs a pipeline, and pp=1 has a single stage"),
        ({"schedule": "looped-bfs", "virtual_stages": 5}, 256, "does not divide 24 layers"),
    ],
)
def test_schedules_that_cannot_be(plan: dict[str, Any], batch: int, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        _answer({"pp": 4, "dp": 4, "micro_batch": 2, **plan}, workload={**_WORK, "global_batch": batch})


def test_communication_appears_with_its_parallelism() -> None:
    assert "tensor_parallel" in _answer({"tp": 2}).breakdown_s
    assert "tensor_parallel" not in _answer().breakdown_s
    assert "pipeline_transfer" in _answer({"pp": 2}).breakdown_s
    assert "context_parallel" in _answer({"cp": 2, "dp": 8}).breakdown_s
    inside = _answer({"tp": 8, "dp": 2}).breakdown_s["tensor_parallel"]
    apart = {"tp": 8, "dp": 2, "placement": "dp-tp-cp-pp"}
    across = _answer(apart, stack=unrestricted("megatron-lm")).breakdown_s["tensor_parallel"]
    assert across > inside


def test_experts_exchange_tokens() -> None:
    model = {"base": "bert-large", "experts": 16, "experts_per_token": 2}
    assert "expert_parallel" in _answer({"ep": 8, "dp": 16}, model=model).breakdown_s
    alone = _answer({"ep": 1, "dp": 16}, model=model)
    assert "expert_parallel" not in alone.breakdown_s
    assert alone.active_parameters < alone.parameters


def test_sharding_saves_memory_step_by_step() -> None:
    needs = [
        _answer({"sharding": name, "parameters_in_fp32": False}).memory_bytes
        for name in ("none", "zero1", "zero2", "zero3")
    ]
    assert needs[1]["optimizer"] * 16 == pytest.approx(needs[0]["optimizer"])
    assert needs[2]["gradients"] * 16 == pytest.approx(needs[0]["gradients"])
    assert needs[3]["parameters"] * 16 == pytest.approx(needs[0]["parameters"])


def test_a_flat_network_costs_nothing_alone() -> None:
    answer = simulator.estimate("bert-large", "rtx-3090", workload={"sequence_length": 128})
    assert not {"tensor_parallel", "gradient_reduction", "pipeline_transfer"} & answer.breakdown_s.keys()


def test_what_grows_with_the_step_has_its_interval() -> None:
    answer = simulator.estimate("bert-large", "dgx-a100-640gb")
    low, high = answer.likely(answer.run.time_s) or (0.0, 0.0)
    assert low == pytest.approx(answer.run.steps * (answer.step_time_low_s or 0.0))
    assert high == pytest.approx(answer.run.steps * (answer.step_time_high_s or 0.0))
    assert simulator.estimate("bert-large", "dgx-a100-640gb", constants="none").likely(1.0) is None
