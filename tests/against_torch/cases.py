"""Models, and scenarios that say the same as a reference module's setting."""

from __future__ import annotations

from typing import Any

import torch

from measure.models import Setting
from simulator.specs.loading import load_model, load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from simulator.work.transformer import Scenarios

# More threads than free cores make small kernels hundreds of times slower.
torch.set_num_threads(1)

_PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
_BIASES = ("qkv", "attention_output", "feed_forward", "normalisation")
_SMALL: dict[str, Any] = {
    "kind": "decoder",
    "objective": "causal",
    "layers": 2,
    "hidden_size": 128,
    "attention_heads": 8,
    "feed_forward_size": 320,
    "vocabulary_size": 1000,
    "position_rows": 64,
    "training": {"sequence_length": 64, "global_batch": 4},
}
_ENCODER: dict[str, Any] = {
    "kind": "encoder",
    "objective": "mlm",
    "norm_position": "post",
    "biases": (*_BIASES, "head"),
    "dropout": True,
    "token_types": 2,
    "embedding_norm": True,
    "head_transform": True,
    "pooler": True,
}
_LLAMA: dict[str, Any] = {
    "normalisation": "rmsnorm",
    "feed_forward": "gated",
    "activation": "silu",
    "positions": "rotary",
}
_T5: dict[str, Any] = {
    "kind": "encoder-decoder",
    "objective": "seq2seq",
    "decoder_layers": 2,
    "normalisation": "rmsnorm",
    "positions": "relative-buckets",
    "position_rows": 32,
}


def _small(name: str, **changes: Any) -> Model:
    """A small model of one kind."""
    return Model.model_validate({"id": name, "name": name, "family": name, **_SMALL, **changes})


BERT_LARGE = load_model("bert-large")
PALM_540B = load_model("palm-540b")
GPT_22B = _small(
    "gpt-22b",
    layers=48,
    hidden_size=6144,
    attention_heads=64,
    feed_forward_size=4 * 6144,
    biases=_BIASES,
    dropout=True,
    position_rows=2048,
    vocabulary_size=51200,
    training={"sequence_length": 2048, "global_batch": 4},
)
"""The smallest model of Korthikanti et al., arXiv 2205.05198, table 3."""

