from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import Gemma3TextConfig

from hardware.errors import InputError
from measure.verification.families import configuration_of
from simulator.scenario.scenario import resolve
from simulator.specs.huggingface.families import FAMILIES, examples
from simulator.specs.huggingface.reading import from_config
from simulator.specs.loading import load_model
from simulator.specs.workload import Workload
from tests.specs.reference import ours, reloaded, theirs

_BERT = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 100,
    "vocab_size": 97,
}
_BERT |= {"max_position_embeddings": 40}
_DISTIL = {"dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 100, "vocab_size": 97, "max_position_embeddings": 40}
_GPT2 = {"n_embd": 48, "n_layer": 3, "n_head": 4, "vocab_size": 97, "n_positions": 40}
_LLAMA = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 100,
    "vocab_size": 97,
}
_FALCON = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 97}
_MPT = {"d_model": 48, "n_layers": 3, "n_heads": 4, "vocab_size": 97}
_T5 = {"d_model": 48, "num_layers": 3, "num_heads": 4, "d_kv": 10, "d_ff": 100, "vocab_size": 97}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("BertForPreTraining", _LARGE),
    ("BertForPreTraining", _BERT),
    ("BertForPreTraining", {**_BERT, "type_vocab_size": 5, "num_labels": 7}),
    ("BertForMaskedLM", _BERT),
    ("BertLMHeadModel", {**_BERT, "is_decoder": True}),
    ("BertForQuestionAnswering", _LARGE),
    ("BertForQuestionAnswering", _BERT),
    ("BertForSequenceClassification", {**_BERT, "num_labels": 7}),
    ("BertModel", {}),
    ("BertModel", _BERT),
    ("DistilBertModel", _DISTIL),
    ("GPT2Model", _GPT2),
    ("T5Model", _T5),
    ("RobertaForMaskedLM", {"max_position_embeddings": 514, "type_vocab_size": 1}),
    ("RobertaForMaskedLM", {**_BERT, "type_vocab_size": 1}),
    ("RobertaForQuestionAnswering", _BERT),
    ("RobertaForSequenceClassification", {**_BERT, "num_labels": 3}),
    ("XLMRobertaForMaskedLM", {**_BERT, "vocab_size": 250_002}),
    ("XLMRobertaForSequenceClassification", _BERT),
    ("AlbertForPreTraining", {}),
    ("AlbertForPreTraining", {**_BERT, "embedding_size": 13, "num_labels": 4}),
    ("AlbertForMaskedLM", {**_BERT, "embedding_size": 48}),
    ("AlbertForQuestionAnswering", _BERT),
    ("AlbertForSequenceClassification", {**_BERT, "num_labels": 9}),
    ("DistilBertForMaskedLM", {}),
    ("DistilBertForMaskedLM", _DISTIL),
    ("DistilBertForMaskedLM", {**_DISTIL, "sinusoidal_pos_embds": True}),
    ("DistilBertForQuestionAnswering", _DISTIL),
    ("DistilBertForSequenceClassification", {**_DISTIL, "num_labels": 4}),
    ("GPT2LMHeadModel", {}),
    ("GPT2LMHeadModel", {**_GPT2, "n_inner": 70}),
    ("GPT2LMHeadModel", {**_GPT2, "tie_word_embeddings": False}),
    ("GPT2ForQuestionAnswering", _GPT2),
    ("GPT2ForSequenceClassification", {**_GPT2, "num_labels": 5}),
    ("GPTNeoXForCausalLM", {}),
    ("GPTNeoXForCausalLM", {**_LLAMA, "attention_bias": False, "tie_word_embeddings": True}),
    ("GPTNeoXForCausalLM", {**_LLAMA, "use_parallel_residual": False}),
    ("GPTNeoXForSequenceClassification", _LLAMA),
    ("LlamaForCausalLM", {}),
    ("LlamaForCausalLM", {**_LLAMA, "num_key_value_heads": 2}),
    ("LlamaForCausalLM", {**_LLAMA, "head_dim": 20, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    ("LlamaForCausalLM", {**_LLAMA, "attention_bias": True}),
    ("LlamaForCausalLM", {**_LLAMA, "mlp_bias": True, "attention_bias": True, "num_key_value_heads": 2}),
    ("LlamaForQuestionAnswering", _LLAMA),
    ("LlamaForSequenceClassification", {**_LLAMA, "num_labels": 3}),
    ("MistralForCausalLM", {}),
    ("MistralForCausalLM", {**_LLAMA, "num_key_value_heads": 1, "head_dim": 18, "sliding_window": None}),
    ("MistralForCausalLM", {**_LLAMA, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    ("MixtralForCausalLM", {}),
    ("MixtralForCausalLM", {**_LLAMA, "num_key_value_heads": 2, "num_local_experts": 5, "num_experts_per_tok": 3}),
    ("FalconForCausalLM", {}),
    ("FalconForCausalLM", {**_FALCON, "bias": True, "alibi": True}),
    ("FalconForCausalLM", {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True}),
    ("FalconForCausalLM", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("FalconForCausalLM", {**_FALCON, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1}),
    ("FalconForCausalLM", {**_FALCON, "ffn_hidden_size": 77, "tie_word_embeddings": False}),
    ("FalconForSequenceClassification", _FALCON),
    ("MptForCausalLM", {}),
    ("MptForCausalLM", _MPT),
    ("MptForCausalLM", {**_MPT, "tie_word_embeddings": False, "learned_pos_emb": False}),
    ("MptForQuestionAnswering", _MPT),
    ("OPTForCausalLM", {}),
    ("OPTForCausalLM", {**_FALCON, "ffn_dim": 55, "word_embed_proj_dim": 48, "enable_bias": False}),
    ("OPTForCausalLM", {**_FALCON, "do_layer_norm_before": False, "max_position_embeddings": 30}),
    ("OPTForSequenceClassification", {**_FALCON, "num_labels": 3}),
    ("BloomForCausalLM", {}),
    ("BloomForCausalLM", {"hidden_size": 48, "n_layer": 3, "n_head": 4, "vocab_size": 97}),
    ("BloomForSequenceClassification", {}),
    ("T5ForConditionalGeneration", {}),
    ("T5ForConditionalGeneration", _T5),
    ("T5ForConditionalGeneration", {**_T5, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 1}),
    ("T5ForConditionalGeneration", {**_T5, "relative_attention_num_buckets": 7, "feed_forward_proj": "gated-silu"}),
    ("T5ForQuestionAnswering", _T5),
    ("T5ForSequenceClassification", {**_T5, "num_labels": 6}),
]


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_parameters_against_transformers(architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    config, parameters = theirs(architecture, **changes)
    assert ours(reloaded(config, tmp_path)) == parameters


_NECESSARY = ("hidden", "layers", "heads")


def _sparse(model_type: str) -> dict[str, Any]:
    """Of the odd example of a family the keys that it must have, and what the library refuses to leave to itself."""
    family, keys = FAMILIES[model_type], examples()[model_type][1]
    known = {getattr(family, name) for name in _NECESSARY} | {"vocab_size", "hidden_size", "num_key_value_heads"}
    # Defaults of the library do not fit widths that are odd, or fail to build.
    known |= {"rotary_dim", "pad_token_id", "head_dim", "attn_config", "num_experts_per_tok", "decoder_layers"}
    known |= {
        "first_k_dense_replace",
        "attention_types",
        "decoder_ffn_dim",
        "encoder_ffn_dim",
        "decoder_attention_heads",
    }
    return {name: value for name, value in keys.items() if name in known}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_absent_keys_have_the_defaults_of_the_library(model_type: str, tmp_path: Path) -> None:
    if FAMILIES[model_type].counted_by:
        pytest.skip("the library has no class of that name")
    sizes = _sparse(model_type)
    sparse = from_config({"model_type": model_type, **sizes}, tmp_path / "config.json")
    assert sparse.columns() == reloaded(configuration_of(model_type, sizes), tmp_path).columns()


def _model(folder: Path, **keys: Any) -> Any:
    return from_config(keys, folder / "config.json")


def test_an_untied_head_of_bert_has_its_bias_once(tmp_path: Path) -> None:
    # The library then keeps a second bias that nothing uses.
    config, parameters = theirs("BertForMaskedLM", **_BERT, tie_word_embeddings=False)
    assert ours(reloaded(config, tmp_path)) == parameters - 97


def test_an_untied_head_of_t5_counts(tmp_path: Path) -> None:
    # The library now ties every T5; the files of version 1.1 and its checkpoints say otherwise.
    tied, untied = (_model(tmp_path, model_type="t5", **_T5, tie_word_embeddings=tied) for tied in (True, False))
    assert ours(untied) - ours(tied) == 97 * 48


def test_mpt_of_llm_foundry_equals_the_catalogue(tmp_path: Path) -> None:
    keys = {"d_model": 2048, "n_heads": 16, "n_layers": 24, "vocab_size": 50_368, "no_bias": False, "max_seq_len": 2048}
    learned = _model(tmp_path, model_type="mpt", **keys, attn_config={"alibi": False})
    assert learned.columns() == load_model("mpt-1b").columns()
    neither = _model(tmp_path, model_type="mpt", **keys, attn_config={"alibi": False}, learned_pos_emb=False)
    assert ours(learned) - ours(neither) == 2048 * 2048
    one = _model(tmp_path, model_type="mpt", **keys, attn_config={"attn_type": "multiquery_attention"})
    assert one.kv_heads == 1
    assert _model(tmp_path, model_type="mpt", **keys, attn_config={"attn_pdrop": 0.1}).dropout
    wide = _model(tmp_path, model_type="mpt", **{**keys, "expansion_ratio": 2})
    assert wide.feed_forward_size == 4096


def test_what_else_follows_from_the_keys(tmp_path: Path) -> None:
    falcon = _model(tmp_path, model_type="falcon", **_FALCON, architectures=["FalconForCausalLM"])
    assert (falcon.block, falcon.kv_heads, falcon.positions, falcon.norms_per_layer) == ("parallel", 1, "rotary", 1)
    mistral = _model(tmp_path, model_type="mistral", **_LLAMA, num_key_value_heads=2)
    assert (mistral.sliding_window, mistral.feed_forward, mistral.normalisation) == (4096, "gated", "rmsnorm")
    assert (
        _model(tmp_path, model_type="mistral", **_LLAMA, num_key_value_heads=2, sliding_window=None).sliding_window
        is None
    )
    assert _model(tmp_path, model_type="mixtral", **_LLAMA, num_key_value_heads=2).sliding_window is None
    assert _model(tmp_path, model_type="bert", **_BERT).dropout
    assert not _model(tmp_path, model_type="albert", **_BERT).dropout
    assert _model(tmp_path, model_type="mistral", **_LLAMA, num_key_value_heads=None).kv_heads == 4
    silent = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0}
    assert not _model(tmp_path, model_type="bert", **_BERT, **silent).dropout
    assert _model(tmp_path, model_type="opt", **_FALCON).activation == "relu"
    head = {"architectures": ["T5WithLMHeadModel"]}
    assert _model(tmp_path, model_type="t5", **_T5, **head).objective == "seq2seq"
    labels = {"id2label": {"0": "a", "1": "b", "2": "c"}, "architectures": ["BertForSequenceClassification"]}
    assert _model(tmp_path, model_type="bert", **_BERT, **labels).classes == 3


def test_the_workload_is_assumed_and_says_so(tmp_path: Path) -> None:
    long = _model(tmp_path, model_type="llama", **_LLAMA, max_position_embeddings=131_072)
    assert long.training.sequence_length == 2048
    short = _model(tmp_path, model_type="bert", **_BERT)
    assert short.training.sequence_length == 40
    t5 = Workload().resolve(_model(tmp_path, model_type="t5", **_T5))
    assert (t5.sequence_length, t5.target_length) == (512, 114)
    assert "says nothing of training" in (long.note or "")


@pytest.mark.parametrize(
    ("folder", "origin", "name"),
    [
        ("My Model_v2", None, "my-model-v2"),
        ("downloads", "x/Llama-3.1-8B", "llama-3.1-8b"),
        ("---", None, "bert"),
        ("Größe", None, "gr-e"),
        ("x" * 200, None, "x" * 80),
        ("", "someone/Their-BERT/", "their-bert"),
        ("", None, "bert"),
    ],
)
def test_the_name_comes_from_the_origin_or_the_folder(folder: str, origin: str | None, name: str) -> None:
    keys: dict[str, Any] = {"model_type": "bert", **_BERT}
    if origin is not None:
        keys["_name_or_path"] = origin
    assert from_config(keys, Path(folder) / "config.json").id == name


def test_a_file_with_a_name_of_its_own_names_the_model() -> None:
    keys = {"model_type": "bert", **_BERT, "_name_or_path": "someone/bert"}
    assert from_config(keys, Path("folder/My-BERT.json")).id == "my-bert"
    assert from_config(keys, Path("folder/config.json")).id == "bert"
    assert from_config(keys, Path("folder/config.json"), name="other").id == "other"


def test_a_configuration_can_be_estimated(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **_LLAMA}))
    scenario = resolve(folder / "config.json", "rtx-3090")
    assert scenario.model.id == "tiny-llama"
    assert scenario.plan.micro_batch is not None


def test_the_file_is_named_when_it_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "bert", "hidden_size": NaN}')
    with pytest.raises(InputError, match=r"config\.json: NaN is not a number"):
        load_model(path)


@pytest.mark.parametrize(
    ("model_type", "keys", "number"),
    [
        ("deepseek_v3", {}, 1),
        ("deepseek_v3", {"num_nextn_predict_layers": 2}, 2),
        ("deepseek_v3", {"num_nextn_predict_layers": 0}, 0),
        ("deepseek_v2", {}, 0),
        ("glm4_moe", {"num_mtp_layers": 3}, 3),
        ("mimo", {"num_nextn_predict_layers": 1}, 1),
        ("minimax_m2", {"use_mtp": True, "num_mtp_modules": 3, "mtp_transformer_layers": 1}, 3),
        ("minimax_m2", {"use_mtp": False, "num_mtp_modules": 3}, 0),
    ],
)
def test_modules_that_predict_further_tokens_are_read(model_type: str, keys: dict[str, Any], number: int) -> None:
    sizes = {**examples()[model_type][1], "model_type": model_type, **keys}
    assert from_config(sizes, Path("x.json")).multi_token_modules == number


def test_files_of_gemma_3_leave_sizes_to_the_class_of_their_text() -> None:
    """As google/gemma-3-4b-it has them: no words and no heads."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    keys = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    model = from_config(keys, Path("x.json"))
    library = Gemma3TextConfig()
    assert model.vocabulary_size == library.vocab_size
    assert (model.attention_heads, model.kv_heads) == (library.num_attention_heads, library.num_key_value_heads)
    wider = from_config({**keys, "text_config": {**text, "vocab_size": 1000}}, Path("x.json"))
    assert wider.vocabulary_size == 1000
