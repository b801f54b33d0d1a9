from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import InputError
from simulator.specs.huggingface.families import FAMILIES, examples
from simulator.specs.huggingface.reading import from_config
from simulator.specs.model import Model
from tests.thorough import cases

PATH = Path("somewhere/config.json")
_COMMON = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 97}
_T5 = {"d_model": 48, "num_layers": 3, "num_heads": 8, "vocab_size": 97}
_PLAIN = ("bert", "albert", "gpt2", "llama", "mistral", "mixtral", "falcon", "opt", "mpt")


def _valid(model_type: str) -> dict[str, Any]:
    sizes = (
        _T5 if model_type == "t5" else _COMMON if model_type in _PLAIN else examples().get(model_type, [{}, _COMMON])[1]
    )
    return {"model_type": model_type, **sizes}


def _sentence(keys: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        from_config(keys, PATH)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{PATH}: ")
    return message


@pytest.mark.parametrize(
    ("model_type", "changes", "words"),
    [
        ("lama", {}, ["unknown model_type 'lama'", "did you mean llama"]),
        ("mamba2", {}, ["model_type=mamba2 cannot be counted", "state-space model"]),
        ("mambas", {}, ["unknown model_type 'mambas'"]),
        ("", {}, ["model_type is missing", "capsim catalogue families"]),
        ("bert", {"model_type": None}, ["model_type is missing"]),
        ("bert", {"model_type": 3}, ["model_type=3", "must be text"]),
        ("bert", {"hidden_size": None}, ["hidden_size is missing"]),
        ("gpt2", {"hidden_size": None}, ["n_embd or hidden_size is missing"]),
        ("bert", {"hidden_size": -48}, ["hidden_size=-48", "from 1 to"]),
        ("bert", {"hidden_size": 0}, ["hidden_size=0"]),
        ("bert", {"hidden_size": 48.0}, ["hidden_size=48.0", "whole number"]),
        ("bert", {"hidden_size": "48"}, ["hidden_size='48'", "whole number"]),
        ("bert", {"hidden_size": True}, ["hidden_size=true"]),
        ("bert", {"hidden_size": [48]}, ["hidden_size=[48]"]),
        ("bert", {"hidden_size": float("nan")}, ["hidden_size=nan"]),
        ("bert", {"hidden_size": 10**400}, ["hidden_size=1000", "10,000,000"]),
        ("bert", {"num_attention_heads": 7}, ["attention_heads=7", "hidden_size=48"]),
        ("bert", {"type_vocab_size": -1}, ["type_vocab_size=-1", "from 0 to"]),
        ("bert", {"hidden_act": "tanh"}, ["hidden_act='tanh'", "gelu"]),
        ("bert", {"hidden_act": 1}, ["hidden_act=1", "text"]),
        ("bert", {"hidden_dropout_prob": 2}, ["hidden_dropout_prob=2", "0 to 1"]),
        ("bert", {"hidden_dropout_prob": float("nan")}, ["hidden_dropout_prob=nan"]),
        ("bert", {"hidden_dropout_prob": "0.1"}, ["hidden_dropout_prob='0.1'"]),
        ("bert", {"tie_word_embeddings": "no"}, ["tie_word_embeddings='no'", "true or false"]),
        ("bert", {"position_embedding_type": "relative_key"}, ["relative_key", "only absolute can be counted"]),
        ("bert", {"add_cross_attention": True}, ["add_cross_attention=true", "only false"]),
        ("bert", {"max_position_embeddings": 200_000}, ["position_rows=200000", "at most 100"]),
        ("bert", {"architectures": ["BertForSpeech"]}, ["BertForSpeech", "ForMaskedLM"]),
        ("bert", {"pruned_heads": {"0": [1]}}, ["pruned_heads", "only {} can be counted"]),
        ("bert", {"architectures": "BertModel"}, ["architectures", "list"]),
        ("bert", {"architectures": [1]}, ["architectures", "list"]),
        ("bert", {"id2label": [1, 2]}, ["id2label=[1, 2]", "mapping"]),
        ("bert", {"hidden_size": 10**5000}, ["hidden_size=", "10,000,000"]),
        ("bert", {"num_labels": 0}, ["num_labels=0"]),
        ("albert", {"num_hidden_groups": 2}, ["num_hidden_groups=2", "only 1"]),
        ("gpt2", {"n_inner": -1}, ["n_inner=-1"]),
        ("gpt2", {"architectures": ["GPT2DoubleHeadsModel"]}, ["GPT2DoubleHeadsModel", "valid endings"]),
        ("llama", {"architectures": ["LlamaForMaskedLM"]}, ["LlamaForMaskedLM", "ForCausalLM"]),
        ("llama", {"num_key_value_heads": 3}, ["key_value_heads=3"]),
        ("llama", {"num_key_value_heads": 0}, ["num_key_value_heads=0"]),
        ("llama", {"head_dim": -2}, ["head_dim=-2"]),
        ("llama", {"mlp_bias": 1}, ["mlp_bias=1", "true or false"]),
        ("mistral", {"sliding_window": -1}, ["sliding_window=-1", "from 0"]),
        ("mixtral", {"num_local_experts": 1}, ["num_local_experts=1", "from 2"]),
        ("mixtral", {"num_experts_per_tok": 9}, ["experts_per_token=9", "experts=8"]),
        ("falcon", {"alibi": "yes"}, ["alibi='yes'"]),
        ("opt", {"word_embed_proj_dim": 0}, ["word_embed_proj_dim=0", "from 1"]),
        ("qwen3", {"layer_types": ["full_attention"] * 2}, ["layer_types", "each of the 3 layers"]),
        ("qwen3", {"layer_types": ["linear_attention"] * 3}, ["layer_types", "'linear_attention' is no attention"]),
        ("qwen3", {"layer_types": "full"}, ["layer_types='full'", "list of words"]),
        ("gemma2", {"attn_logit_softcapping": -1}, ["attn_logit_softcapping=-1", "number up to"]),
        ("phi", {"partial_rotary_factor": 1.5}, ["partial_rotary_factor must be", "at most 1"]),
        ("smollm3", {"no_rope_layers": [1]}, ["no_rope_layers", "each of the 5 layers"]),
        ("qwen2_moe", {"mlp_only_layers": [9]}, ["dense_layers has layer 9", "5 layers"]),
        ("qwen2_moe", {"mlp_only_layers": [-1]}, ["mlp_only_layers=[-1]", "whole numbers from 0"]),
        ("gpt_neo", {"attention_types": [["global", 3]]}, ["attention_types", "[[[global, local], 12]]"]),
        ("gpt_neo", {"attention_types": [[["near"], 3]]}, ["attention_types", "global"]),
        ("deepseek_v3", {"num_key_value_heads": 1}, ["num_key_value_heads=1", "only 5"]),
        ("deepseek_v3", {"moe_layer_freq": 2}, ["moe_layer_freq=2", "only 1"]),
        ("deepseek_v3", {"qk_head_dim": 2}, ["qk_head_dim=2", "only 15"]),
        ("deberta-v2", {"conv_kernel_size": 3}, ["conv_kernel_size=3", "only 0"]),
        ("deberta-v2", {"pos_att_type": ["p2p"]}, ["pos_att_type", "c2p"]),
        ("deberta-v2", {"pos_att_type": None}, ["relative_attention needs pos_att_type"]),
        ("deberta-v2", {"norm_rel_ebd": "batch"}, ["norm_rel_ebd='batch'", "layer_norm"]),
        ("bart", {"decoder_ffn_dim": 99}, ["decoder_ffn_dim=99", "only 101"]),
        ("t5", {"is_gated_act": True}, ["is_gated_act=true", "only false"]),
        ("mpt", {"norm_type": "rmsnorm"}, ["norm_type='rmsnorm'", "low_precision_layernorm"]),
        ("dbrx", {"ffn_config": 3}, ["ffn_config=3", "mapping"]),
        ("opt", {"layer_norm_elementwise_affine": False}, ["layer_norm_elementwise_affine=false", "only true"]),
        ("mpt", {"attn_config": 3}, ["attn_config=3", "mapping"]),
        ("mpt", {"attn_config": {"alibi": 3}}, ["attn_config.alibi=3", "true or false"]),
        ("mpt", {"attn_config": {"qk_ln": True}}, ["attn_config.qk_ln=true", "only false"]),
        ("mpt", {"attn_config": {"attn_type": "odd"}}, ["attn_config.attn_type='odd'", "multihead_attention"]),
        ("mpt", {"hidden_size": 10_000_000, "num_attention_heads": 1}, ["feed_forward_size=40000000", "at most"]),
        ("t5", {"feed_forward_proj": "gated-tanh"}, ["feed_forward_proj='gated-tanh'", "gated-gelu"]),
        ("t5", {"num_decoder_layers": 0}, ["num_decoder_layers=0"]),
    ],
)
def test_a_bad_configuration_gets_one_sentence(model_type: str, changes: dict[str, Any], words: list[str]) -> None:
    message = _sentence({**_valid(model_type), **changes})
    assert all(word in message for word in words), message


@pytest.mark.parametrize("model_type", FAMILIES)
def test_each_size_of_each_family_must_be_there(model_type: str) -> None:
    keys, family = _valid(model_type), FAMILIES[model_type]
    assert isinstance(from_config(keys, PATH), Model)
    named = {family.hidden, family.layers, family.heads, "hidden_size", "num_hidden_layers", "num_attention_heads"}
    must = {"model_type", "vocab_size", *named} & keys.keys()
    assert len(must) == 5
    for key in must:
        assert "is missing" in _sentence({name: value for name, value in keys.items() if name != key})


def test_an_empty_configuration_says_where_the_families_are_listed() -> None:
    assert "such as bert, llama or qwen3; capsim catalogue families lists all" in _sentence({})


class _Recorder(dict[str, Any]):
    """A configuration that remembers which of its keys were asked for."""

    asked: set[str]

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def _read_keys(model_type: str) -> list[str]:
    keys = _Recorder(_valid(model_type))
    keys.asked = set()
    from_config(keys, PATH)
    return sorted(keys.asked)


_READ = {model_type: _read_keys(model_type) for model_type in FAMILIES}
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 20_000_000)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["gelu", "ForCausalLM", "BertForPreTraining", "gated-", "multiquery_attention", "absolute"])
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


@given(st.data())
@settings(max_examples=cases(usual=200, thorough=2000), deadline=None)
def test_odd_values_never_raise_anything_else(data: st.DataObject) -> None:
    model_type = data.draw(st.sampled_from(sorted(FAMILIES)))
    changed = data.draw(st.dictionaries(st.sampled_from(_READ[model_type]), _VALUES, min_size=1, max_size=3))
    try:
        model = from_config({**_valid(model_type), **changed}, PATH)
    except InputError as error:
        message = str(error)
    else:
        assert model.columns().layer_count >= 1
        return
    assert message.startswith(f"{PATH}: ")
    assert "\n" not in message
    assert len(message) < 1000


@given(st.dictionaries(st.text(max_size=20), _VALUES, max_size=5))
@settings(max_examples=100, deadline=None)
def test_unknown_keys_are_refused_unless_they_are_off(others: dict[str, Any]) -> None:
    strange = {f"x-{key}": value for key, value in others.items()}
    if all(value is None or value is False or value == 0 for value in strange.values()):
        assert from_config({**_valid("llama"), **strange}, PATH) == from_config(_valid("llama"), PATH)
    else:
        assert "is not a key that capsim knows of model_type=llama" in _sentence({**_valid("llama"), **strange})
