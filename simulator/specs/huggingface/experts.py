"""Decoders whose feed-forward layers are experts: Mixtral and its kin, and DeepSeek with its latent attention."""

from __future__ import annotations

from typing import Any

from simulator.specs.huggingface.family import (
    ACTIVATIONS,
    Family,
    Fields,
    biases,
    layer_types,
    rotary_share,
    shortest,
    windows,
)
from simulator.specs.huggingface.keys import Keys
from simulator.specs.huggingface.llama import gated, glm_biases, qwen_windows, rotary_layers, window


def _layers(config: Keys) -> int:
    return config.size("num_hidden_layers")


def _routed(config: Keys, *keys: str, default: int, chosen: int) -> Fields:
    """Experts and how many of them a token is routed to."""
    experts = config.size(*keys, default=default, least=2)
    return {"experts": experts, "experts_per_token": config.size("num_experts_per_tok", default=chosen)}


def _groups(config: Keys, *, groups: int = 1, used: int = 1) -> Fields:
    """Groups of experts of which a token uses some, and the bias of each expert that evens out their load."""
    return {
        "expert_groups": config.size("n_group", default=groups),
        "groups_per_token": config.size("topk_group", default=used),
        "router_balance": "bias",
    }


def _mixtral(config: Keys) -> Fields:
    routed = _routed(config, "num_local_experts", "num_experts", default=8, chosen=2)
    return {**gated(config, grouped=8, biases=()), **routed, "sliding_window": window(config)}


def _minimax_m2(config: Keys) -> Fields:
    for key in ("use_qk_norm", "use_routing_bias"):
        config.only(key, True)
    config.only("qk_norm_type", "per_layer")
    if set(config.sizes("attn_type_list") or [1]) != {1}:
        raise config.wrong("attn_type_list", "only 1, attention to all keys, can be counted")
    routed = _routed(config, "num_local_experts", "num_experts", default=256, chosen=8)
    attention = gated(config, grouped=8, head=128, biases=(), query_key_norm="joint")
    config.only("mtp_transformer_layers", 1)
    number = config.size("num_mtp_modules", default=0, least=0)
    further = number if config.flag("use_mtp", default=False) else 0
    return {**attention, **routed, "router_balance": "bias", "multi_token_modules": further}


def _sparse_layers(config: Keys) -> Fields:
    """Qwen's layers with experts: every so many, but not those that are listed."""
    return {
        "expert_period": config.size("decoder_sparse_step", default=1),
        "dense_layers": tuple(config.sizes("mlp_only_layers") or ()),
    }


def _qwen2_moe(config: Keys) -> Fields:
    attention = ("qkv",) if config.flag("qkv_bias", default=True) else ()
    return {
        **gated(config, grouped=16, biases=attention),
        **qwen_windows(config, alternate=True),
        **_routed(config, "num_experts", default=60, chosen=4),
        **_sparse_layers(config),
        "expert_feed_forward_size": config.size("moe_intermediate_size", default=1408),
        "shared_experts": 1,
        "shared_expert_feed_forward_size": config.size("shared_expert_intermediate_size", default=5632),
        "shared_expert_gate": True,
    }


def _qwen3_moe(config: Keys) -> Fields:
    used = config.flag("use_sliding_window", default=False)
    config.only("use_qk_norm", True)
    config.size("max_window_layers", default=1, least=0)
    types = layer_types(config, _layers(config), lambda _: used)
    return {
        **gated(config, grouped=4, query_key_norm="shared"),
        **windows(types, config, window(config, 4096) if used else None),
        **_routed(config, "num_experts", "num_local_experts", default=128, chosen=8),
        **_sparse_layers(config),
        "expert_feed_forward_size": config.size("moe_intermediate_size", default=768),
    }


def _phimoe(config: Keys) -> Fields:
    attention = biases(attention=config.flag("attention_bias", default=False), feed_forward=False, norm=True)
    head = ("head",) if config.flag("lm_head_bias", default=False) else ()
    return {
        **gated(config, grouped=8, normalisation="layernorm", biases=(*attention, *head)),
        **_routed(config, "num_local_experts", default=16, chosen=2),
        "sliding_window": window(config),
    }


