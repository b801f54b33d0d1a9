"""Published runs as scenarios: real rows, words in many spellings, and nothing but a refusal for the rest."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from simulator.corpus.devices import device_of
from simulator.corpus.mapping import MappedRun, case_of
from simulator.corpus.runs import RefusedError, Run, shipped
from simulator.corpus.words import meaning
from simulator.specs.capabilities.checking import is_offered
from simulator.step.evaluation import evaluate
from tests.evidence.examples import made, published, timed
from tests.thorough import cases


def _refusal(run: Run) -> str:
    with pytest.raises(RefusedError) as caught:
        case_of(run)
    return caught.value.reason


def _case_or_reason(run: Run) -> MappedRun | str:
    try:
        return case_of(run)
    except RefusedError as error:
        return error.reason


# Shipped runs


@cache
def _of_shipped() -> dict[str, MappedRun | str]:
    """Each shipped run's case, or why it is refused."""
    return {run.id: _case_or_reason(run) for run in shipped()}


@cache
def _outcomes() -> Counter[str]:
    outcomes = (_of_shipped()[run.id] for run in timed())
    return Counter(outcome if isinstance(outcome, str) else "mapped" for outcome in outcomes)


def test_nearly_all_timed_training_runs_are_mapped() -> None:
    outcomes = _outcomes()
    assert outcomes["mapped"] / outcomes.total() >= 0.95


def test_refusals_have_few_reasons() -> None:
    assert set(_outcomes()) - {"mapped"} == {
        "a layer, not a model",
        "experts not published",
        "inconsistent or impossible plan",
        "precision fp8 without constants",
        "precision integers without constants",
        "recomputes some parts of a layer",
        "sizes not published",
        "unknown device",
    }


def test_no_forward_pass_and_no_adapter_that_is_not_of_low_rank_is_priced() -> None:
    others = [run for run in shipped() if run.task == "forward" or run.plan.peft not in (None, "lora")]
    assert len(others) > 140
    assert {_refusal(run) for run in others} == {"forward pass only", "trains adapters only"}


def test_no_shipped_model_with_experts_is_priced_as_dense() -> None:
    sparse = [run for run in timed() if run.model.family == "moe"]
    priced = 0
    for run in sparse:
        try:
            assert case_of(run).model.experts > 1
            priced += 1
        except RefusedError:
            pass
    assert priced > 50


def test_palm_runs_on_two_pods() -> None:
    case = case_of(published("palm-540b-6144"))
    assert (case.stack.id, case.plan.dp, case.plan.tp, case.plan.optimizer) == ("pathways", 512, 12, "adafactor")
    assert (case.system.devices_per_pod, case.devices) == (3072, 6144)
    assert case.plan.sharding_group == 256  # fully sharded inside a pod, replicated between the two
    assert (case.model.block, case.model.kv_heads, case.model.width_of_head) == ("parallel", 1, 256)


@pytest.mark.parametrize(
    ("size", "devices", "degrees"),
    [("1.7b", 32, (32, 1, 1)), ("39b", 512, (32, 8, 2)), ("310b", 1920, (15, 8, 16)), ("1t", 3072, (6, 8, 64))],
)
def test_megatron_of_2021(size: str, devices: int, degrees: tuple[int, int, int]) -> None:
    case = case_of(published(f"megatron-sc21-tab1-{size}"))
    assert (case.stack.id, case.devices, case.plan.recompute) == ("megatron-lm-2021", devices, "full")
    assert (case.plan.dp, case.plan.tp, case.plan.pp) == degrees
    assert case.system.device.id == "a100-sxm4-80gb"
    assert case.system.inter_node is not None
    assert case.system.inter_node.bandwidth == 200e9  # eight HDR cards of 200 Gb/s a node


def test_mlperf_bert_without_padding() -> None:
    case = case_of(published("mlperf-v1.1-azure-nd96amsr-a100-v4-n8-ngc21.09-pytorch"))
    assert (case.stack.id, case.stack.unpads, case.stack.attention) == ("mlperf-nvidia", True, "fused")
    assert (case.workload.sequence_length, case.workload.effective_tokens, case.workload.predictions) == (
        512,
        254.4,
        76,
    )


