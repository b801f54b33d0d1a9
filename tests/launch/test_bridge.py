"""Configurations of Megatron Bridge: what they say of random plans and of models is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from hardware.reading import parse_yaml
from simulator.launch import saying
from simulator.launch.megatron import bridge_writing
from simulator.launch.recognition import imported, launch_file
from simulator.launch.saying import LaunchNotes
from simulator.scenario.scenario import Scenario, parameters_of, resolve
from tests.launch.drawing import compared, read_back, scenarios
from tests.thorough import cases

_MODELS = ("gpt3-175b", "llama-3-8b", "mixtral-8x7b", "gpt2-124m", "qwen3-30b-a3b", "mistral-7b")


@pytest.fixture(autouse=True)
def _without_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(scenario: Scenario, framework: str, release: str, unsaid: list[str]) -> LaunchNotes:
        return LaunchNotes((), tuple(unsaid))

    monkeypatch.setattr(saying, "notes_of", notes)


_SAID = {"optimizer": ("adamw", "sgd", "lion", "muon")}
"""Optimizers that its files name; formats of moments and momentum are refused where a file is written."""


@pytest.mark.parametrize("optimizer", ["adam-bf16", "adam-fp8", "sgd-without-momentum"])
def test_what_no_option_says_is_refused(optimizer: str) -> None:
    plan = {"optimizer": optimizer, "sharding": "zero1"}
    scenario = resolve("llama-3-8b", "dgx-h100", stack="megatron-bridge", devices=16, plan=plan)
    with pytest.raises(InputError, match=f"Megatron Bridge has no option for optimizer={optimizer}; choose adamw, sgd"):
        bridge_writing.write(scenario)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for scenario in scenarios("megatron-bridge", _MODELS, cases(usual=120, thorough=500), only=_SAID):
        path.write_text(bridge_writing.write(scenario).text)
        launched = launch_file(path, scenario.devices)
        assert launched is not None
        plan = launched.document()["plan"]
        told = {"precision": scenario.plan.precision} if scenario.plan.precision == "tf32" else {}
        again = read_back(launched, scenario, plan=plan | told)
        assert compared(again.plan) == compared(scenario.plan), path.read_text()
        assert again.workload.model_dump() == scenario.workload.model_dump()
        assert again.devices == scenario.devices


@pytest.mark.parametrize(
    "name", ["llama-3-8b", "llama-3-70b", "mixtral-8x7b", "mistral-7b", "qwen3-30b-a3b", "gpt2-355m"]
)
def test_the_model_is_read_back_whole(name: str, tmp_path: Path) -> None:
    rows = {"sequence_length": 1024, "steps": 100}  # a table of positions has as many rows as the sequence has tokens
    scenario = resolve(name, "dgx-h100", devices=64, stack="megatron-bridge", plan={"tp": 4}, workload=rows)
    path = tmp_path / "run.yaml"
    path.write_text(bridge_writing.write(scenario).text)
    again = read_back(imported(path, devices=64), scenario)
    assert again.model.columns() == scenario.model.columns()
    assert parameters_of(again.model, again.workload) == parameters_of(scenario.model, scenario.workload)


_OVERRIDES = """
model:
  tensor_model_parallel_size: 2
  pipeline_model_parallel_size: 2
  context_parallel_size: 1
  sequence_parallel: true
  gradient_accumulation_fusion: False
train:
  train_iters: 20
  global_batch_size: 64
  micro_batch_size: 2
scheduler:
  lr_warmup_iters: 10
dataset:
  seq_length: 4096
ddp:
  grad_reduce_in_fp32: true
  use_distributed_optimizer: true
