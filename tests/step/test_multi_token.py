"""Modules that predict further tokens: on the last stage of a pipeline, trained where the software trains them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simulator
from hardware.errors import InputError
from simulator.pricing.analytic import AnalyticBackend
from simulator.scenario.scenario import Scenario
from simulator.step.memory import on_stage
from simulator.step.time import step_time
from simulator.work.messages import messages
from simulator.work.once import on_stage as once_on
from simulator.work.once import once_a_step
from simulator.work.program import program_of

_MODEL = {"base": "llama-3-8b", "multi_token_modules": 1}
_LAYER = 4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14_336 + 2 * 4096 + 2 * 4096 * 4096 + 3 * 4096
"""Of a layer of Llama 3 8B with its two normalisations, a projection of 8,192 to 4,096, and three normalisations."""
_TABLE = 128_256 * 4096


def _scenario(model: Any = _MODEL, stack: str = "megatron-lm", **plan: Any) -> Scenario:
    split = {"pp": 4, "dp": 2, "tp": 1, "micro_batch": 1, "sharding": "none", "precision": "bf16", **plan}
    work = {"sequence_length": 4096, "global_batch": 32}
    return simulator.resolve(model, "dgx-h100", devices=8, stack=stack, plan=split, workload=work)


def _stage(scenario: Scenario, stage: float) -> dict[str, float]:
    memory = on_stage(program_of(scenario.columns()), np.float64(stage))
    return {name: float(value) for name, value in vars(memory).items()}


def test_the_last_stage_holds_the_module_and_a_copy_of_the_words() -> None:
    with_module, without = _scenario(), _scenario("llama-3-8b")
    assert with_module.workload.multi_token
    assert without.workload.multi_token is None
    for stage in (0.0, 1.0, 2.0):
        assert _stage(with_module, stage) == _stage(without, stage)
    more, less = _stage(with_module, 3.0), _stage(without, 3.0)
    held = _LAYER + _TABLE
    assert more["parameters"] - less["parameters"] == pytest.approx(2 * held, rel=1e-9)
    assert more["gradients"] - less["gradients"] == pytest.approx(4 * held, rel=1e-9)
    assert more["optimizer"] - less["optimizer"] == pytest.approx(12 * held, rel=1e-9)
    assert more["activations"] > less["activations"]


def test_the_copy_is_reduced_with_the_table_of_the_first_stage() -> None:
    def sums(scenario: Scenario) -> float:
        program = program_of(scenario.columns())
        tasks = once_a_step(program, once_on(program, first=0.0, last=1.0))
        return sum(float(task.count) for task in tasks if task.name == "gradients of the tied embedding")

    assert (sums(_scenario()), sums(_scenario("llama-3-8b"))) == (1.0, 0.0)
    alone: dict[str, Any] = {"pp": 1, "dp": 8}
    assert sums(_scenario(**alone)) == 0.0


def test_the_stage_with_the_module_paces_the_pipeline() -> None:
    """It has a layer, a projection, and another head of 128,256 words, as much as 2.4 layers."""

    def seconds(scenario: Scenario) -> float:
        backend = AnalyticBackend.of(scenario.system, scenario.devices, "bf16")
        return float(step_time(program_of(scenario.columns()), backend).time)

    assert seconds(_scenario()) > 1.2 * seconds(_scenario("llama-3-8b"))
    balanced = _scenario(last_stage_layers=5)
    assert seconds(balanced) < seconds(_scenario())


def test_software_without_them_leaves_them_out_and_says_so() -> None:
    plan = {"pp": 1, "dp": 8, "sharding": "zero3"}
    left_out = _scenario(stack="torchtitan", **plan)
    assert left_out.workload.multi_token is False
    assert any(line.startswith("multi_token=no: llama-3-8b") and "torchtitan" in line for line in left_out.assumed)
    asked: dict[str, Any] = {"stack": "torchtitan", "plan": plan, "workload": {"multi_token": True}}
    with pytest.raises(InputError, match="stack=torchtitan has no modules that predict further tokens"):
        simulator.resolve(_MODEL, "dgx-h100", devices=8, **asked)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ({"lora_rank": 8}, "trained with the whole model"),
        ({"preference": "dpo"}, "trained with the whole model"),
        ({"teacher": "llama-3.1-70b"}, "trained with the whole model"),
    ],
)
def test_fine_tuning_leaves_them_out(work: dict[str, Any], message: str) -> None:
    tuned = simulator.resolve(_MODEL, "dgx-h100", stack="megatron-lm", workload=work)
    assert not tuned.workload.multi_token
    with pytest.raises(InputError, match=message):
        simulator.resolve(_MODEL, "dgx-h100", stack="megatron-lm", workload={**work, "multi_token": True})


def test_a_model_that_has_none_is_told_so() -> None:
    with pytest.raises(InputError, match="llama-3-8b has no modules that predict further tokens"):
        simulator.resolve("llama-3-8b", "dgx-h100", workload={"multi_token": True})
    with pytest.raises(InputError, match="multi_token_modules=1 belongs to a decoder"):
        simulator.resolve({"base": "bert-large", "multi_token_modules": 1}, "dgx-h100")


def test_deepseek_v3_has_its_published_parameters_beside_the_module() -> None:
    answer = simulator.estimate("deepseek-v3", "h800-cluster", devices=2048, stack="hai-llm", plan={"pp": 16, "ep": 64})
    assert answer.parameters == 671_026_404_352
    # A layer with experts, a projection of 14,336 to 7,168 and three normalisations: 11.5 billion, and with words and
    # head, 1.85 billion that it shares, the 14 billion of the README of the weights.
    assert answer.further_parameters == pytest.approx(11.61e9, rel=0.01)
    assert answer.further_parameters + 2 * 129_280 * 7168 == pytest.approx(14e9, rel=0.05)


def test_experts_of_the_module_are_shared_and_exchanged_like_others() -> None:
    model = {"base": "mixtral-8x7b", "multi_token_modules": 1}
    one, other = (_scenario(each, pp=2, dp=4, ep=4) for each in (model, "mixtral-8x7b"))
    more, less = (_stage(each, 1.0)["parameters"] for each in (one, other))
    experts, dense = 8 * 3 * 4096 * 14336 / 4, 4096 * (2 * 4096 + 2 * 1024) + 8 * 4096 + 2 * 4096
    held = experts + dense + 2 * 4096 * 4096 + 3 * 4096 + 32_000 * 4096
    assert more - less == pytest.approx(2 * held, rel=1e-9)
    exchanged = [
        sum(float(message.count) for message in messages(program_of(each.columns()), 1.0) if "experts" in message.name)
        for each in (one, other)
    ]
    assert exchanged[0] > exchanged[1]