def test_mlperf_bert_with_padding() -> None:
    case = case_of(published("mlperf-v1.1-azure-nd96amsr-a100-v4-n128-ngc21.09-pytorch"))
    assert (case.stack.unpads, case.workload.effective_tokens) == (False, 512.0)


@pytest.mark.parametrize("name", ["dle-paddle-22.12-a100_80-1g-s512-fp16", "dle-pyt-21.11-a100_80-8g-s512-tf32"])
def test_binned_bert_has_283_real_tokens(name: str) -> None:
    case = case_of(published(name))
    assert case.stack.unpads
    assert case.workload.effective_tokens == pytest.approx(283.0, abs=0.5)
    assert case.workload.sequence_length == 320


def test_old_containers_run_the_head_on_all_positions() -> None:
    case = case_of(published("dle-pyt-20.06-dgx2-1g-s512-fp32"))
    assert (case.stack.head_positions, case.workload.effective_tokens) == ("all", 512.0)


# Devices

_DEVICES = {
    "NVIDIA A100-SXM4-80GB": "a100-sxm4-80gb",
    "A100 80GB": "a100-sxm4-80gb",
    "8x A100 40GB": "a100-sxm4-40gb",
    "NVIDIA A100-PCIE-40GB": "a100-pcie-40gb",
    "A100 80GB PCIe": "a100-pcie-80gb",
    "DGX A100 640GB": "a100-sxm4-80gb",
    "H100-SXM": "h100-sxm5-80gb",
    "NVIDIA H100 80GB HBM3": "h100-sxm5-80gb",
    "h100_pcie": "h100-pcie-80gb",
    "H100 NVL": "h100-nvl-94gb",
    "H200": "h200-sxm-141gb",
    "gb200-nvl72": "gb200",
    "rtx-3060-ti": "rtx-3060-ti",
    "NVIDIA GeForce RTX 3090": "rtx-3090",
    "rtx3090": "rtx-3090",
    "3090": "rtx-3090",
    "RTX_A6000": "rtx-a6000",
    "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada",
    "Quadro RTX 6000": "quadro-rtx-6000",
    "l40s-48gb": "l40s",
    "Tesla T4": "t4",
    "Tesla V100-SXM2-16GB": "v100-sxm2-16gb",
    "Tesla V100S-PCIE-32GB": "v100-pcie-32gb",
    "GeForce GTX 1080 Ti": "gtx-1080-ti",
    "AMD Instinct MI300X": "mi300x",
    "mi250": "mi250x",
    "TPU v4": "tpu-v4",
    "TPU v5 lite": "tpu-v5e",
    "v5litepod-16": "tpu-v5e",
    "tpu_v5p": "tpu-v5p",
    "TPU v6e": "tpu-v6e",
    "Trillium": "tpu-v6e",
}
_UNKNOWN = ["h20", "H200 NVL", "mi300a", "MI250X GCD", "tpu-v2", "TPU v4i", "RTX 4080 Super", "gaudi2", "b100", ""]
_UNKNOWN += ["rtx-3080 laptop", "RTX PRO 6000 Blackwell", "Ascend 910B", "trn1"]


@pytest.mark.parametrize(("words", "device"), _DEVICES.items())
def test_devices_in_the_spelling_of_sources(words: str, device: str) -> None:
    assert device_of(words).id == device


@pytest.mark.parametrize("words", _UNKNOWN)
def test_devices_nobody_knows_are_refused(words: str) -> None:
    assert _refusal(made(hardware__device=words)) == "unknown device"


def test_what_a_device_name_leaves_open_is_said() -> None:
    assert "device: the SXM edition with 80 GB" in case_of(made(hardware__device="a100-unspecified")).assumed


# Software

