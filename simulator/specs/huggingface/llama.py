"""Decoders with gated feed-forward layers and rotary positions: Llama and its kin."""

from __future__ import annotations

from typing import Any

from simulator.specs.huggingface.family import (
    Family,
    Fields,
    biases,
    head_size,
    key_value_heads,
    layer_types,
    rotary_share,
    shortest,
    windows,
)
from simulator.specs.huggingface.keys import Keys


def gated(
    config: Keys, *, grouped: int | None = None, head: int | None = None, share: float = 1.0, **changes: Any
) -> Fields:
    """What the kin have in common; `grouped` and `head` are the defaults of key-value heads and of a head's width."""
    return {
        "feed_forward": "gated",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        "key_value_heads": key_value_heads(config, grouped),
        "head_size": head_size(config, head),
        "rotary_share": rotary_share(config, share),
        "biases": biases(
            attention=config.flag("attention_bias", default=False),
            feed_forward=config.flag("mlp_bias", default=False),
            norm=False,
        ),
        **changes,
    }


def _layers(config: Keys) -> int:
    return config.size("num_hidden_layers")


def window(config: Keys, usual: int | None = None) -> int | None:
    """The sliding window; null means none."""
    width = config.value("sliding_window") if config.has("sliding_window") else usual
    return None if width is None else config.size("sliding_window", default=usual, least=0) or None


def _llama(config: Keys) -> Fields:
    return gated(config)


def _mistral(config: Keys) -> Fields:
    types = layer_types(config, _layers(config), lambda _: True)
    return {**gated(config, grouped=8, biases=()), **windows(types, config, window(config, 4096))}


def qwen_windows(config: Keys, *, alternate: bool = False) -> Fields:
    """Windows of Qwen: unless told to use them, none; else of the layers from a number on, or of every second one."""
    used, first = (
        config.flag("use_sliding_window", default=False),
        config.size("max_window_layers", default=28, least=0),
    )
    width, layers = window(config, 4096), _layers(config)
    if alternate:
        types = layer_types(config, layers, lambda index: used and index % 2 == 0 and index < first)
    else:
        types = layer_types(config, layers, lambda index: used and width is not None and index >= first)
    return windows(types, config, width if used else None)


def _qwen2(config: Keys) -> Fields:
    return {**gated(config, grouped=32, biases=("qkv",)), **qwen_windows(config)}


def _mimo(config: Keys) -> Fields:
    """Qwen 2's form, with modules that predict further tokens (modeling_mimo.py beside the weights of MiMo-7B)."""
    config.only("attention_bias", True)
    further = config.size("num_nextn_predict_layers", default=0, least=0)
    return {**_qwen2(config), "multi_token_modules": further}


def _qwen3(config: Keys) -> Fields:
    return {**gated(config, grouped=32, head=128, query_key_norm="shared"), **qwen_windows(config)}


def _gemma(config: Keys) -> Fields:
    return gated(config, grouped=16, head=256)


def _sandwich(config: Keys) -> Fields:
    """Gemma 2 and 3: normalised outputs too, soft caps."""
    return {**gated(config, grouped=4, head=256), "norm_position": "sandwich"}


def _cap(config: Keys, key: str, usual: float | None) -> float | None:
    return config.number(key) if config.has(key) else usual


def _gemma2(config: Keys) -> Fields:
    types = layer_types(config, _layers(config), lambda index: index % 2 == 0)
    caps = {
        "score_cap": _cap(config, "attn_logit_softcapping", 50.0),
        "logit_cap": _cap(config, "final_logit_softcapping", 30.0),
    }
    config.only("use_bidirectional_attention", False)
    return {**_sandwich(config), **windows(types, config, window(config, 4096)), **caps}


def _gemma3(config: Keys) -> Fields:
    older = config.size("_sliding_window_pattern", default=6)
    period = config.size("sliding_window_pattern", default=older)
    types = layer_types(config, _layers(config), lambda index: (index + 1) % period != 0)
    caps = {
        "score_cap": _cap(config, "attn_logit_softcapping", None),
        "logit_cap": _cap(config, "final_logit_softcapping", None),
    }
    config.only("use_bidirectional_attention", False)
    return {
        **_sandwich(config),
        **windows(types, config, window(config, 4096)),
        **caps,
        "query_key_norm": "shared",
    }


def _phi3(config: Keys) -> Fields:
    return {**gated(config, biases=()), "sliding_window": window(config)}


def _olmo(config: Keys) -> Fields:
    return gated(config, normalisation="layernorm", norm_weights=False)


def _olmo2(config: Keys) -> Fields:
    return gated(config, norm_position="output", query_key_norm="joint")


def _olmo3(config: Keys) -> Fields:
    types = layer_types(config, _layers(config), lambda index: (index + 1) % 4 != 0)
    return {**_olmo2(config), **windows(types, config, window(config, 4096))}


def glm_biases(config: Keys, *, usual: bool) -> tuple[str, ...]:
    """GLM has biases of queries, keys and values alone."""
    return ("qkv",) if config.flag("attention_bias", default=usual) else ()


def _glm(config: Keys) -> Fields:
    return gated(config, grouped=2, head=128, share=0.5, biases=glm_biases(config, usual=True))


def _glm4(config: Keys) -> Fields:
    return {**_glm(config), "norm_position": "sandwich"}


def _stablelm(config: Keys) -> Fields:
    attention = ("qkv",) if config.flag("use_qkv_bias", default=False) else ()
    return {
        **gated(config, grouped=32, share=0.25, normalisation="layernorm", biases=(*attention, "normalisation")),
        "query_key_norm": "per-head" if config.flag("qk_layernorm", default=False) else "none",
        "block": "parallel" if config.flag("use_parallel_residual", default=False) else "serial",
    }


