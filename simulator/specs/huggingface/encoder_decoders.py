"""Encoder-decoders: T5 and its kin, BART."""

from __future__ import annotations

from collections.abc import Callable

from simulator.specs.huggingface.family import ACTIVATIONS, LINEAR, Family, Fields
from simulator.specs.huggingface.keys import Keys


def _t5(config: Keys, usual: str = "relu") -> Fields:
    gated = {f"gated-{name}": meaning for name, meaning in ACTIVATIONS.items()}
    layers = config.size("num_layers", "num_hidden_layers")
    config.only("is_decoder", False)
    form = "gated" if config.word("feed_forward_proj", usual).startswith("gated-") else "plain"
    config.only("is_gated_act", form == "gated")
    return {
        "decoder_layers": config.size("num_decoder_layers", default=layers),
        "head_size": config.size("d_kv", "head_dim", default=64),
        "activation": config.choice("feed_forward_proj", usual, ACTIVATIONS | gated),
        "feed_forward": form,
        "normalisation": "rmsnorm",
        "positions": "relative-buckets",
        "position_rows": config.size("relative_attention_num_buckets", default=32),
    }


def _mt5(config: Keys) -> Fields:
    return _t5(config, "gated-gelu")


def _umt5(config: Keys) -> Fields:
    return {**_mt5(config), "buckets_in_every_layer": True}


def _bart(config: Keys) -> Fields:
    heads, width = config.size("encoder_attention_heads"), config.size("encoder_ffn_dim", default=4096)
    config.only("decoder_attention_heads", heads)
    config.only("decoder_ffn_dim", width)
    config.only("is_decoder", False)
    config.only("add_final_layer_norm", False)
    config.only("normalize_before", False)
    config.only("normalize_embedding", True)
    return {
        "decoder_layers": config.size("decoder_layers", default=12),
        "norm_position": "post",
        "embedding_norm": True,
        "biases": (*LINEAR, "normalisation"),
        # The table begins with two rows that no position uses.
        "position_rows": config.size("max_position_embeddings", default=1024) + 2,
    }


def _text_to_text(details: Callable[[Keys], Fields], width: int) -> Family:
    return Family(
        details=details,
        kind="encoder-decoder",
        hidden="d_model",
        layers="num_layers",
        heads="num_heads",
        feed_forward=("d_ff", width),
        length=("n_positions", 512),
        dropouts={"dropout_rate": 0.1},
    )


ENCODER_DECODERS = {
    "t5": _text_to_text(_t5, 2048),
    "mt5": _text_to_text(_mt5, 1024),
    "umt5": _text_to_text(_umt5, 1024),
    "bart": Family(
        details=_bart,
        kind="encoder-decoder",
        hidden="d_model",
        layers="encoder_layers",
        heads="encoder_attention_heads",
        feed_forward=("encoder_ffn_dim", 4096),
        length=("max_position_embeddings", 1024),
        activation=("activation_function", "gelu"),
        dropouts={"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0},
        labels=3,
    ),
}
