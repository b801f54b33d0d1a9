"""Adapters, frozen weights and the head alone against torch with PEFT's modules: parameters, arithmetic, kept bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model, inject_adapter_in_model
from transformers import AutoModelForCausalLM

from hardware.errors import InputError
from measure.count.activations import saved_activations
from measure.count.flops import flops
from measure.models import Batch, Setting, Transformer, parameters_of, random_batch
from measure.verification.families import configuration_of
from simulator.specs.choices import Recompute
from simulator.specs.huggingface.families import examples
from simulator.specs.huggingface.reading import from_config
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
from tests.against_torch.tuning import VIRTUAL, adapted, head_only, prefixed, prompted, prompted_batch, trained

RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
RELU = next(model for model in ALL_DENSE if model.id == "opt")
CLASSIFIER = next(model for model in ALL_DENSE if model.id == "classifier")
SPAN = next(model for model in ALL_DENSE if model.id == "span")
SHARED = next(model for model in ALL_DENSE if model.id == "albert")
MODELS = (BERT, GPT, PALM, LLAMA, NEOX, T5, RELU, CLASSIFIER, SPAN, SHARED)
_PROMPTED = ("deepseek", "deepseek-lite", "qwen3", "gemma-2", "mixtral", "bloom", "modernbert", "gpt-oss")
JOINT = {"joint_adapters": True}
"""The feed-forward layers of the reference modules have one matrix for both inputs of a gate."""


def of(model: Model, setting: Setting, tuning: dict[str, Any], stack: dict[str, Any] | None = None) -> Program:
    return program_of(scenarios_of(model, setting, stack=stack, tuning=tuning))


def check(program: Program, module: Transformer, model: Model, setting: Setting, batch: Batch | None = None) -> None:
    """Parameters, arithmetic and kept bytes are those of torch."""
    batch = batch or random_batch(model, setting, 4, predictions=predictions_of(model, setting))
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


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("targets", ["attention", "q_proj,v_proj", "down_proj"])
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, T5, RELU, CLASSIFIER, SHARED], ids=name_of)
def test_magnitudes(model: Model, targets: str, recompute: Recompute) -> None:
    setting = setting_of(model, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": targets, "dora": True}
    check(of(model, setting, tuning), adapted(model, setting, targets, dora=True), model, setting)


@pytest.mark.parametrize("targets", ["feed-forward", "all-linear"])
@pytest.mark.parametrize("model", [PALM, LLAMA], ids=name_of)
def test_magnitudes_of_joint_adapters(model: Model, targets: str) -> None:
    setting = setting_of(model, fused_qkv=True)
    tuning = {"lora_rank": 4, "lora_targets": targets, "dora": True}
    check(of(model, setting, tuning, JOINT), adapted(model, setting, targets, dora=True), model, setting)


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("precision", [None, "nf4"])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("model", [BERT, LLAMA], ids=name_of)
def test_magnitudes_of_quantised_weights_and_dropped_inputs(
    model: Model, dropout: float, precision: str | None, recompute: Recompute
) -> None:
    """With dropout the frozen product runs twice, and 16-bit weights are kept where they are quantised."""
    setting = setting_of(model, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": "attention", "dora": True, "base_precision": precision}
    module = adapted(model, setting, "attention", dropout=dropout, quantised=precision is not None, dora=True)
    check(of(model, setting, {**tuning, "lora_dropout": dropout}), module, model, setting)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [*MODELS, *(each for each in EVERY if each.id in _PROMPTED)], ids=name_of)
def test_prompts(model: Model, recompute: Recompute) -> None:
    """Virtual tokens lengthen each sequence, of an encoder-decoder that of the encoder."""
    if model.embedding_size is not None:
        with pytest.raises(InputError, match="words of albert are narrower"):
            of(model, setting_of(model), {"train": "prompt"})
        return
    whole = setting_of(model, recompute=recompute)
    real = replace(whole, sequence_length=whole.sequence_length - VIRTUAL)
    program = of(model, real, {"train": "prompt", "virtual_tokens": VIRTUAL})
    batch = prompted_batch(model, whole, predictions_of(model, real))
    check(program, prompted(model, whole), model, whole, batch)


@pytest.mark.parametrize("fused_attention", [False, True])
@pytest.mark.parametrize("recompute", ["none", "selective"])
@pytest.mark.parametrize("model", [each for each in MODELS if each is not T5], ids=name_of)
def test_prefixes(model: Model, recompute: Recompute, fused_attention: bool) -> None:
    setting = setting_of(model, recompute=recompute, fused_attention=fused_attention)
    program = of(model, setting, {"train": "prefix", "virtual_tokens": VIRTUAL})
    check(program, prefixed(model, setting), model, setting)


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


def _transformers_llama(config: PeftConfig) -> Any:
    """A small Llama of transformers, with what PEFT gives it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
    own = LlamaConfig(
        **sizes,
        intermediate_size=320,
        vocab_size=1000,
        head_dim=16,
        tie_word_embeddings=False,
        attn_implementation="eager",
        use_cache=False,
    )
    module = LlamaForCausalLM(own).to(torch.bfloat16)
    module.enable_input_require_grads()
    return get_peft_model(module, config, autocast_adapter_dtype=False)


