"""Adapters and preferences in files of axolotl, LLaMA-Factory and litgpt: read back as written, and PEFT's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from simulator.launch import saying
from simulator.launch.frameworks import written
from simulator.launch.recognition import launch_file
from simulator.launch.saying import LaunchNotes
from simulator.launch.trainers import axolotl, llama_factory
from simulator.launch.trainers.adapters import written_targets
from simulator.scenario.scenario import Scenario, resolve
from simulator.specs.workload import Workload
from tests.launch.drawing import compared, compared_work, read_back, scenarios
from tests.thorough import cases

_ONLY: dict[ModuleType, dict[str, Any]] = {
    axolotl: {},
    llama_factory: {"sharding": ("none", "zero2", "zero3"), "tp": (1,), "cp": (1,)},
}
_MODELS = ("llama-3-8b", "mistral-7b", "gpt2-124m", "falcon-7b", "mixtral-8x7b")


@pytest.mark.parametrize("module", _ONLY, ids=lambda module: module.__name__)
def test_what_is_written_is_read_back(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saying, "notes_of", lambda *_: LaunchNotes((), ()))
    path, made = tmp_path / "run.yaml", Counter[str | None]()
    for scenario in scenarios("huggingface", _MODELS, cases(usual=120, thorough=500), only=_ONLY[module], tuned=True):
        try:
            path.write_text(module.write(scenario).text)
        except InputError:
            continue
        made.update(["files", scenario.workload.train, scenario.workload.preference])
        launched = launch_file(path, scenario.devices)
        assert launched is not None
        again = read_back(launched, scenario, plan=launched.document()["plan"] | _unsaid(scenario))
        assert compared(again.plan) == compared(scenario.plan), path.read_text()
        assert compared_work(again) == compared_work(scenario), path.read_text()
        assert again.model.columns() == scenario.model.columns()
    assert made["files"] >= cases(usual=60, thorough=250)
    assert min(made["lora"], made["dpo"], made["reward"]) >= cases(usual=10, thorough=60)


def _unsaid(scenario: Scenario) -> dict[str, Any]:
    """Fields of the plan that the files leave to what they name."""
    group = ("sharding_group",) if scenario.plan.sharding == "zero1" else ()
    names = ("offload_optimizer", "gradients_in_fp32", "reduction_in_fp32", *group)
    return {name: getattr(scenario.plan, name) for name in names if getattr(scenario.plan, name) is not None}


def _case(framework: str, plan: dict[str, Any], **work: Any) -> str:
    """The text of a file of a small run."""
    scenario = resolve(
        "llama-3-8b",
        "dgx-h100",
        stack="huggingface",
        plan={"micro_batch": 1, **plan},
        workload={"sequence_length": 2048, "global_batch": 64, "steps": 100, **work},
    )
    return written(scenario, framework).text


@pytest.mark.parametrize(("framework", "option"), [("axolotl", "peft_use_dora"), ("llama-factory", "use_dora")])
def test_magnitudes_are_said(framework: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for dora in (True, False):
        path.write_text(_case(framework, {}, train="lora", dora=dora))
        assert (f"{option}: true" in path.read_text()) is dora
        launched = launch_file(path, 8)
        assert launched is not None
        assert bool(launched.document()["workload"].get("dora")) is dora


@pytest.mark.parametrize(
    ("plan", "work", "sentence"),
    [
        ({}, {"train": "prompt"}, "train=prompt: a file of"),
        ({}, {"z_loss": 1e-4}, "z_loss=0.0001: a file of"),
        ({"cross_entropy": "chunked"}, {}, "cross_entropy=chunked: a file of"),
        ({"clip_gradients": False}, {}, "clip_gradients=no: a file of"),
        (
            {"optimizer_in_backward": True, "micro_batch": 8, "sharding": "zero3"},
            {},
            "optimizer_in_backward=yes: a file",
        ),
    ],
)
@pytest.mark.parametrize("framework", ["axolotl", "accelerate"])
def test_what_no_file_says_is_refused(
    framework: str, plan: dict[str, Any], work: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        _case(framework, plan, **work)


_TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3-8b": ("LlamaConfig", {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}),
    "falcon-7b": ("FalconConfig", {"hidden_size": 32, "num_attention_heads": 4, "multi_query": True}),
    "pythia-1.4b": ("GPTNeoXConfig", {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}),
    "gpt2-124m": ("GPT2Config", {"n_embd": 32, "n_head": 4, "n_positions": 16}),
    "mixtral-8x7b": ("MixtralConfig", {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "targets", "adapted"),
    [
        ("llama-3-8b", "q_proj,v_proj", {"self_attn.q_proj", "self_attn.v_proj"}),
        ("llama-3-8b", "o_proj,down_proj", {"self_attn.o_proj", "mlp.down_proj"}),
        ("falcon-7b", "attention", {"self_attention.query_key_value", "self_attention.dense"}),
        ("falcon-7b", "down_proj", {"mlp.dense_4h_to_h"}),
        ("pythia-1.4b", "qkv,o_proj", {"attention.query_key_value", "attention.dense"}),
        ("gpt2-124m", "o_proj", {"attn.c_proj"}),
        ("gpt2-124m", "down_proj", {"mlp.c_proj"}),
        ("gpt2-124m", "all-linear", {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
        ("mixtral-8x7b", "attention", {f"self_attn.{letter}_proj" for letter in "qkvo"}),
    ],
)
def test_peft_puts_adapters_where_the_names_say(name: str, targets: str, adapted: set[str]) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = simulator.load_model(name)
    work = Workload(lora_rank=2, lora_targets=targets, sequence_length=16).resolve(model)
    modules = written_targets(model, work, "axolotl")
    assert modules is not None
    kind, sizes = _TINY[name]
    config = getattr(transformers, kind)(num_hidden_layers=1, vocab_size=64, **sizes)
    tiny = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_config(config), peft.LoraConfig(r=2, target_modules=list(modules))
    )
    ends = {".".join(path.split(".")[-4:-2]) for path, _ in tiny.named_modules() if path.endswith("lora_A.default")}
    assert ends == adapted


_AXOLOTL = """
base_model: NousResearch/Meta-Llama-3-8B
load_in_8bit: false
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
lora_fan_in_fan_out:
datasets: [{path: tatsu-lab/alpaca, type: alpaca}]
sequence_len: 4096
sample_packing: true
pad_to_sequence_len: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: paged_adamw_32bit
learning_rate: 0.0002
bf16: auto
tf32: false
gradient_checkpointing: true
flash_attention: true
"""
_DPO = """
base_model: meta-llama/Meta-Llama-3-8B-Instruct
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_modules: [q_proj, k_proj, v_proj, o_proj]
rl: dpo
datasets: [{path: my/pairs, type: chat_template.default, split: train}]
sequence_len: 2048
micro_batch_size: 2
gradient_accumulation_steps: 4
optimizer: adamw_torch_fused
learning_rate: 1e-5
bf16: true
gradient_checkpointing: true
"""
_FACTORY = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
quantization_bit: 4
quantization_method: bnb
double_quantization: false
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
bf16: true
"""
_LITGPT = """
checkpoint_dir: checkpoints/meta-llama/Meta-Llama-3-8B
precision: bf16-true
quantize: bnb.nf4
devices: 1
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_query: true
lora_key: false
lora_value: true
lora_projection: false
lora_mlp: false
lora_head: false
data: {class_path: litgpt.data.Alpaca2k}
train: {global_batch_size: 8, micro_batch_size: 2, max_seq_length: 512, epochs: 2}
"""
_FILES = {"axolotl": _AXOLOTL, "dpo": _DPO, "factory": _FACTORY, "litgpt": _LITGPT}
_ALL = ("all-linear",)