_CHANGED = ("huggingface", "pytorch-ddp", "pytorch-eager", "deepspeed")
"""Stacks, or beginnings of their names, whose attention was not fused before 2024."""
_STACKS = {
    "torchtitan": "pytorch-fsdp",
    "torchtune": "pytorch-fsdp",
    "PyTorch FSDP2": "pytorch-fsdp",
    "axolotl": "huggingface",
    "accelerate": "huggingface",
    "HF Trainer": "huggingface",
    "axolotl + deepspeed": "deepspeed",
    "ColossalAI": "deepspeed",
    "llm.c": "torch-compile",
    "unsloth": "torch-compile",
    "levanter": "jax-xla-gpu",
    "flax": "jax-xla-gpu",
    "maxtext (jax)": "jax-xla-gpu",
    "t5x": "paxml",
    "fairseq": "pytorch-ddp",
    "pytorch lightning": "pytorch-ddp",
    "metaseq": "megatron-lm",
    "Megatron-Core": "megatron-lm",
    "megatron_core + nemo": "nemo",
    "GPT-NeoX": "megatron-deepspeed",
    "llm foundry": "composer",
    "apex": "nvidia-bert",
    "tf2": "tensorflow-2",
    "tf 1.15": "tensorflow-1",
    "picotron": "nanotron",
    "something of our own": "pytorch-ddp",
}


@pytest.mark.parametrize(("framework", "stack"), _STACKS.items())
def test_frameworks_find_the_nearest_stack(framework: str, stack: str) -> None:
    assert case_of(made(plan__framework=framework)).stack.id == stack


@pytest.mark.parametrize(
    ("told", "stack"),
    [
        ({"source__where": "docs/_posts/2020-05-28-fastest-bert-training.md"}, "huggingface-2022"),
        ({"source__where": "arXiv 2104.04473v5 table 1"}, "huggingface-2022"),
        ({"source__title": "measured on 2024-03-01"}, "huggingface"),
        ({"source__where": "arXiv 2405.00001", "plan__flash_attention": False}, "huggingface"),
        ({"plan__flash_attention": False}, "huggingface-2022"),
        ({"plan__flash_attention": True}, "huggingface"),
        ({"plan__framework": "transformers 4.18 trainer"}, "huggingface-2022"),
        ({"plan__framework": "transformers==4.35.2"}, "huggingface-2022"),
        ({"plan__framework": "transformers 4.41, torch 2.3"}, "huggingface"),
        ({"plan__framework": "transformers 4.5.1"}, "huggingface-2022"),
        ({"plan__framework": "transformers 5.24"}, "huggingface"),
        ({"plan__framework": "accelerate, torch 1.13.1"}, "huggingface-2022"),
        ({"plan__framework": "our own, torch 1.12"}, "pytorch-ddp-2022"),
        ({"plan__framework": "our own, torch 2.10"}, "pytorch-ddp"),
        ({"plan__framework": "deepspeed", "plan__flash_attention": False}, "deepspeed-2022"),
        ({"plan__framework": "deepspeed zero-3", "source__where": "arXiv 2104.04473"}, "deepspeed-2022"),
        ({"plan__framework": "deepspeed 0.19.2, torch 2.13.0 cu130"}, "deepspeed"),
    ],
)
def test_date_version_or_attention_tell_today_s_software_from_that_before_it(told: dict[str, Any], stack: str) -> None:
    case = case_of(made(**{"plan__framework": "HF Trainer", **told}))
    assert case.stack.id == stack
    said = told.get("plan__flash_attention")
    assert case.plan.attention == (case.stack.attention if said is None else "fused" if said else "unfused")


def test_shipped_runs_of_before_2024_stay_what_they_were() -> None:
    """Blogs, papers and manuals of 2020 to 2022 on software that fuses attention today, and one of 2026."""
    cases = [case for case in _of_shipped().values() if isinstance(case, MappedRun)]
    changed = {case.run.id: case for case in cases if case.stack.id.startswith(_CHANGED)}
    old = {name: case for name, case in changed.items() if case.stack.id.endswith("-2022")}
    assert {case.run.collection for case in old.values()} == {"bert_deepspeed", "bert_hf_docs_v100", "megatron_sc21"}
    assert all(case.plan.attention == "unfused" and case.plan.precision in ("fp16", "fp32") for case in old.values())
    new = [case for name, case in changed.items() if name not in old]
    assert {case.run.collection for case in new} == {"ml_engineering"}
    assert all(case.plan.attention == "fused" and case.plan.precision == "bf16" for case in new)


