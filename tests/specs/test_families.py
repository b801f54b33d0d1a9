"""Every family against the classes of the transformers library: parameters, and the keys of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from measure.verification.families import CountedFamily, architectures_of, compared, configuration_of, counted_families
from simulator.specs.huggingface.families import FAMILIES, examples, harmless, refused
from simulator.specs.huggingface.reading import from_config
from tests.specs.reference import ours, reloaded

_HEADS = [(model_type, name) for model_type in FAMILIES for name in architectures_of(model_type)]
_SIZES = [(model_type, place) for model_type in FAMILIES for place in (0, 1)]
_NAMED = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"),
    *("phi", "phi3", "phimoe", "olmo", "olmo2", "olmo3", "olmoe", "gpt_oss", "glm", "glm4", "glm4_moe", "granite"),
    *("granitemoe", "nemotron", "stablelm", "cohere", "cohere2", "starcoder2", "gpt_bigcode", "gptj", "gpt_neo"),
    *("gpt_neox", "codegen", "smollm3", "minicpm", "internlm2", "baichuan", "llama4_text", "deepseek_v2"),
    *("deepseek_v3", "dbrx", "falcon", "mpt", "opt", "bloom", "bert", "roberta", "xlm-roberta", "camembert"),
    *("electra", "deberta-v2", "modernbert", "nomic_bert", "mpnet", "albert", "distilbert", "t5", "mt5", "umt5"),
    "bart",
}


def test_families_that_people_train_are_there_at_two_sizes() -> None:
    assert set(FAMILIES) >= _NAMED
    assert examples().keys() == FAMILIES.keys()
    assert all(len(sizes) == 2 for sizes in examples().values())
    assert not refused().keys() & FAMILIES.keys()


def test_heads_of_all_kinds_are_compared() -> None:
    endings = {"ForMaskedLM", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "EncoderModel"}
    endings |= {"ForQuestionAnswering", "ForMultipleChoice", "ForNextSentencePrediction", "ForPreTraining", "Model"}
    assert len(_HEADS) > 250
    assert all(any(name.endswith(ending) for _, name in _HEADS) for ending in endings)
    assert {model_type for model_type, _ in _HEADS} == set(FAMILIES)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(("model_type", "architecture"), _HEADS)
def test_parameters_are_those_of_the_library(model_type: str, architecture: str, place: int) -> None:
    counted = compared(model_type, architecture, examples()[model_type][place])
    assert counted.difference == 0
    assert counted.theirs > 1000


def test_the_table_has_every_head_at_both_sizes() -> None:
    rows = list(counted_families("nomic_bert"))
    assert [row.architecture for row in rows[::2]] == architectures_of("nomic_bert")
    assert {row.difference for row in rows} == {0}
    assert CountedFamily("bert", "BertModel", 7, 5).difference == 2


@pytest.mark.parametrize(("model_type", "place"), _SIZES)
def test_a_file_that_the_library_wrote_is_read_the_same(model_type: str, place: int, tmp_path: Path) -> None:
    sizes = examples()[model_type][place]
    model = from_config({**sizes, "model_type": model_type}, Path("x.json"))
    config = configuration_of(model_type, sizes)
    if FAMILIES[model_type].counted_by:
        pytest.skip("the library reads it with code beside the weights")
    assert reloaded(config, tmp_path).columns() == model.columns()


def _changed(value: Any) -> Any:
    """Another value of the same kind, or nothing where there is none."""
    if isinstance(value, bool):
        return not value
    return {int: lambda: value + 1, float: lambda: value / 2}.get(type(value), lambda: None)()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_harmless_keys_change_no_parameter_of_the_library(model_type: str) -> None:
    # Tokens beyond the vocabulary, groups that do not divide experts and odd heads the library refuses; a decoder
    # of two towers alone is another architecture.
    ends = ("_token_id", "n_group", "topk_group", "head_dim", "is_decoder")
    sizes = examples()[model_type][1]
    plain = configuration_of(model_type, sizes).to_dict()
    known = [key for key in harmless(model_type) if key in plain and not key.endswith(ends)]
    changes = {key: _changed(plain[key]) for key in known if key not in sizes}
    changes = {key: value for key, value in changes.items() if value is not None}
    assert changes, "no key is changed"
    name = architectures_of(model_type)[0]
    before, after = (compared(model_type, name, keys).theirs for keys in (sizes, {**sizes, **changes}))
    assert before == after


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_key_that_is_not_known_is_refused_by_name(model_type: str) -> None:
    keys = {**examples()[model_type][1], "model_type": model_type}
    plain = from_config(keys, Path("x.json"))
    for passed in (None, False, 0):
        assert from_config({**keys, "num_shadow_layers": passed}, Path("x.json")) == plain
    assert from_config({**keys, "_commit_hash": "abc"}, Path("x.json")) == plain
    for value in (1, 0.5, True, "wide", [3], {"a": 1}):
        with pytest.raises(InputError) as caught:
            from_config({**keys, "num_shadow_layers": value}, Path("x.json"))
        words = ("x.json: num_shadow_layers is not a key that capsim knows", model_type, "take it out")
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_keys_inside_tables_are_refused_too() -> None:
    keys = {**examples()["dbrx"][1], "model_type": "dbrx"}
    keys["ffn_config"] = {**keys["ffn_config"], "moe_depth": 3}
    with pytest.raises(InputError, match=r"ffn_config\.moe_depth is not a key"):
        from_config(keys, Path("x.json"))


@pytest.mark.parametrize("model_type", refused())
def test_what_is_no_transformer_is_refused_with_what_is_missing(model_type: str) -> None:
    with pytest.raises(InputError) as caught:
        from_config({"model_type": model_type, "hidden_size": 64}, Path("x.json"))
    assert str(caught.value).startswith(f"x.json: model_type={model_type} cannot be counted: ")
    assert refused()[model_type] in str(caught.value)


def test_state_space_models_and_hybrids_are_among_them() -> None:
    assert {"mamba", "mamba2", "rwkv", "jamba", "bamba", "zamba2", "falcon_h1", "nemotron_h"} <= refused().keys()
    assert {"qwen3_next", "recurrent_gemma", "lfm2", "deepseek_v32"} <= refused().keys()


@pytest.mark.parametrize(("whole", "text"), [("gemma3", "gemma3_text"), ("llama4", "llama4_text")])
def test_of_several_towers_the_one_that_reads_text_is_counted(whole: str, text: str) -> None:
    inner = examples()[text][1]
    document = {"model_type": whole, "text_config": {**inner, "model_type": text}, "vision_config": {"hidden_size": 9}}
    model = from_config({**document, "image_token_index": 5}, Path("x.json"))
    assert ours(model) == ours(from_config({**inner, "model_type": text}, Path("x.json")))
    assert "Only the tower that reads text" in (model.note or "")


def test_windows_patterns_and_caps_follow_from_the_keys() -> None:
    def model(model_type: str, **changes: Any) -> Any:
        return from_config({**examples()[model_type][0], "model_type": model_type, **changes}, Path("x.json"))

    gemma = model("gemma2")
    assert (gemma.window_pattern, gemma.score_cap, gemma.logit_cap) == ((4096, None), 50.0, 30.0)
    assert model("gemma3_text").window_pattern == (*(1024,) * 5, None)
    assert model("gpt_oss").window_pattern == (128, None)
    assert model("qwen2", sliding_window=4096).sliding_window is None
    cohere = model("cohere2")
    assert (cohere.window_pattern, cohere.rotary_pattern) == ((4096, 4096, 4096, None), (True, True, True, False))
    assert model("smollm3").rotary_pattern == (True, True, True, False)
    assert model("modernbert").window_pattern == (None, 129, 129)
    assert model("gpt_neo").window_pattern == (None, 256)
    assert model("phi").rotary_share == 0.4
    assert model("glm4").norm_position == "sandwich"
    deepseek = model("deepseek_v3")
    assert (deepseek.head_size, deepseek.value_head_size, deepseek.rotary_head_size) == (192, 128, 64)
    assert (deepseek.query_rank, deepseek.key_value_rank, deepseek.dense_layers_first) == (1536, 512, 3)
    llama = model("llama4_text")
    assert llama.dense_layers == tuple(range(0, 48, 2))
    assert llama.rotary_pattern == (True, True, True, False)