def _olmoe(config: Keys) -> Fields:
    routed = _routed(config, "num_experts", "num_local_experts", default=64, chosen=8)
    return {**gated(config, query_key_norm="joint"), **routed}


def _granitemoe(config: Keys) -> Fields:
    return {**gated(config), **_routed(config, "num_local_experts", default=8, chosen=2)}


def _shared(config: Keys, absent: int | None) -> int:
    """Experts that every token passes; null means none."""
    usual = 0 if config.has("n_shared_experts") or absent is None else absent
    return config.size("n_shared_experts", default=usual, least=0)


def _glm4_moe(config: Keys) -> Fields:
    usual = config.size("hidden_size") // config.size("num_attention_heads")
    return {
        **gated(config, grouped=8, head=usual, share=0.5, biases=glm_biases(config, usual=False)),
        **_routed(config, "n_routed_experts", "num_local_experts", default=128, chosen=8),
        **_groups(config),
        **_further(config),
        "query_key_norm": "shared" if config.flag("use_qk_norm", default=False) else "none",
        "expert_feed_forward_size": config.size("moe_intermediate_size", default=1408),
        "shared_experts": _shared(config, 1),
        "dense_layers_first": config.size("first_k_dense_replace", default=1, least=0),
    }


def _dbrx(config: Keys) -> Fields:
    attention, experts = config.table("attn_config"), config.table("ffn_config")
    kind = experts.table("ffn_act_fn").choice("name", "silu", ACTIVATIONS)
    return {
        "normalisation": "layernorm",
        "positions": "rotary",
        "rotary_share": rotary_share(config),
        "feed_forward": "gated",
        "activation": kind,
        "key_value_heads": attention.size("kv_n_heads", default=1),
        "feed_forward_size": experts.size("ffn_hidden_size", default=3584),
        "experts": experts.size("moe_num_experts", default=4, least=2),
        "experts_per_token": experts.size("moe_top_k", default=1),
        "dropout": attention.positive("attn_pdrop", 0.0) or config.positive("resid_pdrop", 0.0),
    }


def _gpt_oss(config: Keys) -> Fields:
    attention = biases(attention=config.flag("attention_bias", default=True), feed_forward=True, norm=False)
    types = layer_types(config, _layers(config), lambda index: index % 2 == 0)
    return {
        **gated(config, grouped=8, head=64, biases=(*attention, "router")),
        **windows(types, config, window(config, 128)),
        **_routed(config, "num_local_experts", "num_experts", default=128, chosen=4),
        "attention_sinks": True,
    }


def _llama4(config: Keys) -> Fields:
    layers, chunk = _layers(config), None
    if not config.has("attention_chunk_size") or config.value("attention_chunk_size") is not None:
        chunk = config.size("attention_chunk_size", default=8192)
    turned = rotary_layers(config, layers)
    words = config.words("layer_types") or [
        "chunked_attention" if own and chunk else "full_attention" for own in turned
    ]
    step = config.size("interleave_moe_layer_step", default=1)
    sparse = config.sizes("moe_layers")
    sparse = list(range(step - 1, layers, step)) if sparse is None else sparse
    normalised = config.flag("use_qk_norm", default=True)
    width = config.size("intermediate_size", default=8192)
    return {
        **gated(config, grouped=8, head=128),
        # A chunk is counted as a window: equal up to its length, beyond it at most twice what chunks need.
        **windows(words, config, None, chunk=chunk),
        **_routed(config, "num_local_experts", default=16, chosen=1),
        "rotary_pattern": () if all(turned) else tuple(shortest(turned)),
        "query_key_norm": "unweighted" if normalised else "none",
        "feed_forward_size": config.size("intermediate_size_mlp", default=16_384),
        "expert_feed_forward_size": width,
        "shared_experts": 1,
        "dense_layers": tuple(index for index in range(layers) if index not in set(sparse)),
    }


