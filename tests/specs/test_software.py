"""Software by the names that people type: stacks of today as their code has them, further names, and names of none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware import catalogue
from hardware.errors import InputError
from simulator.launch.frameworks import WRITERS
from simulator.launch.naming import stack_of
from simulator.pricing.constants import shipped
from simulator.specs.loading import load_stack, names
from simulator.specs.naming import squeezed
from simulator.specs.software.naming import further_names, further_names_of, no_stack, software_named, stack_meant

_TODAY: dict[str, dict[str, Any]] = {
    "torchtitan": {  # v0.2.2: config/job_config.py, distributed/parallel_dims.py, models/llama3/infra/parallelize.py
        "axes": ("dp", "tp", "pp", "cp", "ep"),
        "shardings": {"none", "zero2", "zero3", "hybrid"},
        "schedules": {"1f1b", "gpipe", "interleaved", "looped-bfs", "zero-bubble", "zero-bubble-v", "dualpipe-v"},
        "recompute": {"none", "operators", "full"},
        "recompute_methods": {"every"},
        "precisions": {"bf16", "fp32", "fp8", "mxfp8"},
        "optimizers": {"adamw"},
        "defaults": ("zero3", "operators", True, True),  # sharding, recompute, fp32 parameters, fp32 reduction
        "timed_as": "pytorch-fsdp-compiled",
    },
    "torchtune": {  # bd2a0fc7: recipes/full_finetune_distributed.py, recipes/configs/llama3/8B_full.yaml
        "axes": ("dp", "tp", "cp"),
        "shardings": {"none", "zero2", "zero3", "hybrid"},
        "schedules": {"1f1b"},
        "recompute": {"none", "full"},
        "recompute_methods": {"every"},
        "precisions": {"bf16", "fp32", "tf32", "fp8"},
        "optimizers": {"adamw", "adam-8bit", "sgd", "sgd-without-momentum"},
        "defaults": ("zero3", "full", False, None),
        "timed_as": "pytorch-fsdp",
    },
    "litgpt": {  # 26857050: litgpt/pretrain.py, litgpt/finetune/full.py
        "axes": ("dp",),
        "shardings": {"none", "zero3", "hybrid"},
        "schedules": {"1f1b"},
        "recompute": {"none", "full"},
        "recompute_methods": set(),
        "precisions": {"bf16", "fp16", "fp32", "tf32"},
        "optimizers": {"adamw", "sgd", "adam-8bit", "adafactor", "sgd-without-momentum"},
        "defaults": ("zero3", "none", True, False),
        "timed_as": "pytorch-fsdp-compiled",
    },
    "colossalai": {  # 4f9953be: booster/plugin/hybrid_parallel_plugin.py, gemini_plugin.py
        "axes": ("dp", "tp", "pp", "cp", "ep"),
        "shardings": {"none", "zero1", "zero2", "zero3", "hybrid"},
        "schedules": {"1f1b", "interleaved", "zero-bubble-v"},
        "recompute": {"none", "full"},
        "recompute_methods": {"block"},
        "precisions": {"fp32", "tf32", "fp16", "bf16", "fp8"},
        "optimizers": {"adamw", "lamb", "adafactor", "sgd", "sgd-without-momentum"},
        "defaults": ("zero1", "none", False, None),
        "timed_as": "deepspeed",
    },
    "primus": {  # fd1eeabb: primus/configs/modules/megatron
        "axes": ("dp", "tp", "pp", "cp", "ep"),
        "shardings": {"none", "zero1", "zero2", "zero3", "hybrid"},
        "schedules": {"1f1b", "interleaved", "zero-bubble", "zero-bubble-v"},
        "recompute": {"none", "selective", "full"},
        "recompute_methods": {"block", "uniform"},
        "precisions": {"fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8"},
        "optimizers": {"adamw", "adam-bf16", "adam-fp8", "lion", "muon", "sgd", "sgd-without-momentum"},
        "defaults": ("zero1", "none", False, None),
        "timed_as": "megatron-lm",
    },
    **{
        f"maxtext-{kind}": {  # v0.2.4: src/maxtext/configs/base.yml, optimizers/optimizers.py:171-229
            "axes": ("dp", "tp", "pp", "cp", "ep"),
            "shardings": {"none", "zero1", "zero3", "hybrid"},
            "schedules": {"gpipe", "interleaved"},
            "recompute": {"none", "selective", "full"},
            "recompute_methods": set(),
            "precisions": {"bf16", "fp32", "fp16", "fp8"},
            "optimizers": {"adamw", "sgd", "muon"},
            "defaults": ("zero3", "full", True, False),
            "timed_as": kin,
        }
        for kind, kin in (("gpu", "jax-xla-gpu"), ("tpu", "xla-tpu"))
    },
}
"""What the code of each offers and does unless told, written down beside the files that the stacks were made from."""
_ON_GPUS = {
    **dict.fromkeys(("torchtitan", "TorchTitan"), "torchtitan"),
    **dict.fromkeys(("torchtune", "litgpt", "colossalai"), None),
    **dict.fromkeys(("llm-foundry", "mosaicml"), "composer"),
    **dict.fromkeys(("maxtext", "MaxText"), "maxtext-gpu"),
    **dict.fromkeys(("trl", "axolotl", "llama-factory", "LLaMA Factory", "accelerate", "transformers"), "huggingface"),
    **dict.fromkeys(("fsdp", "fsdp2", "FSDP"), "pytorch-fsdp"),
    **dict.fromkeys(("ddp", "lightning", "pytorch_lightning"), "pytorch-ddp"),
    **dict.fromkeys(("megatron", "megatron-core", "mcore", "Megatron_LM"), "megatron-lm"),
    **dict.fromkeys(("zero1", "zero2", "zero3", "deepspeed-zero3"), "deepspeed"),
    "nemo": "nemo",
    "jax": "jax-xla-gpu",
    "unsloth": "torch-compile",
    "gpt-neox": "megatron-deepspeed",
}
"""What people type, and the stack that it is priced as; its own where none is named."""


@pytest.mark.parametrize("name", _TODAY)
def test_what_software_of_today_offers_is_as_its_code_has_it(name: str) -> None:
    stack, told = load_stack(name), _TODAY[name]
    assert stack.axes == told["axes"]
    for listed in ("shardings", "schedules", "recompute", "recompute_methods", "precisions", "optimizers"):
        assert set(getattr(stack.offers, listed)) == told[listed], listed
    usual = stack.defaults
    habits = (usual.sharding, usual.recompute, usual.parameters_in_fp32, usual.reduction_in_fp32)
    assert habits == told["defaults"]
    assert stack.offers.seen == "primary"
    assert stack.offers.release is not None
    assert all("/" in refusal.source for refusal in stack.offers.refuses)


@pytest.mark.parametrize("name", _TODAY)
def test_software_without_runs_of_its_name_has_the_constants_of_its_kin(name: str) -> None:
    stack, kin = load_stack(name), load_stack(_TODAY[name]["timed_as"])
    assert stack.timed_as == kin.id
    assert (stack.family, stack.platform) == (kin.family, kin.platform)
    timed = ("attention_efficiency", "eager", "launch", "step_overhead", "optimizer_passes", "reduction_efficiency")
    assert [getattr(stack, field) for field in timed] == [getattr(kin, field) for field in timed]
    system = next(
        known for known in map(catalogue.load_system, catalogue.names("systems")) if stack.runs_on(known.device)
    )
    shifts = shipped().of(stack, system, "bf16")
    assert shifts == shipped().of(kin, system, "bf16")
    assert shifts.step_overhead != 0.0
    assert shifts.attention_kernels != 0.0


def test_an_answer_says_whose_constants_it_has() -> None:
    said = "torchtitan has no fitted constants of its own, and shares those of pytorch-fsdp-compiled"
    case: dict[str, Any] = {"devices": 8, "workload": {"sequence_length": 2048, "global_batch": 64}}
    assert said in simulator.estimate("llama-3-8b", "dgx-h100", stack="torchtitan", **case).warnings
    assert (
        said not in simulator.estimate("llama-3-8b", "dgx-h100", stack="torchtitan", constants="none", **case).warnings
    )
    own = simulator.estimate("llama-3-8b", "dgx-h100", stack="pytorch-fsdp-compiled", **case)
    assert not any("fitted constants of its own" in warning for warning in own.warnings)


@pytest.mark.parametrize(("typed", "stack"), _ON_GPUS.items())
def test_what_people_type_is_a_stack(typed: str, stack: str | None) -> None:
    assert load_stack(typed, platform="gpu").id == (stack or typed)


def test_every_further_name_means_a_stack_that_there_is_and_a_file_that_is_written() -> None:
    known = set(names("stacks"))
    assert len(further_names()) > 50
    for name, software in further_names().items():
        for platform, stack in software.stacks.items():
            assert stack in known, name
            assert platform in ("", load_stack(stack).platform), name
            assert load_stack(name, platform=platform).id == stack
            assert software.sharding is None or software.sharding in load_stack(stack).offers.shardings
            assert name in further_names_of(stack)
        assert software.launch is None or software.launch in WRITERS, name


def test_no_two_names_are_alike() -> None:
    written = [squeezed(name) for name in (*names("stacks"), *further_names())]
    assert len(written) == len(set(written))


def test_a_name_means_the_stack_of_its_device() -> None:
    assert load_stack("maxtext", platform="tpu").id == "maxtext-tpu"
    assert load_stack("jax", platform="tpu").id == "xla-tpu"
    case: dict[str, Any] = {"workload": {"sequence_length": 2048, "global_batch": 64}, "stack": "maxtext"}
    on_tpu = simulator.estimate("llama-3-8b", "tpu-v4-pod", devices=64, **case)
    assert (on_tpu.stack, on_tpu.plan["recompute"]) == ("maxtext-tpu", "full")
    assert simulator.estimate("llama-3-8b", "dgx-h100", devices=8, **case).stack == "maxtext-gpu"


def test_an_answer_says_what_another_name_is_priced_as_and_what_starts_it(tmp_path: Path) -> None:
    said = (
        "stack=huggingface: what axolotl is priced as, since its trainer is a subclass of the Trainer of transformers"
    )
    answer = simulator.estimate("bert-base", "dgx-a100-640gb", stack="Axolotl")
    assert answer.stack == "huggingface"
    assert f"{said}; capsim launch --to axolotl writes a file that starts it" in answer.assumed
    path = tmp_path / "run.yaml"
    path.write_text("model: bert-base\nsystem: dgx-a100-640gb\nstack: axolotl\n")
    assert any(line.startswith(said) for line in simulator.from_file(path).assumed)
    own = simulator.estimate("bert-base", "dgx-a100-640gb", stack="HuggingFace")
    assert own.stack == "huggingface"
    assert not any("is priced as" in line for line in own.assumed)
    assert own.step_time_s == answer.step_time_s


def test_a_name_that_says_the_sharding_sets_it_where_the_plan_does_not() -> None:
    def answer(stack: str, **plan: Any) -> simulator.Estimate:
        return simulator.estimate("bert-large", "dgx-a100-640gb", stack=stack, plan=plan)

    third = answer("zero3")
    assert (third.stack, third.plan["sharding"]) == ("deepspeed", "zero3")
    assert "sharding=zero3: as zero3 says" in third.assumed
    assert third.step_time_s == answer("deepspeed", sharding="zero3").step_time_s
    assert answer("zero3", sharding="zero1").plan["sharding"] == "zero1"
    assert simulator.search("bert-large", "dgx-a100-640gb", devices=8, stack="zero3").stack == "deepspeed"


def test_primus_is_for_amd() -> None:
    assert simulator.estimate("llama-3-8b", "mi300x", devices=8, stack="primus").stack == "primus"
    with pytest.raises(InputError, match=r"is for devices of AMD, and .* is of NVIDIA; its kin there is megatron-lm"):
        simulator.estimate("llama-3-8b", "dgx-h100", devices=8, stack="primus")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("vllm", "vllm serves models, and capsim prices training"),
        ("TensorRT-LLM", "TensorRT-LLM serves models, and capsim prices training"),
        ("verl", "verl makes samples between its training steps, which capsim does not price"),
        ("slurm", "slurm starts other software; name that"),
        ("flash attention", "flash attention is a part of software, not a whole that trains"),
        ("diffusers", "or trains what is no transformer"),
        ("tensorflow", "may mean tensorflow-2 or tensorflow-1; name one of them"),
        ("pytorch", "may mean pytorch-fsdp or pytorch-ddp or torch-compile or torchtitan"),
        ("torchtitann", "did you mean torchtitan?"),
        ("megatron-lm-2023", "did you mean megatron-lm-2021 or megatron-lm-2022"),
        ("pytorch fsdp3", "did you mean pytorch-fsdp or"),
        ("accel", "did you mean accelerate?"),
        ("xyzzy", "unknown stack 'xyzzy'; capsim catalogue stacks lists all, with their other names"),
    ],
)
def test_a_name_of_no_stack_gets_an_honest_answer(typed: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        simulator.estimate("bert-base", "dgx-a100-640gb", stack=typed)
    assert said in str(caught.value)
    assert str(caught.value) == str(no_stack(typed))


def test_words_of_several_stacks_and_of_none_are_no_names_of_one() -> None:
    for word in ("tensorflow", "pytorch", "vllm", "ray", "triton"):
        assert stack_meant(word) is None
        assert software_named(word) is None


@pytest.mark.parametrize(
    ("framework", "stack"),
    [("torchtitan", "torchtitan"), ("maxtext", "maxtext-gpu"), ("litgpt", "litgpt"), ("axolotl", "huggingface")],
)
def test_launch_files_are_of_the_software_s_own_stack(framework: str, stack: str) -> None:
    assert stack_of(framework) == stack
