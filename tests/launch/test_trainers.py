"""Files of accelerate, axolotl, LLaMA-Factory, nanotron and MaxText: what they say of random plans is read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.launch import maxtext, nanotron, saying
from simulator.launch.documents import document_of, settings_from
from simulator.launch.frameworks import written
from simulator.launch.naming import model_named, names_of
from simulator.launch.recognition import launch_file, with_model
from simulator.launch.saying import LaunchNotes
from simulator.launch.tables import options_of
from simulator.launch.trainers import accelerate, axolotl, llama_factory
from simulator.scenario.scenario import Scenario, resolve
from simulator.specs.loading import load_model, names
from tests.launch.drawing import compared, read_back, scenarios
from tests.thorough import cases

Told = Callable[[Scenario], dict[str, Any]]


@pytest.fixture(autouse=True)
def _without_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(scenario: Scenario, framework: str, release: str, unsaid: list[str]) -> LaunchNotes:
        return LaunchNotes((), tuple(unsaid))

    monkeypatch.setattr(saying, "notes_of", notes)


def _group_of_states(scenario: Scenario) -> dict[str, Any]:
    """Groups of ZeRO-1, which only Megatron-LM's files say."""
    plan = scenario.plan
    return {"sharding_group": plan.sharding_group} if plan.sharding == "zero1" and plan.sharding_group else {}


def _script(scenario: Scenario) -> dict[str, Any]:
    """What is said by a script that accelerate starts."""
    said = ("micro_batch", "optimizer", "recompute", "precision", "tp", "cp", "dp")
    return {name: getattr(scenario.plan, name) for name in said} | _group_of_states(scenario)


_CASES: list[tuple[ModuleType, str, Sequence[str], str, Told]] = [
    (
        nanotron,
        "nanotron",
        ("llama-3-8b", "mixtral-8x7b", "llama-2-7b", "mistral-7b"),
        ".yaml",
        lambda scenario: {"precision": scenario.plan.precision} | _group_of_states(scenario),
    ),
    (accelerate, "huggingface", ("llama-3-8b", "gpt2-124m", "bert-large"), ".yaml", _script),
    (
        axolotl,
        "huggingface",
        ("llama-3-8b", "gpt2-124m", "mistral-7b"),
        ".yaml",
        lambda scenario: {"offload_optimizer": scenario.plan.offload_optimizer} | _group_of_states(scenario),
    ),
    (
        llama_factory,
        "huggingface",
        ("llama-3-8b", "gpt2-124m", "mistral-7b"),
        ".yaml",
        lambda scenario: {
            "gradients_in_fp32": scenario.plan.gradients_in_fp32,
            "reduction_in_fp32": scenario.plan.reduction_in_fp32,
        },
    ),
    (
        maxtext,
        "maxtext-gpu",
        ("llama-3-8b", "gpt3-175b", "mixtral-8x7b"),
        ".yml",
        lambda scenario: {
            "gradients_in_fp32": scenario.plan.gradients_in_fp32,
            "reduction_in_fp32": scenario.plan.reduction_in_fp32,
            "placement": scenario.plan.placement,
            **_group_of_states(scenario),
        },
    ),
]


_ONLY: dict[ModuleType, dict[str, Sequence[Any]]] = {
    maxtext: {
        "optimizer": ("adamw", "sgd", "muon"),
        "precision": ("bf16", "fp8", "fp32"),
        "sharding": ("zero3", "hybrid"),
    },
    llama_factory: {"sharding": ("none", "zero2", "zero3"), "tp": (1,), "cp": (1,)},
}


@pytest.mark.parametrize(
    ("module", "stack", "models", "ending", "told"), _CASES, ids=lambda case: getattr(case, "__name__", None)
)
def test_what_is_written_is_read_back(
    tmp_path: Path, module: ModuleType, stack: str, models: Sequence[str], ending: str, told: Told
) -> None:
    path, made = tmp_path / f"run{ending}", 0
    for scenario in scenarios(stack, models, cases(usual=120, thorough=500), only=_ONLY.get(module)):
        try:
            path.write_text(module.write(scenario).text)
        except InputError:
            continue
        made += 1
        said = launch_file(path, scenario.devices)
        assert said is not None
        launched = said if said.model is not None else with_model(said, scenario.model.id)
        document = launched.document()
        work = (
            {}
            if module is not accelerate
            else scenario.workload.model_dump(exclude={"effective_tokens", "expert_imbalance"})
        )
        again = read_back(
            launched, scenario, plan=document["plan"] | told(scenario), workload=document["workload"] | work
        )
        assert compared(again.plan) == compared(scenario.plan), path.read_text()
        assert again.workload.model_dump() == scenario.workload.model_dump()
        assert again.model.columns() == scenario.model.columns()
    assert made >= cases(usual=48, thorough=200)