BERT = _small("bert", **_ENCODER)
GPT = _small("gpt", biases=_BIASES, dropout=True)
PALM = _small("palm", block="parallel", feed_forward="gated", activation="silu", positions="rotary", key_value_heads=1)
LLAMA = _small("llama", **_LLAMA, tied_head=False, key_value_heads=2)
NEOX = _small("neox", block="parallel", norms_per_layer=2, biases=_BIASES, positions="rotary", tied_head=False)
T5 = _small("t5", **_T5, activation="relu", dropout=True)
DENSE = (
    BERT,
    GPT,
    PALM,
    LLAMA,
    NEOX,
    T5,
    _small("opt", activation="relu", biases=_BIASES, dropout=True),
    _small("gated-relu", activation="relu", feed_forward="gated", positions="none"),
    _small("bloom", positions="alibi", embedding_norm=True, biases=_BIASES),
    _small("gopher", positions="transformer-xl", normalisation="rmsnorm", biases=("qkv",)),
    _small("wide-heads", head_size=32, key_value_heads=4, biases=("normalisation", "head")),
    _small("t5-gated", **_T5, feed_forward="gated", tied_head=False, head_size=32),
    _small("albert", **_ENCODER, shared_layers=True, embedding_size=32),
    _small("classifier", **{**_ENCODER, "objective": "classification"}, classes=3),
    _small("span", **{**_ENCODER, "objective": "span"}),
    _small("decoder-classifier", objective="classification", biases=_BIASES),
)
"""Models without experts."""
DROPPING_PARALLEL = _small("gpt-j", block="parallel", positions="rotary", dropout=True, tied_head=False)
MIXTRAL = _small("mixtral", **_LLAMA, experts=4, experts_per_token=2)
SOME_EXPERTS = _small(
    "some-experts",
    **_LLAMA,
    layers=4,
    experts=4,
    expert_period=2,
    shared_experts=1,
    expert_feed_forward_size=96,
)
_BART: dict[str, Any] = {
    "kind": "encoder-decoder",
    "objective": "seq2seq",
    "decoder_layers": 2,
    "norm_position": "post",
    "embedding_norm": True,
    "biases": _BIASES,
    "dropout": True,
}
_LATENT: dict[str, Any] = {
    **_LLAMA,
    "head_size": 24,
    "rotary_head_size": 8,
    "value_head_size": 20,
    "key_value_rank": 36,
    "tied_head": False,
}
_DEBERTA: dict[str, Any] = {
    **_ENCODER,
    "pooler": False,
    "positions": "none",
    "position_rows": 0,
    "relative_rows": 32,
    "relative_norm": True,
    "position_products": ("content-to-position", "position-to-content"),
}
_MODERNBERT: dict[str, Any] = {
    "kind": "encoder",
    "objective": "mlm",
    "feed_forward": "gated",
    "positions": "rotary",
    "embedding_norm": True,
    "first_layer_norms": 1,
    "window_pattern": (None, 17),
    "layers": 4,
    "biases": ("head",),
    "head_transform": True,
    "head_transform_parts": ("normalisation",),
    "transforms_classes": True,
}
FAMILIES = (
    _small("qwen3", **_LLAMA, query_key_norm="shared", key_value_heads=2),
    _small("cohere", **{**_LLAMA, "normalisation": "layernorm"}, block="parallel", query_key_norm="per-head"),
    _small("llama-4", **_LLAMA, layers=4, query_key_norm="unweighted", rotary_pattern=(True, False)),
    _small("phi", positions="rotary", block="parallel", query_key_norm="shared", biases=(*_BIASES, "query_key_norm")),
    _small("olmo", **{**_LLAMA, "normalisation": "layernorm"}, norm_weights=False),
    _small("gemma-2", **_LLAMA, norm_position="sandwich", score_cap=50.0, logit_cap=30.0, window_pattern=(16, None)),
    _small("gpt-oss", **_LLAMA, attention_sinks=True, experts=4, experts_per_token=2, biases=(*_BIASES[:3], "router")),
    _small(
        "qwen2-moe",
        **_LLAMA,
        layers=3,
        experts=4,
        shared_experts=1,
        shared_expert_feed_forward_size=72,
        shared_expert_gate=True,
        dense_layers=(1,),
    ),
    _small(
        "deepseek",
        **_LATENT,
        query_rank=28,
        experts=4,
        experts_per_token=2,
        shared_experts=1,
        dense_layers_first=1,
        expert_feed_forward_size=96,
    ),
    _small("deepseek-lite", **_LATENT, biases=("latent", "attention_output")),
    _small("nemotron", activation="relu2", positions="rotary", rotary_share=0.5, biases=("normalisation",)),
    _small("opt-350m", activation="relu", norm_position="post", embedding_size=32, maps_words=True, biases=_BIASES),
    _small("opt-classifier", objective="classification", embedding_size=32, maps_words=True),
    _small("bart", **_BART),
    _small("bart-classifier", **{**_BART, "objective": "classification"}, classes=3),
    _small("umt5", **_T5, buckets_in_every_layer=True, feed_forward="gated"),
    _small("mpnet", **{**_ENCODER, "token_types": 0, "pooler": False}, relative_rows=32),
    _small("deberta", **_DEBERTA),
    _small("deberta-own", **{**_DEBERTA, "dropout": False}, position_projections=True),
    _small("modernbert", **_MODERNBERT),
    _small("modernbert-classifier", **{**_MODERNBERT, "objective": "classification"}),
    _small("modernbert-tokens", **{**_MODERNBERT, "objective": "token-classification"}, classes=5),
    _small("tokens", **{**_ENCODER, "objective": "token-classification"}, classes=5),
    _small("choice", **{**_ENCODER, "objective": "multiple-choice"}),
    _small("next-sentence", **{**_ENCODER, "objective": "next-sentence"}),
    _small(
        "electra",
        **{**_ENCODER, "objective": "token-classification", "pooler": False},
        classes=1,
        head_transform_parts=("bias",),
        transforms_classes=True,
    ),
    _small("encoder", **{**_ENCODER, "objective": "encoding"}),
)
"""Kinds of attention, normalisation and heads of the families that Hugging Face configurations name."""
_CUT = ("cohere", "phi", "gemma-2", "opt-350m", "bart", "deberta", "modernbert")
SPLIT = (*DENSE, *(model for model in FAMILIES if model.id in _CUT))
"""Those that tests of tensor parallelism cut."""
EVERY = (*DENSE, DROPPING_PARALLEL, MIXTRAL, SOME_EXPERTS, *FAMILIES)


