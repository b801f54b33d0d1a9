"""Decoders with plain feed-forward layers: GPT-2 and what came before or beside Llama."""

from __future__ import annotations

from typing import Any

from simulator.specs.huggingface.family import (
    LINEAR,
    Family,
    Fields,
    biases,
    head_size,
    key_value_heads,
    rotary_share,
    shortest,
)
from simulator.specs.huggingface.keys import Keys
from simulator.specs.huggingface.llama import window


def _gpt2(config: Keys) -> Fields:
    config.only("add_cross_attention", False)
    return {"biases": (*LINEAR, "normalisation")}


def _gpt_bigcode(config: Keys) -> Fields:
    one = config.flag("multi_query", default=True)
    return {**_gpt2(config), **({"key_value_heads": 1} if one else {})}


def _gptj(config: Keys) -> Fields:
    width, heads = config.size("n_embd", "hidden_size"), config.size("n_head", "num_attention_heads")
    turned = config.size("rotary_dim", default=64)
    return {
        "positions": "rotary",
        "rotary_share": min(turned * heads / width, 1.0),
        "block": "parallel",
        "biases": ("feed_forward", "normalisation", "head"),
    }


def _gpt_neo(config: Keys) -> Fields:
    keys = config.size("window_size", default=256)
    layers = config.size("num_layers", "num_hidden_layers")
    spread = [word for words, times in _attention_types(config) for word in list(words) * times]
    words = config.words("attention_layers") or spread or ["global", "local"] * (-(-layers // 2))
    if set(words) - {"global", "local"} or len(words) < layers:
        raise config.wrong(
            "attention_layers" if config.has("attention_layers") else "attention_types",
            "valid: [[[global, local], times]]",
        )
    pattern = shortest([None if word == "global" else keys for word in words[:layers]])
    shape: Fields = {"window_pattern": tuple(pattern)} if len(pattern) > 1 else {"sliding_window": pattern[0]}
    return {"biases": ("attention_output", "feed_forward", "normalisation"), **shape}


def _attention_types(config: Keys) -> list[tuple[list[str], int]]:
    """Pairs of words and how often they are repeated."""
    pairs = config.value("attention_types") or []
    valid = isinstance(pairs, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], list)
        and all(isinstance(word, str) for word in pair[0])
        and type(pair[1]) is int
        and 0 <= pair[1] <= 10_000
        for pair in pairs
    )
    if not valid:
        raise config.wrong("attention_types", "must be a list such as [[[global, local], 12]]")
    return [(pair[0], pair[1]) for pair in pairs]


def _opt(config: Keys) -> Fields:
    config.only("layer_norm_elementwise_affine", True)
    hidden = config.size("hidden_size")
    words = config.size("word_embed_proj_dim", default=hidden)
    linear, before = config.flag("enable_bias", default=True), config.flag("do_layer_norm_before", default=True)
    if before:
        config.only("_remove_final_layer_norm", False)
    return {
        "biases": biases(attention=linear, feed_forward=linear, norm=True),
        "norm_position": "pre" if before else "post",
        # The table begins with two rows that no position uses.
        "position_rows": config.size("max_position_embeddings", default=2048) + 2,
        **({} if words == hidden else {"embedding_size": words, "maps_words": True}),
    }


def _bloom(config: Keys) -> Fields:
    return {**_gpt2(config), "embedding_norm": True, "positions": "alibi"}


def _gpt_neox(config: Keys) -> Fields:
    bias = config.flag("attention_bias", default=True)
    share = config.number("rotary_pct") or 0.25
    return {
        "positions": "rotary",
        "rotary_share": rotary_share(config, min(share, 1.0)),
        "block": "parallel" if config.flag("use_parallel_residual", default=True) else "serial",
        "norms_per_layer": 2,
        "biases": biases(attention=bias, feed_forward=True, norm=True),
    }


def _falcon(config: Keys) -> Fields:
    heads, linear = config.size("num_attention_heads"), config.flag("bias", default=False)
    new = config.flag("new_decoder_architecture", default=False)
    one = config.flag("multi_query", default=True) and not new
    parallel = config.flag("parallel_attn", default=True) or new
    norms = config.size("num_ln_in_parallel_attn", default=2 if new else 1)
    grouped = config.size("num_kv_heads", default=heads)
    return {
        "key_value_heads": 1 if one else grouped if new else heads,
        "block": "parallel" if parallel else "serial",
        "norms_per_layer": 2 if norms == 2 or not parallel else 1,
        "positions": "alibi" if config.flag("alibi", default=False) else "rotary",
        "biases": biases(attention=linear, feed_forward=linear, norm=True),
    }