mixed_precision: bf16_mixed
"""


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (("", ""), {"tp": 2, "pp": 2, "dp": 4, "sharding": "zero1", "precision": "bf16", "sequence_parallel": True}),
        (("", ""), {"gradients_in_fp32": True, "recompute": "none", "micro_batch": 2, "virtual_stages": 1}),
        (("bf16_mixed", "bf16-with-fp8-current-scaling-mixed"), {"precision": "fp8", "layers_in_16_bits": 2}),
        (("bf16_mixed", "fp16_mixed"), {"precision": "fp16", "gradients_in_fp32": False}),
        (("bf16_mixed", "{bf16: true, grad_reduce_in_fp32: false}"), {"gradients_in_fp32": False}),
        (("use_distributed_optimizer: true", "use_distributed_optimizer: false"), {"sharding": "none"}),
        (
            (
                "use_distributed_optimizer: true",
                "use_megatron_fsdp: true, data_parallel_sharding_strategy: optim_grads",
            ),
            {"sharding": "zero2"},
        ),
        (("gradient_accumulation_fusion: False", "virtual_pipeline_model_parallel_size: 4"), {"virtual_stages": 4}),
        (("gradient_accumulation_fusion: False", "recompute_granularity: selective"), {"recompute": "selective"}),
        (
            ("gradient_accumulation_fusion: False", "activation_func_fp8_input_store: True"),
            {"activation_inputs_in_fp8": True},
        ),
        (
            ("gradient_accumulation_fusion: False", "recompute_granularity: selective\n  recompute_modules: [mlp]"),
            {"recompute": "selective", "recompute_modules": ("mlp",)},
        ),
        (
            (
                "gradient_accumulation_fusion: False",
                "recompute_granularity: full\n  recompute_method: block\n  recompute_num_layers: 3",
            ),
            {"recompute": "full", "recompute_method": "block", "recompute_layers": 3},
        ),
        (("scheduler:", "dist: {use_torch_fsdp2: true}\nscheduler:"), {"sharding": "zero3"}),
        (("scheduler:", "dist: {use_tp_pp_dp_mapping: true}\nscheduler:"), {"placement": "tp-cp-pp-dp"}),
        (
            (
                "use_distributed_optimizer: true",
                "use_distributed_optimizer: true, num_distributed_optimizer_instances: 2",
            ),
            {"sharding": "zero1", "sharding_group": 2},
        ),
        (
            (
                "gradient_accumulation_fusion: False",
                "attention_backend: {_target_: megatron.core.transformer.enums.AttnBackend, _args_: [3]}",
            ),
            {"attention": "unfused"},
        ),
    ],
)
def test_overrides_become_fields(tmp_path: Path, changes: tuple[str, str], fields: dict[str, Any]) -> None:
    path = tmp_path / "run.yaml"
    text = _OVERRIDES.replace(*changes) if changes[0] else _OVERRIDES
    if changes[0].startswith("use_distributed"):
        text = _OVERRIDES.replace("  " + changes[0], "".join(f"  {line}\n" for line in changes[1].split(", ")).rstrip())
    path.write_text(text)
    launched = imported(path, model="llama-3-8b", devices=16)
    assert launched.framework == "Megatron Bridge"
    assert {name: launched.document()["plan"][name] for name in fields} == fields
    assert launched.workload == {"sequence_length": 4096, "global_batch": 64, "steps": 20}


_SAVED = """
_target_: megatron.bridge.training.config.ConfigContainer
model:
  _target_: megatron.bridge.models.llama.llama_provider.Llama2ModelProvider7B
  activation_func: silu
  add_bias_linear: false
  attention_backend: {_args_: [5], _call_: true, _target_: megatron.core.transformer.enums.AttnBackend}
  attention_dropout: 0.0
  cpu_offloading: false
  ffn_hidden_size: 11008
  first_last_layers_bf16: false
  fp8: null
  gated_linear_unit: true
  gtp_weight_remat_size: 1
  hidden_dropout: 0.0
  hidden_size: 4096
  kv_channels: 128
  moe_layer_freq: 1
  mtp_num_layers: null
  multi_latent_attention: false
  normalization: RMSNorm
  num_attention_heads: 32
  num_layers: 32
  num_query_groups: 32
  params_dtype: {_call_: false, _target_: torch.bfloat16}
  pipeline_model_parallel_size: 1
  position_embedding_type: rope
  recompute_granularity: null
  seq_length: 4096
  share_embeddings_and_output_weights: false
  tensor_model_parallel_size: 2
  context_parallel_size: 1
  vocab_size: 32000