@pytest.mark.parametrize("framework", ["maxtext", "tensorflow 2", "mesh-tensorflow", "levanter", None, "pytorch/xla"])
def test_on_tpu_all_but_pathways_is_xla(framework: str | None) -> None:
    assert case_of(made(plan__framework=framework, hardware__device="tpu-v4")).stack.id == "xla-tpu"
    assert case_of(made(plan__framework="t5x", hardware__device="tpu-v4")).stack.id == "pathways"


def test_a_framework_without_a_rule_goes_by_its_plan() -> None:
    assert case_of(made(plan__framework="internal", plan__tp=8)).stack.id == "megatron-lm"
    assert case_of(made(plan__framework="internal", plan__sharding="zero3")).stack.id == "pytorch-fsdp"
    compiled = case_of(made(plan__framework="torchtitan", plan__torch_compile=True))
    assert (compiled.stack.id, compiled.plan.sharding) == ("pytorch-fsdp-compiled", "zero3")
    assert case_of(made(plan__torch_compile="false")).stack.id == "pytorch-ddp"


# The plan

_WORDS = [
    ("precisions", "bfloat16", "bf16"),
    ("precisions", "bf16-mixed", "bf16"),
    ("precisions", "mixed_bfloat16", "bf16"),
    ("precisions", "16-mixed", "fp16"),
    ("precisions", "amp", "fp16"),
    ("precisions", "fp8-hybrid", "fp8"),
    ("precisions", "mxfp8", "mxfp8"),
    ("precisions", "TF32", "tf32"),
    ("precisions", "32-true", "fp32"),
    ("precisions", "NVFP4", "nvfp4"),
    ("shardings", "ZeRO-3", "zero3"),
    ("shardings", "zero stage 2", "zero2"),
    ("shardings", "zero2 (FSDP, no reshard after forward)", "zero2"),
    ("shardings", "FULL_SHARD", "zero3"),
    ("shardings", "SHARD_GRAD_OP", "zero2"),
    ("shardings", "HYBRID_SHARD", "hybrid"),
    ("shardings", "distributed optimizer", "zero1"),
    ("shardings", "DDP", "none"),
    ("recomputes", "selective (attention)", "selective"),
    ("recomputes", "full", "full"),
    ("recomputes", "gradient checkpointing", "full"),
    ("recomputes", "minimal_flash", "selective"),
    ("recomputes", "off", "none"),
    ("optimizers", "bnb 8-bit adam", "adam-8bit"),
    ("optimizers", "FusedLAMB", "lamb"),
    ("optimizers", "decoupled_adamw", "adamw"),
    ("optimizers", "Adafactor", "adafactor"),
    ("optimizers", "SGD with momentum", "sgd"),
    ("optimizers", "muon", None),
]


@pytest.mark.parametrize(("kind", "words", "meant"), _WORDS)
def test_words_of_a_plan(kind: str, words: str, meant: str | None) -> None:
    assert meaning(kind, words) == meant


@pytest.mark.parametrize(
    ("device", "precision", "runs"),
    [
        ("v100", "tf32", "fp32"),
        ("tpu-v4", "fp32", "bf16"),
        ("tpu-v4", "fp16", "bf16"),
        ("gb200", "fp4", "nvfp4"),
        ("b300", "mxfp8", "mxfp8"),
    ],
)
def test_a_precision_is_what_the_device_makes_of_it(device: str, precision: str, runs: str) -> None:
    assert case_of(made(hardware__device=device, plan__precision=precision)).plan.precision == runs