def _further(config: Keys, usual: int = 1) -> Fields:
    """Modules that predict further tokens, which configurations of the library have and its classes leave out."""
    return {"multi_token_modules": config.size("num_nextn_predict_layers", "num_mtp_layers", default=usual, least=0)}


def _deepseek(
    config: Keys, *, experts: int, dense: int, chosen: int, width: int, shared: int, further: int = 0
) -> Fields:
    heads = config.size("num_attention_heads")
    config.only("num_key_value_heads", heads)
    config.only("moe_layer_freq", 1)
    plain, turned = config.size("qk_nope_head_dim", default=128), config.size("qk_rope_head_dim", default=64)
    config.only("qk_head_dim", plain + turned)
    bias, hidden = config.flag("attention_bias", default=False), config.flag("mlp_bias", default=False)
    direct = config.has("q_lora_rank") and config.value("q_lora_rank") is None
    return {
        "feed_forward": "gated",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        "head_size": plain + turned,
        "value_head_size": config.size("v_head_dim", default=128),
        "rotary_head_size": turned,
        "key_value_rank": config.size("kv_lora_rank", default=512),
        "query_rank": None if direct else config.size("q_lora_rank", default=1536),
        "biases": ("latent", "attention_output") * bias + ("feed_forward",) * hidden,
        "experts": config.size("n_routed_experts", "num_experts", "num_local_experts", default=experts, least=2),
        "experts_per_token": config.size("num_experts_per_tok", default=chosen),
        "expert_feed_forward_size": config.size("moe_intermediate_size", default=width),
        "shared_experts": _shared(config, shared),
        "dense_layers_first": config.size("first_k_dense_replace", default=dense, least=0),
        **_further(config, further),
    }


def _deepseek_v2(config: Keys) -> Fields:
    config.size("head_dim", default=64)
    limited = config.choice("topk_method", "greedy", {"greedy": False, "group_limited_greedy": True})
    groups = {**_groups(config), "router_balance": "loss"} if limited else {}
    return {**_deepseek(config, experts=64, dense=0, chosen=2, width=1407, shared=2), **groups}


def _deepseek_v3(config: Keys) -> Fields:
    config.only("topk_method", "noaux_tc")
    layers = _deepseek(config, experts=256, dense=3, chosen=8, width=2048, shared=1, further=1)
    return {**layers, **_groups(config, groups=8, used=4)}


def _family(details: Any, width: int, length: int, **changes: Any) -> Family:
    sizes: Fields = {"feed_forward": ("intermediate_size", width), "length": ("max_position_embeddings", length)}
    return Family(details=details, **{**sizes, "activation": ("hidden_act", "silu"), "tied": False, **changes})


EXPERT_KIN = {
    "mixtral": _family(_mixtral, 14_336, 131_072),
    "minimax_m2": _family(_minimax_m2, 1536, 196_608),
    "qwen2_moe": _family(_qwen2_moe, 5632, 32_768),
    "qwen3_moe": _family(_qwen3_moe, 6144, 32_768),
    "phimoe": _family(_phimoe, 6400, 131_072),
    "olmoe": _family(_olmoe, 2048, 4096),
    "granitemoe": _family(_granitemoe, 11_008, 2048),
    "glm4_moe": _family(_glm4_moe, 10_944, 131_072),
    "dbrx": Family(
        details=_dbrx,
        hidden="d_model",
        layers="n_layers",
        heads="n_heads",
        length=("max_seq_len", 2048),
        dropouts={"resid_pdrop": 0.0, "emb_pdrop": 0.0},
        tied=False,
    ),
    "gpt_oss": _family(_gpt_oss, 2880, 131_072),
    "llama4_text": _family(_llama4, 8192, 131_072),
    "deepseek_v2": _family(_deepseek_v2, 11_008, 2048),
    "deepseek_v3": _family(_deepseek_v3, 18_432, 4096),
    "kimi_k2": _family(_deepseek_v3, 18_432, 131_072, counted_by="deepseek_v3"),
}