def name_of(value: object) -> str | None:
    """Name a test after its model."""
    return value.id if isinstance(value, Model) else None


def setting_of(model: Model, sequence_length: int = 64, **changes: Any) -> Setting:
    """A setting on the meta device in bf16, unless changed."""
    targets = sequence_length * 3 // 4 if model.kind == "encoder-decoder" else 0
    fields = {"target_length": targets, "device": "meta", "dtype": torch.bfloat16, **changes}
    return Setting(sequence_length=sequence_length, **fields)


def predictions_of(model: Model, setting: Setting) -> int:
    """Masked positions of a sequence."""
    return setting.sequence_length // 6 if model.objective == "mlm" else 0


def scenarios_of(
    model: Model,
    setting: Setting,
    *,
    micro_batch: int = 4,
    micro_batches: int = 1,
    stack: dict[str, Any] | None = None,
    tuning: dict[str, Any] | None = None,
    **plan: Any,
) -> Scenarios:
    """What the simulator is told of a reference module's setting and of the plan around it."""
    split = setting.split
    software = load_stack("pytorch-eager").model_copy(
        update={
            "fused_qkv": setting.fused_qkv,
            "fused_gate": setting.fused_gate,
            "expert_weights": "activations" if setting.weighs_activations else "outputs",
            "regathers_inputs": split.regathers_inputs,
            "head_positions": "all" if setting.all_positions else "masked",
            **(stack or {}),
        }
    )
    replicas = plan.get("dp", 1)
    workload = Workload(
        sequence_length=setting.sequence_length,
        target_length=setting.target_length or None,
        document_lengths=setting.document_lengths or None,
        predictions=predictions_of(model, setting) or None,
        multi_token=setting.multi_token or None,
        global_batch=replicas * micro_batch * micro_batches,
        **(tuning or {}),
    ).resolve(model)
    fields = {
        "dp": replicas,
        "tp": split.degree,
        "sequence_parallel": split.sequence_parallel,
        "micro_batch": micro_batch,
        "recompute": setting.recompute,
        "recompute_modules": setting.recompute_modules or None,
        "recompute_layers": setting.recompute_layers,
        "recompute_method": setting.recompute_method,
        "activation_inputs_in_fp8": setting.activation_inputs_in_fp8,
        "attention": "fused" if setting.fused_attention else "unfused",
        "precision": _PRECISIONS[setting.dtype],
        "sharding": "none",
        "parameters_in_fp32": setting.dtype == torch.float32,
        "gradients_in_fp32": setting.dtype == torch.float32,
        **plan,
    }
    full = Plan(**fields).with_defaults(software)
    full = full.with_degrees(replicas * split.degree * fields.get("pp", 1))
    return Scenarios(model.columns(), workload.columns(), full.columns(workload), software.columns())