@pytest.mark.parametrize("framework", ["maxtext"])
def test_every_key_is_one_of_the_framework(framework: str, tmp_path: Path) -> None:
    for name in ("llama-3-8b", "gpt3-175b", "mixtral-8x7b"):
        path = tmp_path / "run.yml"
        scenario = resolve(
            name, "dgx-h100", devices=64, stack="maxtext-gpu", plan={"sharding": "zero3", "ep": 1, "schedule": "gpipe"}
        )
        path.write_text(maxtext.write(scenario).text)
        keys = set(settings_from(document_of(path) or {}, str(path)).names())
        assert len(keys) > 12
        assert keys <= set(options_of(framework).known)


def test_names_of_models_are_those_of_the_catalogue() -> None:
    for table in ("hub", "litgpt", "maxtext"):
        assert names_of(table).keys() <= set(names("models"))
        words = [word.lower() for names_ in names_of(table).values() for word in names_]
        assert len(words) == len(set(words))
    assert model_named("hub", "Meta-Llama/LLAMA-3.1-8b") == "llama-3.1-8b"
    assert load_model("llama-3.1-8b").id == "llama-3.1-8b"


_NANOTRON = """
general: {project: debug, run: tiny, seed: 42}
model:
  dtype: bfloat16
  init_method: {std: 0.025}
  model_config:
    hidden_act: silu
    hidden_size: 2048
    intermediate_size: 11008
    is_llama_config: true
    max_position_embeddings: 4096
    num_attention_heads: 16
    num_hidden_layers: 28
    num_key_value_heads: 2
    tie_word_embeddings: true
    vocab_size: 128256
optimizer:
  accumulate_grad_in_fp32: true
  optimizer_factory: {name: adamW, adam_beta1: 0.9, torch_adam_is_fused: true}
  zero_stage: 1
parallelism: {dp: 4, pp: 1, tp: 2, pp_engine: 1f1b, tp_mode: REDUCE_SCATTER, expert_parallel_size: 1}
tokens: {batch_accumulation_per_replica: 2, micro_batch_size: 3, sequence_length: 4096, train_steps: 2000}
"""
_ACCELERATE = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: bf16
num_machines: 1
num_processes: 8
fsdp_config:
  fsdp_version: 2
  fsdp_reshard_after_forward: true
  fsdp_activation_checkpointing: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_offload_params: false
  fsdp_state_dict_type: SHARDED_STATE_DICT
"""
_AXOLOTL = """
base_model: NousResearch/Meta-Llama-3-8B
datasets: [{path: tatsu-lab/alpaca, type: alpaca}]
sequence_len: 8192
sample_packing: true
gradient_accumulation_steps: 8
micro_batch_size: 1
num_epochs: 1
optimizer: paged_adamw_8bit
learning_rate: 2e-5
bf16: auto
gradient_checkpointing: true
flash_attention: true
fsdp_version: 2
fsdp_config: {offload_params: false, auto_wrap_policy: TRANSFORMER_BASED_WRAP, reshard_after_forward: true}
"""
_FACTORY = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
stage: sft
do_train: true
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_config.json
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
per_device_train_batch_size: 1
gradient_accumulation_steps: 2
learning_rate: 1.0e-5
num_train_epochs: 3.0
bf16: true
"""
_MAXTEXT = """
base_config: base.yml
run_name: test
model_name: llama2-70b
per_device_batch_size: 4
max_target_length: 4096
steps: 30
ici_fsdp_parallelism: -1
ici_tensor_parallelism: 4
remat_policy: full
attention: flash
dtype: bfloat16
"""
_LITGPT = """
checkpoint_dir: checkpoints/meta-llama/Meta-Llama-3-8B
out_dir: out/finetune/full-llama-3-8b
precision: bf16-true
devices: 4
num_nodes: 1
resume: false
data: {class_path: litgpt.data.Alpaca2k, init_args: {mask_prompt: false, num_workers: 4}}
train:
  save_interval: 200
  global_batch_size: 64
  micro_batch_size: 4
  lr_warmup_steps: 25
  epochs: 1
  max_seq_length: 512
  min_lr: 6.0e-05
eval: {interval: 25, max_iters: 100}
logger_name: csv
optimizer:
  class_path: torch.optim.AdamW
  init_args: {lr: 0.0002, weight_decay: 0.1}
"""
_FILES = {
    "litgpt": _LITGPT,
    "nanotron": _NANOTRON,
    "accelerate": _ACCELERATE,
    "axolotl": _AXOLOTL,
    "factory": _FACTORY,
    "maxtext": _MAXTEXT,
}


