"""Architectures of published runs: families, names, sizes that were not published, experts."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.corpus.architectures import has_experts, known_model, model_of
from simulator.corpus.runs import RefusedError
from simulator.specs.model import Model
from tests.evidence.examples import made, published


def _model(**changes: Any) -> Model:
    return model_of(made(**{f"model__{name}": value for name, value in changes.items()}))


def _refusal(**changes: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        _model(**changes)
    return caught.value.reason


@pytest.mark.parametrize(
    ("family", "kind", "positions", "feed_forward"),
    [
        ("bert", "encoder", "learned", "plain"),
        ("roberta", "encoder", "learned", "plain"),
        ("gpt", "decoder", "learned", "plain"),
        ("GPT2", "decoder", "learned", "plain"),
        ("gpt-neox", "decoder", "rotary", "plain"),
        ("opt", "decoder", "learned", "plain"),
        ("bloom", "decoder", "alibi", "plain"),
        ("llama", "decoder", "rotary", "gated"),
        ("Mistral", "decoder", "rotary", "gated"),
        ("qwen2", "decoder", "rotary", "gated"),
        ("palm", "decoder", "rotary", "gated"),
        ("t5", "encoder-decoder", "relative-buckets", "plain"),
    ],
)
def test_families(family: str, kind: str, positions: str, feed_forward: str) -> None:
    model = _model(family=family)
    assert (model.kind, model.positions, model.feed_forward) == (kind, positions, feed_forward)
    assert (model.layers, model.hidden_size, model.attention_heads) == (32, 4096, 32)


@pytest.mark.parametrize("family", ["vit", "mamba", "diffusion", "deberta", "rwkv", "resnet"])
def test_families_nobody_knows_are_refused(family: str) -> None:
    assert _refusal(family=family) == "unknown family of models"
    assert _refusal(family=None, name=f"{family}-large") == "unknown family of models"


@pytest.mark.parametrize(
    ("name", "kind"), [("bert-large-uncased", "encoder"), ("t5-3b", "encoder-decoder"), ("llama-2-7b", "decoder")]
)
def test_without_a_family_the_name_tells_it(name: str, kind: str) -> None:
    assert _model(family=None, name=name).kind == kind


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-2-70b-hf", "llama-2-70b"),
        ("llama3-8b", "llama-3-8b"),
        ("LLaMA 33B", "llama-33b"),
        ("bert_large_uncased", "bert-large"),
        ("mbert-base", "mbert-base"),
        ("gpt2", "gpt2-124m"),
        ("gpt2-xl", "gpt2-1.5b"),
        ("GPT-3 175B", "gpt3-175b"),
        ("facebook/opt-13b", "opt-13b"),
        ("grok1-314b-4layers", "grok-1"),
    ],
)
def test_names_of_known_models(name: str, known: str) -> None:
    model = known_model(name)
    assert model is not None
    assert model.id == known


@pytest.mark.parametrize("name", ["llama-3-3b", "modernbert-huge", "a model", "", "gpt-22b one layer", "-"])
def test_names_of_other_models(name: str) -> None:
    assert known_model(name) is None


def test_a_known_name_gives_sizes_that_were_not_published() -> None:
    nothing: dict[str, Any] = dict.fromkeys(["layers", "hidden", "heads", "ffn"])
    model = _model(name="Llama-3-8B", **nothing)
    assert (model.layers, model.hidden_size, model.kv_heads, model.vocabulary_size) == (32, 4096, 8, 128256)
    assert _refusal(**nothing) == "sizes not published"
    assert _refusal(layers=None) == "sizes not published"


def test_a_known_name_of_equal_width_fills_gaps() -> None:
    model = _model(name="llama-3-8b", layers=4)
    assert (model.layers, model.kv_heads, model.vocabulary_size) == (4, 8, 128256)
    assert _model(name="llama-3-8b", hidden=2048).vocabulary_size == 32000


def test_heads_that_were_not_published_are_of_a_usual_width() -> None:
    assert _model(heads=None).width_of_head == 128
    assert _model(heads=None, head_dim=64).attention_heads == 64
    encoder = _model(family="bert", hidden=1024, heads=None, ffn=4096)
    assert (encoder.attention_heads, encoder.width_of_head) == (16, 64)


def test_heads_that_were_not_published_divide_among_tensor_ranks() -> None:
    run = made(model__family="gpt", model__hidden=13824, model__heads=None, plan__tp=8)
    assert model_of(run).attention_heads == 144  # 108 of width 128 would not


@pytest.mark.parametrize(("gated", "size"), [(True, 10922), (False, 16384), (None, 10922)])
def test_the_feed_forward_layer_that_was_not_published(gated: bool | None, size: int) -> None:
    assert _model(ffn=None, ffn_gated=gated).feed_forward_size == size


def test_a_family_of_shared_keys_and_values_has_one_head_of_them() -> None:
    assert _model(family="palm").kv_heads == 1
    assert _model(family="palm", kv_heads=4).kv_heads == 4


def test_both_towers_are_equally_deep_unless_told() -> None:
    assert (_model(family="t5", layers=12).layers, _model(family="t5", layers=12).decoder_layers) == (12, 12)
    told = _model(family="t5", layers=12, encoder_layers=8, decoder_layers=4)
    assert (told.layers, told.decoder_layers) == (8, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "moe"},
        {"experts": 8},
        {"name": "mixtral-8x22b"},
        {"name": "Qwen1.5-MoE-A2.7B"},
        {"name": "qwen3-30b-a3b"},
        {"name": "deepseek-v3"},
        {"name": "llama4-scout"},
        {"name": "switch-base"},
    ],
)
def test_experts_are_never_taken_for_dense(changes: dict[str, Any]) -> None:
    run = made(**{f"model__{name}": value for name, value in changes.items()})
    assert has_experts(run)
    try:
        experts = model_of(run).experts
    except RefusedError as error:
        experts = 2 if error.reason in ("experts not published", "latent attention") else 1
    assert experts > 1


@pytest.mark.parametrize("name", ["llama-405b", "llama-4096", "gemma-7b", "palm-540b", "gpt-4b"])
def test_dense_names_have_no_experts(name: str) -> None:
    assert not has_experts(made(model__name=name))
    assert not has_experts(made(model__name=name, model__experts=1))


def test_experts_that_are_told() -> None:
    model = _model(family="moe", experts=16, experts_per_token=2)
    assert (model.experts, model.experts_per_token, model.feed_forward, model.layers) == (16, 2, "gated", 32)
    assert _refusal(family="moe", experts=16) == "experts not published"
    known = _model(name="deepseek-v3", layers=61, experts=256, experts_per_token=8)
    assert (known.key_value_rank, known.experts, known.dense_layers_first) == (512, 256, 3)


def test_the_structure_of_shipped_models() -> None:
    bert = model_of(published("dle-pyt-21.11-a100_80-8g-s512-tf32"))
    assert (bert.layers, bert.hidden_size, bert.objective, bert.pooler) == (24, 1024, "mlm", True)
    palm = model_of(published("palm-540b-6144"))
    assert (palm.layers, palm.hidden_size, palm.attention_heads, palm.feed_forward_size) == (118, 18432, 48, 73728)
    megatron = model_of(published("megatron-sc21-tab1-1t"))
    assert (megatron.layers, megatron.hidden_size, megatron.attention_heads) == (128, 25600, 160)


def test_finetuning_an_encoder_predicts_spans() -> None:
    assert model_of(made("finetune", model__family="bert")).objective == "span"
    assert model_of(made("pretrain", model__family="bert")).objective == "mlm"
