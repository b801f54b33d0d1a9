"""Encoders: BERT and its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hardware.errors import InputError
from simulator.specs.huggingface.family import LINEAR, Family, Fields, biases, head_size, layer_types, windows
from simulator.specs.huggingface.keys import Keys


def _bert(config: Keys) -> Fields:
    config.only("add_cross_attention", False)
    config.only("position_embedding_type", "absolute")
    types = config.size("type_vocab_size", default=2, least=0)
    return {**_form(), "token_types": types}


def _form() -> Fields:
    """Biases everywhere, sums normalised, a transform before the head."""
    form: Fields = {"norm_position": "post", "embedding_norm": True, "head_transform": True}
    return {**form, "biases": (*LINEAR, "normalisation", "head")}


def _albert(config: Keys) -> Fields:
    config.only("num_hidden_groups", 1)
    config.only("inner_group_num", 1)
    return {**_bert(config), "shared_layers": True, "embedding_size": config.size("embedding_size", default=128)}


def _distilbert(config: Keys) -> Fields:
    return {**_bert(config), "token_types": 0}


def _electra(config: Keys) -> Fields:
    hidden, words = config.size("hidden_size"), config.size("embedding_size", default=128)
    config.only("summary_type", "first")
    config.only("summary_use_proj", True)
    return {**_bert(config), "embedding_size": None if words == hidden else words}


def _mpnet(config: Keys) -> Fields:
    return {**_form(), "relative_rows": config.size("relative_attention_num_buckets", default=32)}


def _deberta(config: Keys) -> Fields:
    hidden, learned = config.size("hidden_size"), config.flag("position_biased_input", default=True)
    for key, value in {"embedding_size": hidden, "pooler_hidden_size": hidden, "conv_kernel_size": 0}.items():
        config.only(key, value)
    config.only("attention_head_size", hidden // max(config.size("num_attention_heads"), 1))
    fields = {
        **_form(),
        "token_types": config.size("type_vocab_size", default=0, least=0),
        "positions": "learned" if learned else "none",
    }
    relative = _relative(config)
    if not config.flag("relative_attention", default=False):
        return {**fields, "relative_norm": relative["relative_norm"]}
    if not relative["position_products"]:
        raise InputError(f"{config.path}: relative_attention needs pos_att_type, a list of {', '.join(_PRODUCTS)}")
    return {**fields, **relative}


_PRODUCTS = {"c2p": "content-to-position", "p2c": "position-to-content"}


def _relative(config: Keys) -> Fields:
    """Embeddings of relative positions, and the products that scores add; negative numbers mean none."""
    kinds = config.value("pos_att_type") or []
    kinds = kinds.split("|") if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or any(kind not in list(_PRODUCTS) for kind in kinds):
        raise config.wrong("pos_att_type", f"valid: a list of {', '.join(_PRODUCTS)}")
    norm = config.word("norm_rel_ebd", "none")
    if norm not in ("none", "layer_norm"):
        raise config.wrong("norm_rel_ebd", "valid: none, layer_norm")
    longest = config.size("max_position_embeddings", default=512)
    distances = config.size("max_relative_positions", default=-1, least=-1)
    buckets = config.size("position_buckets", default=-1, least=-1)
    rows = buckets if buckets > 0 else distances if distances > 0 else longest
    return {
        "relative_rows": 2 * rows,
        "relative_norm": norm == "layer_norm",
        "position_products": tuple(_PRODUCTS[kind] for kind in kinds),
        "position_projections": not config.flag("share_att_key", default=False),
    }


def _modernbert(config: Keys) -> Fields:
    bias, norm = config.flag("attention_bias", default=False), config.flag("norm_bias", default=False)
    feed_forward = config.flag("mlp_bias", default=False)
    period = config.size("global_attn_every_n_layers", default=3)
    types = layer_types(config, config.size("num_hidden_layers"), lambda index: index % period != 0)
    parts = {
        "bias": config.flag("classifier_bias", default=False),
        "normalisation": True,
        "normalisation_bias": norm,
    }
    head = ("head",) if config.flag("decoder_bias", default=True) else ()
    # A query sees half of the window on each side, and itself.
    seen = 2 * (config.size("local_attention", default=128) // 2) + 1
    return {
        "feed_forward": "gated",
        "positions": "rotary",
        "embedding_norm": True,
        "first_layer_norms": 1,
        "biases": (*biases(attention=bias, feed_forward=feed_forward, norm=norm), *head),
        "head_transform": True,
        "head_transform_parts": tuple(part for part, used in parts.items() if used),
        "transforms_classes": True,
        **windows(types, config, seen),
    }


def _nomic(config: Keys) -> Fields:
    types = config.size("type_vocab_size", default=2, least=0)
    form = {**_form(), "biases": ("normalisation", "head"), "token_types": types}
    return {**form, "feed_forward": "gated", "positions": "rotary", "head_size": head_size(config)}


def _encoder(details: Callable[[Keys], Fields] = _bert, *, dropout: float = 0.1, **changes: Any) -> Family:
    common: Fields = {"feed_forward": ("intermediate_size", 3072), "length": ("max_position_embeddings", 512)}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return Family(details=details, kind="encoder", **{**common, "dropouts": drops, **changes})


_DISTIL: Fields = {"hidden": "dim", "layers": "n_layers", "heads": "n_heads", "activation": ("activation", "gelu")}
ENCODERS = {
    "bert": _encoder(pools="pretraining"),
    "roberta": _encoder(pools="encodings"),
    "xlm-roberta": _encoder(pools="encodings"),
    "camembert": _encoder(pools="encodings"),
    "albert": _encoder(_albert, feed_forward=("intermediate_size", 16_384), dropout=0.0, pools="pretraining"),
    "distilbert": _encoder(
        _distilbert, **_DISTIL, feed_forward=("hidden_dim", 3072), dropouts={"dropout": 0.1, "attention_dropout": 0.1}
    ),
    "electra": _encoder(_electra, feed_forward=("intermediate_size", 1024)),
    "mpnet": _encoder(_mpnet, pools="encodings"),
    "deberta-v2": _encoder(_deberta, feed_forward=("intermediate_size", 6144)),
    "modernbert": _encoder(
        _modernbert,
        feed_forward=("intermediate_size", 1152),
        length=("max_position_embeddings", 8192),
        activation=("hidden_activation", "gelu"),
        dropouts={"attention_dropout": 0.0, "embedding_dropout": 0.0, "mlp_dropout": 0.0},
    ),
    "nomic_bert": _encoder(
        _nomic,
        length=("max_position_embeddings", 2048),
        activation=("hidden_act", "silu"),
        dropout=0.0,
    ),
}