@pytest.mark.parametrize(
    ("kind", "changes", "fields"),
    [
        ("nanotron", ("", ""), {"sharding": "zero1", "tp": 2, "micro_batch": 3, "sequence_parallel": True, "dp": 4}),
        ("nanotron", ("REDUCE_SCATTER", "ALL_REDUCE"), {"sequence_parallel": False}),
        ("nanotron", ("zero_stage: 1", "zero_stage: 0"), {"sharding": "none"}),
        ("nanotron", ("pp: 1", "pp: 4"), {"pp": 4, "schedule": "1f1b"}),
        ("nanotron", ("bfloat16", "float16"), {"precision": "fp16"}),
        ("accelerate", ("", ""), {"sharding": "zero3", "recompute": "full", "precision": "bf16"}),
        ("accelerate", ("forward: true", "forward: false"), {"sharding": "zero2"}),
        ("accelerate", ("forward: true", "forward: SHARD_GRAD_OP"), {"sharding": "zero2"}),
        ("accelerate", ("offload_params: false", "offload_params: true"), {"offload_optimizer": True}),
        ("accelerate", ("distributed_type: FSDP", "distributed_type: MULTI_GPU"), {"sharding": "none"}),
        (
            "axolotl",
            ("", ""),
            {"optimizer": "adam-8bit", "precision": "bf16", "sharding": "zero3", "recompute": "full"},
        ),
        ("axolotl", ("flash_attention", "eager_attention"), {"attention": "unfused"}),
        ("axolotl", ("forward: true", "forward: false"), {"sharding": "zero2"}),
        ("axolotl", ("bf16: auto", "fp16: true"), {"precision": "fp16"}),
        ("axolotl", ("num_epochs: 1", "tensor_parallel_size: 2"), {"tp": 2}),
        ("factory", ("", ""), {"sharding": "zero3", "recompute": "full", "precision": "bf16", "micro_batch": 1}),
        ("factory", ("ds_z3_config", "ds_z2_offload_config"), {"sharding": "zero2", "offload_optimizer": True}),
        ("factory", ("bf16: true", "fp16: true"), {"precision": "fp16"}),
        ("factory", ("bf16: true", "tf32: true"), {"precision": "tf32"}),
        ("factory", ("do_train: true", "flash_attn: disabled"), {"attention": "unfused"}),
        ("factory", ("do_train: true", "disable_gradient_checkpointing: true"), {"recompute": "none"}),
        ("litgpt", ("", ""), {"sharding": "zero3", "recompute": "full", "dp": 16, "master_weights": False}),
        ("litgpt", ("bf16-true", "32-true"), {"precision": "fp32", "micro_batch": 4}),
        ("litgpt", ("torch.optim.AdamW", "bitsandbytes.optim.AdamW8bit"), {"optimizer": "adam-8bit"}),
        (
            "litgpt",
            ("checkpoint_dir: checkpoints", "model_name: checkpoints"),
            {"sharding": "zero3", "recompute": "none"},
        ),
        ("maxtext", ("", ""), {"tp": 4, "dp": 4, "sharding": "zero3", "recompute": "full", "micro_batch": 16}),
        ("maxtext", ("fsdp", "data"), {"sharding": "none", "dp": 4}),
        ("maxtext", ("remat_policy: full", "remat_policy: minimal_with_context"), {"recompute": "none"}),
        ("maxtext", ("dtype: bfloat16", "quantization: fp8"), {"precision": "fp8"}),
        ("maxtext", ("attention: flash", "attention: dot_product"), {"attention": "unfused"}),
    ],
)
def test_keys_become_fields(tmp_path: Path, kind: str, changes: tuple[str, str], fields: dict[str, Any]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_FILES[kind].replace(*changes) if changes[0] else _FILES[kind])
    launched = launch_file(path, 16)
    assert launched is not None
    plan = launched.document()["plan"]
    assert {name: plan[name] for name in fields} == fields
    assert launched.read


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("nanotron", ("is_llama_config", "is_starcoder2_config"), "is a form that is not read"),
        (
            "nanotron",
            ("hidden_act: silu", "hidden_act: relu"),
            "hidden_act='relu': is not understood; capsim reads silu",
        ),
        ("accelerate", ("num_machines: 1", "fancy: 1"), "fancy=1: may change time or memory and is not understood"),
        ("accelerate", ("distributed_type: FSDP", "distributed_type: MEGATRON_LM"), "is not understood; capsim reads"),
        ("axolotl", ("gradient_checkpointing: true", "gradient_checkpointing: offload"), "offloads activations"),
        ("factory", ("stage: sft", "stage: ppo"), "stage='ppo': is not understood; capsim reads pt, sft, dpo, rm"),
        ("factory", ("ds_z3_config.json", "mine.json"), "its name says no stage; put it beside the file"),
        ("litgpt", ("precision: bf16-true", "precision: nf4"), "precision='nf4': is not understood; capsim reads bf16"),
        (
            "litgpt",
            ("global_batch_size: 64", "global_batch_size: 8"),
            "is less than one micro-batch of 4 on each of 16",
        ),
        ("litgpt", ("num_nodes: 1", "num_nodes: 3"), "does not divide 16 devices"),
        ("litgpt", ("epochs: 1", "fancy: 1"), "train.fancy=1: may change time or memory and is not understood"),
        ("maxtext", ("remat_policy: full", "remat_policy: custom"), "remat_policy='custom': is not understood"),
        ("maxtext", ("steps: 30", "use_ring_of_experts: true"), "may change time or memory and is not understood"),
        ("maxtext", ("steps: 30", "stepz: 30"), "the framework has no such setting; did you mean steps?"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, kind: str, changes: tuple[str, str], message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_FILES[kind].replace(*changes))
    with pytest.raises(InputError) as refused:
        launch_file(path, 16)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