train: {micro_batch_size: 1, global_batch_size: 128, train_iters: 100, exit_interval: null}
dataset: {_target_: megatron.bridge.training.config.GPTDatasetConfig, seq_length: 4096}
ddp: {use_distributed_optimizer: true, overlap_grad_reduce: true, use_megatron_fsdp: false}
optimizer: {optimizer: adam, use_distributed_optimizer: true, lr: 0.0003, optimizer_cuda_graph: false}
mixed_precision: {bf16: true, fp8: null, grad_reduce_in_fp32: true, num_layers_at_start_in_bf16: 0}
"""


def test_a_configuration_that_a_run_saved_says_its_model(tmp_path: Path) -> None:
    path = tmp_path / "run_config.yaml"
    path.write_text(_SAVED)
    scenario = resolve(
        "llama-2-7b", "dgx-h100", devices=8, stack="megatron-bridge", workload={"sequence_length": 4096, "steps": 100}
    )
    launched = imported(path, devices=8)
    assert launched.assumed == ()
    again = read_back(launched, scenario)
    assert again.model.columns() == scenario.model.columns()
    assert (again.plan.dp, again.plan.tp, again.plan.sharding) == (4, 2, "zero1")
    for feature in ("multi_latent_attention", "cpu_offloading"):
        path.write_text(_SAVED.replace(f"{feature}: false", f"{feature}: true"))
        with pytest.raises(InputError, match=f"model.{feature}=true: may change time or memory"):
            imported(path, devices=8)
    path.write_text(_SAVED.replace("gtp_weight_remat_size: 1", "gtp_weight_remat_size: 2"))
    with pytest.raises(InputError, match=r"run_config.yaml:\d+: model.gtp_weight_remat_size=2: gathers weights"):
        imported(path, devices=8)


def test_what_overrides_leave_out_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {seq_length: 2048}\ntrain: {train_iters: 10}\n")
    launched = launch_file(path)
    assert launched is not None
    assert launched.model is None
    assert not {"tp", "pp", "cp", "micro_batch"} & launched.plan.keys()
    assert "say them by --tp, --pp, --cp, --micro-batch, --global-batch" in " ".join(launched.assumed)
    assert "precision=bf16" in " ".join(launched.assumed)
    with pytest.raises(InputError, match="does not say which model it trains"):
        imported(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("bf16_mixed", "bf16_with_nvfp4_mixed"), "mixed_precision='bf16_with_nvfp4_mixed': is not understood"),
        (("bf16_mixed", "{bf16: true, fp16: true}"), "excludes mixed_precision.bf16; keep one"),
        (("bf16_mixed", "{bf16: true, fp4: e2m1}"), "mixed_precision.fp4='e2m1': may change time or memory"),
        (
            ("gradient_accumulation_fusion: False", "multi_latent_attention: true"),
            "may change time or memory and is not understood",
        ),
        (("context_parallel_size: 1", "context_parallel_size: one"), "must be a whole number of at least 1"),
        (("gradient_accumulation_fusion: False", "recompute_modules: [mlp]"), ""),
        (
            (
                "gradient_accumulation_fusion: False",
                "recompute_granularity: selective\n  recompute_modules: [mlp, mhc]",
            ),
            "names mhc, which is not understood; capsim reads core_attn",
        ),
        (("scheduler:", "peft: {dim: 16}\nscheduler:"), "trains adapters of a frozen model"),
        (("scheduler:", "ddp2: {x: 1}\nscheduler:"), "may change time or memory and is not understood"),
        (
            ("bf16_mixed", "bf16_mixed\noptimizer: {optimizer: dist_muon}"),
            "optimizer.optimizer='dist_muon': is not understood; capsim reads adam, sgd",
        ),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, changes: tuple[str, str], message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_OVERRIDES.replace(*changes))
    if not message:  # of no effect without selective recomputation
        assert imported(path, model="llama-3-8b", devices=16).plan["recompute"] == "none"
        return
    with pytest.raises(InputError) as refused:
        launch_file(path, 16)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


def test_models_that_bridge_lacks_are_refused() -> None:
    for name, message in (("palm-62b", "block=parallel"), ("bert-large", "kind encoder"), ("bloom-7b1", "alibi")):
        scenario = resolve(name, "dgx-h100", devices=8, stack="megatron-bridge")
        with pytest.raises(InputError, match=f"Megatron Bridge has no .*{message}"):
            bridge_writing.write(scenario)


def test_a_number_format_is_an_object_that_bridge_builds() -> None:
    scenario = resolve("llama-3-8b", "dgx-h100", devices=8, stack="megatron-bridge", plan={"precision": "fp16"})
    section = parse_yaml(bridge_writing.write(scenario).text, "run.yaml")["mixed_precision"]
    assert section["_target_"] == "megatron.bridge.training.mixed_precision.MixedPrecisionConfig"
    assert section["params_dtype"] == {"_target_": "torch.float16", "_call_": False}
    assert (section["fp16"], section["bf16"], section["fp32"]) == (True, False, False)
