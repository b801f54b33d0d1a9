"""Released checkpoints of the catalogue as the transformers library describes them."""

from __future__ import annotations

from typing import Any

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}


def _albert(hidden: int, layers: int, heads: int) -> dict[str, int]:
    width = {"hidden_size": hidden, "intermediate_size": 4 * hidden}
    return {**width, "num_hidden_layers": layers, "num_attention_heads": heads}


def _gpt2(layers: int, width: int, heads: int) -> dict[str, int]:
    return {"n_layer": layers, "n_embd": width, "n_head": heads}


def _layers(layers: int, width: int, heads: int, **others: Any) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, **others}


def _llama(layers: int, width: int, heads: int, inner: int, groups: int | None = None, **others: Any) -> dict[str, Any]:
    return _layers(layers, width, heads, intermediate_size=inner, num_key_value_heads=groups, **others)


def _t5(layers: int, width: int, heads: int, head: int, inner: int) -> dict[str, int]:
    return {"num_layers": layers, "d_model": width, "num_heads": heads, "d_kv": head, "d_ff": inner}


def _neox(layers: int, width: int, heads: int, words: int) -> dict[str, Any]:
    return _layers(layers, width, heads, intermediate_size=4 * width, vocab_size=words)


_NEW = {"vocab_size": 128_256}
_OPT = {"vocab_size": 50_272}
_FALCON_40B = {"new_decoder_architecture": True, "num_kv_heads": 8}
_MPT = {"vocab_size": 50_432}
_UNLIMITED: dict[str, Any] = {"sliding_window": None}

CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base": ("BertForPreTraining", {}),
    "bert-large": ("BertForPreTraining", _LARGE),
    "mbert-base": ("BertForPreTraining", {"vocab_size": 119_547}),
    "roberta-base": ("RobertaForMaskedLM", _ROBERTA),
    "roberta-large": ("RobertaForMaskedLM", {**_ROBERTA, **_LARGE}),
    "albert-base": ("AlbertForPreTraining", _albert(768, 12, 12)),
    "albert-large": ("AlbertForPreTraining", _albert(1024, 24, 16)),
    "albert-xlarge": ("AlbertForPreTraining", _albert(2048, 24, 16)),
    "albert-xxlarge": ("AlbertForPreTraining", _albert(4096, 12, 64)),
    "distilbert": ("DistilBertForMaskedLM", {}),
    "gpt2-124m": ("GPT2LMHeadModel", _gpt2(12, 768, 12)),
    "gpt2-355m": ("GPT2LMHeadModel", _gpt2(24, 1024, 16)),
    "gpt2-774m": ("GPT2LMHeadModel", _gpt2(36, 1280, 20)),
    "gpt2-1.5b": ("GPT2LMHeadModel", _gpt2(48, 1600, 25)),
    "llama-7b": ("LlamaForCausalLM", _llama(32, 4096, 32, 11_008)),
    "llama-13b": ("LlamaForCausalLM", _llama(40, 5120, 40, 13_824)),
    "llama-33b": ("LlamaForCausalLM", _llama(60, 6656, 52, 17_920)),
    "llama-65b": ("LlamaForCausalLM", _llama(80, 8192, 64, 22_016)),
    "llama-2-7b": ("LlamaForCausalLM", _llama(32, 4096, 32, 11_008)),
    "llama-2-13b": ("LlamaForCausalLM", _llama(40, 5120, 40, 13_824)),
    "llama-2-70b": ("LlamaForCausalLM", _llama(80, 8192, 64, 28_672, 8)),
    "llama-3-8b": ("LlamaForCausalLM", _llama(32, 4096, 32, 14_336, 8, **_NEW)),
    "llama-3-70b": ("LlamaForCausalLM", _llama(80, 8192, 64, 28_672, 8, **_NEW)),
    "llama-3.1-8b": ("LlamaForCausalLM", _llama(32, 4096, 32, 14_336, 8, **_NEW)),
    "llama-3.1-70b": ("LlamaForCausalLM", _llama(80, 8192, 64, 28_672, 8, **_NEW)),
    "llama-3.1-405b": ("LlamaForCausalLM", _llama(126, 16_384, 128, 53_248, 8, **_NEW)),
    "llama-3.2-1b": ("LlamaForCausalLM", _llama(16, 2048, 32, 8192, 8, tie_word_embeddings=True, **_NEW)),
    "llama-3.2-3b": ("LlamaForCausalLM", _llama(28, 3072, 24, 8192, 8, tie_word_embeddings=True, **_NEW)),
    "mistral-7b": ("MistralForCausalLM", {}),
    "mixtral-8x7b": ("MixtralForCausalLM", {}),
    "mixtral-8x22b": ("MixtralForCausalLM", _llama(56, 6144, 48, 16_384, 8, vocab_size=32_768, **_UNLIMITED)),
    "t5-small": ("T5ForConditionalGeneration", _t5(6, 512, 8, 64, 2048)),
    "t5-base": ("T5ForConditionalGeneration", _t5(12, 768, 12, 64, 3072)),
    "t5-large": ("T5ForConditionalGeneration", _t5(24, 1024, 16, 64, 4096)),
    "t5-3b": ("T5ForConditionalGeneration", _t5(24, 1024, 32, 128, 16_384)),
    "t5-11b": ("T5ForConditionalGeneration", _t5(24, 1024, 128, 128, 65_536)),
    "falcon-7b": ("FalconForCausalLM", {}),
    "falcon-40b": ("FalconForCausalLM", _layers(60, 8192, 128, **_FALCON_40B)),
    "mpt-7b": ("MptForCausalLM", {**_MPT, "d_model": 4096, "n_layers": 32, "n_heads": 32}),
    "mpt-30b": ("MptForCausalLM", {**_MPT, "d_model": 7168, "n_layers": 48, "n_heads": 64}),
    "gpt-neox-20b": ("GPTNeoXForCausalLM", {}),
    "pythia-1.4b": ("GPTNeoXForCausalLM", _neox(24, 2048, 16, 50_304)),
    "pythia-6.9b": ("GPTNeoXForCausalLM", _neox(32, 4096, 32, 50_432)),
    "pythia-12b": ("GPTNeoXForCausalLM", _neox(36, 5120, 40, 50_688)),
    "opt-1.3b": ("OPTForCausalLM", _layers(24, 2048, 32, ffn_dim=8192, **_OPT)),
    "opt-13b": ("OPTForCausalLM", _layers(40, 5120, 40, ffn_dim=20_480, **_OPT)),
    "opt-175b": ("OPTForCausalLM", _layers(96, 12_288, 96, ffn_dim=49_152, **_OPT)),
    "bloom-7b1": ("BloomForCausalLM", {"n_layer": 30, "n_head": 32, "hidden_size": 4096}),
    "bloom-176b": ("BloomForCausalLM", {"n_layer": 70, "n_head": 112, "hidden_size": 14_336}),
}
"""Catalogue name to architecture and the sizes that differ from the library's defaults."""