def test_precisions_without_units_or_meaning_are_refused() -> None:
    assert _refusal(made(plan__precision="fp8")) == "precision fp8 without constants"
    assert _refusal(made(plan__precision="mxfp4")) == "precision nvfp4 without constants"
    assert _refusal(made(plan__precision="posit")) == "unknown precision"


def test_offloading_is_read_from_optimizer_and_sharding() -> None:
    assert case_of(made(plan__optimizer="adamw (CPU offload)")).plan.offload_optimizer
    assert case_of(made(plan__sharding="ZeRO-Infinity")).plan.offload_optimizer
    assert not case_of(made()).plan.offload_optimizer


def test_a_missing_batch_follows_from_micro_batches() -> None:
    case = case_of(made(plan__global_batch=None, plan__tp=8, plan__micro_batch=4, plan__grad_accum=16))
    assert case.workload.global_batch == 4 * 8 * 16
    assert "batch from accumulation" in case.assumed
    assert _refusal(made(plan__global_batch=None, plan__micro_batch=None)) == "no batch"


def test_missing_devices_follow_from_degrees() -> None:
    case = case_of(made(hardware__devices=None, plan__dp=8, plan__tp=4, plan__framework="megatron-lm"))
    assert case.devices == 32
    assert case_of(made(hardware__devices=None, hardware__intra="single gpu")).devices == 1
    assert _refusal(made(hardware__devices=None)) == "number of devices not published"


def test_a_missing_micro_batch_is_the_fastest_that_fits() -> None:
    case = case_of(made(plan__micro_batch=None, plan__framework="fsdp"))
    assert "plan: the fastest that fits" in case.assumed
    assert 256 % (64 * (case.plan.micro_batch or 0)) == 0


def test_interleaving_by_habit_gives_way_where_it_cannot_be() -> None:
    plan: dict[str, Any] = {"plan__framework": "megatron-core", "plan__tp": 2, "plan__pp": 8, "plan__dp": 4}
    assert case_of(made(**plan)).plan.virtual_stages == 2
    assert case_of(made(**plan, plan__micro_batch=64)).plan.virtual_stages == 1  # one micro-batch, eight stages


def test_experts_may_be_spread_over_tensor_ranks() -> None:
    case = case_of(made(model__name="mixtral-8x7b", model__family="moe", plan__tp=16, plan__dp=4, plan__ep=8))
    assert (case.plan.ep, case.plan.tp, case.plan.etp) == (8, 16, 8)


def test_routing_is_that_of_the_launch_files() -> None:
    """Forced balance, a capacity of 1, what the run itself tells, or an auxiliary loss."""

    def routing(**run: Any) -> tuple[float | None, float | None]:
        work = case_of(made(model__name="mixtral-8x7b", model__family="moe", plan__dp=64, plan__tp=1, **run)).workload
        return work.expert_imbalance, work.capacity_factor

    assert routing(plan__framework="megatron-bridge") == (1.0, None)
    assert routing(plan__framework="nemo") == (1.3, 1.0)
    assert routing(plan__framework="megatron-core") == (1.3, None)
    assert routing(plan__framework="megatron-bridge", extra={"expert_imbalance": 2}) == (2.0, None)
    assert routing(plan__framework="megatron-bridge", extra={"capacity_factor": 1.25}) == (1.3, 1.25)
    assert "balanced routing" in case_of(published("mbridge-26.06-qwen3-30b-a3b-h100-fp8-16-gbs1024-tp1pp1cp1")).assumed
    assert case_of(published("dgxc-v24.11.1-grok1-314b-bf16-h100512-gbs1024")).workload.capacity_factor == 1.0


def test_what_a_stack_lacks_refuses_no_published_run() -> None:
    """A run as published is a fact, and its stack may stand for a fork, a release or a layout: LAMB under the Trainer,
    61 layers on 8 stages, torchtitan's axes under FSDP that is compiled."""
    cases = [case for case in _of_shipped().values() if isinstance(case, MappedRun)]
    lacking = [case for case in cases if not _is_offered(case)]
    assert 0 < len(lacking) <= 60
    of_layers = {case.stack.id for case in lacking if case.model.layers == 61}
    assert of_layers == {"megatron-bridge", "nemo"}
    others = {case.stack.id for case in lacking if case.model.layers != 61}
    assert others == {"huggingface-2022", "composer", "megatron-lm-2022", "pytorch-fsdp-compiled"}