_PRETRAINING = """
model_name: pythia-6.9b
precision: bf16-mixed
devices: 8
num_nodes: 2
train: {global_batch_size: 512, micro_batch_size: 3, max_tokens: 1000000000, max_seq_length: 2048}
optimizer: AdamW
"""


def test_litgpt_pretrains_with_shards_inside_of_nodes(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_PRETRAINING)
    launched = launch_file(path)
    assert launched is not None
    assert (launched.stack, launched.model, launched.devices) == ("litgpt", "pythia-6.9b", 16)
    assert {name: launched.plan[name] for name in ("sharding", "sharding_group")} == {
        "sharding": "hybrid",
        "sharding_group": 8,
    }
    assert launched.workload == {"sequence_length": 2048, "global_batch": 480, "tokens": 1e9}  # ten micro-batches
    assert any(
        text.startswith("global_batch=480: 10 micro-batches of each device, of 512") for text in launched.assumed
    )
    path.write_text(_PRETRAINING.replace("devices: 8", "devices: auto"))
    again = launch_file(path, 32)
    assert again is not None
    assert (again.devices, again.plan["sharding_group"]) == (32, 16)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (
            "pythia-6.9b",
            "{n_layer: 32, n_embd: 4096, n_head: 32, block_size: 2048, padded_vocab_size: 50432, bias: true}",
        ),
        (
            "llama-2-7b",
            (
                "{n_layer: 32, n_embd: 4096, n_head: 32, vocab_size: 32000, padding_multiple: 64, bias: false, "
                "rotary_percentage: 1.0, parallel_residual: false, norm_class_name: RMSNorm, mlp_class_name: LLaMAMLP, "
                "intermediate_size: 11008}"
            ),
        ),
    ],
)
def test_sizes_of_litgpt_are_those_of_the_catalogue(tmp_path: Path, name: str, sizes: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_PRETRAINING.replace("model_name: pythia-6.9b", f"model_config: {sizes}"))
    launched = launch_file(path)
    assert launched is not None
    scenario = resolve(name, "dgx-h100", devices=16, workload={"sequence_length": 2048, "steps": 10})
    again = read_back(launched, scenario, stack=scenario.stack.id, plan={})
    assert again.model.columns() == scenario.model.columns()


def test_formats_with_scales_in_blocks_are_written_by_nobody() -> None:
    scenario = resolve("llama-3-8b", "gb200-nvl72", devices=8, stack="megatron-lm", plan={"precision": "nvfp4"})
    with pytest.raises(InputError, match="precision=nvfp4: no launch file of megatron-lm is written for it"):
        written(scenario, "megatron-lm")