def _cohere(config: Keys) -> Fields:
    own = config.flag("use_qk_norm", default=False)
    return gated(config, normalisation="layernorm", block="parallel", query_key_norm="per-head" if own else "none")


def _cohere2(config: Keys) -> Fields:
    older = config.size("_sliding_window_pattern", default=4)
    period = config.size("sliding_window_pattern", default=older)
    types = layer_types(config, _layers(config), lambda index: (index + 1) % period != 0)
    turned = [word == "sliding_attention" for word in types]
    return {
        **gated(config, normalisation="layernorm", block="parallel"),
        **windows(types, config, window(config, 4096)),
        "rotary_pattern": () if all(turned) else tuple(shortest(turned)),
    }


def rotary_layers(config: Keys, layers: int) -> list[bool]:
    """Which layers have rotary positions: 1 in `no_rope_layers`, or all but every fourth."""
    period = config.size("no_rope_layer_interval", default=4)
    listed = config.sizes("no_rope_layers") or [int((index + 1) % period != 0) for index in range(layers)]
    if len(listed) != layers:
        raise config.wrong("no_rope_layers", f"must have a number for each of the {layers} layers")
    return [bool(number) for number in listed]


def _smollm3(config: Keys) -> Fields:
    layers = _layers(config)
    turned = rotary_layers(config, layers)
    used, width = config.flag("use_sliding_window", default=False), window(config)
    types = layer_types(config, layers, lambda index: used and width is not None and not turned[index])
    pattern = {"rotary_pattern": () if all(turned) else tuple(shortest(turned))}
    return {**gated(config, grouped=4), **windows(types, config, width), **pattern}


def _arcee(config: Keys) -> Fields:
    return gated(config, feed_forward="plain")


def _seed_oss(config: Keys) -> Fields:
    own = config.flag("attention_bias", default=True), config.flag("attention_out_bias", default=False)
    hidden = config.flag("mlp_bias", default=False)
    places = dict(zip(("qkv", "attention_output", "feed_forward"), (*own, hidden), strict=True))
    return gated(config, grouped=8, head=128, biases=tuple(place for place, used in places.items() if used))


def _ernie(config: Keys) -> Fields:
    linear = config.flag("use_bias", default=False)
    return gated(config, grouped=2, head=128, biases=biases(attention=linear, feed_forward=linear, norm=False))


def _internlm2(config: Keys) -> Fields:
    return gated(config, biases=biases(attention=config.flag("bias", default=True), feed_forward=False, norm=False))


def _baichuan(config: Keys) -> Fields:
    # The code beside the weights gives 7B rotary positions and 13B linear biases, and no key says which.
    linear = config.size("hidden_size") > 4096
    return gated(config, biases=(), positions="alibi" if linear else "rotary", key_value_heads=None)


def _family(details: Any, width: int, length: int, *, tied: bool = False, **changes: Any) -> Family:
    sizes: Fields = {"feed_forward": ("intermediate_size", width), "length": ("max_position_embeddings", length)}
    return Family(details=details, **{**sizes, "activation": ("hidden_act", "silu"), "tied": tied, **changes})


_GELU: Fields = {"activation": ("hidden_act", "gelu_pytorch_tanh"), "tied": True}
_GEMMA: Fields = {"activation": ("hidden_activation", "gelu_pytorch_tanh"), "tied": True}
_DROPS = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attention_dropout": 0.0}
LLAMA_KIN = {
    "llama": _family(_llama, 11_008, 2048),
    "mistral": _family(_mistral, 14_336, 131_072),
    "qwen2": _family(_qwen2, 22_016, 32_768),
    "mimo": _family(_mimo, 22_016, 32_768, counted_by="qwen2"),
    "qwen3": _family(_qwen3, 22_016, 32_768),
    "gemma": _family(_gemma, 24_576, 8192, **_GELU),
    "gemma2": _family(_gemma2, 9216, 8192, **_GEMMA),
    "gemma3_text": _family(_gemma3, 9216, 131_072, **_GEMMA),
    "phi3": _family(_phi3, 8192, 4096, dropouts=_DROPS),
    "olmo": _family(_olmo, 11_008, 2048),
    "olmo2": _family(_olmo2, 11_008, 2048),
    "olmo3": _family(_olmo3, 11_008, 2048),
    "glm": _family(_glm, 13_696, 131_072),
    "glm4": _family(_glm4, 13_696, 131_072),
    "granite": _family(_llama, 11_008, 2048),
    "stablelm": _family(_stablelm, 6912, 4096),
    "cohere": _family(_cohere, 22_528, 8192, tied=True),
    "cohere2": _family(_cohere2, 22_528, 8192, tied=True),
    "smollm3": _family(_smollm3, 11_008, 32_768, tied=True),
    "arcee": _family(_arcee, 18_432, 4096, activation=("hidden_act", "relu2")),
    "seed_oss": _family(_seed_oss, 27_648, 524_288, dropouts={"attention_dropout": 0.1, "residual_dropout": 0.1}),
    "ernie4_5": _family(_ernie, 3072, 131_072, tied=True),
    "minicpm": _family(_llama, 11_008, 2048, tied=True, counted_by="llama"),
    "internlm2": _family(_internlm2, 11_008, 2048, counted_by="llama"),
    "baichuan": _family(_baichuan, 11_008, 4096, counted_by="llama"),
}