def _is_offered(case: MappedRun) -> bool:
    return is_offered(case.plan, case.model, case.workload, case.stack, open_plan=False)


def test_contradictions_are_refused() -> None:
    assert _refusal(made(plan__dp=3, plan__tp=8)) == "inconsistent or impossible plan"
    assert _refusal(made(hardware__devices=2.5)) == "a count that is not whole"
    assert _refusal(made(hardware__device="tpu-v4", hardware__devices=8191)) == "inconsistent or impossible plan"


# What is no training step of a whole model


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (made("forward"), "forward pass only"),
        (made("inference"), "forward pass only"),
        (made("dora_finetune"), "trains adapters only"),
        (made("dpo"), "several models at once"),
        (made(plan__peft="IA3"), "trains adapters only"),
        (made(plan__framework="litgpt finetune_adapter"), "trains adapters only"),
        (made(model__name="llama3-70b-dora"), "trains adapters only"),
        (made(plan__quantization="bnb.nf4"), "quantised parameters"),
        (made(plan__peft="lora", plan__quantization="gptq-3bit"), "quantised parameters"),
        (made(model__name="gpt one layer"), "a layer, not a model"),
    ],
)
def test_other_work_is_refused(run: Run, reason: str) -> None:
    assert _refusal(run) == reason


@pytest.mark.parametrize("task", ["pretrain", "finetune", "train_step", "forward+backward", "sft"])
@pytest.mark.parametrize("peft", [None, False, "none", "full"])
def test_training_of_all_parameters_is_priced(task: str, peft: str | bool | None) -> None:
    assert isinstance(case_of(made(task, plan__peft=peft)), MappedRun)


# Padding and masked positions


def _bert(length: int = 512, **extra: Any) -> MappedRun:
    sizes: dict[str, Any] = {
        "layers": 24,
        "hidden": 1024,
        "heads": 16,
        "ffn": 4096,
        "seq_len": length,
        "family": "bert",
    }
    changes: dict[str, Any] = {f"model__{name}": value for name, value in sizes.items()}
    return case_of(made("pretrain", extra, **changes))


@pytest.mark.parametrize(
    ("mode", "out"),
    [("padded", False), ("unpadded", True), ("packed", True), ("varlen", True), ("binned", True)],
)
def test_padding_by_the_words(mode: str, out: bool) -> None:
    assert _bert(input_mode=mode).stack.unpads is out


@pytest.mark.parametrize("length", [1, 32, 64, 100, 128, 256, 512, 1024])
def test_bins_hold_their_tokens_at_any_length(length: int) -> None:
    workload = _bert(length, effective_tokens_per_seq="binned").workload
    assert 1 <= (workload.effective_tokens or 0) <= (workload.sequence_length or 0) <= length


@pytest.mark.parametrize(
    ("told", "predictions", "positions"),
    [(76, 76, "masked"), ("all", 77, "all"), ("all positions", 77, "all"), ("30% of tokens", 154, "masked")],
)
def test_masked_positions(told: float | str, predictions: int, positions: str) -> None:
    case = _bert(mlm_head_positions_per_seq=told)
    assert (case.workload.predictions, case.stack.head_positions) == (predictions, positions)


@pytest.mark.parametrize("told", [float("nan"), float("inf"), -5, 0, 1e9])
def test_numbers_without_meaning_do_not_count(told: float) -> None:
    workload = _bert(effective_tokens_per_seq=told, mlm_head_positions_per_seq=told).workload
    assert workload.effective_tokens == 512
    assert (workload.predictions or 0) <= 512


# Any row


