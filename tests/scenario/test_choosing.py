"""Plans that are meant where nobody says: what a stack's users would run, and one that fits wherever one does."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from simulator.specs.loading import load_stack, names

_H100 = "dgx-h100"
_DPO: dict[str, Any] = {"preference": "dpo", "sequence_length": 2048, "global_batch": 128}


@pytest.mark.parametrize(
    ("work", "devices"), [({}, 8), ({}, 64), ({"lora_rank": 16}, 64), (_DPO, 8)], ids=["full", "many", "lora", "dpo"]
)
def test_fine_tuning_of_a_large_model_shares_its_states_before_it_splits_layers(
    work: dict[str, Any], devices: int
) -> None:
    """As the examples of TRL, axolotl and LLaMA-Factory do, which know no tensor parallelism."""
    answer = simulator.estimate("llama-3-8b", _H100, devices=devices, stack="huggingface", workload=work)
    assert answer.fits_as_wished
    assert (answer.plan["dp"], answer.plan["tp"]) == (devices, 1)
    if "lora_rank" not in work:  # whose states are few
        assert answer.plan["sharding"] in ("zero2", "zero3")


def test_what_fits_as_it_is_is_not_shared() -> None:
    assert simulator.estimate("bert-large", _H100, stack="huggingface").plan["sharding"] == "none"


def test_stacks_that_split_layers_keep_their_sharding() -> None:
    plan = simulator.estimate("llama-3-70b", _H100, devices=64, stack="megatron-lm").plan
    assert plan["sharding"] == "zero1"
    assert plan["tp"] > 1


_TIGHT = [
    ("deepspeed", "llama-3-70b", 8),
    ("huggingface", "mixtral-8x7b", 64),
    ("huggingface", "mixtral-8x7b", 8),
    ("huggingface-2022", "llama-3-8b", 8),
    ("megatron-lm", "llama-3-8b", 1),
    ("megatron-lm", "mixtral-8x7b", 8),
    ("megatron-bridge", "llama-3-70b", 8),
    ("mlperf-nvidia", "llama-3-8b", 64),
    ("jax-xla-gpu", "mixtral-8x7b", 8),
]
"""Where the usual sharding of the stack does not do, and little else does."""


@pytest.mark.parametrize(("stack", "model", "devices"), _TIGHT)
def test_a_default_plan_fits_where_a_search_finds_one(stack: str, model: str, devices: int) -> None:
    asked: dict[str, Any] = {"devices": devices, "stack": stack}
    assert simulator.search(model, _H100, top=1, **asked).feasible
    answer = simulator.estimate(model, _H100, **asked)
    assert answer.fits_as_wished
    assert any("the simplest of the fastest plans that fit" in line for line in answer.assumed)


def test_what_is_said_of_sharding_and_offloading_stays() -> None:
    told = {"sharding": "zero1", "offload_optimizer": False}
    answer = simulator.estimate("llama-3-70b", _H100, stack="deepspeed", plan=told)
    assert not answer.fits
    assert (answer.plan["sharding"], answer.plan["offload_optimizer"]) == ("zero1", False)


@pytest.mark.parametrize("name", [n for n in names("stacks") if load_stack(n).defaults.when_large])
def test_shardings_for_large_models_are_such_as_the_stack_has(name: str) -> None:
    stack = load_stack(name)
    assert set(stack.defaults.when_large) <= set(stack.offers.shardings) - {stack.defaults.sharding}


def test_of_recomputation_all_that_the_stack_has_is_tried() -> None:
    """FSDP has torchtitan's recomputation by operator, which costs less than that of whole layers."""
    asked: dict[str, Any] = {"stack": "pytorch-fsdp", "devices": 8}
    chosen = simulator.estimate("llama-3-8b", _H100, **asked)
    whole = simulator.estimate("llama-3-8b", _H100, **asked, plan={"recompute": "full"})
    assert chosen.plan["recompute"] == "operators"
    assert chosen.fits_as_wished
    assert chosen.step_time_s < 0.95 * whole.step_time_s