@pytest.mark.parametrize(
    ("kind", "changes", "fields"),
    [
        ("axolotl", ("", ""), {"train": "lora", "lora_rank": 32, "lora_targets": _ALL, "lora_dropout": 0.05}),
        ("axolotl", ("", ""), {"base_precision": "nf4-double", "global_batch": 8, "preference": None}),
        (
            "axolotl",
            ("num_epochs: 4", "bnb_config_kwargs: {bnb_4bit_use_double_quant: false}"),
            {"base_precision": "nf4"},
        ),
        (
            "axolotl",
            ("load_in_8bit: false\nload_in_4bit: true\nadapter: qlora", "load_in_8bit: true\nadapter: lora"),
            {"base_precision": "int8"},
        ),
        ("axolotl", ("load_in_4bit: true\nadapter: qlora", "adapter:"), {"train": None, "base_precision": None}),
        ("axolotl", ("NousResearch/Meta-Llama-3-8B", "mistralai/Mixtral-8x7B-v0.1"), {"lora_targets": ("attention",)}),
        ("dpo", ("", ""), {"preference": "dpo", "reference": "base", "global_batch": 16}),
        ("dpo", ("", ""), {"lora_targets": ("q_proj", "k_proj", "v_proj", "o_proj"), "base_precision": None}),
        ("dpo", ("rl: dpo", "rl: dpo\nprecompute_ref_log_probs: true"), {"reference": "precomputed"}),
        ("dpo", ("rl: dpo", "rl: ipo\nrl_adapter_ref_model: true"), {"preference": "dpo", "reference": "copy"}),
        ("dpo", ("adapter: lora", "adapter:"), {"reference": "copy", "train": None}),
        ("dpo", ("rl: dpo", "rl: orpo"), {"preference": "dpo", "reference": "precomputed"}),
        ("dpo", ("rl: dpo", "reward_model: true"), {"preference": "reward", "reference": None, "global_batch": 16}),
        ("factory", ("", ""), {"train": "lora", "lora_rank": 8, "lora_targets": _ALL, "base_precision": "nf4"}),
        ("factory", ("double_quantization: false", ""), {"base_precision": "nf4-double"}),
        ("factory", ("quantization_bit: 4", "quantization_bit: 8"), {"base_precision": "int8"}),
        ("factory", ("finetuning_type: lora\n", ""), {"train": "lora"}),
        ("factory", ("lora_rank: 8\nlora_target: all", "lora_target: q_proj,v_proj"), {"lora_rank": 8}),
        ("factory", ("lora_target: all", "lora_target: q_proj,v_proj"), {"lora_targets": ("q_proj", "v_proj")}),
        ("factory", ("stage: sft", "stage: dpo"), {"preference": "dpo", "reference": "base", "global_batch": 16}),
        ("factory", ("stage: sft", "stage: dpo\nref_model: meta-llama/Meta-Llama-3-8B"), {"reference": "copy"}),
        ("factory", ("stage: sft", "stage: dpo\npref_loss: simpo"), {"reference": "precomputed"}),
        ("factory", ("stage: sft", "stage: rm"), {"preference": "reward", "global_batch": 16}),
        ("litgpt", ("", ""), {"train": "lora", "lora_rank": 32, "lora_targets": ("query", "value")}),
        ("litgpt", ("quantize: bnb.nf4", "quantize: bnb.nf4-dq"), {"base_precision": "nf4-double"}),
        ("litgpt", ("lora_dropout: 0.05\n", ""), {"lora_dropout": 0.05}),
        (
            "litgpt",
            ("lora_projection: false\nlora_mlp: false", "lora_projection: true\nlora_mlp: true"),
            {"lora_targets": ("query", "value", "output", "gate", "up", "down")},
        ),
    ],
)
def test_keys_become_fields(tmp_path: Path, kind: str, changes: tuple[str, str], fields: dict[str, Any]) -> None:
    path = tmp_path / "run.yaml"
    assert changes[0] in _FILES[kind]
    path.write_text(_FILES[kind].replace(*changes) if changes[0] else _FILES[kind])
    launched = launch_file(path, 1)
    assert launched is not None
    assert {name: launched.workload.get(name) for name in fields} == fields


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("axolotl", ("load_in_4bit: true", "load_in_4bit: false"), "adapter='qlora': goes with load_in_4bit: true"),
        ("axolotl", ("adapter: qlora", "adapter: lora"), "load_in_4bit=true: goes with adapter: qlora alone"),
        ("axolotl", ("adapter: qlora", "adapter: llama-adapter"), "is not understood; capsim reads lora, qlora"),
        ("axolotl", ("lora_r: 32\n", ""), "lora_r is missing; add it"),
        ("axolotl", ("lora_target_linear: true", "seed: 1"), "has no modules; add lora_target_linear: true"),
        ("axolotl", ("num_epochs: 4", "lora_modules_to_save: [lm_head]"), "may change time or memory"),
        ("dpo", ("o_proj", "lm_head"), "names lm_head, which is no matrix of a layer"),
        ("dpo", ("lora_r: 16", "lora_r: 0"), "lora_r=0: must be a whole number of at least 1"),
        ("dpo", ("rl: dpo", "rl: grpo"), "rl='grpo': is not understood; capsim reads dpo, ipo, orpo, simpo"),
        ("dpo", ("rl: dpo", "reward_model: true\nnum_labels: 2"), "num_labels=2: is not one score a sequence"),
        ("factory", ("finetuning_type: lora", "finetuning_type: freeze"), "is not understood; capsim reads lora, full"),
        ("factory", ("finetuning_type: lora", "finetuning_type: full"), "quantization_bit=4: holds a frozen model"),
        ("factory", ("quantization_bit: 4", "quantization_bit: 3"), "is not understood; capsim reads 4 and 8"),
        ("factory", ("quantization_method: bnb", "quantization_method: hqq"), "capsim reads bnb, bitsandbytes"),
        ("factory", ("lora_target: all", "lora_target: q_proj,embed_tokens"), "names embed_tokens"),
        ("factory", ("lora_rank: 8", "additional_target: lm_head"), "trains modules beside adapters"),
        ("litgpt", ("lora_head: false", "lora_head: true"), "puts an adapter beside the head"),
        ("litgpt", ("devices: 1", "devices: 2"), "quantize='bnb.nf4': runs on one device in litgpt"),
        ("litgpt", ("quantize: bnb.nf4", "quantize: bnb.fp4"), "is not understood; capsim reads bnb.nf4, bnb.nf4-dq"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, kind: str, changes: tuple[str, str], message: str) -> None:
    path = tmp_path / "run.yaml"
    assert changes[0] in _FILES[kind]
    path.write_text(_FILES[kind].replace(*changes))
    with pytest.raises(InputError) as refused:
        launch_file(path, 2 if "devices: 2" in changes else 1)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("kind", "lines", "ignored"),
    [
        ("axolotl", "special_tokens: {pad_token: <|end_of_text|>}", "special_tokens.pad_token=<|end_of_text|>"),
        ("axolotl", "model_config: {output_router_logits: true}", "model_config.output_router_logits=True"),
        ("axolotl", "relora: false", "relora=False"),
        ("factory", "use_dft_loss: true", "use_dft_loss=True"),
        ("factory", "use_galore: false", "use_galore=False"),
        ("factory", "pissa_init: true", "pissa_init=True"),
        ("litgpt", "logger_name: csv", "logger_name=csv"),
    ],
)
def test_what_changes_neither_time_nor_memory_is_ignored(tmp_path: Path, kind: str, lines: str, ignored: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{_FILES[kind]}{lines}\n")
    launched = launch_file(path, 1)
    assert launched is not None
    assert any(line.startswith(ignored) for line in launched.ignored)


@pytest.mark.parametrize(
    ("framework", "work", "message"),
    [
        ("axolotl", {"base_precision": "fp8"}, "axolotl has no setting for base_precision=fp8; choose nf4-double"),
        ("axolotl", {"train": "head"}, "train=head: a file of axolotl does not say it"),
        ("llama-factory", {"preference": "dpo", "reference": "precomputed"}, "it computes the reference's pass"),
        ("megatron-lm", {"lora_rank": 8}, "write it for axolotl or llama-factory, or add it by hand"),
        ("torchtitan", {"preference": "dpo"}, "preference=dpo: a file of torchtitan does not say it"),
        ("axolotl", {"teacher": "llama-3-8b"}, "write the file without it, or add it by hand"),
    ],
)
def test_work_that_a_file_cannot_say_is_refused(framework: str, work: dict[str, Any], message: str) -> None:
    stack = {"megatron-lm": "megatron-lm", "torchtitan": "pytorch-fsdp"}.get(framework, "huggingface")
    plan = {"tp": 1, "cp": 1, "pp": 1, "micro_batch": 2, "sharding": "zero3"}
    plan |= {} if framework != "megatron-lm" else {"sharding": "zero1"}
    scenario = resolve("llama-3-8b", "dgx-h100", devices=8, stack=stack, plan=plan, workload=work)
    with pytest.raises(InputError) as refused:
        written(scenario, framework)
    assert message in str(refused.value)


def test_a_module_that_computes_several_matrices_has_one_adapter() -> None:
    model = simulator.load_model("falcon-7b")
    work = Workload(lora_rank=2, lora_targets="q_proj", sequence_length=16).resolve(model)
    with pytest.raises(InputError, match=r"adapter of query alone: self_attention.query_key_value computes query, key"):
        written_targets(model, work, "axolotl")
    experts = simulator.load_model("mixtral-8x7b")
    work = Workload(lora_rank=2, sequence_length=16).resolve(experts)
    with pytest.raises(InputError, match="no adapters of experts, which transformers holds as one parameter"):
        written_targets(experts, work, "axolotl")


@pytest.mark.parametrize("framework", ["axolotl", "llama-factory"])
def test_a_file_is_estimated_as_its_scenario(framework: str, tmp_path: Path) -> None:
    work = {"lora_rank": 16, "base_precision": "nf4", "preference": "dpo", "sequence_length": 2048, "global_batch": 64}
    plan = {"tp": 1, "cp": 1, "micro_batch": 2, "sharding": "none", "recompute": "full"}
    scenario = resolve("llama-3-8b", "dgx-h100", devices=8, stack="huggingface", plan=plan, workload=work)
    path = tmp_path / "run.yaml"
    path.write_text(written(scenario, framework).text)
    launched = launch_file(path, 8)
    assert launched is not None
    again, straight = simulator.answer(read_back(launched, scenario)), simulator.answer(scenario)
    assert again.step_time_s == straight.step_time_s
    assert again.memory_bytes == straight.memory_bytes
    assert "reference_model" in straight.breakdown_s