_ODD: list[Any] = [None, True, False, 0.5, 1, 3, 7, 64, 12345, 1e9, 1e300, 5e-324, -1, "", "none", "full", "zero1"]
_ODD += ["fsdp", "hybrid_shard", "fp8", "tf32", "amp", "nvl0", "nvl72", "NVLink bridge", "PCIe", "8x HDR", "0x 0g"]
_ODD += ["99999x 1g", "AWS EFA", "ethernet 25G", "a100", "h20", "tpu v4", "mi250", "moe", "t5", "vit", "palm", "bert"]
_ODD += ["opt", "bloom", "megatron", "deepspeed", "t5x", "composer", "all", "30%", "nan", "inf", "binned", "unpadded"]
_ODD += ["fsdp=0", "single node", "x" * 3000, "(", "[a-z", "é∞"]
_FIELDS = [
    (part, field)
    for part in ("model", "hardware", "plan", "extra")
    for field in type(getattr(published("palm-540b-6144"), part)).model_fields
]


@cache
def _rows() -> list[dict[str, Any]]:
    return [run.model_dump() for run in shipped()[::29]]


@settings(
    max_examples=cases(usual=200, thorough=800),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_any_row_becomes_a_case_or_a_refusal(data: st.DataObject) -> None:
    row = copy.deepcopy(data.draw(st.sampled_from(_rows())))
    for part, field in data.draw(st.lists(st.sampled_from(_FIELDS), max_size=4)):
        row[part][field] = data.draw(st.sampled_from(_ODD))
    try:
        run = Run.model_validate(row)
    except ValidationError:
        return  # the schema's reading tells the user
    case = _case_or_reason(run)
    if isinstance(case, str):
        assert 0 < len(case) < 60
        return
    time = float(np.max(evaluate(case.columns(), case.backend()).step.time))
    assert 0.0 < time < float("inf")


@pytest.mark.parametrize(("part", "field"), _FIELDS)
def test_a_field_that_was_not_published_breaks_nothing(part: str, field: str) -> None:
    for row in _rows()[::6]:
        run = Run.model_validate({**row, part: {**row[part], field: None}})
        assert _case_or_reason(run)


# Ranks that are cores, optimizers that were not timed, forks of their time


def test_ranks_of_two_cores_become_chips() -> None:
    run = published("mlperf-v0.7-google-tpu-v3-8192-tf")
    plan = run.plan.model_copy(update={"dp": 8192.0, "micro_batch": 1.0})
    cores = case_of(run.model_copy(update={"plan": plan}))
    chips = case_of(run)
    assert (cores.devices, cores.plan, cores.workload) == (chips.devices, chips.plan, chips.workload)
    assert any(reading.rule == "ranks are cores, two a chip" for reading in cores.readings)
    later = published("palm-540b-6144")
    assert later.plan.dp is not None
    doubled = later.model_copy(update={"plan": later.plan.model_copy(update={"dp": 2.0 * later.plan.dp})})
    with pytest.raises(RefusedError, match="inconsistent or impossible plan"):
        case_of(doubled)  # a chip of TPU v4 is one device, unless the run says otherwise
    told = doubled.hardware.model_copy(update={"logical_devices": 12_288.0})
    assert case_of(doubled.model_copy(update={"hardware": told})).plan.dp == case_of(later).plan.dp


@pytest.mark.parametrize("words", ["none timed", "not timed", "untimed", "without optimizer", "no optimizer"])
def test_a_step_without_its_update_is_refused(words: str) -> None:
    with pytest.raises(RefusedError, match="the optimizer was not timed"):
        case_of(made(plan__optimizer=words))


@pytest.mark.parametrize("words", ["none", "adam, timed", "lamb"])
def test_other_words_of_an_optimizer_are_not(words: str) -> None:
    assert case_of(made(plan__optimizer=words)).plan.optimizer in ("adamw", "lamb")


def test_forks_are_software_of_their_time() -> None:
    for framework in ("libai", "oneflow (LiBai)"):
        assert case_of(made(plan__framework=framework, plan__flash_attention=False)).stack.id == "megatron-lm-2021"
        assert case_of(made(plan__framework=framework, plan__flash_attention=True)).stack.id == "megatron-lm"