def _mpt(config: Keys) -> Fields:
    attention, heads = config.table("attn_config"), config.size("n_heads", "num_attention_heads")
    attention.only("qk_ln", False)
    if config.word("norm_type", "low_precision_layernorm") not in ("low_precision_layernorm", "layernorm"):
        raise config.wrong("norm_type", "valid: low_precision_layernorm, layernorm")
    kinds = {"multihead_attention": heads, "multiquery_attention": 1}
    linear = not config.flag("no_bias", default=True)
    learned = "learned" if config.flag("learned_pos_emb", default=True) else "none"
    return {
        "feed_forward_size": config.size("d_model", "hidden_size") * config.size("expansion_ratio", default=4),
        "key_value_heads": attention.choice("attn_type", "multihead_attention", kinds),
        "positions": "alibi" if attention.flag("alibi", default=True) else learned,
        **({"dropout": True} if attention.positive("attn_pdrop", 0.0) else {}),
        "biases": biases(attention=linear, feed_forward=linear, norm=linear),
    }


def _phi(config: Keys) -> Fields:
    normalised = config.flag("qk_layernorm", default=False)
    return {
        "positions": "rotary",
        "rotary_share": rotary_share(config, 0.5),
        "key_value_heads": key_value_heads(config),
        "block": "parallel",
        "query_key_norm": "shared" if normalised else "none",
        "biases": (*LINEAR, "normalisation", "head", *(("query_key_norm",) if normalised else ())),
    }


def _nemotron(config: Keys) -> Fields:
    return {
        "positions": "rotary",
        "rotary_share": rotary_share(config, 0.5),
        "key_value_heads": key_value_heads(config),
        "head_size": head_size(config),
        "biases": biases(
            attention=config.flag("attention_bias", default=False),
            feed_forward=config.flag("mlp_bias", default=False),
            norm=True,
        ),
    }


def _starcoder2(config: Keys) -> Fields:
    linear = config.flag("use_bias", default=True)
    config.only("mlp_type", "default")
    config.only("norm_type", "layer_norm")
    return {
        "positions": "rotary",
        "rotary_share": rotary_share(config),
        "key_value_heads": key_value_heads(config, 2),
        "head_size": head_size(config),
        "sliding_window": window(config),
        "biases": biases(attention=linear, feed_forward=linear, norm=True),
    }


def _gpt(details: Any, activation: str, dropout: float, *, length: int = 1024, tied: bool = True) -> Family:
    """A family with the keys of GPT-2."""
    return Family(
        details=details,
        hidden="n_embd",
        layers="n_layer",
        heads="n_head",
        feed_forward=("n_inner", None),
        length=("n_positions", length),
        activation=("activation_function", activation),
        dropouts={"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout},
        tied=tied,
    )


EARLY_DECODERS = {
    "gpt2": _gpt(_gpt2, "gelu_new", 0.1),
    "gpt_bigcode": _gpt(_gpt_bigcode, "gelu_pytorch_tanh", 0.1),
    "gptj": _gpt(_gptj, "gelu_new", 0.0, length=2048, tied=False),
    "codegen": _gpt(_gptj, "gelu_new", 0.0, length=2048, tied=False),
    "gpt_neo": Family(
        details=_gpt_neo,
        layers="num_layers",
        heads="num_heads",
        activation=("activation_function", "gelu_new"),
        dropouts={"resid_dropout": 0.0, "embed_dropout": 0.0, "attention_dropout": 0.0},
    ),
    "gpt_neox": Family(details=_gpt_neox, feed_forward=("intermediate_size", 24_576), tied=False),
    "falcon": Family(
        details=_falcon, hidden="n_embed", feed_forward=("ffn_hidden_size", None), activation=("activation", "gelu")
    ),
    "mpt": Family(
        details=_mpt,
        hidden="d_model",
        layers="n_layers",
        heads="n_heads",
        length=("max_seq_len", 2048),
        dropouts={"resid_pdrop": 0.0, "emb_pdrop": 0.0},
    ),
    "opt": Family(
        details=_opt,
        feed_forward=("ffn_dim", 3072),
        activation=("activation_function", "relu"),
        dropouts={"dropout": 0.1, "attention_dropout": 0.0},
    ),
    "bloom": Family(details=_bloom, hidden="n_embed", layers="n_layer", heads="n_head", length=("seq_length", 2048)),
    "phi": Family(
        details=_phi,
        feed_forward=("intermediate_size", 8192),
        activation=("hidden_act", "gelu_new"),
        dropouts={"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attention_dropout": 0.0},
        tied=False,
    ),
    "nemotron": Family(
        details=_nemotron,
        feed_forward=("intermediate_size", 24_576),
        length=("max_position_embeddings", 4096),
        activation=("hidden_act", "relu2"),
        tied=False,
    ),
    "starcoder2": Family(
        details=_starcoder2,
        feed_forward=("intermediate_size", 12_288),
        length=("max_position_embeddings", 4096),
        activation=("hidden_act", "gelu_pytorch_tanh"),
        dropouts={"residual_dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0},
    ),
}