_VIRTUAL: dict[str, Any] = {"task_type": "CAUSAL_LM", "num_virtual_tokens": VIRTUAL}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by an older name
@pytest.mark.parametrize(
    ("config", "tuning"),
    [
        (LoraConfig(r=4, target_modules="all-linear"), {"lora_rank": 4, "lora_targets": "all-linear"}),
        (LoraConfig(r=4, target_modules="all-linear", use_dora=True), {"lora_rank": 4, "dora": True}),
        (PromptTuningConfig(**_VIRTUAL), {"train": "prompt", "virtual_tokens": VIRTUAL}),
        (PrefixTuningConfig(**_VIRTUAL), {"train": "prefix", "virtual_tokens": VIRTUAL}),
    ],
    ids=["lora", "dora", "prompt", "prefix"],
)
def test_what_peft_makes_of_a_model_of_transformers(config: PeftConfig, tuning: dict[str, Any]) -> None:
    module = _transformers_llama(config)
    program = of(LLAMA, replace(setting_of(LLAMA), sequence_length=56), tuning)
    counts = counts_of(program)
    assert counts.parameters == parameters_of([module])
    assert counts.trained_parameters == trained(module)
    tokens = torch.zeros(4, 56, dtype=torch.long)
    of_torch = flops(lambda: module(input_ids=tokens, labels=tokens).loss)
    assert program.model_flops == of_torch.total


def _has_formulas(model: Model) -> bool:
    return model.positions != "transformer-xl" and not model.position_products and not model.key_value_rank


@pytest.mark.parametrize("targets", ["attention", "q_proj,v_proj"])
@pytest.mark.parametrize("model", [model for model in EVERY if _has_formulas(model)], ids=name_of)
def test_adapters_of_every_other_kind_of_layer(model: Model, targets: str) -> None:
    setting, tuning = setting_of(model), {"lora_rank": 4, "lora_targets": targets}
    check(of(model, setting, tuning), adapted(model, setting, targets), model, setting)


_TUNINGS: tuple[dict[str, Any], ...] = ({"lora_rank": 4}, {"train": "prompt"}, {"train": "prefix"})
_WITHOUT_FORMULAS = [
    pytest.param(model, tuning, id=f"{name_of(model)}-{next(iter(tuning.values()))}")
    for model in EVERY
    if not _has_formulas(model)
    for tuning in (_TUNINGS[2:] if model.key_value_rank else _TUNINGS)
]
"""Adapters and prompts stand beside latent attention, prefixes do not."""


@pytest.mark.parametrize(("model", "tuning"), _WITHOUT_FORMULAS)
def test_what_has_no_formulas_is_refused(model: Model, tuning: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"of {model.id} cannot be counted; train=full or head"):
        of(model, setting_of(model), tuning)


LATENT = tuple(model for model in EVERY if model.key_value_rank is not None)
_ONE_BY_ONE = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")


def _has(model: Model, targets: str) -> bool:
    """Whether a model has the modules of some targets: queries through a latent or without one."""
    return model.query_rank is not None or not {"q_a_proj", "q_b_proj"} & set(targets.split(","))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("targets", [*_ONE_BY_ONE, "q_a_proj,kv_a_proj_with_mqa", "q_b_proj,kv_b_proj,o_proj"])
@pytest.mark.parametrize("model", LATENT, ids=name_of)
def test_adapters_beside_latent_attention(model: Model, targets: str, recompute: Recompute) -> None:
    if not _has(model, targets):
        targets = targets.replace("q_a_proj", "q_proj").replace("q_b_proj,", "")
        targets = "q_proj" if targets == "q_b_proj" else targets
    setting = setting_of(model, recompute=recompute)
    tuning = {"lora_rank": 4, "lora_targets": targets}
    pattern = targets.replace("q_proj,kv_a", "q_a_proj,kv_a") if "," in targets else targets
    pattern = "q_b_proj,kv_b_proj,o_proj" if pattern == "kv_b_proj,o_proj" else pattern
    check(of(model, setting, tuning), adapted(model, setting, pattern), model, setting)


@pytest.mark.parametrize("how", [{}, {"lora_dropout": 0.05}, {"base_precision": "nf4"}, {"dora": True}])
@pytest.mark.parametrize("model", LATENT, ids=name_of)
def test_all_of_latent_attention_adapted(model: Model, how: dict[str, Any]) -> None:
    setting = setting_of(model)
    tuning = {"lora_rank": 4, "lora_targets": "attention", **how}
    said = {"dropout": how.get("lora_dropout", 0.0), "quantised": "base_precision" in how, "dora": "dora" in how}
    check(of(model, setting, tuning), adapted(model, setting, "latent attention", **said), model, setting)


@pytest.mark.parametrize("targets", ["q_a_proj", "kv_a_proj_with_mqa", "q_b_proj,kv_b_proj", "attention"])
@pytest.mark.parametrize("model_type", ["deepseek_v3", "deepseek_v2"])
def test_adapters_of_the_library_beside_latent_attention(model_type: str, targets: str) -> None:
    """Trained parameters of PEFT beside the modules of transformers themselves."""
    sizes = {**examples()[model_type][1], "model_type": model_type}
    model = from_config(sizes, Path("x.json"))
    if not _has(model, targets):
        targets = targets.replace("q_a_proj", "q_proj").replace("q_b_proj,", "")
    named = ["q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(configuration_of(model_type, examples()[model_type][1]))
        wanted = named if targets == "attention" else targets.split(",")
        inject_adapter_in_model(LoraConfig(r=3, target_modules=wanted), module)
    adapters = sum(each.numel() for name, each in module.named_parameters() if "lora_" in name)
    counts = counts_of(of(model, setting_of(model), {"lora_rank": 3, "lora_targets": targets}))
    assert counts.trained_parameters == adapters
