"""A frozen model beside the trained one: its weights, its time, its exchanges, and what it leaves as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import simulator
from simulator.pricing.requests import Collective, Send
from simulator.scenario.scenario import Scenario
from simulator.step.evaluation import Evaluation, evaluate
from simulator.work.messages import messages, tasks_of_stage
from simulator.work.tasks import Phase
from tests.stacks import unrestricted
from tests.work.asking import Told, plain

_ALL = 8_030_261_248
_WORK = {"sequence_length": 2048, "global_batch": 64}


def _scenario(work: dict[str, Any], model: str = "llama-3.1-8b", stack: str = "pytorch-fsdp", **plan: Any) -> Scenario:
    split = {"micro_batch": 2, "recompute": "none", "precision": "bf16", "tp": 1, "pp": 1, "sharding": "none"}
    split |= {"cp": 1, "offload_optimizer": False, **plan}
    return simulator.resolve(
        model, "dgx-h100", devices=8, stack=unrestricted(stack), plan=split, workload={**_WORK, **work}
    )


def _evaluated(work: dict[str, Any], model: str = "llama-3.1-8b", **plan: Any) -> Evaluation:
    scenario = _scenario(work, model, **plan)
    return evaluate(scenario.columns(), scenario.backend())


@pytest.mark.parametrize(
    ("plan", "share"),
    [
        ({"sharding": "none"}, 1),
        ({"sharding": "zero1"}, 1),
        ({"sharding": "zero2"}, 1),
        ({"sharding": "zero3"}, 8),
        ({"sharding": "hybrid", "sharding_group": 4}, 4),
    ],
)
def test_a_copy_is_shared_as_the_plan_shares_parameters(plan: dict[str, Any], share: int) -> None:
    """`prepare_deepspeed` of TRL: sharded under ZeRO-3, whole on every device below."""
    alone, beside = (_evaluated(work, **plan).memory for work in ({}, {"preference": "dpo"}))
    assert beside.parameters - alone.parameters == pytest.approx(2 * _ALL / share)
    assert (beside.gradients, beside.optimizer) == (alone.gradients, alone.optimizer)
    assert beside.activations == alone.activations


def test_ranks_of_tensor_and_pipeline_parallelism_hold_their_parts() -> None:
    alone, beside = (_evaluated(work, stack="megatron-lm", tp=2, pp=2).memory for work in ({}, {"preference": "dpo"}))
    # Of two stages each has half of the layers and one of two tables of the same size.
    assert beside.parameters - alone.parameters == pytest.approx(2 * _ALL / 4, rel=1e-4)


def test_adapters_have_their_base_as_reference() -> None:
    adapters = {"lora_rank": 16, "base_precision": "nf4"}
    alone, base, copy = (
        _evaluated({**adapters, **work}, stack="huggingface")
        for work in ({}, {"preference": "dpo"}, {"preference": "dpo", "reference": "copy"})
    )
    assert base.memory.parameters == alone.memory.parameters
    assert copy.memory.parameters - alone.memory.parameters == pytest.approx(2 * _ALL)
    assert base.step.parts["reference_model"] > copy.step.parts["reference_model"]  # it makes 16-bit weights first


def test_precomputed_log_probabilities_need_no_model() -> None:
    alone, without = _evaluated({}), _evaluated({"preference": "dpo", "reference": "precomputed"})
    assert without.step.time == alone.step.time
    assert without.memory == alone.memory
    assert without.program.frozen is None


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"sharding": "zero3"},
        {"tp": 2, "sequence_parallel": True, "stack": "megatron-lm"},
        {"tp": 2, "pp": 2, "stack": "megatron-lm"},
        {"pp": 4, "virtual_stages": 2, "stack": "megatron-lm"},
        {"recompute": "full"},
    ],
    ids=str,
)
@pytest.mark.parametrize("work", [{"preference": "dpo"}, {"teacher": "llama-3.1-8b"}], ids=["dpo", "teacher"])
def test_parts_add_up_to_the_step(work: dict[str, Any], plan: dict[str, Any]) -> None:
    alone, beside = (_evaluated(each, **plan).step for each in ({}, work))
    part = "reference_model" if "preference" in work else "teacher"
    assert sum(beside.parts.values()) == pytest.approx(float(beside.time))
    assert part not in alone.parts
    assert beside.parts[part] > 0.0
    # The forward pass of as large a model is a third of what has no recomputation, and a quarter of what has.
    assert 0.15 < (beside.time - alone.time) / alone.time < 0.5


def test_the_forward_pass_is_that_of_the_trained_model() -> None:
    """Where nothing takes time but arithmetic, a reference adds what a model without backward pass takes."""
    told = Told(lambda request: float(getattr(request, "computed_flops", 0.0)))
    scenario = _scenario({"preference": "dpo"})
    columns = scenario.columns()
    free = replace(columns, stacks=replace(columns.stacks, launch=0.0, step_overhead=0.0, attention_efficiency=1.0))
    evaluated = evaluate(free, told)
    products = [
        (task.request, number * task.count)
        for task, number in tasks_of_stage(evaluated.program, first=1.0, last=1.0)
        if task.phase is Phase.FORWARD and task.part != "reference_model"
    ]
    ahead = sum(plain(times) * told.time(request) for request, times in products)
    assert plain(evaluated.step.parts["reference_model"]) == pytest.approx(plain(ahead))


def test_shared_weights_are_gathered_once_for_the_forward_pass() -> None:
    alone, beside = (_evaluated(work, sharding="zero3").program for work in ({}, {"preference": "dpo"}))

    def gathered(program: Any, of: str = "") -> float:
        return sum(
            plain(each.message_bytes * each.count)
            for each in messages(program)
            if each.kind == "all_gather" and each.name.endswith(of)
        )

    assert gathered(beside, "(reference model)") == pytest.approx(4 * 2 * _ALL)  # of four micro-batches
    assert gathered(beside) - gathered(beside, "(reference model)") == pytest.approx(gathered(alone))
    sent = [each for each in messages(beside) if each.name.endswith("(reference model)") and each.kind != "all_gather"]
    assert not [each for each in sent if plain(each.count)]


def test_a_pipeline_sends_activations_of_a_reference_and_no_gradients() -> None:
    program = _evaluated({"preference": "dpo"}, pp=2, stack="megatron-lm").program
    of_reference = [
        task
        for task, number in tasks_of_stage(program, first=1.0, last=0.0)
        if task.part == "reference_model" and isinstance(task.request, Send) and plain(number * task.count) > 0.0
    ]
    assert [task.name for task in of_reference] == ["activations between stages (reference model)"]


def test_tensor_parallel_ranks_reduce_the_forward_pass_of_a_reference() -> None:
    program = _evaluated({"preference": "dpo"}, tp=2, stack="megatron-lm", sequence_parallel=False).program
    count = {
        part: sum(
            plain(number * task.count)
            for task, number in tasks_of_stage(program, first=1.0, last=1.0)
            if task.part == part and isinstance(task.request, Collective) and task.phase is Phase.FORWARD
        )
        for part in ("tensor_parallel", "reference_model")
    }
    assert count["reference_model"] == count["tensor_parallel"] > 0


def test_a_teacher_has_its_own_size() -> None:
    alone, taught = (_evaluated(work, "llama-3.2-1b") for work in ({}, {"teacher": "llama-3.1-8b"}))
    assert taught.memory.parameters - alone.memory.parameters == pytest.approx(2 * _ALL)
    logits = 2 * 2048 * 128_256
    assert taught.memory.activations - alone.memory.activations == pytest.approx(4 * logits)
    assert taught.step.parts["teacher"] > alone.step.time / 2
    dropped = _evaluated({"teacher": "llama-3.1-8b", "keeps_teacher_logits": False}, "llama-3.2-1b")
    assert dropped.memory.activations == alone.memory.activations
    assert dropped.memory.parameters == taught.memory.parameters


def test_a_stack_that_keeps_no_logits_keeps_none_of_a_teacher() -> None:
    alone, taught, kept = (
        _evaluated(work, "llama-3.2-1b", stack="deepspeed-liger").memory.activations
        for work in ({}, {"teacher": "llama-3.1-8b"}, {"teacher": "llama-3.1-8b", "keeps_teacher_logits": True})
    )
    assert taught == alone < kept


def test_deeper_teachers_are_spread_over_the_stages() -> None:
    even, deeper = (
        _evaluated({"teacher": {"base": "llama-3.2-1b", "layers": layers}}, "llama-3.2-1b", pp=4, stack="megatron-lm")
        for layers in (16, 32)
    )
    layer = 60_821_504  # parameters of a layer of Llama 3.2 1B
    assert deeper.memory.parameters - even.memory.parameters == pytest.approx(4 * layer * 2)
    assert 2.0 * even.step.parts["teacher"] > deeper.step.parts["teacher"] > 1.3 * even.step.parts["teacher"]


def test_a_reward_model_has_one_score_and_no_model_beside_it() -> None:
    estimate = simulator.estimate(
        "llama-3.1-8b", "dgx-h100", workload={**_WORK, "preference": "reward"}, plan={"micro_batch": 2}
    )
    assert estimate.parameters == _ALL - 128_256 * 4096 + 4096
    assert not {"reference_model", "teacher"} & estimate.breakdown_s.keys()
    assert any("one score" in each for each in estimate.assumed)


def test_a_batch_of_plans_is_each_of_them() -> None:
    scenario = _scenario({"preference": "dpo"})
    plans = [_scenario({"preference": "dpo"}, micro_batch=size).columns() for size in (2, 4, 8)]
    together = evaluate(type(plans[0]).stack(plans), scenario.backend())
    alone = [evaluate(each, scenario.backend()) for each in plans]
    assert np.asarray(together.step.time).tolist() == pytest.approx([float(each.step.time) for each in alone])
    assert np.asarray(together.memory.total).tolist() == pytest.approx([float(each.memory.total) for each in alone])
