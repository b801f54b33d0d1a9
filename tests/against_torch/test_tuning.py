"""Adapters, frozen weights and the head alone against torch with PEFT's modules: parameters, arithmetic, kept bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hardware.errors import InputError
from measure.count.activations import saved_activations
from measure.count.flops import flops
from measure.models import Setting, Transformer, parameters_of, random_batch
from simulator.specs.choices import Recompute
from simulator.specs.model import Model
from simulator.work.counts import counts_of
from simulator.work.program import Program, program_of
from tests.against_torch.cases import (
    BERT,
    EVERY,
    GPT,
    LLAMA,
    MIXTRAL,
    NEOX,
    PALM,
    T5,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)
from tests.against_torch.cases import DENSE as ALL_DENSE
from tests.against_torch.tuning import adapted, head_only, trained

RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
RELU = next(model for model in ALL_DENSE if model.id == "opt")
CLASSIFIER = next(model for model in ALL_DENSE if model.id == "classifier")
SPAN = next(model for model in ALL_DENSE if model.id == "span")
SHARED = next(model for model in ALL_DENSE if model.id == "albert")
MODELS = (BERT, GPT, PALM, LLAMA, NEOX, T5, RELU, CLASSIFIER, SPAN, SHARED)
JOINT = {"joint_adapters": True}
"""The feed-forward layers of the reference modules have one matrix for both inputs of a gate."""


def of(model: Model, setting: Setting, tuning: dict[str, Any], stack: dict[str, Any] | None = None) -> Program:
    return program_of(scenarios_of(model, setting, stack=stack, tuning=tuning))


def check(program: Program, module: Transformer, model: Model, setting: Setting) -> None:
    """Parameters, arithmetic and kept bytes are those of torch."""
    batch = random_batch(model, setting, 4, predictions=predictions_of(model, setting))
    counts = counts_of(program)
    assert counts.parameters == parameters_of([module])
    assert counts.trained_parameters == trained(module)
    assert program.together.saved_bytes == saved_activations(lambda: module.loss(batch), module).bytes
    of_torch = flops(lambda: module.loss(batch))
    assert program.model_flops + program.recomputed_flops == of_torch.total


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("targets", ["attention", "q_proj,v_proj", "down_proj"])
@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_adapters(model: Model, targets: str, recompute: Recompute) -> None:
    setting = setting_of(model, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": targets}
    check(of(model, setting, tuning), adapted(model, setting, targets), model, setting)


@pytest.mark.parametrize("targets", ["feed-forward", "all-linear"])
@pytest.mark.parametrize("model", [BERT, GPT, NEOX, T5, RELU, SHARED], ids=name_of)
def test_adapters_of_plain_feed_forward_layers(model: Model, targets: str) -> None:
    setting = setting_of(model)
    tuning = {"lora_rank": 4, "lora_targets": targets}
    check(of(model, setting, tuning), adapted(model, setting, targets), model, setting)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("targets", ["feed-forward", "all-linear"])
@pytest.mark.parametrize("model", [PALM, LLAMA], ids=name_of)
def test_joint_adapters(model: Model, targets: str, recompute: Recompute) -> None:
    setting = setting_of(model, recompute=recompute, fused_qkv=True)
    tuning = {"lora_rank": 4, "lora_targets": targets}
    check(of(model, setting, tuning, JOINT), adapted(model, setting, targets), model, setting)


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("targets", ["attention", "q_proj,v_proj", "down_proj"])
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, NEOX], ids=name_of)
def test_fused_attention_keeps_its_output(model: Model, targets: str, recompute: Recompute) -> None:
    setting = setting_of(model, fused_attention=True, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": targets}
    check(of(model, setting, tuning), adapted(model, setting, targets), model, setting)


@pytest.mark.parametrize("fused_attention", [False, True])
@pytest.mark.parametrize("targets", ["attention", "q_proj,v_proj", "down_proj"])
@pytest.mark.parametrize("model", [BERT, PALM, LLAMA, NEOX, RELU], ids=name_of)
def test_each_adapter_keeps_what_it_drops(model: Model, targets: str, fused_attention: bool) -> None:
    setting = setting_of(model, fused_attention=fused_attention)
    tuning = {"lora_rank": 4, "lora_targets": targets, "lora_dropout": 0.05}
    check(of(model, setting, tuning), adapted(model, setting, targets, dropout=0.05), model, setting)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("precision", ["nf4", "nf4-double", "int8"])
@pytest.mark.parametrize("model", [BERT, LLAMA, T5], ids=name_of)
def test_quantised_weights(model: Model, precision: str, recompute: Recompute) -> None:
    setting = setting_of(model, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": "attention", "base_precision": precision}
    check(of(model, setting, tuning), adapted(model, setting, "attention", quantised=True), model, setting)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_experts_are_frozen_beside_adapters(recompute: Recompute) -> None:
    setting = setting_of(MIXTRAL, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": "attention"}
    check(of(MIXTRAL, setting, tuning), adapted(MIXTRAL, setting, "attention"), MIXTRAL, setting)


def _has_own_head(model: Model) -> bool:
    return not model.tied_head or model.objective not in ("causal", "mlm", "seq2seq", "encoding")


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [model for model in EVERY if _has_own_head(model)], ids=name_of)
def test_the_head_alone(model: Model, recompute: Recompute) -> None:
    setting = setting_of(model)  # torch has nothing to recompute without gradients
    scenarios = scenarios_of(model, setting, tuning={"train": "head"}, recompute=recompute)
    check(program_of(scenarios), head_only(model, setting), model, setting)


def _transformers_llama() -> tuple[Any, Model]:
    """A small Llama of transformers with PEFT's adapters on every linear layer, and our own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
    config = LlamaConfig(
        **sizes,
        intermediate_size=320,
        vocab_size=1000,
        head_dim=16,
        tie_word_embeddings=False,
        attn_implementation="eager",
        use_cache=False,
    )
    module = LlamaForCausalLM(config).to(torch.bfloat16)
    module.enable_input_require_grads()
    return get_peft_model(module, LoraConfig(r=4, target_modules="all-linear"), autocast_adapter_dtype=False), LLAMA


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by an older name
def test_all_linear_is_what_peft_takes_for_it_in_a_model_of_transformers() -> None:
    module, model = _transformers_llama()
    program = of(model, setting_of(model), {"lora_rank": 4, "lora_targets": "all-linear"})
    counts = counts_of(program)
    assert counts.parameters == parameters_of([module])
    assert counts.trained_parameters == trained(module)
    tokens = torch.zeros(4, 64, dtype=torch.long)
    of_torch = flops(lambda: module(input_ids=tokens, labels=tokens).loss)
    assert program.model_flops == of_torch.total


def _has_formulas(model: Model) -> bool:
    return model.positions != "transformer-xl" and not model.position_products and not model.key_value_rank


@pytest.mark.parametrize("targets", ["attention", "q_proj,v_proj"])
@pytest.mark.parametrize("model", [model for model in EVERY if _has_formulas(model)], ids=name_of)
def test_adapters_of_every_other_kind_of_layer(model: Model, targets: str) -> None:
    setting, tuning = setting_of(model), {"lora_rank": 4, "lora_targets": targets}
    check(of(model, setting, tuning), adapted(model, setting, targets), model, setting)


@pytest.mark.parametrize("model", [model for model in EVERY if not _has_formulas(model)], ids=name_of)
def test_adapters_without_formulas_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match=f"of {model.id} cannot be counted; train=full or head"):
        of(model, setting_of(model), {"lora_rank": 4})
