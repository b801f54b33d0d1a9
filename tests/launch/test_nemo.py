"""Configurations of NeMo before 2.0: what keys say becomes fields, and what is not understood is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.launch.recognition import imported, launch_file
from simulator.scenario.scenario import parameters_of, resolve
from tests.launch.drawing import read_back

_NEMO = """
name: megatron_llama
trainer:
  devices: 8
  num_nodes: 2
  accelerator: gpu
  precision: bf16
  logger: False
  max_epochs: -1
  max_steps: 500
  val_check_interval: 100
exp_manager:
  checkpoint_callback_params:
    model_parallel_size: ${multiply:${model.tensor_model_parallel_size}, ${model.pipeline_model_parallel_size}}
model:
  mcore_gpt: True
  micro_batch_size: 2
  global_batch_size: 128
  tensor_model_parallel_size: 2
  pipeline_model_parallel_size: 2
  virtual_pipeline_model_parallel_size: null
  encoder_seq_length: 4096
  max_position_embeddings: ${.encoder_seq_length}
  num_layers: 32
  hidden_size: 4096
  ffn_hidden_size: 11008
  num_attention_heads: 32
  hidden_dropout: 0.0
  attention_dropout: 0.0
  normalization: 'rmsnorm'
  bias: False
  activation: 'fast-swiglu'
  position_embedding_type: 'rope'
  share_embeddings_and_output_weights: False
  tokenizer:
    library: 'sentencepiece'
    type: null
    model: ??? # /path/to/tokenizer.model
  override_vocab_size: 32000
  megatron_amp_O2: True
  sequence_parallel: True
  activations_checkpoint_granularity: null
  fp8: False
  data:
    data_prefix: ???
    seq_length: ${model.encoder_seq_length}
  optim: {name: distributed_fused_adam, lr: 2e-4, sched: {name: CosineAnnealing}}
"""


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (("", ""), {"tp": 2, "pp": 2, "dp": 4, "sharding": "zero1", "precision": "bf16", "sequence_parallel": True}),
        (("", ""), {"gradients_in_fp32": True, "recompute": "none", "micro_batch": 2, "virtual_stages": 1}),
        (("precision: bf16", "precision: 16"), {"precision": "fp16", "gradients_in_fp32": False}),
        (("precision: bf16", "precision: 32"), {"precision": "fp32"}),
        (("fp8: False", "fp8: True"), {"precision": "fp8"}),
        (("megatron_amp_O2: True", "megatron_amp_O2: False"), {"parameters_in_fp32": True}),
        (("distributed_fused_adam", "fused_adam"), {"sharding": "none"}),
        (("granularity: null", "granularity: selective"), {"recompute": "selective"}),
        (
            ("granularity: null", "granularity: full\n  activations_checkpoint_method: uniform"),
            {"recompute": "full"},
        ),
        (
            (
                "granularity: null",
                "granularity: full\n  activations_checkpoint_method: block\n  activations_checkpoint_num_layers: 2",
            ),
            {"recompute": "full", "recompute_method": "block", "recompute_layers": 2},
        ),
        (
            ("  sequence_parallel: True\n", "  activations_checkpoint_method: uniform\n"),
            {"recompute": "full", "sequence_parallel": False},
        ),
        (
            ("virtual_pipeline_model_parallel_size: null", "virtual_pipeline_model_parallel_size: 4"),
            {"virtual_stages": 4, "schedule": "interleaved"},
        ),
    ],
)
def test_keys_become_fields(tmp_path: Path, changes: tuple[str, str], fields: dict[str, Any]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_NEMO.replace(*changes) if changes[0] else _NEMO)
    launched = launch_file(path)
    assert launched is not None
    assert (launched.framework, launched.stack, launched.devices) == ("NeMo", "nemo", 16)
    assert launched.workload == {"sequence_length": 4096, "global_batch": 128, "steps": 500}
    plan = launched.document()["plan"]
    assert {name: plan[name] for name in fields} == fields


def test_the_model_is_that_of_the_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_NEMO)
    workload = {"sequence_length": 4096, "steps": 500}
    scenario = resolve("llama-2-7b", "dgx-h100", devices=16, stack="nemo", workload=workload)
    again = read_back(imported(path), scenario)
    assert again.model.columns() == scenario.model.columns()
    assert parameters_of(again.model, again.workload) == parameters_of(scenario.model, scenario.workload)


def test_a_tokenizer_whose_rows_are_not_known_asks_for_the_model(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_NEMO.replace("  override_vocab_size: 32000\n", ""))
    with pytest.raises(InputError, match="does not say which model it trains; name it by --model"):
        imported(path)
    launched = imported(path, model="llama-2-7b")
    assert any(text.startswith("vocabulary_size: the tokenizer's") for text in launched.assumed)
    path.write_text(path.read_text().replace("type: null", "type: GPT2BPETokenizer"))
    model = imported(path).model
    assert isinstance(model, dict)
    assert model["vocabulary_size"] == 50432


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("granularity: null", "granularity: full\n  activations_checkpoint_method: each"), "capsim reads uniform"),
        (("fast-swiglu", "squared-relu"), "model.activation='squared-relu': is not understood; capsim reads gelu"),
        (("distributed_fused_adam", "adafactor"), "model.optim.name='adafactor': is not understood"),
        (("  mcore_gpt: True", "  mcore_gpt: True\n  peft: {peft_scheme: lora}"), "model.peft.peft_scheme='lora': may"),
        (("  micro_batch_size: 2", "  micro_batch_size: two"), "must be a whole number of at least 1"),
        (("precision: bf16", "precision: 64"), "trainer.precision=64: is not understood; capsim reads 16"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, changes: tuple[str, str], message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(_NEMO.replace(*changes))
    with pytest.raises(InputError) as refused:
        launch_file(path)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")