# Schedules, and the software that has them


def test_software_that_has_what_is_asked_is_named_with_what_the_usual_one_lacks() -> None:
    """Of those that have it one that runs in the usual format, not the first by name, which may be of 2021 and fp16."""
    answer = simulator.estimate("llama-3-8b", _H100, plan={"schedule": "zero-bubble"})
    assert load_stack(answer.stack).offers.schedules.count("zero-bubble") == 1
    line = next(line for line in answer.assumed if line.startswith("stack="))
    lacking = "megatron-lm, pytorch-fsdp, deepspeed, which are usual, lack schedule=zero-bubble"
    assert line == f"stack={answer.stack}: {lacking}"
    assert answer.plan["precision"] == "bf16"
    assert answer.plan["pp"] > 1


def test_the_next_usual_software_is_taken_before_any_other() -> None:
    answer = simulator.estimate("llama-3-8b", _H100, plan={"recompute": "operators"})
    assert answer.stack == "pytorch-fsdp"
    assert any(
        line == "stack=pytorch-fsdp: megatron-lm, which is usual, has no recompute=operators" for line in answer.assumed
    )


def test_an_interleaved_schedule_gets_a_pipeline_and_virtual_stages() -> None:
    plan = simulator.estimate("llama-3-8b", _H100, plan={"schedule": "interleaved"}).plan
    assert plan["pp"] > 1
    assert plan["virtual_stages"] > 1
    assert 32 % (plan["pp"] * plan["virtual_stages"]) == 0


@pytest.mark.parametrize("schedule", ["interleaved", "zero-bubble"])
def test_a_schedule_of_pipelines_needs_one(schedule: str) -> None:
    for ask in (simulator.estimate, simulator.search):
        with pytest.raises(simulator.InputError, match=f"schedule={schedule} needs a pipeline, and pp=1 has a single"):
            ask("llama-3-8b", _H100, plan={"schedule": schedule, "pp": 1})
    with pytest.raises(simulator.InputError, match=f"schedule={schedule} needs a pipeline, and devices=1 has a single"):
        simulator.estimate("llama-3-8b", "rtx-3090", plan={"schedule": schedule})


# Arguments of the wrong kind


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"plan": [1]}, r"plan=\[1\]: give a mapping of fields to values, or the name of a file"),
        ({"plan": "tp=2"}, "plan='tp=2': give a mapping of fields to values, or the name of a file"),
        ({"workload": 3}, "workload=3: give a mapping of fields to values"),
        ({"devices": 8.0}, "devices=8.0: give a whole number, such as 8"),
        ({"devices": True}, "devices=true: give a whole number, such as 8"),
    ],
)
def test_arguments_of_the_wrong_kind_get_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(simulator.InputError, match=sentence):
        simulator.estimate("bert-large", "dgx-a100-640gb", **arguments)


def test_other_software_runs_in_the_usual_format_where_it_can() -> None:
    plan = {"pp": 16, "schedule": "zero-bubble"}
    answer = simulator.estimate("gpt3-13b", "superpod-a100", devices=64, plan=plan)
    assert (answer.stack, load_stack(answer.stack).defaults.precision) == ("megatron-deepspeed", "fp16")
    assert answer.plan["precision"] == "bf16"
    assert "precision=bf16: usual on this system, and megatron-deepspeed can run in it" in answer.assumed


def test_software_whose_chunks_do_not_divide_the_layers_is_passed_over() -> None:
    """Colossal-AI has two chunks a device, which are 16 of 40 layers; torchtitan any number from two, such as five."""
    plan = {"pp": 8, "tp": 2, "schedule": "zero-bubble", "sequence_parallel": True}  # which Megatron-DeepSpeed refuses
    answer = simulator.estimate("gpt3-13b", "superpod-a100", devices=64, plan=plan)
    assert (answer.stack, answer.plan["virtual_stages"]) == ("torchtitan", 5)
