"""The families of Hugging Face models: where each keeps its sizes, and what follows from its other keys.

Absent keys have the default of the ``transformers`` library. Keys that change neither parameters nor arithmetic are
ignored; a variant that cannot be counted exactly is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.specs.keys import Keys

Fields = dict[str, Any]
_LINEAR = ("qkv", "attention_output", "feed_forward")
_GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "quick_gelu")
ACTIVATIONS = {"relu": "relu", "silu": "silu", "swish": "silu"} | dict.fromkeys(_GELU, "gelu")
"""Names of activation functions, and ours."""


def _biases(*, attention: bool, feed_forward: bool, norm: bool) -> tuple[str, ...]:
    """The names of the places that have a bias."""
    return ("qkv", "attention_output") * attention + ("feed_forward",) * feed_forward + ("normalisation",) * norm


def _bert(config: Keys) -> Fields:
    config.only("add_cross_attention", False)
    config.only("position_embedding_type", "absolute")
    form = {"norm_position": "post", "embedding_norm": True, "head_transform": True}
    types = config.size("type_vocab_size", default=2, least=0)
    return {**form, "biases": (*_LINEAR, "normalisation", "head"), "token_types": types}


def _albert(config: Keys) -> Fields:
    config.only("num_hidden_groups", 1)
    config.only("inner_group_num", 1)
    return {**_bert(config), "shared_layers": True, "embedding_size": config.size("embedding_size", default=128)}


def _distilbert(config: Keys) -> Fields:
    return {**_bert(config), "token_types": 0}


def _gpt2(config: Keys) -> Fields:
    config.only("add_cross_attention", False)
    return {"biases": (*_LINEAR, "normalisation")}


def _opt(config: Keys) -> Fields:
    for key, value in {"layer_norm_elementwise_affine": True, "_remove_final_layer_norm": False}.items():
        config.only(key, value)
    config.only("word_embed_proj_dim", config.values.get("hidden_size"))
    linear = config.flag("enable_bias", default=True)
    return {
        "biases": _biases(attention=linear, feed_forward=linear, norm=True),
        "norm_position": "pre" if config.flag("do_layer_norm_before", default=True) else "post",
        # The table begins with two rows that no position uses.
        "position_rows": config.size("max_position_embeddings", default=2048) + 2,
    }


def _bloom(config: Keys) -> Fields:
    return {**_gpt2(config), "embedding_norm": True, "positions": "alibi"}


def _gpt_neox(config: Keys) -> Fields:
    bias = config.flag("attention_bias", default=True)
    return {
        "positions": "rotary",
        "block": "parallel" if config.flag("use_parallel_residual", default=True) else "serial",
        "norms_per_layer": 2,
        "biases": _biases(attention=bias, feed_forward=True, norm=True),
    }


def _llama(config: Keys, key_value_heads: int | None = None) -> Fields:
    heads = config.size("num_attention_heads")
    # Where the key is null there are as many as query heads, where it is absent the family's default number.
    absent = None if "num_key_value_heads" in config.values else key_value_heads
    return {
        "feed_forward": "gated",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        "key_value_heads": config.size("num_key_value_heads", default=absent or heads),
        "head_size": config.size("head_dim") if config.values.get("head_dim") is not None else None,
        "biases": _biases(
            attention=config.flag("attention_bias", default=False),
            feed_forward=config.flag("mlp_bias", default=False),
            norm=False,
        ),
    }


def _mistral(config: Keys, window: int | None = 4096) -> Fields:
    width = config.values.get("sliding_window", window)
    fields = {**_llama(config, key_value_heads=8), "biases": ()}
    return {**fields, "sliding_window": None if width is None else config.size("sliding_window", default=window)}


def _mixtral(config: Keys) -> Fields:
    experts = config.size("num_local_experts", "num_experts", default=8, least=2)
    fields = {"experts": experts, "experts_per_token": config.size("num_experts_per_tok", default=2)}
    return {**_mistral(config, window=None), **fields}


def _falcon(config: Keys) -> Fields:
    heads, linear = config.size("num_attention_heads"), config.flag("bias", default=False)
    new = config.flag("new_decoder_architecture", default=False)
    one = config.flag("multi_query", default=True) and not new
    parallel = config.flag("parallel_attn", default=True) or new
    norms = config.size("num_ln_in_parallel_attn", default=2 if new else 1)
    return {
        "key_value_heads": 1 if one else config.size("num_kv_heads", default=heads) if new else heads,
        "block": "parallel" if parallel else "serial",
        "norms_per_layer": 2 if norms == 2 or not parallel else 1,
        "positions": "alibi" if config.flag("alibi", default=False) else "rotary",
        "biases": _biases(attention=linear, feed_forward=linear, norm=True),
    }


def _mpt(config: Keys) -> Fields:
    attention, heads = config.table("attn_config"), config.size("n_heads", "num_attention_heads")
    attention.only("qk_ln", False)
    kinds = {"multihead_attention": heads, "multiquery_attention": 1}
    linear = not config.flag("no_bias", default=True)
    learned = "learned" if config.flag("learned_pos_emb", default=True) else "none"
    return {
        "feed_forward_size": config.size("d_model", "hidden_size") * config.size("expansion_ratio", default=4),
        "key_value_heads": attention.choice("attn_type", "multihead_attention", kinds),
        "positions": "alibi" if attention.flag("alibi", default=True) else learned,
        **({"dropout": True} if attention.positive("attn_pdrop", 0.0) else {}),
        "biases": _biases(attention=linear, feed_forward=linear, norm=linear),
    }


def _t5(config: Keys) -> Fields:
    gated = {f"gated-{name}": meaning for name, meaning in ACTIVATIONS.items()}
    layers = config.size("num_layers", "num_hidden_layers")
    return {
        "decoder_layers": config.size("num_decoder_layers", default=layers),
        "head_size": config.size("d_kv", "head_dim", default=64),
        "activation": config.choice("feed_forward_proj", "relu", ACTIVATIONS | gated),
        "feed_forward": "gated" if config.word("feed_forward_proj").startswith("gated-") else "plain",
        "normalisation": "rmsnorm",
        "positions": "relative-buckets",
        "position_rows": config.size("relative_attention_num_buckets", default=32),
    }


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where a family keeps its sizes, and what else follows from its keys."""

    details: Callable[[Keys], Fields]
    kind: Literal["encoder", "decoder", "encoder-decoder"] = "decoder"
    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    feed_forward: tuple[str, int | None] = ("intermediate_size", None)
    """Key and default; without a default it is four times the hidden size."""
    length: tuple[str, int] = ("max_position_embeddings", 2048)
    """Key and default of the longest sequence or of the rows of the position table."""
    activation: tuple[str, str] = ("hidden_act", "gelu")
    dropouts: Mapping[str, float] = field(default_factory=lambda: {"hidden_dropout": 0.0, "attention_dropout": 0.0})
    """Keys and defaults."""
    tied: bool = True
    pooler: bool = False


def _encoder(details: Callable[[Keys], Fields] = _bert, *, dropout: float = 0.1, **changes: Any) -> Family:
    common: Fields = {"feed_forward": ("intermediate_size", 3072), "length": ("max_position_embeddings", 512)}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return Family(details=details, kind="encoder", **{**common, "dropouts": drops, **changes})


def _gated(details: Callable[[Keys], Fields], width: int, length: int = 131_072) -> Family:
    sizes: Fields = {"feed_forward": ("intermediate_size", width), "length": ("max_position_embeddings", length)}
    return Family(details=details, **sizes, activation=("hidden_act", "silu"), tied=False)


_DISTIL: Fields = {"hidden": "dim", "layers": "n_layers", "heads": "n_heads", "activation": ("activation", "gelu")}
FAMILIES = {
    "bert": _encoder(pooler=True),
    "roberta": _encoder(),
    "xlm-roberta": _encoder(),
    "albert": _encoder(_albert, feed_forward=("intermediate_size", 16_384), dropout=0.0, pooler=True),
    "distilbert": _encoder(
        _distilbert, **_DISTIL, feed_forward=("hidden_dim", 3072), dropouts={"dropout": 0.1, "attention_dropout": 0.1}
    ),
    "gpt2": Family(
        details=_gpt2,
        hidden="n_embd",
        layers="n_layer",
        heads="n_head",
        feed_forward=("n_inner", None),
        length=("n_positions", 1024),
        activation=("activation_function", "gelu"),
        dropouts={"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    ),
    "gpt_neox": Family(details=_gpt_neox, feed_forward=("intermediate_size", 24_576), tied=False),
    "llama": _gated(_llama, 11_008, 2048),
    "mistral": _gated(_mistral, 14_336),
    "mixtral": _gated(_mixtral, 14_336),
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
    "t5": Family(
        details=_t5,
        kind="encoder-decoder",
        hidden="d_model",
        layers="num_layers",
        heads="num_heads",
        feed_forward=("d_ff", 2048),
        length=("n_positions", 512),
        dropouts={"dropout_rate": 0.1},
    ),
}
